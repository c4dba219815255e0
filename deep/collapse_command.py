"""The command `collapse`: are these features collapsed, and how far?"""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from stopgrad.deep.measuring.collapse.presets import PRESETS, convention_of
from stopgrad.linear_theory.spectra.spectrum import Convention
from stopgrad.linear_theory.tools.door import Command
from stopgrad.linear_theory.tools.errors import BadInput

if TYPE_CHECKING:
    from stopgrad.deep.measuring.collapse.measurement import Collapse as Measured


@dataclass(frozen=True)
class Spectra(Command):
    """What commands that measure spectra have in common: how it is done, and the picture."""

    preset: Literal[tuple(PRESETS)] = "li2022"  # type: ignore[valid-type]
    """Whose way to measure: space, centring, normalisation, eps; the flags below override it."""
    centre: Literal["yes", "no"] | None = None
    """Subtract the features' mean. None: the preset's."""
    normalise: Literal["yes", "no"] | None = None
    """Scale each feature to length 1 first. None: the preset's."""
    picture: Path | None = None
    """Draw the spectra into this file, .png."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where a network computes its features."""
    quiet: bool = False
    """No progress on standard error."""
    json: bool = False
    """Print one JSON object."""

    def convention(self) -> Convention:
        """The preset as the flags change it, named so."""
        preset = convention_of(self.preset)
        given = {"centred": self.centre, "normalised": self.normalise}
        changes = {name: value == "yes" for name, value in given.items() if value is not None}
        changes = {name: value for name, value in changes.items() if getattr(preset, name) != value}
        told = "".join(f", {'' if value else 'not '}{name}" for name, value in changes.items())
        return replace(preset, name=preset.name + told, **changes)

    @contextlib.contextmanager
    def drawing(self) -> Iterator[list["Measured"]]:
        """A list whose spectra are drawn at the end, where a picture is wanted; its path is looked at first."""
        from stopgrad.linear_theory.tools.files import prepare_file

        found: list[Measured] = []
        if self.picture is not None:
            prepare_file(self.picture, ".png")
        yield found
        if self.picture is not None:
            from stopgrad.deep.words.spectrum_picture import draw_spectra

            draw_spectra(found, self.picture)

    def shown(self, name: str, count: int | None = None):
        """Progress over the parts of something, on a terminal; `count`: how many, where they are no list."""

        def each(parts: Iterable) -> Iterable:
            from rich.console import Console
            from rich.progress import track

            console = Console(stderr=True)
            total = len(parts) if count is None else count
            hidden = self.quiet or not console.is_terminal or total < 2
            return track(parts, name, total, console=console, transient=True, disable=hidden)

        return each


@dataclass(frozen=True)
class Collapse(Spectra):
    """Are these features collapsed, and how far? AUC, RankMe and their kin beside white noise's, and a verdict.

    FEATURES is an array (samples, dimensions) or (views, samples, dimensions) in a .npy, .npz, .pt, .pth, .ckpt, .bin
    or .safetensors file, FILE or FILE:NAME, read in parts; or the folder of a run. No code in a file is run.
    """

    features: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="FEATURES")] = None
    """FILE or FILE:NAME, or the folder of a run of `train`."""
    compare: tuple[str, ...] = ()
    """Further features, in a table beside these."""
    views: tuple[str, ...] = ()
    """Further views of the same images, row by row; where views are several, LiDAR and alignment are measured."""
    views_axis: Literal["0", "1"] = "0"
    """Which axis of an array of three counts views."""
    spectrum: bool = False
    """The arrays are singular values, not features."""
    samples: int | None = None
    """With --spectrum: how many features it is of."""
    dim: int | None = None
    """With --spectrum: the features' dimension, where fewer values are given."""
    space: str | None = None
    """representation, embedding or prediction: what the features are, of a run what is taken. None: the preset's."""

    def run(self) -> dict:
        """What was measured of each, with its verdict."""
        names = [name for name in (self.features, *self.compare) if name is not None]
        self._refuse_idle(names)
        convention = self.convention()
        with self.drawing() as found:
            found += [self._measured(name, convention) for name in names]
        drawn = {} if self.picture is None else {"picture": str(self.picture)}
        rows = list(map(row_of, found))
        return (rows[0] if len(rows) == 1 else {"compared": rows}) | drawn

    def text(self, result: dict) -> str:
        """Tables beside white noise's, and the verdict in a sentence."""
        from stopgrad.deep.words import collapse

        said = collapse.compared(result["compared"]) if "compared" in result else collapse.text(result)
        return said + (f"\npicture: {result['picture']}" if "picture" in result else "")

    def _refuse_idle(self, names: list[str]) -> None:
        """Raise BadInput for no features, and for flags that would do nothing."""
        if not names:
            raise BadInput("no features: name a file, or the folder of a run; see python -m deep collapse --help")
        if not self.spectrum and (self.samples is not None or self.dim is not None):
            raise BadInput("--samples and --dim are of singular values; give --spectrum too, or leave them out")
        if self.samples is not None and self.samples < 2:
            raise BadInput(f"--samples is {self.samples}; it must be at least 2")
        if self.views and (self.spectrum or len(names) > 1):
            raise BadInput("--views are of one set of features; leave out --spectrum, or compare arrays of three axes")

    def _measured(self, name: str, convention: Convention) -> "Measured":
        from stopgrad.deep.measuring.collapse.features import of_array, open_features
        from stopgrad.deep.measuring.collapse.files import open_array
        from stopgrad.deep.measuring.collapse.measurement import measure_collapse, measure_spectrum

        if self.spectrum:
            return measure_spectrum(open_array(name)(), self.samples, self.dim, convention, self.space, name)
        if Path(name).is_dir():
            from stopgrad.deep.training.represented import features_of_run

            taken = features_of_run(Path(name), self.space or convention.space, self.device)
            features = of_array(lambda: taken, name)
        else:
            features = open_features(name, self.views, int(self.views_axis))
        return measure_collapse(features, convention, self.space, self.shown(name))


def row_of(found: "Measured") -> dict:
    """What was measured, flat, with its verdict and its singular values."""
    from stopgrad.deep.measuring.collapse.verdict import verdict

    said = verdict(found)
    told = {"verdict": said.word, "sentence": said.sentence, "notes": list(said.notes)}
    return found.row() | told | {"sigma": found.sigma}

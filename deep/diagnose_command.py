"""The command `diagnose`: what do a checkpoint's representations look like, and is its predictor aligned?"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from stopgrad.deep.collapse_command import Spectra, row_of
from stopgrad.deep.config import Config, Data, Monitor, check
from stopgrad.deep.measuring.layouts.layouts import LAYOUTS
from stopgrad.linear_theory.tools.errors import BadInput

if TYPE_CHECKING:
    from stopgrad.deep.measuring.evaluation import Part
    from stopgrad.deep.measuring.layouts.network import Rebuilt
    from stopgrad.deep.processes.distributed import World


@dataclass(frozen=True)
class Diagnose(Spectra):
    """Is a network of anybody's collapsed? Spectra of its representations and embeddings, from its checkpoint alone.

    A ResNet of any depth and width is rebuilt from names and shapes, projector and predictor behind it as far as they
    are given; it looks at the training images of a data set, unaugmented, in eval mode. Of a linear predictor also how
    far it is aligned with the correlation of its input. No code in the file is run.
    """

    checkpoint: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="CHECKPOINT")] = None
    """A file of torch.save with tensors and numbers alone, or of safetensors."""
    layout: Literal[tuple(LAYOUTS)] = "torchvision"  # type: ignore[valid-type]
    """Whose names its weights have."""
    compare: tuple[str, ...] = ()
    """Further checkpoints of this layout, in tables beside this one."""
    data: Literal["digits", "cifar10", "cifar100", "stl10", "imagefolder"] = "digits"
    """What the network looks at, normalised as in `train`."""
    data_folder: str | None = None
    """Where torchvision keeps its sets, or the imagefolder with train/CLASS/… and val/CLASS/…."""
    download: bool = False
    """Let torchvision download the set where it is missing."""
    image_size: int | None = None
    """Side of an image in pixels; None: the set's own."""
    images: int = 10_000
    """Images to look at, at most: as many of each class as there are in proportion."""

    def run(self) -> dict:
        """What each network makes of the images, by space, and how its predictor stands to it."""
        names = [name for name in (self.checkpoint, *self.compare) if name is not None]
        if not names:
            raise BadInput("no checkpoint: name a file; see python -m deep diagnose --help")
        config = check(Config(self._data(), monitor=Monitor(knn_images=self.images)))
        from stopgrad.deep.measuring.layouts.network import rebuild
        from stopgrad.deep.training.runs import joined

        networks = [rebuild(name, LAYOUTS[self.layout]) for name in names]
        with self.drawing() as drawn, joined(self.device) as world:
            part, about = _images(config, world)
            found = [self._looked_at(*pair, part, world, drawn) | about for pair in zip(names, networks)]
        told = {} if self.picture is None else {"picture": str(self.picture)}
        return (found[0] if len(found) == 1 else {"compared": found}) | told

    def text(self, result: dict) -> str:
        """Tables beside white noise's, verdicts and the alignment in a sentence."""
        from stopgrad.deep.words.checkpoint import compared, text

        said = compared(result["compared"]) if "compared" in result else text(result)
        return said + (f"\npicture: {result['picture']}" if "picture" in result else "")

    def _data(self) -> Data:
        given = {name: getattr(self, name) for name in ("data_folder", "download", "image_size")}
        return replace(Data(dataset=self.data), **given)

    def _looked_at(self, name: str, network: "Rebuilt", part: "Part", world: "World", drawn: list) -> dict:
        """What one network makes of the images."""
        from stopgrad.deep.measuring.collapse.features import of_array
        from stopgrad.deep.measuring.collapse.measurement import measure_collapse

        batches = -(-len(part.labels) // 256)  # of that size
        spaces = network.features(self.shown(Path(name).name, batches)(part.batches()), world.device)
        several, rows, notes = bool(self.compare), {}, list(network.notes)
        for space, z in spaces.items():
            features = of_array(lambda z=z: z.cpu(), name if several else f"{name}:{space}")
            try:
                measured = measure_collapse(features, self.convention(), space)
            except BadInput as error:  # nothing varies, or not all are numbers: another space may tell more
                notes.append(f"{space}: {error}")
                continue
            if not several or space == "representation":
                drawn.append(measured)
            rows[space] = row_of(measured)
        if not rows:
            raise BadInput(notes[-1])
        return {
            "checkpoint": name,
            "layout": self.layout,
            "network": network.words,
            "spaces": rows,
            "alignment": _alignment(network.matrix(), spaces),
            "notes": notes,
        }


def _images(config: Config, world: "World") -> tuple["Part", dict]:
    """What is looked at, and what it is."""
    import torch

    from stopgrad.deep.data import datasets
    from stopgrad.deep.training.conclusion import evaluation_parts

    dataset = datasets.load(config.data, config.seed, world.device)
    part, _ = evaluation_parts(config, dataset, world.device, torch.float32)
    return part, {"data": dataset.name, "image_size": dataset.size}


def _alignment(Wp, spaces: dict) -> dict | None:
    """How a linear predictor stands to F = E[zzᵀ] of what it takes: Tian, Chen & Ganguli 2021, Fig. 2; or None."""
    if Wp is None:
        return None
    from stopgrad.linear_theory.predictors.matrices import correlation
    from stopgrad.linear_theory.spectra.alignment import asymmetry, eigenvector_alignment, misalignment

    z = spaces.get("embedding", spaces["representation"]).double()
    Wp, F = Wp.to(z), correlation(z, check=False)
    found = eigenvector_alignment(Wp, F)
    numbers = {"misalignment": float(misalignment(Wp, F)), "asymmetry": float(asymmetry(Wp))}
    return {"eigenvalues": found.eigenvalues.tolist(), "cosine": found.cosine.tolist()} | numbers

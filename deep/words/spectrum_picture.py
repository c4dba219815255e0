"""A picture of features' spectra: the cumulative spectrum with its area shaded, and σ with the floor of rounding."""

from collections.abc import Sequence
from pathlib import Path

from stopgrad.linear_theory.tools.drawing import SHIPPED  # noqa: F401  isort: skip (before matplotlib)
import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from stopgrad.deep.measuring.collapse.measurement import Collapse
from stopgrad.deep.measuring.collapse.verdict import verdict
from stopgrad.deep.words.collapse import short
from stopgrad.deep.words.picture import GREY, STYLE, save
from stopgrad.linear_theory.spectra.spectrum import cumulative_spectrum
from stopgrad.linear_theory.spectra.white_noise import white_noise_spectrum
from stopgrad.linear_theory.tools.files import prepare_file
from stopgrad.linear_theory.tools.names import plain

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LINES = ("-", (0, (4, 2)), (0, (1, 1.5)))


def draw_spectra(found: Sequence[Collapse], path: Path) -> None:
    """Write `spectra_figure` to `path` (.png), whole or not at all. Raises BadInput for a path that cannot serve."""
    path = prepare_file(Path(path), ".png")
    save(spectra_figure(found), path)


def spectra_figure(found: Sequence[Collapse]) -> Figure:
    """Left: CEV_j over j, its mean, the AUC, shaded under the first. Right: σ_j, and what rounding makes of it.

    Grey: white noise of the first's N and d, scaled on the right to its Σσ².
    """
    with matplotlib.rc_context(STYLE):
        whole = Figure(figsize=(12.5, 4.8), layout="constrained")
        FigureCanvasAgg(whole)
        left, right = whole.subplots(1, 2)
        noise = _noise_like(found[0])
        _cumulative(left, found, noise)
        _falling(right, found, noise)
        whole.suptitle(_title(found), x=0.01, ha="left", fontsize=12)
    return whole


def _title(found: Sequence[Collapse]) -> str:
    of = found[0].spectrum
    how = f"{of.space}, {'centred' if of.centred else 'not centred'}{', rows normalised' * of.normalised}"
    return f"{_names(found)[0]} ({how}): {verdict(found[0]).word}" if len(found) == 1 else how


def _cumulative(axis, found: Sequence[Collapse], noise: np.ndarray) -> None:
    axis.set_title(r"a  Cumulative spectrum $\sum_{i \leq j} \sigma_i / \sum_i \sigma_i$")
    axis.set(xlabel=r"$j/d$", ylim=(0, 1.02))
    for one, name, look in zip(found, _names(found), _looks(found)):
        x, cev = _shares(one.sigma, one.spectrum.dim)
        axis.plot(x, cev, label=f"{name}: AUC {one.spectrum.metrics.collapse_auc:.4g}", **look)
        if one is found[0]:
            axis.fill_between(x, 0, cev, color=look["color"], alpha=0.15, linewidth=0)
    flat = found[0].spectrum
    words = f"{_whose(found)}: AUC {flat.white_noise.collapse_auc:.4g}"
    axis.plot(*_shares(noise, flat.dim), color=GREY, label=words)
    axis.legend(loc="lower right")


def _falling(axis, found: Sequence[Collapse], noise: np.ndarray) -> None:
    axis.set(title=r"b  Singular values $\sigma_j$", xlabel=r"$j$", yscale="log")
    drawn = []
    for one, name, look in zip(found, _names(found), _looks(found)):
        positive = one.sigma[one.sigma > 0]
        drawn += [positive, [one.noise_floor]]
        axis.plot(np.arange(1, len(positive) + 1), positive, label=name, **look)
        axis.axhline(one.noise_floor, color=look["color"], linewidth=0.9, linestyle=(0, (1, 2)))
    axis.plot([], [], color="black", linewidth=0.9, linestyle=(0, (1, 2)), label="rounding: values below say nothing")
    positive = noise[noise > 0]
    axis.plot(np.arange(1, len(positive) + 1), positive, color=GREY, label=r"white noise of the same $\sum\sigma^2$")
    every = np.concatenate(drawn)
    axis.set_ylim(every.min() / 1.8, every.max() * 1.8)
    axis.legend(loc="best")


def _names(found: Sequence[Collapse]) -> list[str]:
    return [plain(name) for name in short([one.features for one in found])]


def _whose(found: Sequence[Collapse]) -> str:
    """White noise is drawn for the first alone."""
    return f"white noise like {_names(found)[0]}" if len(found) > 1 else "white noise"


def _looks(found: Sequence[Collapse]):
    """A colour for each, and another dash when colours begin again."""
    for k in range(len(found)):
        yield {"color": _COLOURS[k % len(_COLOURS)], "linestyle": _LINES[k // len(_COLOURS) % len(_LINES)]}


def _shares(sigma: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """(j/d, CEV_j) from 0 to d: spectra of different dimensions lie on one axis, as their AUC is defined."""
    cev = cumulative_spectrum(sigma)
    return np.arange(dim + 1) / dim, np.concatenate([[0], cev, np.ones(dim - len(cev))])


def _noise_like(one: Collapse) -> np.ndarray:
    """Singular values of white noise of as many samples and dimensions, and the same Σσ²; flat if N is not known."""
    of = one.spectrum
    sigma = np.ones(of.dim) if of.samples is None else white_noise_spectrum(of.samples, of.dim, of.centred)
    return sigma * np.sqrt((one.sigma**2).sum() / (sigma**2).sum())

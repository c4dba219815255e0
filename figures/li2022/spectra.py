"""Figure 3 of Li, Efros & Pathak 2022 redrawn from the spectra that they released, and what other metrics say."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stopgrad.figures.li2022.sources import CITED, SHARES, claims_of
from stopgrad.figures.machinery import style
from stopgrad.figures.machinery.picture import Picture, Released
from stopgrad.linear_theory.spectra import spectrum

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

ARRAYS = "li2022_imagenet_singular_values.npz"
THEIRS = "resnet18_{}percent/imagenet/train_reprs_e0_svd.pt"
METRICS = {
    "collapse_auc": ("AUC", 1),
    "rankme": ("RankMe", -1),
    "variance_effective_rank": ("exp-entropy of $\\sigma^2$", -1),
    "participation_ratio": ("participation ratio", -1),
    "stable_rank": ("stable rank", -1),
}
"""In words, and whether the largest value (1) or the smallest (−1) is of the most collapsed."""


def read_released(folder: Path) -> "xr.Dataset | None":
    """`sigma` (share, index) of the six released spectra, and METRICS (share,) of each; None where `folder` has none.

    Read are the authors' own files, as their repository's folder data/ has them, or all in one .npz.
    """
    import xarray as xr

    found = _arrays(folder)
    if found is None:
        return None
    sigma = np.array(found, dtype=float)
    metrics = {name: ("share", getattr(spectrum, name)(sigma)) for name in METRICS}
    axis = np.arange(1, sigma.shape[1] + 1)
    return xr.Dataset({"sigma": (("share", "index"), sigma), **metrics}, {"share": list(SHARES), "index": axis})


def _arrays(folder: Path) -> list[np.ndarray] | None:
    folder = Path(folder)
    if (folder / ARRAYS).is_file():
        with np.load(folder / ARRAYS, allow_pickle=False) as spectra:
            return [spectra[f"resnet18_{share:03}percent"] for share in SHARES]
    paths = [folder / THEIRS.format(share) for share in SHARES]
    if not all(path.is_file() for path in paths):
        return None
    import torch

    return [torch.load(path, weights_only=True)["stds"].numpy() for path in paths]


@style.styled
def draw_fig3(data: "xr.Dataset") -> "Figure":
    """Singular values of the representations of ImageNet's training set by SimSiam's ResNet-18, trained on a share of
    it for as many steps, as the authors released them: as they are; over the largest; their cumulative sum, the area
    under which is the paper's metric, AUC; and AUC over the share. Values at the foot of the first two panels are
    float32's floor. Last: how collapsed each network is by five metrics, 1 for the most collapsed of the six.

    AUC does not rise throughout: it is largest at 20 %. And metrics differ on which network is the most collapsed: at
    20 % by AUC and RankMe, which see the whole spectrum, at 100 % by participation ratio and stable rank, which see
    its largest values."""
    figure, axes = style.new_figure(1, 5, panel=(3.1, 3.2))
    raw, relative, sums, over, ranks = axes[0]
    for share, colour in zip(data.share.values, style.ordered(data.sizes["share"])):
        sigma = data.sigma.sel(share=share)
        words = f"{share} %"
        raw.semilogy(data.index, sigma, color=colour, label=words)
        relative.semilogy(data.index, sigma / sigma.max(), color=colour)
        sums.plot(data.index, spectrum.cumulative_spectrum(sigma.values), color=colour)
        over.plot(share, data.collapse_auc.sel(share=share), "o", color=colour, zorder=3)
    over.plot(data.share, data.collapse_auc, color="0.7", zorder=1)
    over.set(xscale="log", xlabel="share of ImageNet, %", ylabel="AUC")
    over.set_xticks(data.share.values, [f"{share}" for share in data.share.values])
    over.minorticks_off()
    raw.set(ylabel=r"$\sigma_i$")
    relative.set(ylabel=r"$\sigma_i/\sigma_1$")
    sums.set(ylabel=r"share of $\sum\sigma$ up to $i$", ylim=(0, 1.02))
    for axis in (raw, relative, sums):
        axis.set_xlabel("index $i$")
    place = np.array([(-sign * data[name]).argsort().argsort().values + 1 for name, (_, sign) in METRICS.items()])
    ranks.imshow(place, cmap="cividis", aspect="auto", vmin=1, vmax=place.max())
    for row, column in np.ndindex(place.shape):
        dark = place[row, column] < 4
        ranks.text(column, row, place[row, column], ha="center", va="center", color="white" if dark else "black")
    ranks.set_xticks(range(data.sizes["share"]), [f"{share}" for share in data.share.values])
    ranks.set_yticks(range(len(METRICS)), [words for words, _ in METRICS.values()], fontsize=8.5)
    ranks.set_xlabel("share of ImageNet, %")
    ranks.set_title("1: most collapsed")
    ranks.tick_params(length=0)
    style.legend_below(figure)
    return figure


FIGURES = {
    "li-fig3": Picture(
        Released(
            "the spectra that the authors released: name the folder data/ of their code (noncontrastive-ssl), or one "
            f"with {ARRAYS}, by --data or STOPGRAD_DATA",
            read_released,
        ),
        draw_fig3,
        "The released spectra, and metrics that differ on which is the most collapsed",
        f"data released with {CITED}, Figure 3",
        "li2022",
        claims=claims_of(
            "data data-five theory-released-rise theory-released-fall theory-released-disagree theory-spike "
            "theory-power-law theory-flat theory-padding theory-chain"
        ),
    ),
}

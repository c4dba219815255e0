"""Orders of the data over time, where to switch from one to the other, and rank over training (Figure 6)."""

from typing import TYPE_CHECKING

import numpy as np

from stopgrad.experiments.claims import measures
from stopgrad.experiments.claims.interval import interval
from stopgrad.experiments.suites.grid import SCALES
from stopgrad.figures.li2022.sources import MEASURED, ORDERS, PAPER_ORDERS, claims_of
from stopgrad.figures.machinery import style
from stopgrad.figures.machinery.measures import Runs
from stopgrad.figures.machinery.picture import FromRuns, Picture
from stopgrad.figures.shared.trajectories import trajectories

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

EVALUATED = {
    "collapse_auc": "AUC of representations",
    "rankme": "RankMe of representations",
    "knn": "kNN accuracy, share",
}


def compute_orders(runs: Runs) -> "xr.Dataset":
    """`loss` (arm, seed, step) over training and EVALUATED (arm, seed, evaluated) between epochs, of each order."""
    over = trajectories(runs, ORDERS, ("loss",))
    found = trajectories(runs, ORDERS, tuple(EVALUATED), of=lambda run: run.evaluations)
    return over.merge(found.rename(step="evaluated").drop_vars("planned"))


@style.styled
def draw_orders(data: "xr.Dataset") -> "Figure":
    """Four orders of the same images over as many steps each: many passes over all; growing data; a single pass over
    chunks, an epoch for each, which is repeated meanwhile and never seen again; and such a pass for the first 40 % of
    the steps, then passes over all. Loss of the training batch, which in a single pass is of the running chunk; area
    under the representations' cumulative spectrum, RankMe, and kNN accuracy, measured between epochs over images of the
    whole training set. Thin: seeds; strong: mean. The paper shows the spectra's rank over training: a single pass loses
    none."""
    figure, axes = style.new_figure(1, 1 + len(EVALUATED), panel=(3.5, 3.0))
    panels = [("loss", "step", "loss"), *((name, "evaluated", words) for name, words in EVALUATED.items())]
    for axis, (name, along, words) in zip(axes[0], panels):
        for arm, (label, colour) in ORDERS.items():
            values = data[name].sel(arm=arm).dropna("seed", how="all").dropna(along, how="all")
            colour = style.OKABE_ITO[colour]
            if not values.sizes["seed"]:
                axis.plot([], [], color=colour, label=f"{label} (not measured)")
                continue
            if name == "loss":
                values = values.rolling({along: 5}, min_periods=1, center=True).mean()
            axis.plot(values[along], values.transpose(along, "seed"), color=colour, linewidth=0.6, alpha=0.4)
            marks = {"marker": "o", "markersize": 3.5} if along == "evaluated" else {}
            axis.plot(values[along], values.mean("seed"), color=colour, label=label, **marks)
        if not any(len(line.get_xdata()) for line in axis.lines):
            style.say(axis, "not measured")
        axis.set(xlabel="step", ylabel=words)
    style.legend_below(figure)
    return figure


# ---------------------------------------------------- where to switch

SWITCHES = {"baseline": 0, "hybrid-20": 20, "hybrid-40": 40, "hybrid-60": 60, "hybrid-80": 80, "single-pass": 100}
NETWORKS = {
    "": ("ResNet-18", "blue"),
    "half-width/": ("half as wide", "green"),
    "quarter-width/": ("a quarter as wide", "orange"),
    "deep-bottleneck/": ("ResNet-50", "purple"),
}
RESTART = "hybrid-40-restart"
SWEPT = tuple(
    prefix + arm
    for prefix in NETWORKS
    for arm in ((*SWITCHES, RESTART) if prefix in ("", "quarter-width/") else ("baseline", "hybrid-40", "single-pass"))
)
LARGE = SCALES[SCALES.index("cifar") :]


def compute_switch(runs: Runs) -> "xr.Dataset":
    """`auc` and `accuracy` (arm, seed) at the end: accuracy of the probe from cifar on, of kNN below."""
    import xarray as xr

    read = measures.accuracy if runs.scale in LARGE else measures.knn

    def values(of):
        found = [[runs.of(arm).get(seed) for seed in runs.seeds] for arm in SWEPT]
        return ("arm", "seed"), [[np.nan if run is None else of(run) for run in row] for row in found]

    return xr.Dataset(
        {
            "auc": values(lambda run: run.evaluated("collapse_auc")),
            "accuracy": values(read),
            "planned": ("arm", [arm in runs.arms for arm in SWEPT]),
        },
        {"arm": list(SWEPT), "seed": list(runs.seeds)},
        {"accuracy_of": "linear probe" if runs.scale in LARGE else "kNN"},
    )


@style.styled
def draw_switch(data: "xr.Dataset") -> "Figure":
    """When a single pass over chunks gives way to passes over all images, in per cent of the steps: 0 is the usual
    order, 100 the paper's single pass. Left the accuracy, right the area under the representations' cumulative
    spectrum; mean over seeds with the 95 % interval of Student's t. Cross: at 40 %, with a learning rate that starts
    anew at the switch. Middle: the paper's linear probe on ImageNet."""
    figure, axes = style.new_figure(1, 3, panel=(3.9, 3.1))
    ours, paper, spectra = axes[0]
    for axis, name in ((ours, "accuracy"), (spectra, "auc")):
        for prefix, (words, colour) in NETWORKS.items():
            colour = style.OKABE_ITO[colour]
            swept = {at: prefix + arm for arm, at in SWITCHES.items() if prefix + arm in SWEPT}
            found = {at: interval(data[name].sel(arm=arm)) for at, arm in swept.items()}
            lacks = sum(bool(data.planned.sel(arm=swept[at])) and not one.count for at, one in found.items())
            found = {at: one for at, one in found.items() if one.count}
            label = f"{words} ({lacks} of its points not measured)" if lacks else words
            if lacks and not found:
                axis.plot([], [], color=colour, label=label)
            if found:
                error = np.hstack([np.array(one.error or [[0], [0]]) for one in found.values()])
                means = [one.mean for one in found.values()]
                axis.errorbar(list(found), means, yerr=error, color=colour, marker="o", markersize=4, capsize=2,
                              linewidth=1.2, label=label)  # fmt: skip
            again = interval(data[name].sel(arm=prefix + RESTART)) if prefix + RESTART in SWEPT else None
            if again and again.count:
                axis.plot(40, again.mean, "x", color=colour, markersize=8, markeredgewidth=2)
        if not any(len(line.get_xdata()) for line in axis.lines):
            style.say(axis, "not measured")
        axis.set_xlabel("single pass, % of the steps")
    ours.set_ylabel(f"{data.attrs['accuracy_of']}, %")
    spectra.set_ylabel("AUC of representations")
    for name, shade in zip(PAPER_ORDERS, ("black", "0.45", "0.7")):
        at = [(SWITCHES[arm], value) for arm, value in PAPER_ORDERS[name].items() if arm in SWITCHES]
        paper.plot(*zip(*sorted(at)), "s--", color=shade, markersize=5, linewidth=1, label=f"paper: {name}")
    paper.set(xlabel="single pass, % of the steps", ylabel="linear probe, %", title="the paper, ImageNet")
    style.legend_below(figure)
    return figure


# ---------------------------------------------------- Figure 6: spectra at the end, rank over training

RANKED = {
    **ORDERS,
    "fraction-10": ("a tenth of the images", "sky"),
    "half-width/baseline": ("half as wide", "purple"),
}


def compute_fig6(runs: Runs) -> "xr.Dataset":
    """`sigma` (arm, index), mean over seeds of σ/σ₁ at the end, and `rank` (arm, seed, evaluated), RankMe over d."""
    import xarray as xr

    def last(run):
        sigma = run.evaluations.arrays["sigma"].values[-1]
        return sigma / sigma[0]

    spectra = {}
    for arm in RANKED:
        found = [last(run) for run in runs.of(arm).values() if "sigma" in run.evaluations.arrays]
        if found:
            spectra[arm] = np.exp(np.mean(np.log(np.maximum(found, 1e-8)), axis=0))
    length = max(map(len, spectra.values()), default=1)
    sigma = [np.append(v := spectra.get(arm, np.zeros(0)), np.full(length - len(v), np.nan)) for arm in RANKED]
    rank = trajectories(runs, RANKED, ("rankme",), of=lambda run: run.evaluations).rename(step="evaluated")
    size = [next((run.evaluated("dim") for run in runs.of(arm).values()), np.nan) for arm in RANKED]
    data = xr.Dataset({"sigma": (("arm", "index"), sigma), "dim": ("arm", size)}, {"index": np.arange(1, length + 1)})
    return data.assign_coords(arm=list(RANKED)).merge(rank.drop_vars("planned"))


@style.styled
def draw_fig6(data: "xr.Dataset") -> "Figure":
    """Left: singular values of the representations at the end, over the largest (geometric mean over seeds), against
    the index over their dimension. Right: RankMe over the dimension over training; thin: seeds, strong: mean.
    In the paper (ResNet-18 on ImageNet) the spectrum drops to its floor at index 479 of 512 after many passes, at 443
    with growing data and nowhere after a single pass, and growing data probe better than many passes all the same."""
    figure, axes = style.new_figure(1, 2, panel=(4.8, 3.4))
    left, right = axes[0]
    for arm, (label, colour) in RANKED.items():
        one, colour = data.sel(arm=arm), style.OKABE_ITO[colour]
        sigma = one.sigma.dropna("index")
        if not sigma.sizes["index"]:
            left.plot([], [], color=colour, label=f"{label} (not measured)")
            continue
        left.semilogy(sigma.index / float(one.dim), sigma, color=colour, label=label)
        rank = (one.rankme / one.dim).dropna("seed", how="all").dropna("evaluated", how="all")
        right.plot(rank.evaluated, rank.transpose("evaluated", "seed"), color=colour, linewidth=0.6, alpha=0.4)
        right.plot(rank.evaluated, rank.mean("seed"), "o-", color=colour, markersize=3.5, label=label)
    for axis in (left, right):
        if not any(len(line.get_xdata()) for line in axis.lines):
            style.say(axis, "not measured")
    left.set(xlabel="index ÷ dimension", ylabel=r"$\sigma_i/\sigma_1$")
    right.set(xlabel="step", ylabel="RankMe ÷ dimension")
    style.legend_below(figure, ncols=3)
    return figure


FIGURES = {
    "li-orders": Picture(
        FromRuns("li2022", tuple(ORDERS), compute_orders),
        draw_orders,
        "Orders of the data over time",
        f"{MEASURED}, Figure 6 and the table of orders",
        "li2022",
        claims=claims_of(
            "single-pass hybrid cumulative single-pass-knn hybrid-knn accuracy-single-pass accuracy-cumulative "
            "accuracy-hybrid accuracy-hybrid-single"
        ),
    ),
    "li-switch": Picture(
        FromRuns("li2022", SWEPT, compute_switch, ends=True),
        draw_switch,
        "Where a single pass gives way to many",
        f"{MEASURED}, the table of orders",
        "li2022",
        claims=claims_of(
            "accuracy-hybrid accuracy-hybrid-single accuracy-small-hybrid accuracy-large-single-pass "
            "accuracy-large-hybrid accuracy-restart"
        ),
    ),
    "li-fig6": Picture(
        FromRuns("li2022", tuple(RANKED), compute_fig6),
        draw_fig6,
        "Rank over training",
        f"{MEASURED}, Figure 6",
        "li2022",
        claims=claims_of("single-pass hybrid cumulative size data"),
    ),
}

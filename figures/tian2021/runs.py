"""The figures of Tian, Chen & Ganguli 2021 (arXiv 2102.06810) about trained networks: 2 and 6.

Each `compute_figN` takes the finished runs of some arms of the suite; what has not been run is NaN in the data, and the
picture says so.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from stopgrad.deep.measuring.quantities.quantities import QUANTITIES
from stopgrad.experiments.claims.interval import interval
from stopgrad.experiments.store.series import over_steps
from stopgrad.figures.machinery import style
from stopgrad.figures.machinery.measures import FAMILIES, Runs, statistics_at, value_of
from stopgrad.figures.machinery.picture import FromRuns, Picture
from stopgrad.figures.tian2021.sources import MEASURED

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

LEADING = 8
"""Modes drawn in colours of their own; the others are grey."""

# ---------------------------------------------------- Figure 2: eigenspaces of F and the predictor over training

FIG2 = {
    "ema": "not symmetrised",
    "symmetric-ema": "symmetrised",
    "cosine/ema": "not symmetrised, cosine loss",
    "cosine/symmetric-ema": "symmetrised, cosine loss",
}
"""The rows: arm of the suite, and what sets it apart; all have an EMA target."""
ALWAYS = 2
"""The first rows are there even where the suite has no such arms."""
SPECTRA = {"eigenvalues": "s", "predictor_spectrum": "p", "alignment": "alignment"}
"""A run's arrays over the modes of F: eigenvalues s_j, u_jᵀW_p u_j and cos(u_j, W_p u_j)."""
WHOLE = ("asymmetry", "predictor_negative")
"""A run's scalars of W_p as a whole."""


def compute_fig2(runs: Runs, arms: Mapping[str, str] = FIG2) -> "xr.Dataset":
    """s, p and alignment (row, step, mode) of the first seed there is, `shown` (row), −1 where there is none.

    asymmetry and predictor_negative (row, seed, step) of all seeds; `steps_per_epoch` is NaN where no run has reached
    its end.
    """
    import xarray as xr

    arms = {arm: text for k, (arm, text) in enumerate(arms.items()) if k < ALWAYS or arm in runs.arms}
    rows = [_trajectories(runs.of(arm), runs.seeds) for arm in arms]
    data = xr.concat(rows, "row", join="outer")
    return data.assign_coords(row=list(arms.values()), arm=("row", list(arms))).assign_attrs(
        steps_per_epoch=_steps_per_epoch(run for arm in arms for run in runs.of(arm).values())
    )


def _steps_per_epoch(records: Iterable) -> float:
    whole = (run for run in records if run.summary["state"] == "finished" and run.config.optimisation.epochs)
    return next((run.summary["steps"] / run.config.optimisation.epochs for run in whole), float("nan"))


def _trajectories(records: Mapping, seeds: tuple[int, ...]) -> "xr.Dataset":
    """One row of Figure 2."""
    import xarray as xr

    each = [over_steps(records[seed].columns, WHOLE) if seed in records else _nothing() for seed in seeds]
    over_seeds = xr.concat(each, "seed", join="outer").assign_coords(seed=list(seeds))
    shown = min(records, default=-1)
    modes = over_steps(records[shown].columns, SPECTRA).rename(SPECTRA) if records else _no_modes()
    return xr.merge([over_seeds, modes, xr.Dataset({"shown": shown})], join="outer")


def _nothing() -> "xr.Dataset":
    import xarray as xr

    return xr.Dataset(dict.fromkeys(WHOLE, ("step", np.zeros(0))), {"step": np.zeros(0, dtype=int)})


def _no_modes() -> "xr.Dataset":
    import xarray as xr

    empty = (("step", "mode"), np.zeros((0, 0), dtype=np.float32))
    none = np.zeros(0, dtype=int)
    return xr.Dataset(dict.fromkeys(SPECTRA.values(), empty), {"step": none, "mode": none})


@style.styled
def draw_fig2(data: "xr.Dataset") -> "Figure":
    """Networks with an EMA target and a linear predictor over training: above as the gradient leaves W_p, below
    with W_p made symmetric after every step. Columns: eigenvalues s_j of the embeddings' uncentred correlation F
    (logarithmic), the predictor along the same eigenvectors, p_j = u_j^T W_p u_j (an eigenvalue of W_p where the
    two align), the cosine of u_j and W_p u_j, and how far W_p is from symmetric and positive: the norm of its
    skew part over its own norm, and the share of the negative ones in the sum of |eigenvalues| of its
    symmetric part. The first three columns are one seed, the last one all: mean and range.

    Dotted: the first mode; F is not centred, so it is the embeddings' mean. The paper's runs are BYOL on STL-10,
    ResNet-18, 100 epochs; these are at the scale named below."""
    from matplotlib.ticker import MaxNLocator

    pace = data.attrs["steps_per_epoch"]
    data = data.assign_coords(x=data.step / (pace if pace > 0 else 1))
    figure, axes = style.new_figure(data.sizes["row"], 4, panel=(3.35, 2.7), sharex=True, sharey="col")
    for line, one in zip(axes, (data.isel(row=i) for i in range(data.sizes["row"]))):
        _draw_row(line, one)
        line[0].set_title(_upper(one.row), fontweight="bold")
    texts = [*(QUANTITIES[name].label for name in SPECTRA), "part of $W_p$"]
    for column, text in zip(axes.T, texts):
        for axis in column:
            axis.set_ylabel(text)
        column[-1].set_xlabel("epoch" if pace > 0 else "step")
        column[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    style.legend_below(figure)
    return figure


def _draw_row(axes, one: "xr.Dataset") -> None:
    if one.shown < 0:
        for axis in axes:
            style.say(axis, f"not measured:\nno run of {one.arm.item()}")
        return
    axes[1].axhline(0, **style.RULE)
    axes[2].axhline(1, **style.RULE)
    for axis, name in zip(axes, SPECTRA.values()):
        _draw_modes(axis, one[name].dropna("step", how="all"))
    axes[0].set_yscale("log")
    axes[1].set_title(f"seed {int(one.shown)}")
    for name, colour in zip(WHOLE, ("vermillion", "blue")):
        seeds = one[name].dropna("seed", how="all").dropna("step", how="all")
        look = {"color": style.OKABE_ITO[colour]}
        axes[3].fill_between(seeds.x, seeds.min("seed"), seeds.max("seed"), alpha=0.2, linewidth=0, **look)
        axes[3].plot(seeds.x, seeds.mean("seed"), label=QUANTITIES[name].label, **look)
    axes[3].set_title(f"mean and range of {seeds.sizes['seed']} seeds" if seeds.sizes["seed"] > 1 else "")
    axes[3].set_ylim(-0.03, 1.03)


def _draw_modes(axis, values: "xr.DataArray") -> None:
    """The mean's mode dotted, since F is not centred; then the leading ones from dark to light, the others grey."""
    values = values.where(values > values.max() * 1e-9) if values.name == "s" else values
    for j in reversed(range(LEADING, values.sizes["mode"])):
        label = f"modes {LEADING + 1} to {values.sizes['mode']}" if j == LEADING else None
        axis.plot(values.x, values.isel(mode=j), color="0.82", linewidth=0.6, zorder=1, label=label)
    colours = style.ordered(min(LEADING, values.sizes["mode"]))
    for j, colour in reversed(list(enumerate(colours))):
        look = {"color": "black", "linestyle": ":"} if j == 0 else {"color": colour}
        text = {0: "mode 1 (the mean)", 1: "mode 2", LEADING - 1: f"mode {LEADING}"}.get(j)
        axis.plot(values.x, values.isel(mode=j), label=text, **look)


def _upper(text) -> str:
    words = str(np.asarray(text))
    return words[0].upper() + words[1:]


# -------------------------------------------- Figure 6: a larger predictor rate instead of EMA, symmetric predictor


FIG6 = ("symmetric", "symmetric-alpha-2", "symmetric-alpha-4", "symmetric-alpha-8")
"""Symmetric predictor, no EMA."""
FIG6_REFERENCES = {"baseline": "not symmetric, no EMA", "symmetric-ema": "symmetric, EMA"}


def compute_fig6(runs: Runs) -> "xr.Dataset":
    """`value` (loss, statistic, alpha_p, seed) of the symmetric predictor, `reference` (loss, statistic, other, seed).

    The losses are those with which the suite has one of these arms, the theory's always; α_p is read off each arm's
    config. The statistics are those that mean something at the runs' scale; NaN where a run or its statistic is not.
    """
    import xarray as xr

    losses = {
        loss: prefix
        for loss, prefix in FAMILIES.items()
        if not prefix or any(prefix + arm in runs.arms for arm in FIG6)
    }
    parts = [_panels(runs, prefix) for prefix in losses.values()]
    return xr.concat(parts, "loss", join="outer").assign_coords(loss=list(losses)).sortby("alpha_p")


def _panels(runs: Runs, prefix: str) -> "xr.Dataset":
    """One loss of Figure 6."""
    import xarray as xr

    kinds = statistics_at(runs.scale)
    here = [prefix + arm for arm in FIG6 if prefix + arm in runs.arms]

    def values(names):
        table = [
            [[value_of(s, runs.of(arm).get(seed)) for seed in runs.seeds] for arm in names] for s in kinds.values()
        ]
        return np.reshape(table, (len(kinds), len(names), len(runs.seeds))).astype(float)

    return xr.Dataset(
        {
            "value": (("statistic", "alpha_p", "seed"), values(here)),
            "reference": (("statistic", "other", "seed"), values([prefix + arm for arm in FIG6_REFERENCES])),
        },
        {
            "statistic": list(kinds),
            "alpha_p": [_predictor_rate(runs.arms[arm].config) for arm in here],
            "seed": list(runs.seeds),
            "other": list(FIG6_REFERENCES.values()),
        },
    )


def _predictor_rate(config) -> float:
    """α_p: the predictor's learning rate over the encoder's."""
    o = config.optimisation
    return (o.lr if o.predictor_lr is None else o.predictor_lr) / o.lr


@style.styled
def draw_fig6(data: "xr.Dataset") -> "Figure":
    """Networks with a symmetric linear predictor and no EMA target against alpha_p, the predictor's learning rate
    over the encoder's. Circles: seeds; diamonds: mean with the 95 % interval of Student's t. Lines: means of the
    predictor that is not kept symmetric, without EMA, and of the symmetric one with EMA.

    The paper shows accuracy (STL-10 and CIFAR-10, 100 epochs). At the small scales accuracy says little, and the
    panels are the two ways to collapse: in direction, the effective number of modes of F = E[z z^T] (exp of the
    entropy of its normalised eigenvalues; 1 is complete collapse), and in norm, the trace of F over its start."""
    kinds = {name: one for name, one in statistics_at(data.attrs["scale"]).items() if name in data.statistic}
    figure, axes = style.new_figure(data.sizes["loss"], len(kinds), panel=(3.9, 3.3), sharex=True)
    for line, loss in zip(axes, data.loss.values):
        for axis, (name, kind) in zip(line, kinds.items()):
            _draw_against_rate(axis, data.sel(loss=loss, statistic=name))
            axis.set_ylabel(kind.words)
            style.reach(axis, "y", kind.limits)
        line[0].set_title(str(loss))
    for axis in axes[-1]:
        axis.set_xlabel(r"predictor rate $\alpha_p$ = lr$_p$/lr")
    style.legend_below(figure)
    return figure


def _draw_against_rate(axis, one: "xr.Dataset") -> None:
    for other, (colour, dashes) in zip(one.other.values, (("green", "--"), ("purple", "-."))):
        found = interval(one.reference.sel(other=other))
        if found.count:
            axis.axhline(found.mean, color=style.OKABE_ITO[colour], linestyle=dashes, label=f"{other} (mean)")
    if one.sizes["alpha_p"] == 0:
        return style.say(axis, "not in the suite\nat this scale")
    for alpha, values in zip(one.alpha_p.values, one.value.values):
        _draw_seeds(axis, alpha, values)
    axis.set_xscale("log", base=2)
    axis.set_xlim(one.alpha_p.min() * 2**-0.5, one.alpha_p.max() * 2**0.5)
    axis.set_xticks(one.alpha_p.values, [f"{a:g}" for a in one.alpha_p.values], minor=False)


def _draw_seeds(axis, at: float, values) -> None:
    """A point a seed, beside their mean with its interval."""
    values = values[np.isfinite(values)]
    found = interval(values)
    if found.count == 0:
        axis.text(at, 0.5, "not measured", rotation=90, ha="center", va="center", color="0.35", fontsize=9,
                  transform=axis.get_xaxis_transform())  # fmt: skip
        return
    axis.plot(at * 2**-0.12 * np.ones(found.count), values, label="one seed", **style.SEED)
    axis.errorbar(at * 2**0.12, found.mean, found.error, label="mean, 95 % interval", **style.ESTIMATE)


FIG6_ARMS = tuple(prefix + arm for prefix in FAMILIES.values() for arm in (*FIG6, *FIG6_REFERENCES))
"""Of either loss."""
FIGURES = {
    "tian-fig2": Picture(
        FromRuns("tian2021", tuple(FIG2), compute_fig2),
        draw_fig2,
        "Do the eigenspaces of F and the predictor align in a real network?",
        f"{MEASURED}, Figure 2",
        "tian2021",
        claims=(
            "tian2021-alignment-resnet-ema",
            "tian2021-alignment-resnet-symmetric",
            "tian2021-alignment-resnet-cosine",
            "tian2021-predictor-symmetric",
            "tian2021-predictor-positive",
        ),
    ),
    "tian-fig6": Picture(
        FromRuns("tian2021", FIG6_ARMS, compute_fig6, ends=True),
        draw_fig6,
        "Does a faster predictor replace EMA for a symmetric one?",
        f"{MEASURED}, Figure 6",
        "tian2021",
        claims=("tian2021-rescue-alpha-p", "tian2021-rescue-alpha-p-cosine", "tian2021-accuracy-rescue-alpha-p"),
    ),
}

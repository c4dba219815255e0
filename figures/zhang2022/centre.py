"""De-centering measured: Figure 5a of Zhang et al. 2022, and η_p of every arm whose predictor learns against theory."""

from typing import TYPE_CHECKING

import numpy as np

from stopgrad.experiments.claims.interval import interval
from stopgrad.figures.machinery import style
from stopgrad.figures.machinery.measures import Runs
from stopgrad.figures.machinery.picture import FromRuns, Picture
from stopgrad.figures.zhang2022.sources import BN, FIG5A_ZERO, MEASURED, claims_of
from stopgrad.linear_theory.exact.centre import decentring

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

SCALARS = ("eta_p", "centre_ratio", "m_o_z", "m_o_p", "rho_z")


def ends(runs: Runs, arms) -> "xr.Dataset":
    """`SCALARS` at the end of each run, each (arm, seed), and `theory`, −η of an optimal predictor there.

    Theory's m_o and ρ are those of Z: the optimal prediction of Z_b = o + r_b is o + ρ r_a, and P its direction.
    `part` (arm,): whether the suite has the arm.
    """
    import xarray as xr

    def value(name, run):
        gone = run is None or run.summary["state"] == "diverged"
        return np.nan if gone else run.last(name)

    arms = list(arms)
    values = {
        name: (("arm", "seed"), [[value(name, runs.of(arm).get(seed)) for seed in runs.seeds] for arm in arms])
        for name in SCALARS
    }
    data = xr.Dataset(values, {"arm": arms, "seed": list(runs.seeds)})
    theory = -decentring(data.m_o_z, data.rho_z.clip(0, 1))
    return data.assign(theory=theory, part=("arm", [arm in runs.arms for arm in arms]))


# ---------------------------------------------------- Figure 5a: how much of the prediction's centre is in o_e

FIG5A = ("simsiam", "digits/simsiam")


def compute_fig5a(runs: Runs, eta=(-1.5, 1.0, 251)) -> "xr.Dataset":
    """`curve` (arm, seed, eta): cos(o_e − η o_p, o_p) at the end; its zero `eta_p` and what theory has it be.

    Of two vectors it follows from η_p and ‖o_p‖/‖o_z‖: o_e/‖o_p‖ has the part η_p along o_p, and across it
    √(‖o_z‖²/‖o_p‖² − (1 + η_p)²). eta: first, last and count.
    """
    data = ends(runs, FIG5A)
    axis = np.linspace(*eta)
    along = data.eta_p.values[..., None] - axis
    across = np.maximum(1 / data.centre_ratio.values**2 - (1 + data.eta_p.values) ** 2, 0)
    with np.errstate(invalid="ignore"):
        curve = along / np.sqrt(along**2 + across[..., None])
    networks = [_network(runs, arm) for arm in FIG5A]
    return data.assign(curve=(("arm", "seed", "eta"), curve)).assign_coords(eta=axis, network=("arm", networks))


def _network(runs: Runs, arm: str) -> str:
    if arm not in runs.arms:
        return ""
    config = runs.arms[arm].config
    return f"{config.method.backbone} on {config.data.dataset}"


@style.styled
def draw_fig5a(data: "xr.Dataset") -> "Figure":
    """Cosine of o_e - eta o_p and o_p over eta at the end of SimSiam's training; o_p is the centre of the unit
    predictions, and o_e = o_z - o_p that of the extra gradient. It is 0 at eta_p: below 0 the extra gradient has
    -o_p in it, and takes the centre away. Grey: seeds. Diamond: mean of the zero with its 95 % interval. Orange: the
    same of theory's 1 - sqrt(m_o^2 + rho^2 (1 - m_o^2)), with a minus, from each seed's m_o and cross-view correlation
    rho of Z; that is of a predictor which is the best linear one. Square: the paper's zero (CIFAR-100, ResNet-18)."""
    figure, axes = style.new_figure(1, data.sizes["arm"], panel=(4.8, 3.5), sharex=True, sharey=True)
    for axis, arm in zip(axes[0], data.arm.values):
        one = data.sel(arm=arm)
        network = f" ({one.network.item()})" if one.network.item() else ""
        axis.set_title(f"{arm}{network}")
        axis.set(xlabel=r"$\eta$", xlim=(data.eta.min(), data.eta.max()))
        found, theory = interval(one.eta_p), interval(one.theory)
        if not found.count:
            style.say(axis, "not measured" if one.part else "not in the suite\nat this scale")
            continue
        axis.axhline(0, **style.RULE)
        axis.axvline(0, **style.RULE)
        for seed in one.seed.values:
            axis.plot(data.eta, one.curve.sel(seed=seed), color="0.55", linewidth=1.0, label="one seed")
        axis.errorbar(found.mean, 0, xerr=found.error, label=r"its zero $\eta_p$, 95 % interval", **style.ESTIMATE)
        look = style.ESTIMATE | {"fmt": "o", "color": style.OKABE_ITO["orange"]}
        axis.errorbar(theory.mean, -0.12, xerr=theory.error, label="theory", **look)
        axis.plot(FIG5A_ZERO, 0, "s", color=style.PAPER["color"], markersize=6, label="the paper's zero", zorder=5)
        numbers = f"$\\eta_p$ = {found.mean:.3f}\ntheory {theory.mean:.3f}\npaper {FIG5A_ZERO}"
        axis.text(0.97, 0.95, numbers, ha="right", va="top", transform=axis.transAxes, fontsize=9)
    axes[0, 0].set_ylabel(r"$\cos(o_e - \eta\, o_p,\ o_p)$")
    style.legend_below(figure)
    return figure


# ---------------------------------------------------- η_p of all learned predictors against theory

LEARNED = {
    "simsiam": ("SimSiam", "blue"),
    "inverse": ("inverse predictor", "sky"),
    "from-collapse": ("from a collapse", "black"),
    "linear": ("linear", "green"),
    "weight": ("one weight matrix", "yellow"),
    "weight-tanh": ("one weight matrix", "yellow"),
    "bias": ("bias", "vermillion"),
    "bias-tanh": ("bias", "vermillion"),
    "weight-bias": ("weights and bias", "orange"),
    "weight-bias-tanh": ("weights and bias", "orange"),
    "bias-weight": ("bias, then weights", "purple"),
    "bias-weight-tanh": ("bias, then weights", "purple"),
}
"""Arms whose predictor learns from SimSiam's loss: in words, and a colour."""
PREFIXES = {**{prefix: words for words, prefix in BN.items()}, "digits/": "ResNet on digits"}
SHAPES = dict(zip(PREFIXES, "osDv"))
ETA = (*(prefix + arm for prefix in BN.values() for arm in LEARNED), "digits/simsiam")
CHANCE = 2.0
"""A centre shorter than so many times what chance makes it has no direction that could be told."""


def compute_eta(runs: Runs) -> "xr.Dataset":
    """`ends` of every arm of `ETA` that the suite has, or all of them where it has none; `chance`, m_o of a batch of
    independent directions (arm,)."""
    data = ends(runs, [arm for arm in ETA if arm in runs.arms] or ETA)
    batch = [runs.arms[arm].config.optimisation.batch_size if arm in runs.arms else np.nan for arm in data.arm.values]
    return data.assign(chance=("arm", np.array(batch, dtype=float) ** -0.5))


@style.styled
def draw_eta(data: "xr.Dataset") -> "Figure":
    """How much of the prediction's centre the extra gradient removes, o_e = -eta o_p + what is at right angles:
    measured at the end of every run whose predictor learns from SimSiam's loss, against what theory computes from the
    same run's m_o and cross-view correlation rho of Z for the best linear predictor, 1 - sqrt(m_o^2 + rho^2
    (1 - m_o^2)). A mark a seed; the shape says how the projector ends. Line: equal; band: within a factor of two.
    Hollow: the centre of the predictions is shorter than twice what chance makes of independent directions, so that it
    has no direction. At the lower edge lies what is below 0.01 or negative."""
    figure, axes = style.new_figure(1, 1, panel=(7.4, 6.2))
    axis = axes[0, 0]
    least, most = 0.01, 1.2
    ray = np.array([least, most])
    axis.fill_between(ray, ray / 2, 2 * ray, color="0.92", linewidth=0, zorder=-1, label="a factor of two")
    axis.plot(ray, ray, color="0.5", linewidth=1, zorder=0, label="equal")
    missing = []
    for arm in data.arm.values:
        one = data.sel(arm=arm).dropna("seed", subset=["eta_p"])
        prefix = next(p for p in reversed(PREFIXES) if str(arm).startswith(p))
        words, colour = LEARNED[str(arm).removeprefix(prefix)]
        if not one.sizes["seed"]:
            missing += [str(arm)] if one.part else []
            continue
        hollow = (one.m_o_p < CHANCE * one.chance).values
        x, y = -one.theory.values.clip(max=-least), -one.eta_p.values.clip(max=-least)
        look = {"marker": SHAPES[prefix], "linestyle": "none", "color": style.OKABE_ITO[colour], "markersize": 6.5,
                "markeredgecolor": "black", "markeredgewidth": 0.5, "clip_on": False}  # fmt: skip
        faint = {"markerfacecolor": "none", "markeredgecolor": look["color"]}
        for these, more in ((~hollow, {"label": None if prefix else words}), (hollow, faint)):
            if these.any():  # unclipped, a line without marks would take room at the picture's corner
                axis.plot(x[these], y[these], **(look | more))
    for prefix in dict.fromkeys(next(p for p in reversed(PREFIXES) if str(a).startswith(p)) for a in data.arm.values):
        axis.plot([], [], SHAPES[prefix], color="0.5", label=PREFIXES[prefix])
    axis.set(xscale="log", yscale="log", xlim=(least, most), ylim=(least, most))
    axis.set_xlabel(r"theory, of the run's own $m_o$ and $\rho$: $1 - \sqrt{m_o^2 + \rho^2 (1 - m_o^2)}$")
    axis.set_ylabel(r"measured: $-\eta_p$")
    for way in (axis.xaxis, axis.yaxis):
        way.set_major_formatter("{x:g}")
    if missing:
        names = ", ".join(missing) if len(missing) < 4 else f"{len(missing)} arms"
        axis.set_title(f"not measured: {names}", fontsize=9)
    style.legend_below(figure, ncols=3)
    return figure


FIGURES = {
    "zhang-fig5a": Picture(
        FromRuns("zhang2022", FIG5A, compute_fig5a, ends=True),
        draw_fig5a,
        "The extra gradient takes the prediction's centre away",
        f"{MEASURED}, Figure 5a",
        "zhang2022",
        claims=claims_of(
            "decentring decentring-digits theory-eta theory-eta-as-stated theory-figure5a-turned theory-radial "
            "theory-norm-grows"
        ),
    ),
    "zhang-eta": Picture(
        FromRuns("zhang2022", ETA, compute_eta, ends=True),
        draw_eta,
        "How much of the centre is removed, measured and as theory has it",
        f"{MEASURED}, Figure 5a; theory derived here",
        "zhang2022",
        claims=claims_of(
            "decentring-theory decentring-theory-digits decentring decentring-digits bias linear theory-bias theory-eta"
        ),
    ),
}

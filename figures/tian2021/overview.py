"""The project in one picture: what the theory says of one mode, and what a ResNet does."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from stopgrad.deep.measuring.units import Noise, units
from stopgrad.experiments.store.series import over_steps
from stopgrad.figures.machinery import style
from stopgrad.figures.machinery.measures import Runs
from stopgrad.figures.machinery.picture import FromRuns, Picture
from stopgrad.figures.tian2021.sources import MEASURED
from stopgrad.linear_theory.exact.fixed_points import critical_eta
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.matrices import Correlations, Network, Switches, network_flow

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

ARMS = {
    "baseline": "stop-gradient and predictor",
    "no-stop-gradient": "no stop-gradient",
    "no-predictor": "no predictor",
    "decay-64": "too much weight decay",
}
"""Arms of the suite, drawn in this order; theory has the same four."""
SIGMA2, START = 0.1, 0.5
"""Of the theory's mode: σ², and w_p = w at the start; its input variance is 1."""
STRONG = 1.5
"""η/η_c of the theory's mode beyond the critical weight decay."""
LOOKS = {"baseline": "blue", "no-stop-gradient": "vermillion", "no-predictor": "orange", "decay-64": "green"}
MODES = 3
"""Modes after the first whose alignment is drawn."""
POINTS = 60


def compute_overview(runs: Runs) -> "xr.Dataset":
    """`mode` (arm, t): s of one mode over its start, by Lemma 1. `size` (arm, seed, step): trace of F over its start.

    `alignment` (seed, step, j): cos(u_j, W_p u_j) of modes 2 … of the baseline. `time` (arm, step) is the theory's.
    """
    import xarray as xr

    times = np.linspace(0, 40, POINTS + 1)[1:]
    theory = xr.DataArray([_mode(arm, _decay(runs, arm), times) for arm in ARMS], dims=("arm", "t"))
    sizes = {arm: {seed: _size(run) for seed, run in runs.of(arm).items()} for arm in ARMS}
    size = xr.concat([_by_seed(found, runs.seeds) for found in sizes.values()], "arm", join="outer")
    aligned = {seed: _alignment(run) for seed, run in runs.of("baseline").items()}
    found = xr.merge([size.to_dataset(name="size"), _by_seed(aligned, runs.seeds).to_dataset(name="alignment")])
    return found.assign(mode=theory).assign_coords(
        arm=list(ARMS), t=times, time=("step", _times(runs, found.step.values))
    )


def _decay(runs: Runs, arm: str) -> Hyperparameters:
    """The baseline's η, in the theory's mode; beyond critical where the arm is."""
    h = Hyperparameters(sigma2=SIGMA2)
    if "baseline" in runs.arms:
        h = h.replace(eta=units(runs.arms["baseline"].config, Noise(SIGMA2, 1.0)).eta)
    return h.replace(eta=STRONG * float(critical_eta(h))) if arm == "decay-64" else h


def _mode(arm: str, h: Hyperparameters, times: np.ndarray) -> np.ndarray:
    from stopgrad.linear_theory.simulation.integrate import integrate

    one = np.ones((1, 1))
    switches = Switches(
        stop_gradient="none" if arm == "no-stop-gradient" else "target",
        predictor="fixed" if arm == "no-predictor" else "learned",
    )
    start = Network(one if arm == "no-predictor" else START * one, START * one, 0 * one)
    data = Correlations(one, SIGMA2 * one)
    found = integrate(network_flow, start, data, h, switches, t=times, event_dims=2, compiled=False)
    return (found.state.W[:, 0, 0] / START) ** 2


def _size(run) -> "xr.DataArray":
    size = over_steps(run.columns, ["trace_z"]).trace_z
    return size / size[0]


def _alignment(run) -> "xr.DataArray":
    aligned = over_steps(run.columns, ["alignment"]).alignment
    return aligned[:, 1 : MODES + 1].astype(float).rename(mode="j")


def _by_seed(found: Mapping[int, "xr.DataArray"], seeds) -> "xr.DataArray":
    import xarray as xr

    empty = xr.DataArray(np.zeros(0), {"step": np.zeros(0, dtype=int)}, ("step",))
    return xr.concat([found.get(seed, empty) for seed in seeds] or [empty], "seed", join="outer")


def _times(runs: Runs, steps: np.ndarray) -> np.ndarray:
    """The theory's time at each step, from any run that has it: all arms step alike."""
    known = {
        int(step): time
        for arm in ARMS
        for run in runs.of(arm).values()
        for step, time in zip(run.columns.step, run.columns.scalars["time"])
    }
    return np.array([known.get(int(step), np.nan) for step in steps])


@style.styled
def draw_overview(data: "xr.Dataset") -> "Figure":
    """Left: one mode of the linear theory under Lemma 1 (X = 1, X' = 0.1, W_p = W = 0.5 at the start; without
    predictor W_p = 1), its size relative to the start, at the weight decay of the networks and at 1.5 times the
    critical one. Middle: the same four settings of a ResNet trained with the squared error; trace of F = E[z z^T]
    over its start, geometric mean and range of the seeds. Its data have many modes of unknown variance: the curves
    are to be compared in kind, not in rate. Right: alignment of the predictor with the eigenvectors of F behind the
    mean direction, for the network with stop-gradient and predictor; mean and range of the seeds."""
    figure, axes = style.new_figure(1, 3, panel=(3.7, 3.1))
    theory, network, aligned = np.ravel(axes)
    missing = []
    for arm, text in ARMS.items():
        look = {"color": style.OKABE_ITO[LOOKS[arm]], "label": text}
        theory.semilogy(data.t, data.mode.sel(arm=arm), **look)
        seeds = data["size"].sel(arm=arm).dropna("seed", how="all").dropna("step", how="all")
        if seeds.sizes["seed"]:
            low, high = seeds.min("seed").clip(1e-12), seeds.max("seed").clip(1e-12)
            network.fill_between(seeds.time, low, high, alpha=0.2, linewidth=0, color=look["color"])
            middle = np.exp(np.log(seeds.clip(1e-12)).mean("seed"))
            network.semilogy(seeds.time, middle, color=look["color"])
        else:
            missing.append(text)
    if missing:
        style.say(network, "not measured:\n" + "\n".join(missing))
    theory.set_title("Theory: one mode")
    theory.set_ylabel(r"$s(t)/s(0)$")
    count = data.sizes["seed"]
    network.set_title("ResNet-18 on digits" if data.attrs.get("scale") in ("smoke", "quick", "cpu") else "ResNet-18")
    network.set_ylabel(r"trace of $F$, over its start")
    for axis in (theory, network):
        axis.set_ylim(1e-7, 30)
    colours = style.ordered(MODES)
    shown = data.alignment.dropna("seed", how="all").dropna("step", how="all") if "j" in data.alignment.dims else None
    if shown is None or not shown.sizes["seed"]:
        style.say(aligned, "not measured")
    else:
        for j, colour in zip(shown.j.values, colours):
            one = shown.sel(j=j)
            aligned.fill_between(one.time, one.min("seed"), one.max("seed"), alpha=0.18, linewidth=0, color=colour)
            aligned.plot(one.time, one.mean("seed"), color=colour, marker=".", label=f"mode {j}")
        aligned.axhline(1, **style.RULE)
        aligned.legend(loc="lower right")
        aligned.set_ylim(None, 1.05)
    aligned.set_title("The predictor aligns")
    aligned.set_ylabel(r"$\cos(u_j,\, W_p u_j)$")
    for axis, text in ((theory, "time"), (network, f"time (mean, range of {count} seeds)"), (aligned, "time")):
        axis.set_xlabel(text)
    figure.legend(*theory.get_legend_handles_labels(), loc="outside lower center", ncols=len(ARMS))
    return figure


FIGURES = {
    "overview": Picture(
        FromRuns("tian2021", tuple(ARMS), compute_overview),
        draw_overview,
        "What keeps a Siamese network without negatives from collapsing",
        f"{MEASURED}, Lemma 1, Theorems 2 and 3, Observation 5",
        "tian2021",
        claims=(
            "tian2021-theorem2-stop-gradient",
            "tian2021-theorem2-predictor",
            "tian2021-observation5-resnet",
            "tian2021-alignment-resnet",
        ),
    ),
}

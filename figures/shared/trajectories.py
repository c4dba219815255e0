"""Scalars of runs over their steps, as pictures of several papers have them."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from stopgrad.figures.machinery.measures import Runs

if TYPE_CHECKING:
    import xarray as xr


def trajectories(
    runs: Runs, arms: Iterable[str], names: tuple[str, ...], of: Callable = lambda run: run.columns
) -> "xr.Dataset":
    """Scalars of the runs by name, each (arm, seed, step); `planned` (arm,): whether the suite has the arm.

    `of` is the table of a run that has them, by default that of its steps.
    """
    import xarray as xr

    arms = list(arms)
    each = [
        xr.concat([_scalars(runs.of(arm).get(seed), names, of) for seed in runs.seeds], "seed", join="outer")
        for arm in arms
    ]
    data = xr.concat(each, "arm", join="outer").assign_coords(arm=arms, seed=list(runs.seeds))
    return data.assign(planned=("arm", [arm in runs.arms for arm in arms]))


def _scalars(run, names: tuple[str, ...], of: Callable) -> "xr.Dataset":
    """NaN where a run has not been measured; of a run that is not there no step."""
    import xarray as xr

    step = of(run).step if run else np.zeros(0, dtype=int)
    found = of(run).scalars if run else {}
    values = {name: ("step", np.asarray(found.get(name, np.full(len(step), np.nan)), dtype=float)) for name in names}
    return xr.Dataset(values, {"step": step}).drop_duplicates("step")


def draw_seeds(axis, values: "xr.DataArray", label: str, colour: str) -> None:
    """A scalar (seed, step) over steps: thin lines are seeds, the strong one their mean; nothing if none is there."""
    values = values.dropna("seed", how="all").dropna("step", how="all")
    if not values.sizes["seed"]:
        return
    axis.plot(values.step, values.transpose("step", "seed"), color=colour, linewidth=0.6, alpha=0.4)
    axis.plot(values.step, values.mean("seed"), color=colour, label=label)

"""Phase diagrams: the fate of a mode, or of any flow, over two quantities at a time, as a labelled dataset."""

import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import numpy as np

from stopgrad.linear_theory.simulation.fate import ALIVE, COLLAPSED, FATES, UNDECIDED
from stopgrad.linear_theory.sweeps.axes import Axis
from stopgrad.linear_theory.sweeps.boundary import trace_boundary
from stopgrad.linear_theory.sweeps.flow_problem import FlowProblem
from stopgrad.linear_theory.sweeps.mode_problem import Problem
from stopgrad.linear_theory.tools.arrays import as_float64
from stopgrad.linear_theory.tools.errors import BadInput

if TYPE_CHECKING:
    import xarray as xr


def phase_diagram(
    x: Axis,
    y: Axis,
    problem: Problem | FlowProblem,
    spectrum: Sequence[float] = (),
    progress: Callable[[float], None] | None = None,
) -> "xr.Dataset":
    """The fate of every cell of a grid, with what it ended as, its time and K's sign: one vectorised call.

    Dimensions (y.name, x.name). Variables: `fate` (CF flags); of a `FlowProblem` the fields of the last state; of one
    mode (`Problem`) `p` and `s` at the end (the limit, or the state at t_end), `time_to_converge` (to within 1 % of
    τ/a; NaN where it did not), `K_sign` (of the smallest alignment operator met), and with a spectrum
    `surviving_modes`: how many modes of input variance x_j, with augmentation variance x′_j = sigma2 in all of them,
    survive from the same p0. `worst_error` in the attributes is the largest estimated integration error of a decided
    cell.

    Raises ValueError for equal axes or for values out of range, before any computing.

    >>> from stopgrad.linear_theory import Axis, Hyperparameters, Problem
    >>> diagram = phase_diagram(Axis("eta", [0.1, 0.3]), Axis("p0", [0.05, 0.5]), Problem(Hyperparameters()))
    >>> diagram.fate.values  # alive is 0; above η_c = 1/4.4 every mode collapses
    array([[1, 1],
           [0, 1]], dtype=int8)
    """
    import xarray as xr

    spectrum = as_float64(spectrum, "the spectrum")
    check(x, y, problem)
    began = time.perf_counter()
    point = {x.name: x.values[None, :], y.name: y.values[:, None]}
    shape = (y.values.size, x.values.size)
    found = problem.follow(point, progress)
    dims = (y.name, x.name)

    def cells(values):  # of a field of several numbers, each further axis unnamed
        inner = np.shape(values)[2:]
        return (*dims, *(f"entry_{n}" for n in inner)), np.broadcast_to(values, (*shape, *inner))

    flags = {"flag_values": np.arange(len(FATES), dtype=np.int8), "flag_meanings": " ".join(FATES)}
    data = {"fate": (*cells(found.fate), flags), **{k: cells(v) for k, v in problem.variables(found, point).items()}}
    if len(spectrum):
        data["surviving_modes"] = cells(problem.survivors(point, spectrum))
    coordinates = {a.name: (a.name, a.values, {"scale": "log" if a.log else "linear"}) for a in (x, y)}
    decided = np.isin(found.fate, (ALIVE, COLLAPSED))
    made = {
        **problem.origin(dims),
        **({"spectrum": spectrum} if len(spectrum) else {}),
        "worst_error": float(found.error[decided].max(initial=0.0)),
        "seconds": time.perf_counter() - began,
        **_machine(),
    }
    # A field of the state may be called as an axis is: a moving τ.
    named = {f"{k}_end" if k in dims else k: v for k, v in data.items()}
    return xr.Dataset(named, coordinates, made)


def check(x: Axis, y: Axis, problem: Problem | FlowProblem) -> None:
    """Raise ValueError, before any computing, for axes that do not fit the problem or each other."""
    if x.name == y.name:
        raise BadInput(f"both axes are {x.name}; choose two different ones")
    for name in (x.name, y.name):
        if name not in problem.axes:
            raise BadInput(f"axis {name!r} is unknown; choose one of {', '.join(problem.axes)}")
    problem.check(x, y)


def boundary(x: Axis, y: Axis, problem: Problem | FlowProblem) -> "xr.Dataset":
    """The border of 'alive' in the plane of two axes: points along a dimension `boundary`, NaN between its lines.

    Analytic wherever theory knows it: the separatrix (fixed τ; `basin.critical_s0`), bisected to a thousandth of a
    cell, along y at every x and along x at every y. Numeric, from simulated fates and coarser, for an EMA, gradient
    descent, a finite t_end, or any other flow.

    >>> from stopgrad.linear_theory import Axis, Hyperparameters, Problem
    >>> border = boundary(Axis("eta", [0.1, 0.2]), Axis("p0", [0.01, 0.5]), Problem(Hyperparameters()))
    >>> border.boundary_p0.values[:2].round(2)  # p₋ = (1 - √(1 - 4ηa/τ²)) τ/(2a)
    array([0.11, 0.3 ])
    """
    import xarray as xr

    analytic = problem.is_exact((x.name, y.name))
    columns, rows = (x.values if analytic else _thin(x.values, 65)), _thin(y.values, 33)
    width = np.diff(y.values).min() / (1000 if analytic else 10)

    def alive(xs, ys):
        point = {x.name: xs, y.name: ys}
        if not analytic:
            found = problem.follow(point).fate
            return np.where(found == UNDECIDED, -1, found == ALIVE)
        return problem.survives(point)

    lines = [_line(alive, x, y, columns, rows, width)]
    if analytic:  # steep parts are met along the other axis only
        lines.append(_line(lambda ys, xs: alive(xs, ys), y, x, y.values, _thin(x.values, 33), None)[::-1])
    kind = {"kind": "analytic" if analytic else "numeric"}
    gap = np.array([np.nan])
    joined = [np.concatenate([part for line in parts for part in (line, gap)][:-1]) for parts in zip(*lines)]
    return xr.Dataset({f"boundary_{a.name}": ("boundary", line, kind) for a, line in zip((x, y), joined)})


def _line(alive, x: Axis, y: Axis, columns, rows, width):
    """The border as (x, y) of its points, traced along y at every column; NaN where there is none."""
    width = np.diff(y.values).min() / 1000 if width is None else width
    traced = trace_boundary(alive, columns, rows, width=max(width, 1e-12 * np.abs(y.values).max()))
    return traced.x, np.where(traced.status == "found", traced.middle, np.nan)


def _thin(values, most):
    """At most so many of the values, ends included."""
    return values[np.unique(np.linspace(0, len(values) - 1, min(most, len(values))).astype(int))]


def _machine() -> dict:
    """Versions and hardware."""
    import torch

    try:
        release = version("stopgrad")
    except PackageNotFoundError:
        release = "source"
    return {
        "version": release,
        "torch": str(torch.__version__),
        "hardware": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }

"""Phase diagrams: the fate of a mode over any two hyperparameters or initial conditions, as a labelled dataset."""

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import numpy as np

from stopgrad.linear_theory.exact.basin import critical_s0
from stopgrad.linear_theory.exact.time_course import limit
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.modes import EmaMode, Mode, ScalarNetwork, scalar_network_flow
from stopgrad.linear_theory.simulation import fate as fates
from stopgrad.linear_theory.simulation.discrete import Weights, descend, weights_flow
from stopgrad.linear_theory.simulation.fate import (
    ALIVE,
    COLLAPSED,
    DIVERGED,
    FATES,
    UNDECIDED,
    Fates,
    at_time,
    judge,
    simulate,
)
from stopgrad.linear_theory.simulation.runge_kutta import METHOD
from stopgrad.linear_theory.sweeps.boundary import trace_boundary
from stopgrad.linear_theory.tools.arrays import as_float64
from stopgrad.linear_theory.tools.errors import BadInput

if TYPE_CHECKING:
    import xarray as xr

THEORY = tuple(f.name for f in fields(Hyperparameters))
START = ("p0", "s0", "tau0")
DESCENT = ("lr", "momentum")
AXES = (*THEORY, *START, *DESCENT)
_CELLS = 2**15  # cells in one call of gradient descent


@dataclass(frozen=True)
class Axis:
    """One axis: the name of a hyperparameter or initial condition, its values, and whether they are spaced in log."""

    name: str
    values: np.ndarray
    log: bool = False

    def __post_init__(self):
        object.__setattr__(self, "values", as_float64(self.values, "values"))


@dataclass(frozen=True)
class Start:
    """Where every mode starts: p0; s0 (None: on the parabola, x p0²/α_p); τ(0), used with beta only."""

    p0: float = 0.1
    s0: float | None = None
    tau0: float = 0.0


@dataclass(frozen=True)
class Descent:
    """Gradient descent instead of the flow: learning rate, heavy-ball momentum, steps."""

    lr: float
    momentum: float = 0.0
    steps: int = 5000


def parse_axis(text: str) -> Axis:
    """`name=low:high:points` or `name=low:high:points:log`. Raises ValueError with one sentence."""
    name, _, span = text.partition("=")
    parts = span.split(":")
    if len(parts) not in (3, 4) or (len(parts) == 4 and parts[3] != "log"):
        raise BadInput(f"axis {text!r} is not of the form name=low:high:points or name=low:high:points:log")
    try:
        low, high, points = float(parts[0]), float(parts[1]), int(parts[2])
    except ValueError:
        raise BadInput(f"axis {text!r}: low and high must be numbers and points a whole number") from None
    return make_axis(name.strip().replace("-", "_"), low, high, points, log=len(parts) == 4)


def make_axis(name: str, low: float, high: float, points: int, log: bool = False) -> Axis:
    """An axis of evenly (or, with log, geometrically) spaced values. Raises ValueError with one sentence."""
    if name not in AXES:
        raise BadInput(f"axis {name!r} is unknown; choose one of {', '.join(AXES)}")
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise BadInput(f"axis {name}: low must be below high and both finite, not {low:g} and {high:g}")
    if points < 2:
        raise BadInput(f"axis {name} has {points} point; it needs at least 2")
    if log and low <= 0:
        raise BadInput(f"axis {name}: a log axis must start above 0, not at {low:g}")
    return Axis(name, np.geomspace(low, high, points) if log else np.linspace(low, high, points), log)


@dataclass(frozen=True)
class Problem:
    """What a diagram asks of every point: the constants behind its two axes, and how far to follow."""

    h: Hyperparameters
    start: Start = Start()
    descent: Descent | None = None
    t_end: float | None = None
    """Follow to this time; None: until the fate is certain and the limit near, within `budget`."""
    budget: float = fates.BUDGET
    tolerance: float = 1e-7

    def follow(self, point: dict, progress=None, x=None) -> Fates:
        """Fates at `point`, a dict axis name → array; the arrays broadcast. x: another input variance than h.x."""
        h = self._theory(point, x)
        p0 = as_float64(point.get("p0", self.start.p0), "p0")
        s0 = point.get("s0", self.start.s0)
        s0 = h.x / h.alpha_p * p0**2 if s0 is None else as_float64(s0, "s0")
        tau0 = as_float64(point.get("tau0", self.start.tau0), "tau0")
        begin = Mode(p0, s0) if h.beta is None else EmaMode(p0, s0, tau0)
        if self.descent is not None or point.keys() & set(DESCENT):
            descent = self.descent or Descent(lr=np.nan)
            return _descend(begin, h, descent, {k: point[k] for k in DESCENT if k in point}, progress)
        if self.t_end is not None:
            return at_time(begin, h, self.t_end, self.tolerance, progress)
        return simulate(begin, h, self.budget, self.tolerance, progress)

    def _theory(self, point: dict, x) -> Hyperparameters:
        h = self.h.replace(**{name: v for name, v in point.items() if name in THEORY})
        return (h if x is None else h.replace(x=x, sigma2=h.sigma2 / x)).validate()

    def survives(self, point: dict, x=None) -> np.ndarray:
        """Whether s(∞) > 0 at `point` by the exact theory of a fixed τ: the side of the separatrix."""
        h = self._theory(point, x)
        p0, s0 = as_float64(point.get("p0", self.start.p0), "p0"), point.get("s0", self.start.s0)
        if s0 is None and h.eta_p is None:
            return limit(p0, h) > 0
        return (h.x / h.alpha_p * np.square(p0) if s0 is None else as_float64(s0, "s0")) > critical_s0(p0, h)


def phase_diagram(
    x: Axis,
    y: Axis,
    problem: Problem,
    spectrum: Sequence[float] = (),
    progress: Callable[[float], None] | None = None,
) -> "xr.Dataset":
    """The fate of every cell of a grid, with what it ended as, its time and K's sign: one vectorised call.

    Dimensions (y.name, x.name). Variables: `fate` (CF flags), `p` and `s` at the end (the limit, or the state at
    t_end), `time_to_converge` (to within 1 % of τ/a; NaN where it did not), `K_sign` (of the smallest alignment
    operator met), and with a spectrum `surviving_modes`: how many modes of input variance x_j, with augmentation
    variance x′_j = sigma2 in all of them, survive from the same p0. `worst_error` in the attributes is the largest
    estimated integration error of a decided cell.

    Raises ValueError for equal axes or for values out of range, before any computing.
    """
    import xarray as xr

    spectrum = as_float64(spectrum, "the spectrum")
    check(x, y, problem)
    began = time.perf_counter()
    point = {x.name: x.values[None, :], y.name: y.values[:, None]}
    shape = (y.values.size, x.values.size)
    found = problem.follow(point, progress)
    dims = (y.name, x.name)

    def cells(values):
        return dims, np.broadcast_to(values, shape)

    decided = np.isin(found.fate, (ALIVE, COLLAPSED))
    data = {
        "fate": (
            *cells(found.fate),
            {"flag_values": np.arange(len(FATES), dtype=np.int8), "flag_meanings": " ".join(FATES)},
        ),
        "p": cells(found.p),
        "s": cells(found.s),
        "time_to_converge": cells(found.time_to_converge),
        "K_sign": cells(np.sign(np.nan_to_num(found.lowest_K)).astype(np.int8)),
    }
    if len(spectrum):
        data["surviving_modes"] = cells(_survivors(problem, point, spectrum, shape))
    coordinates = {a.name: (a.name, a.values, {"scale": "log" if a.log else "linear"}) for a in (x, y)}
    worst = float(found.error[decided].max(initial=0.0))
    return xr.Dataset(data, coordinates, _origin(problem, (x.name, y.name), spectrum, worst, began))


def check(x: Axis, y: Axis, problem: Problem) -> None:
    """Raise ValueError, before any computing, for axes that do not fit the problem or each other."""
    if x.name == y.name:
        raise BadInput(f"both axes are {x.name}; choose two different ones")
    names = {x.name, y.name}
    discrete = problem.descent is not None or "lr" in names
    if "momentum" in names and not discrete:
        raise BadInput("a momentum axis needs a learning rate: give lr as well")
    if discrete and problem.t_end is not None:
        raise BadInput("t_end belongs to the flow; gradient descent is followed for a number of steps")
    ends = {a.name: a.values[[0, -1]] for a in (x, y)}
    h = problem.h.replace(**{k: v for k, v in ends.items() if k in THEORY}).validate()
    if "tau" in names and h.beta is not None:
        raise BadInput("tau moves when beta is given; make tau0 an axis instead")
    if "tau0" in names and h.beta is None:
        raise BadInput("tau0 is the start of a moving target; give beta too")
    for name in ("s0", "lr"):
        if name in ends and (ends[name][0] < 0 or (name == "lr" and ends[name][0] == 0)):
            raise BadInput(
                f"{name} starts at {ends[name][0]:g}; it must be {'above' if name == 'lr' else 'at least'} 0"
            )
    start = problem.start
    if not np.isfinite(start.p0) or (start.s0 is not None and not start.s0 >= 0):
        raise BadInput("p0 must be a finite number and s0 at least 0")
    if problem.t_end is not None and not (np.isfinite(problem.t_end) and problem.t_end >= 0):
        raise BadInput(f"t_end is {problem.t_end:g}; it must be finite and at least 0")
    if not problem.budget > 0:
        raise BadInput(f"budget is {problem.budget:g}; it must be above 0")


def boundary(x: Axis, y: Axis, problem: Problem) -> "xr.Dataset":
    """The border of 'alive' in the plane of two axes: points along a dimension `boundary`, NaN between its lines.

    Analytic wherever theory knows it: the separatrix (fixed τ; `basin.critical_s0`), bisected to a thousandth of a
    cell, along y at every x and along x at every y. Numeric, from simulated fates and coarser, for an EMA, gradient
    descent or a finite t_end.
    """
    import xarray as xr

    names = {x.name, y.name}
    moving = problem.h.beta is not None or "beta" in names
    analytic = not (moving or problem.descent or problem.t_end is not None or names & set(DESCENT))
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


def _survivors(problem: Problem, point, spectrum, shape):
    """How many modes are alive; undecided ones do not count."""
    if "x" in point:
        raise BadInput("x is an axis; a spectrum gives every mode its own x, so choose one of the two")
    if not all(np.isfinite(v) and v > 0 for v in spectrum):
        raise BadInput("the spectrum must hold finite variances above 0")
    alive = sum((problem.follow(point, x=v).fate == ALIVE).astype(np.int16) for v in spectrum)
    return np.broadcast_to(alive, shape)


def _descend(begin, h: Hyperparameters, descent: Descent, axes: dict, progress) -> Fates:
    """Fates under gradient descent on the scalar network's weights, chunk by chunk; diverged is a fate of its own."""
    lr, momentum = (as_float64(axes.get(name, getattr(descent, name)), name) for name in DESCENT)
    if not (np.all(np.isfinite(lr)) and np.all(lr > 0)):
        raise BadInput("lr must be finite and above 0")
    if not np.all((momentum >= 0) & (momentum < 1)):
        raise BadInput("momentum must be in [0, 1)")
    if descent.steps < 1:
        raise BadInput(f"steps is {descent.steps}; take at least 1")
    kind, given = type(begin), [v for v in vars(h).values() if v is not None]
    shape = np.broadcast_shapes(*(np.shape(v) for v in (*begin, *given, lr, momentum)))
    size, parts = int(np.prod(shape)), []
    flat = [np.broadcast_to(v, shape).reshape(-1) for v in (*begin, lr, momentum)]
    varied = h.map(lambda v: np.broadcast_to(v, shape).reshape(-1))
    for first in range(0, size, _CELLS):
        part = slice(first, first + _CELLS)
        *fields_, rate, inertia = (v[part] for v in flat)
        here = varied.map(lambda v, part=part: v[part])
        parts.append(_descend_chunk(kind(*fields_), here, rate, inertia, descent.steps))
        if progress:
            progress(min(1.0, (first + _CELLS) / size))
    return Fates(*(np.concatenate(field).reshape(shape) for field in zip(*parts)))


def _descend_chunk(begin, h: Hyperparameters, lr, momentum, steps):
    w = np.sqrt(begin.s / h.x)
    if isinstance(begin, EmaMode):
        flow, weights = scalar_network_flow, ScalarNetwork(begin.p, w, begin.tau * w)
    else:
        flow, weights = weights_flow, Weights(begin.p, w)
    every = max(1, steps // 64)
    run = descend(flow, weights, h, lr=lr, momentum=momentum, steps=steps, every=every)
    wp, w, *wa = (v[1:] for v in run.trajectory)
    tau = [v / np.where(w == 0, 1, w) for v in wa]
    clock = np.arange(1, len(wp) + 1)[:, None] * every * (lr / (1 - momentum))
    seen = judge(begin, type(begin)(wp, h.x * w**2, *tau), clock, h)
    diverged = run.diverged
    fate = np.where(diverged, DIVERGED, seen.fate).astype(np.int8)
    p, s, time_, K = (np.where(diverged, np.nan, v) for v in (seen.p, seen.s, seen.time_to_converge, seen.lowest_K))
    return [fate, p, s, time_, K, np.zeros(fate.shape)]


def _origin(problem: Problem, names, spectrum, worst_error, began) -> dict:
    """What made a diagram: hyperparameters and starts that are not axes, method, tolerance, versions, hardware."""
    import torch

    held = {k: v for k, v in vars(problem.h).items() if v is not None and k not in names}
    start = {k: v for k, v in vars(problem.start).items() if k not in names and v is not None}
    if problem.h.beta is None and "beta" not in names:
        start.pop("tau0", None)
    else:
        held.pop("tau", None)  # it moves
    if "s0" not in names and problem.start.s0 is None:
        start["s0"] = "x p0^2 / alpha_p"
    descent = {k: v for k, v in vars(problem.descent).items() if k not in names} if problem.descent else {}
    until = {"t_end": problem.t_end} if problem.t_end is not None else {"budget": problem.budget}
    try:
        release = version("stopgrad")
    except PackageNotFoundError:
        release = "source"
    return {
        **{k: float(v) for k, v in held.items()},
        **start,
        **descent,
        **({} if descent else until),
        **({"spectrum": spectrum} if len(spectrum) else {}),
        "worst_error": worst_error,
        "tolerance": problem.tolerance,
        "method": "gradient descent" if descent or "lr" in names else METHOD,
        "seconds": time.perf_counter() - began,
        "version": release,
        "torch": str(torch.__version__),
        "hardware": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }

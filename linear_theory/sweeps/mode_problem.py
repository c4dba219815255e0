"""What a sweep asks of one mode: its fate by the flow, proved, or under gradient descent."""

from dataclasses import dataclass, replace

import numpy as np

from stopgrad.linear_theory.exact.basin import critical_s0
from stopgrad.linear_theory.exact.discrete import Weights, descend, weights_flow
from stopgrad.linear_theory.exact.time_course import limit
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.modes import EmaMode, Mode, ScalarNetwork, scalar_network_flow
from stopgrad.linear_theory.simulation.fate import ALIVE, BUDGET, DIVERGED, Fates, at_time, judge, simulate
from stopgrad.linear_theory.simulation.runge_kutta import METHOD
from stopgrad.linear_theory.sweeps.axes import AXES, DESCENT, THEORY, Axis
from stopgrad.linear_theory.tools.arrays import as_float64
from stopgrad.linear_theory.tools.errors import BadInput

_CELLS = 2**15  # cells in one call of gradient descent


@dataclass(frozen=True)
class Start:
    """Where every mode starts: p0; s0 (None: on the parabola, x p0²/α_p); τ(0), used with beta only.

    >>> Start(p0=0.2)  # on the parabola
    Start(p0=0.2, s0=None, tau0=0.0)
    """

    p0: float = 0.1
    s0: float | None = None
    tau0: float = 0.0


@dataclass(frozen=True)
class Descent:
    """Gradient descent instead of the flow: learning rate, heavy-ball momentum, steps.

    >>> Descent(lr=0.1, momentum=0.9)
    Descent(lr=0.1, momentum=0.9, steps=5000)
    """

    lr: float
    momentum: float = 0.0
    steps: int = 5000


@dataclass(frozen=True)
class Problem:
    """What a diagram asks of every point: the constants behind its two axes, and how far to follow.

    >>> problem = Problem(Hyperparameters(sigma2=0.0, eta=0.16), Start(s0=0.04))
    >>> problem.follow({"p0": [0.1, 0.3]}).p.round(9)  # the border runs through p0 = 0.2
    array([0. , 0.8])
    """

    h: Hyperparameters
    start: Start = Start()
    descent: Descent | None = None
    t_end: float | None = None
    """Follow to this time; None: until the fate is certain and the limit near, within `budget`."""
    budget: float = BUDGET
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
        edge = critical_s0(p0, h)
        lives = (h.x / h.alpha_p * np.square(p0) if s0 is None else as_float64(s0, "s0")) > edge
        if not (np.isnan(edge) & (h.eta > 0) & (np.asarray(h.predictor_decay) > 0)).any():
            return lives
        return np.where(np.isnan(edge), replace(self, t_end=None).follow(point, x=x).fate == ALIVE, lives)

    @property
    def axes(self) -> tuple[str, ...]:
        """What may be an axis."""
        return AXES

    def check(self, x: Axis, y: Axis) -> None:
        """Raise ValueError for axes that do not fit the problem or each other."""
        names = {x.name, y.name}
        discrete = self.descent is not None or "lr" in names
        if "momentum" in names and not discrete:
            raise BadInput("a momentum axis needs a learning rate: give lr as well")
        if discrete and self.t_end is not None:
            raise BadInput("t_end belongs to the flow; gradient descent is followed for a number of steps")
        ends = {a.name: a.values[[0, -1]] for a in (x, y)}
        h = self.h.replace(**{k: v for k, v in ends.items() if k in THEORY}).validate()
        if "tau" in names and h.beta is not None:
            raise BadInput("tau moves when beta is given; make tau0 an axis instead")
        if "tau0" in names and h.beta is None:
            raise BadInput("tau0 is the start of a moving target; give beta too")
        for name in ("s0", "lr"):
            if name in ends and (ends[name][0] < 0 or (name == "lr" and ends[name][0] == 0)):
                raise BadInput(
                    f"{name} starts at {ends[name][0]:g}; it must be {'above' if name == 'lr' else 'at least'} 0"
                )
        start = self.start
        if not np.isfinite(start.p0) or (start.s0 is not None and not start.s0 >= 0):
            raise BadInput("p0 must be a finite number and s0 at least 0")
        if self.t_end is not None and not (np.isfinite(self.t_end) and self.t_end >= 0):
            raise BadInput(f"t_end is {self.t_end:g}; it must be finite and at least 0")
        if not self.budget > 0:
            raise BadInput(f"budget is {self.budget:g}; it must be above 0")

    def variables(self, found: Fates, point: dict) -> dict:
        """What a diagram shows beside the fate: name → values of the cells."""
        K_sign = np.sign(np.nan_to_num(found.lowest_K)).astype(np.int8)
        return {"p": found.p, "s": found.s, "time_to_converge": found.time_to_converge, "K_sign": K_sign}

    def survivors(self, point: dict, spectrum) -> np.ndarray:
        """How many modes of these input variances are alive; undecided ones do not count."""
        if "x" in point:
            raise BadInput("x is an axis; a spectrum gives every mode its own x, so choose one of the two")
        if not all(np.isfinite(v) and v > 0 for v in spectrum):
            raise BadInput("the spectrum must hold finite variances above 0")
        return sum((self.follow(point, x=v).fate == ALIVE).astype(np.int16) for v in spectrum)

    def is_exact(self, names) -> bool:
        """Whether theory knows the border in the plane of these axes: `survives` is then its side of it."""
        moving = self.h.beta is not None or "beta" in names
        return not (moving or self.descent or self.t_end is not None or set(names) & set(DESCENT))

    def origin(self, names) -> dict:
        """Hyperparameters and starts that are not axes, and how far every cell was followed."""
        held = {k: v for k, v in vars(self.h).items() if v is not None and k not in names}
        start = {k: v for k, v in vars(self.start).items() if k not in names and v is not None}
        if self.h.beta is None and "beta" not in names:
            start.pop("tau0", None)
        else:
            held.pop("tau", None)  # it moves
        if "s0" not in names and self.start.s0 is None:
            start["s0"] = "x p0^2 / alpha_p"
        descent = {k: v for k, v in vars(self.descent).items() if k not in names} if self.descent else {}
        until = {"t_end": self.t_end} if self.t_end is not None else {"budget": self.budget}
        return {
            **{k: float(v) for k, v in held.items()},
            **start,
            **(descent or until),
            "tolerance": self.tolerance,
            "method": "gradient descent" if descent or "lr" in names else METHOD,
        }


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

"""The theory wing's commands: what each asks, and how it says the answer."""

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np

from stopgrad.linear_theory.commands.other_flows import refuse_settings_of_a_mode, refuse_settings_of_other_flows
from stopgrad.linear_theory.exact.basin import critical_s0
from stopgrad.linear_theory.exact.branches import VERDICTS, branches
from stopgrad.linear_theory.exact.fixed_points import fixed_points
from stopgrad.linear_theory.exact.time_course import ASYMPTOTIC, NEVER, limit, time_between
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.modes import EmaMode, Mode
from stopgrad.linear_theory.simulation.fate import ALIVE, COLLAPSED, DIVERGED, FATES, UNDECIDED, simulate
from stopgrad.linear_theory.simulation.trajectory import trajectory
from stopgrad.linear_theory.sweeps.axes import Axis, parse_axis
from stopgrad.linear_theory.sweeps.basin_fraction import basin_fraction
from stopgrad.linear_theory.sweeps.boundary import trace_boundary
from stopgrad.linear_theory.sweeps.known_flows import MODE, known_flow, known_sample
from stopgrad.linear_theory.sweeps.mode_problem import Descent, Problem, Start
from stopgrad.linear_theory.sweeps.phase_diagram import check
from stopgrad.linear_theory.tools.door import Command
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.records import items

_POINTS = ("p_plus", "p_minus", "s_plus", "s_minus", "critical_eta")


@dataclass(frozen=True)
class FixedPoints(Command):
    """Fixed points of a mode, their stability, the critical weight decay and the regime."""

    theory: Hyperparameters = Hyperparameters()
    p0: float | None = None
    """Also the s0 that separates survival from collapse for a start at this p0."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> dict:
        found = fixed_points(self.theory)
        result = {name: float(getattr(found, name)) for name in _POINTS} | {"regime": str(found.regime)}
        for name in ("plus", "minus", "zero"):
            values = getattr(found, f"eigenvalues_{name}")
            result[f"jacobian_eigenvalues_{name}"] = None if np.isnan(values).any() else values.tolist()
        if self.p0 is not None:
            result["critical_s0"] = float(critical_s0(self.p0, self.theory))
        return result


@dataclass(frozen=True)
class Trajectory(Command):
    """p and s of a mode at a time, or along the way there."""

    theory: Hyperparameters = Hyperparameters()
    p0: float = 0.1
    """Start of p."""
    s0: float | None = None
    """Start of s; by default on the parabola, x p0²/α_p."""
    tau0: float = 0.0
    """Start of τ, with --beta only."""
    t: float = 50.0
    """Time."""
    points: int = 1
    """Also this many evenly spaced points on the way, as lists `path_…`."""
    tolerance: float = 1e-10
    """Integration error to aim at."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> dict:
        h = self.theory.validate()
        if not (np.isfinite(self.t) and self.t >= 0):
            raise BadInput(f"t is {self.t:g}; it must be finite and at least 0")
        if self.points < 1:
            raise BadInput(f"points is {self.points}; ask for at least 1")
        if not self.tolerance > 0:
            raise BadInput(f"tolerance is {self.tolerance:g}; it must be above 0")
        s0 = h.x / h.alpha_p * self.p0**2 if self.s0 is None else self.s0
        start = Mode(self.p0, s0) if h.beta is None else EmaMode(self.p0, s0, self.tau0)
        times = np.linspace(0, self.t, self.points + 1)[1:] if self.t > 0 else np.zeros(1)
        found = trajectory(start, h, times, self.tolerance)
        if not np.isfinite(found.state.p).all():
            raise BadInput(f"the trajectory could not be followed to t = {self.t:g} from p0 = {self.p0:g}, s0 = {s0:g}")
        result = {name: float(v[-1]) for name, v in found.state._asdict().items()} | {"t": self.t}
        result |= {"estimated_error": found.worst_error, "resolved": bool(found.resolved.all())}
        if self.points > 1:
            result |= {"times": times, **{f"path_{name}": v for name, v in found.state._asdict().items()}}
        return result


@dataclass(frozen=True)
class Time(Command):
    """Exact time that p takes between two values on the invariant parabola s = x p²/α_p."""

    theory: Hyperparameters = Hyperparameters()
    p_start: float = 0.1
    """Where p starts."""
    p_end: float = 0.5
    """Where it is to arrive."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> dict:
        passage = time_between(self.p_start, self.p_end, self.theory)
        final = float(limit(self.p_start, self.theory))
        if passage.status == ASYMPTOTIC:
            raise BadInput(f"p approaches {self.p_end:g} from {self.p_start:g} but reaches it only as t → ∞")
        if passage.status == NEVER:
            raise BadInput(f"p never reaches {self.p_end:g} from {self.p_start:g}: it tends to {final:.12g}")
        return {"time": float(passage.time), "status": str(passage.status), "limit": final}


@dataclass(frozen=True)
class Branches(Command):
    """All fixed points along one parameter, with their stability: the data of a bifurcation diagram."""

    theory: Hyperparameters = Hyperparameters()
    along: str = "eta=0:0.3:31"
    """The parameter, name=low:high:points or name=low:high:points:log."""
    flow: Literal["mode", "ema"] = "mode"
    """Fixed τ, or a moving target (needs --beta)."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> dict:
        axis = parse_axis(self.along)
        if axis.name not in (f.name for f in fields(Hyperparameters)):
            raise BadInput(f"{axis.name} is no parameter of the flow; fixed points depend on sigma2, eta, tau, …")
        found = branches(axis.name, axis.values, self.theory, self.flow)
        words = {v: k for k, v in VERDICTS.items()}
        result = {axis.name: axis.values}
        for k, name in enumerate(found["branch"].values):
            one = found.isel(branch=k)
            verdicts = [words[int(v)] for v in one["stable"].values]
            result[str(name)] = {"p": one["p"].values, "s": one["s"].values, "stability": verdicts}
        return result

    def text(self, result: dict) -> str:
        (name, values), *rest = result.items()
        lines = ["\t".join([name, *(f"{b}: p, s, stability" for b, _ in rest)])]
        for i, v in enumerate(values):
            cells = [f"{b['p'][i]:.9g}, {b['s'][i]:.9g}, {b['stability'][i]}" for _, b in rest]
            lines.append("\t".join([f"{v:g}", *cells]))
        return "\n".join(lines)


@dataclass(frozen=True)
class Boundary(Command):
    """The border of survival in the plane of two parameters: for every x the values of y at which the fate changes."""

    theory: Hyperparameters = Hyperparameters()
    x: str = "eta=0:0.3:31"
    """The parameter held, name=low:high:points or name=low:high:points:log."""
    y: str = "p0=0.01:1:65"
    """The parameter searched; its points are the coarse scan before bisection."""
    flow: str = MODE
    """mode; for the centre of images with a mean squared- or cosine- and none, bias, linear or linear-bias; for modes
    of the cosine loss cosine-modes, cosine-modes-finite, sixth-order; for set predictors set-squared- or set-cosine-
    and predictor, no-stop-gradient, no-predictor, neither, isoloss or target."""
    set: tuple[str, ...] = ()
    """NAME=VALUE of another flow than a mode, where it is no axis: a hyperparameter, or a start with a 0 at its end."""
    width: float = 1e-6
    """Width of the interval to which each crossing is bisected."""
    p0: float = 0.1
    """Start of p, where it is no axis."""
    s0: float | None = None
    """Start of s, where it is no axis; by default on the parabola."""
    tau0: float = 0.0
    """Start of τ with --beta, where it is no axis."""
    lr: float | None = None
    """Gradient descent with this learning rate instead of the flow."""
    momentum: float = 0.0
    """Its momentum."""
    steps: int = 5000
    """Its number of steps."""
    exact: bool = False
    """By the separatrix of the theory (fixed τ) instead of simulation."""
    spectrum: tuple[float, ...] = ()
    """Input variances of several modes, for --top."""
    top: int = 1
    """Ask whether the leading this many modes of the spectrum all survive."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> dict:
        if self.flow != MODE:
            refuse_settings_of_a_mode(
                self, ("theory", "p0", "s0", "tau0", "spectrum", "top", "lr", "momentum", "steps", "exact")
            )
            other = known_flow(self.flow, self.set)
            x, y = parse_axis(self.x, other.axes), parse_axis(self.y, other.axes)
            check(x, y, other)
            return self._traced(x, y, lambda xs, ys: _alive([other.follow({x.name: xs, y.name: ys}).fate]))
        refuse_settings_of_other_flows(self)
        x, y = parse_axis(self.x), parse_axis(self.y)
        discrete = self.lr is not None or "lr" in (x.name, y.name)
        descent = Descent(np.nan if self.lr is None else self.lr, self.momentum, self.steps) if discrete else None
        problem = Problem(self.theory, Start(self.p0, self.s0, self.tau0), descent)
        check(x, y, problem)
        if self.exact and (discrete or self.theory.beta is not None or {"beta", "momentum"} & {x.name, y.name}):
            raise BadInput("the exact border is known for the flow with a fixed tau only; leave --exact out")
        if self.spectrum and not 1 <= self.top <= len(self.spectrum):
            raise BadInput(f"top is {self.top}; with this spectrum it must be from 1 to {len(self.spectrum)}")
        modes = sorted(self.spectrum, reverse=True)[: self.top] or [None]

        def survive(xs, ys):
            point = {x.name: xs, y.name: ys}
            if self.exact:
                return np.all([problem.survives(point, m) for m in modes], axis=0)
            return _alive([problem.follow(point, x=m).fate for m in modes])

        return self._traced(x, y, survive)

    def _traced(self, x: Axis, y: Axis, survive) -> dict:
        found = trace_boundary(survive, x.values, y.values, width=self.width, log=y.log)
        names = ("lower", "upper", "status")
        rows = [dict(zip((x.name, *names), row)) for row in zip(found.x, *(getattr(found, n) for n in names))]
        return {"along": y.name, "width": found.width, "evaluations": found.evaluations, "crossings": rows}

    def text(self, result: dict) -> str:
        rows = result["crossings"]
        return "\n".join(["\t".join(rows[0]) if rows else "none", *("\t".join(map(str, r.values())) for r in rows)])


def _alive(fates) -> np.ndarray:
    """Whether all of several systems live, −1 where that is not decided."""
    fates = np.stack(fates)
    undecided = (fates == UNDECIDED).any(axis=0) & ~np.isin(fates, (COLLAPSED, DIVERGED)).any(axis=0)
    return np.where(undecided, -1, (fates == ALIVE).all(axis=0))


@dataclass(frozen=True)
class BasinFraction(Command):
    """How often random starts survive along a parameter, with Wilson's interval: p0 and ln s0 uniform.

    With --flow those of its p0 and s0 that it has; of the centre p0 and q0, unless they are fixed, and the logarithms
    of w0² and v0².
    """

    theory: Hyperparameters = Hyperparameters()
    along: str = "eta=0:0.3:16"
    """The parameter, name=low:high:points or name=low:high:points:log."""
    flow: str = MODE
    """mode; for the centre of images with a mean squared- or cosine- and none, bias, linear or linear-bias; for modes
    of the cosine loss cosine-modes, cosine-modes-finite, sixth-order; for set predictors set-squared- or set-cosine-
    and predictor, no-stop-gradient, no-predictor, neither, isoloss or target."""
    set: tuple[str, ...] = ()
    """NAME=VALUE of another flow than a mode, where it is no axis: a hyperparameter, or a start with a 0 at its end."""
    p_low: float = -0.5
    """Smallest p0."""
    p_high: float = 1.0
    """Largest p0."""
    s_low: float = 1e-4
    """Smallest s0."""
    s_high: float = 1.0
    """Largest s0."""
    n: int = 1000
    """Starts drawn, the same ones at every value of the parameter."""
    confidence: float = 0.95
    """Of the interval."""
    seed: int = 0
    """Of the random starts."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> dict:
        axis, curve, fate, sample = self._mode() if self.flow == MODE else self._other_flow()
        if not (
            self.p_low < self.p_high and 0 < self.s_low < self.s_high and np.isfinite([self.p_low, self.s_high]).all()
        ):
            raise BadInput("the ranges need p-low < p-high and 0 < s-low < s-high, all finite")
        found = basin_fraction(fate, sample, self.n, curve, self.confidence, self.seed, labels=range(len(FATES) - 1))
        table = {}
        for k, name in enumerate(FATES[:-1]):
            columns = (getattr(found, part)[:, k] for part in ("fraction", "lower", "upper"))
            table[name] = dict(zip(("fraction", "lower", "upper"), columns))
        return {axis.name: axis.values, "n": self.n, "confidence": self.confidence, "seed": self.seed, **table}

    def _mode(self):
        """Axis, hyperparameters along it, fates of states and random starts, of a mode."""
        refuse_settings_of_other_flows(self)
        axis = parse_axis(self.along)
        if axis.name not in (f.name for f in fields(Hyperparameters)):
            raise BadInput(
                f"{axis.name} is no parameter of the flow; choose sigma2, eta, tau, alpha_p, beta, eta_p or x"
            )
        curve = self.theory.replace(**{axis.name: axis.values})
        moving = curve.beta is not None

        def sample(rng, n):
            p0 = rng.uniform(self.p_low, self.p_high, n)
            s0 = np.exp(rng.uniform(np.log(self.s_low), np.log(self.s_high), n))
            return EmaMode(p0, s0, np.zeros(n)) if moving else Mode(p0, s0)

        return axis, curve, lambda state, h: simulate(state, h).fate, sample

    def _other_flow(self):
        refuse_settings_of_a_mode(self, ("theory",))
        problem = known_flow(self.flow, self.set)
        axis = parse_axis(self.along, tuple(items(problem.h)))
        curve = problem.h.replace(**{axis.name: axis.values})

        def sample(rng, n):
            return known_sample(self.flow, problem, rng, n, (self.p_low, self.p_high), (self.s_low, self.s_high))

        return axis, curve, problem.fates, sample

    def text(self, result: dict) -> str:
        name, values = next(iter(result.items()))
        lines = [f"{name}\t" + "\t".join(f"{f} [{self.confidence:.0%}]" for f in FATES[:-1])]
        for i, v in enumerate(values):
            cells = (
                f"{result[f]['fraction'][i]:.3f} [{result[f]['lower'][i]:.3f}, {result[f]['upper'][i]:.3f}]"
                for f in FATES[:-1]
            )
            lines.append(f"{v:g}\t" + "\t".join(cells))
        return "\n".join([*lines, f"n = {self.n}"])


@dataclass(frozen=True)
class Derive(Command):
    """Derive the theory's equations from the simulated flows with symbols, and print them in LaTeX."""

    name: str = "all"
    """The derivation, or all of them."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> dict:
        """{name: {statement, latex, holds}}, `holds` computed. Raises ValueError for an unknown name."""
        from stopgrad.linear_theory.symbolic.derivations import DERIVATIONS, derive  # here, as they bring SymPy along

        derived = [derive(name) for name in (DERIVATIONS if self.name == "all" else [self.name])]
        return {d.name: {"statement": d.statement, "latex": d.latex, "holds": d.holds} for d in derived}

    def text(self, result: dict) -> str:
        """Statement, verdict and LaTeX of each derivation."""
        verdict = {True: "holds", False: "FAILS"}
        return "\n\n".join(f"{n} ({verdict[r['holds']]}): {r['statement']}\n{r['latex']}" for n, r in result.items())

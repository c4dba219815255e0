"""`python -m linear_theory phase`: a phase diagram into a NetCDF file, with its boundary and how long it took."""

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from stopgrad.linear_theory.commands.other_flows import refuse_settings_of_a_mode, refuse_settings_of_other_flows
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.simulation import fate
from stopgrad.linear_theory.simulation.fate import FATES
from stopgrad.linear_theory.sweeps.axes import Axis, parse_axis
from stopgrad.linear_theory.sweeps.flow_problem import FlowProblem
from stopgrad.linear_theory.sweeps.known_flows import MODE, known_flow
from stopgrad.linear_theory.sweeps.mode_problem import Descent, Problem, Start
from stopgrad.linear_theory.sweeps.phase_diagram import boundary, check, phase_diagram
from stopgrad.linear_theory.tools.door import Command
from stopgrad.linear_theory.tools.files import prepare_file, write_netcdf

_FEW = 64  # values of an axis in a sweep that has the programs compiled before the true one is timed
_LONG = 3.0  # seconds after which a sweep shows its progress


@dataclass(frozen=True)
class Phase(Command):
    """The fate of a mode over any two hyperparameters or initial conditions, written as labelled NetCDF.

    Axes: sigma2, eta, tau, alpha_p, beta, eta_p, x, p0, s0, tau0, lr, momentum. Without --t-end every cell is followed
    until its fate is certain. `python -m figures phase FILE.nc --out X.png` draws the file. With --flow the axes are
    that flow's, mu and sigma2 among them.
    """

    theory: Hyperparameters = Hyperparameters()
    """What is not an axis."""
    x: str = "eta=0:0.3:512"
    """Horizontal axis, name=low:high:points or name=low:high:points:log."""
    y: str = "p0=0.01:1:512"
    """Vertical axis, in the same form."""
    flow: str = MODE
    """mode; for the centre of images with a mean squared- or cosine- and none, bias, linear or linear-bias; for modes
    of the cosine loss cosine-modes, cosine-modes-finite, sixth-order; for set predictors set-squared- or set-cosine-
    and predictor, no-stop-gradient, no-predictor, neither, isoloss or target."""
    set: tuple[str, ...] = ()
    """NAME=VALUE of another flow than a mode, where it is no axis: a hyperparameter, or a start with a 0 at its end."""
    out: Path = Path("phase.nc")
    """The file to write; must end in .nc."""
    p0: float = 0.1
    """Start of p, where it is no axis."""
    s0: float | None = None
    """Start of s, where it is no axis; by default on the parabola, x p0²/α_p."""
    tau0: float = 0.0
    """Start of τ with --beta, where it is no axis."""
    t_end: float | None = None
    """Stop at this time instead of when every fate is certain."""
    budget: float = fate.BUDGET
    """Longest time to follow an undecided cell without --t-end, in units of a/(xτ²)."""
    spectrum: tuple[float, ...] = ()
    """Input variances x_j of several modes: adds how many of them survive, with x′_j = σ² in all."""
    lr: float | None = None
    """Gradient descent with this learning rate instead of the flow."""
    momentum: float = 0.0
    """Its momentum."""
    steps: int = 5000
    """Its number of steps."""
    tolerance: float = 1e-7
    """Integration error to aim at."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> dict:

        x, y, problem = self._asked()
        check(x, y, problem)
        path = prepare_file(self.out, ".nc")

        first = None
        if x.values.size * y.values.size >= _FEW**2:
            began = time.perf_counter()
            phase_diagram(_thinned(x), _thinned(y, _FEW**2 // min(x.values.size, _FEW) + 1), problem)
            first = time.perf_counter() - began
        with _progress() as show:
            diagram = phase_diagram(x, y, problem, self.spectrum, show)
        seconds = diagram.attrs["seconds"]
        diagram.attrs["first_call_seconds"] = seconds if first is None else first
        write_netcdf(diagram.merge(boundary(x, y, problem), combine_attrs="override"), path)
        counts = np.bincount(diagram.fate.values.ravel(), minlength=len(FATES))
        return {
            "points": diagram.fate.size,
            "seconds": seconds,
            "first_call_seconds": diagram.attrs["first_call_seconds"],
            "worst_error": diagram.attrs["worst_error"],
            **dict(zip(FATES, counts.tolist())),
            "file": str(path),
        }

    def _asked(self) -> tuple[Axis, Axis, Problem | FlowProblem]:
        if self.flow != MODE:
            refuse_settings_of_a_mode(self, ("theory", "p0", "s0", "tau0", "spectrum", "lr", "momentum", "steps"))
            how = {"t_end": self.t_end, "budget": self.budget, "tolerance": self.tolerance}
            problem = known_flow(self.flow, self.set, **how)
            return parse_axis(self.x, problem.axes), parse_axis(self.y, problem.axes), problem
        refuse_settings_of_other_flows(self)
        x, y = parse_axis(self.x), parse_axis(self.y)
        discrete = self.lr is not None or "lr" in (x.name, y.name)
        descent = Descent(np.nan if self.lr is None else self.lr, self.momentum, self.steps) if discrete else None
        start = Start(self.p0, self.s0, self.tau0)
        return x, y, Problem(self.theory, start, descent, self.t_end, self.budget, self.tolerance)


def _thinned(axis: Axis, most: int = _FEW) -> Axis:
    """A few of an axis's values."""
    chosen = np.linspace(0, axis.values.size - 1, min(most, axis.values.size)).astype(int)
    return Axis(axis.name, axis.values[chosen], axis.log)


@contextlib.contextmanager
def _progress() -> Iterator:
    """A bar on standard error, once the work has taken some seconds."""
    began = time.perf_counter()
    with Progress(console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task("following modes", total=1.0, visible=False)
        yield lambda share: bar.update(task, completed=share, visible=time.perf_counter() - began > _LONG)

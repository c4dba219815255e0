"""What a sweep asks of any flow: where its systems start, with which hyperparameters, and what counts as an outcome."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, is_dataclass, replace
from typing import Any

import numpy as np

from stopgrad.linear_theory.flows.modes import ema_mode_flow, mode_flow
from stopgrad.linear_theory.simulation.fate import BUDGET
from stopgrad.linear_theory.simulation.outcomes import Outcome, Outcomes, follow, mode_outcome
from stopgrad.linear_theory.simulation.runge_kutta import METHOD
from stopgrad.linear_theory.sweeps.axes import Axis
from stopgrad.linear_theory.tools.arrays import as_float64
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.records import items, with_values

PROVED: Mapping[Callable, Outcome] = {mode_flow: mode_outcome, ema_mode_flow: mode_outcome}
"""The flows whose outcomes theory knows; any other is given one."""


@dataclass(frozen=True)
class FlowProblem:
    """A flow and what is asked of it. An axis is a hyperparameter's name, or a state's with a 0: its initial value.

    >>> from stopgrad.linear_theory import Axis, Hyperparameters, Mode, mode_flow, phase_diagram, threshold
    >>> def noisy(state, h):  # a mode into which gradient noise feeds
    ...     change = mode_flow(state, h)
    ...     return Mode(change.p, change.s + 1e-3)
    >>> problem = FlowProblem(noisy, Mode(0.1, 0.01), Hyperparameters(), outcome=threshold("s", 0.1))
    >>> phase_diagram(Axis("eta", [0.1, 0.3]), Axis("p0", [0.05, 0.5]), problem).fate.values  # saves the weak start
    array([[0, 1],
           [0, 1]], dtype=int8)
    """

    flow: Callable
    """Pure function (state, h) → derivative, of the state's type, in plain operators."""
    start: Any
    """NamedTuple of numbers, or of arrays whose last `event_dims` dimensions are one system."""
    h: Any
    """NamedTuple or frozen dataclass of numbers; None among them stays, whole numbers are built into the program."""
    outcome: Outcome | None = None
    """What is asked of an end, `threshold(…)` or a function of one's own; None: the proofs, for one mode's flows."""
    t_end: float | None = None
    """Ask once, at this time; None: until the outcome is known, up to `budget`."""
    budget: float = BUDGET
    tolerance: float = 1e-7
    bound: float = 1e6
    """What is larger than this in any field has diverged."""
    event_dims: int = 0
    measures: Mapping[str, Callable] = field(default_factory=dict)
    """What a diagram shows beside the last state: name → function (state, h) of the end."""

    @property
    def axes(self) -> tuple[str, ...]:
        """What may be an axis."""
        return *items(self.h), *(f"{name}0" for name in items(self.start))

    def check(self, x: Axis, y: Axis) -> None:
        """Raise ValueError for axes that the hyperparameters' own rules refuse, and for what cannot be followed."""
        self._outcome()
        for v in (axis.values for axis in (x, y)):
            if v.ndim != 1 or not np.isfinite(v).all():
                raise BadInput("an axis holds finite numbers in one dimension")
        if self.t_end is not None and not (np.isfinite(self.t_end) and self.t_end >= 0):
            raise BadInput(f"t_end is {self.t_end:g}; it must be finite and at least 0")
        if not (self.budget > 0 and np.isfinite(self.budget)):
            raise BadInput(f"budget is {self.budget:g}; it must be finite and above 0")
        for name, values in ((axis.name, axis.values) for axis in (x, y) if axis.name in items(self.h)):
            for value in values[[0, -1]].tolist():
                h = replace(self.h, **{name: value}) if is_dataclass(self.h) else self.h
                getattr(h, "validate", lambda: None)()

    def follow(self, point: dict, progress=None) -> Outcomes:
        """Outcomes at `point`, a dict axis name → array; the arrays broadcast."""
        point = self._beside_systems(point)
        h = with_values(self.h, {k: point[k] for k in items(self.h) if k in point})
        start = with_values(self.start, {k: point[f"{k}0"] for k in items(self.start) if f"{k}0" in point})
        return self._follow(start, h, progress)

    def _beside_systems(self, point: dict) -> dict:
        """The point's arrays, with an axis of 1 for each dimension of a system."""
        inner = (...,) + (None,) * self.event_dims
        return {name: as_float64(v, name)[inner] for name, v in point.items()}

    def fates(self, start, h) -> np.ndarray:
        """Fates from these starts under these hyperparameters, which broadcast: what `basin_fraction` asks for."""
        return self._follow(start, h).fate

    def _follow(self, start, h, progress=None) -> Outcomes:
        how = (self.t_end, self.budget, self.tolerance, self.bound, self.event_dims)
        return follow(self.flow, start, h, self._outcome(), *how, progress)

    def _outcome(self) -> Outcome:
        outcome = self.outcome or PROVED.get(self.flow)
        if outcome is None:
            raise BadInput(f"no outcome of {name_of(self.flow)} is known; give one, such as threshold(field, above)")
        return outcome

    def variables(self, found: Outcomes, point: dict) -> dict:
        """What a diagram shows beside the fate: the last state, field by field, and what is measured on it."""
        point = self._beside_systems(point)
        h = with_values(self.h, {k: point[k] for k in items(self.h) if k in point})
        return {**items(found.state), **{name: measure(found.state, h) for name, measure in self.measures.items()}}

    def survivors(self, point: dict, spectrum):
        """Refused: a spectrum is one of modes of the theory."""
        raise BadInput("a spectrum belongs to a mode of the theory; make its variance an axis of this flow")

    def is_exact(self, names) -> bool:
        """Whether theory knows the border: not of any flow."""
        return False

    def origin(self, names) -> dict:
        """Hyperparameters and starts that are not axes, and how far every cell was followed."""
        held = {**items(self.h), **{f"{k}0": v for k, v in items(self.start).items()}}
        until = {"t_end": self.t_end} if self.t_end is not None else {"budget": self.budget}
        return {
            **{k: float(v) for k, v in held.items() if k not in names and v is not None and np.ndim(v) == 0},
            **until,
            "tolerance": self.tolerance,
            "flow": name_of(self.flow),
            "method": METHOD,
        }


def name_of(flow: Callable) -> str:
    """A function's name, of a partial one's too."""
    flow = getattr(flow, "func", flow)
    return getattr(flow, "__name__", type(flow).__name__)

"""Trajectories of modes at stated times, in the user's units: scaled, balanced where that holds, and integrated."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.modes import (
    BalancedMode,
    EmaMode,
    Mode,
    ScalarNetwork,
    balance,
    balanced_mode_flow,
    mode_flow,
    mode_of,
    scalar_network_flow,
    scaled,
    scales,
)
from stopgrad.linear_theory.tools.arrays import in_float64
from stopgrad.linear_theory.tools.errors import BadInput

if TYPE_CHECKING:
    from stopgrad.linear_theory.simulation.integrate import Solution


def trajectory(start: Mode | EmaMode, h: Hyperparameters, t, tolerance: float = 1e-9, **options) -> "Solution":
    """The mode at time(s) `t` from `start`: fields and hyperparameters broadcast; see `integrate` for t and options.

    With `h.beta` the start is an EmaMode and its τ moves; else a Mode and τ is fixed. Errors are in scaled units: of p
    over τ/a and of s over its unit (absolute below one, relative above).

    Raises ValueError for NaN, s < 0, hyperparameters out of range, or a start that does not go with beta.

    >>> from stopgrad.linear_theory import Hyperparameters, Mode
    >>> trajectory(Mode(0.5, 0.25), Hyperparameters(sigma2=0.0, eta=0.16), [0.0, 200.0]).state.p.round(6)
    array([0.5, 0.8])
    """
    h = h.validate()
    fields = check_start(start, h)
    unit, hat = scales(h), scaled(h)
    state = type(start)(fields[0] / unit.p, fields[1] / unit.s, *fields[2:])
    solution = solve(state, hat, t, duration=1 / unit.time, tolerance=tolerance, **options)
    p, s, *rest = solution.state
    return replace(solution, state=type(start)(p * unit.p, s * unit.s, *rest))


def check_start(start: Mode | EmaMode, h: Hyperparameters) -> list[np.ndarray]:
    """The fields of a start as float64 arrays; ValueError for NaN, s < 0, or a kind that does not go with h.beta."""
    if (h.beta is not None) != isinstance(start, EmaMode):
        raise BadInput("a moving target needs both beta and an EmaMode to start from, a fixed one neither")
    fields = list(in_float64(start))
    for name, v in zip(start._fields, fields):
        if not np.isfinite(v).all():
            raise BadInput(f"the initial {name} is not a finite number; give one")
    if np.any(fields[1] < 0):
        raise BadInput(f"the initial s is {fields[1].min():g}; an eigenvalue of W X Wᵀ is at least 0")
    return fields


def solve(state: Mode | EmaMode, hat: Hyperparameters, t, **options) -> "Solution":
    """`integrate` for a problem in scaled units (see `scales`); one equation fewer where the balance is of use.

    It is where η_p = η, τ is fixed and no mode starts below the parabola: there s = p² + c is a difference, and the
    tiny s that decides such a mode's fate would drown in its rounding.
    """
    from stopgrad.linear_theory.simulation.integrate import integrate

    if isinstance(state, EmaMode):
        return _solve_ema(state, hat, t, **options)
    c = balance(state, hat)
    c = np.where(np.abs(c) <= 4 * np.finfo(float).eps * np.square(state.p), 0.0, c)  # on the parabola, as rounded
    if not np.array_equal(hat.eta, hat.eta_p) or np.any(c < 0):
        return integrate(mode_flow, state, hat, t=t, **options)
    hat = hat.replace(eta_p=None)
    solution = integrate(balanced_mode_flow, BalancedMode(state.p, c), hat, t=t, decays={"c": 2 * hat.eta}, **options)
    return replace(solution, state=mode_of(solution.state, hat))


def _solve_ema(state: EmaMode, hat: Hyperparameters, t, **options) -> "Solution":
    """With a moving target, in the weights: w passes through 0 from p < 0, where τ = w_a/w is infinite for a moment."""
    from stopgrad.linear_theory.simulation.integrate import integrate

    w = np.sqrt(state.s)
    wa = np.where(w > 0, state.tau * w, 0.0)  # without features τ means nothing, and comes out as NaN
    solution = integrate(scalar_network_flow, ScalarNetwork(state.p, w, wa), hat, t=t, **options)
    p, w, wa = solution.state
    tau = np.divide(wa, w, out=np.full(np.shape(w), np.nan), where=w != 0)
    return replace(solution, state=EmaMode(p, w * w, tau))

"""Gradient descent beside its flow: the same equations taken in steps of a learning rate, with heavy-ball momentum.

What is stepped is always a set of weights, for it is weights that training updates; the step of a mode (p, s) follows
from theirs. One step covers the time lr/(1 − momentum).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from stopgrad.linear_theory.exact.fixed_points import fixed_points
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.modes import Mode, ScalarNetwork, scalar_network_flow
from stopgrad.linear_theory.tools.arrays import as_float64, in_float64
from stopgrad.linear_theory.tools.errors import BadInput


class Weights(NamedTuple):
    """1×1 predictor w_p and encoder w whose target is τ w (τ = 1: SimSiam)."""

    wp: Any
    w: Any


def weights_flow(state: Weights, h: Hyperparameters) -> Weights:
    """Lemma 1 for 1×1 weights under a proportional target (A1): minus the gradient that training descends."""
    network = ScalarNetwork(state.wp, state.w, h.tau * state.w)
    flow = scalar_network_flow(network, h.replace(beta=0.0))
    return Weights(flow.wp, flow.w)


def mode_step(mode: Mode, h: Hyperparameters, lr) -> Mode:
    """One step of gradient descent (no momentum) on the weights w_p = p, w = √(s/x), read as (p, s); broadcasts.

    s becomes s(1 + lr·g)² with g = x p(τ − a p) − η, unlike a forward Euler step of s′ = 2sg.

    >>> from stopgrad.linear_theory import Hyperparameters, Mode
    >>> mode_step(Mode(0.5, 0.25), Hyperparameters(sigma2=0.0, eta=0.0), lr=0.5)
    Mode(p=0.5625, s=0.31640625)
    """
    w = (mode.s / h.x) ** 0.5
    flow = weights_flow(Weights(mode.p, w), h)
    stepped = w + lr * flow.w
    return Mode(mode.p + lr * flow.wp, h.x * stepped * stepped)


@dataclass(frozen=True)
class Descent:
    """What gradient descent reached. Arrays carry the batch dimensions of state, hyperparameters, lr and momentum."""

    state: Any
    """After the last step; a diverged element stays at its last value below the limit."""
    diverged: np.ndarray
    """Whether an entry of the element left the limit or stopped being a number."""
    diverged_at: np.ndarray
    """The step (from 1) at which it did, −1 where it never did."""
    trajectory: Any
    """States with a leading axis, every `every` steps from step 0 on; None if not asked for."""
    time: Any
    """Time of the flow that the steps cover: steps·lr/(1 − momentum)."""


def descend(
    flow, state, *args, lr, momentum=0.0, steps, every=None, event_dims=0, averages=("wa", "Wa"), limit=1e8
) -> Descent:
    """Descend with v ← momentum·v + flow(state, *args), state ← state + lr·v (PyTorch's SGD, weight decay coupled).

    `state`: a NamedTuple of arrays whose last `event_dims` dimensions belong together (matrix flows: 2) and whose
    others are batch dimensions; lr, momentum and hyperparameters broadcast against them ((…, 1, 1) for matrices).
    Fields named in `averages` are targets, not weights: they move after the weights, without momentum, and by the time
    of a step, lr/(1 − momentum), so that β means the same as in the flow.

    Raises ValueError for lr ≤ 0, momentum outside [0, 1), negative steps, every < 1, or a state that is not finite.

    >>> from stopgrad.linear_theory import Hyperparameters, Mode, mode_flow
    >>> run = descend(mode_flow, Mode(0.5, 0.25), Hyperparameters(sigma2=0.0, eta=0.0), lr=0.5, steps=1)
    >>> run.state  # plus half of (p′, s′) = (0.125, 0.125)
    Mode(p=array(0.5625), s=array(0.3125))
    """
    lr, momentum = as_float64(lr, "lr"), as_float64(momentum, "momentum")
    state = in_float64(state)
    _check(state, lr, momentum, steps, every)
    state, batch = _broadcast(flow(state, *args), state, lr, momentum, event_dims)
    events = tuple(range(-event_dims, 0))
    targets = [name in averages for name in state._fields]

    velocity = type(state)(*map(np.zeros_like, state))
    diverged_at = np.full(batch, -1)
    records = [state]
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(1, steps + 1):
            proposal, velocity = _step(flow, state, velocity, args, lr, momentum, targets)
            within = np.all([np.all(np.abs(v) < limit, axis=events) for v in proposal], axis=0)
            diverged_at = np.where((diverged_at < 0) & ~within, step, diverged_at)
            alive = (diverged_at < 0).reshape(batch + (1,) * event_dims)
            state = type(state)(*(np.where(alive, new, old) for new, old in zip(proposal, state)))
            if every is not None and step % every == 0:
                records.append(state)
    trajectory = None if every is None else type(state)(*map(np.stack, zip(*records)))
    return Descent(state, diverged_at >= 0, diverged_at, trajectory, steps * lr / (1 - momentum))


def _step(flow, state, velocity, args, lr, momentum, targets):
    make = type(state)
    velocity = make(*(momentum * v + f for v, f in zip(velocity, flow(state, *args))))
    state = make(*(v if target else v + lr * dv for v, dv, target in zip(state, velocity, targets)))
    if any(targets):
        late, time = flow(state, *args), lr / (1 - momentum)
        state = make(*(v + time * f if target else v for v, f, target in zip(state, late, targets)))
    return state, velocity


def _check(state, lr, momentum, steps, every):
    if not np.all(np.isfinite(lr) & (lr > 0)):
        raise BadInput("lr must be finite and above 0")
    if not np.all((momentum >= 0) & (momentum < 1)):
        raise BadInput("momentum must be in [0, 1)")
    if steps < 0 or (every is not None and every < 1):
        raise BadInput(f"steps is {steps} and every is {every}; they must be at least 0 and 1")
    for name, value in zip(state._fields, state):
        if not np.all(np.isfinite(value)):
            raise BadInput(f"{name} holds NaN or infinity; start from finite weights")


def _broadcast(force, state, lr, momentum, event_dims):
    """The state with one common batch shape (that of everything in the step), and that shape."""

    def split(value):
        cut = max(np.ndim(value) - event_dims, 0)
        return np.shape(value)[:cut], np.shape(value)[cut:]

    batch = np.broadcast_shapes(*(split(value)[0] for value in (*state, *force, lr, momentum)))
    return type(state)(*(np.broadcast_to(v, batch + split(v)[1]) for v in state)), batch


def stable_lr(eigenvalues, momentum=0.0) -> np.ndarray:
    """Largest learning rate at which heavy-ball descent near a fixed point does not grow; broadcasts.

    Along an eigenvector of the flow's Jacobian with eigenvalue λ = ρ + iω a step multiplies by the roots of
    z² − (1 + m + lr λ)z + m, which lie inside the unit circle where (1 + lr ρ/(1 + m))² + (lr ω/(1 − m))² < 1: for real
    λ < 0 up to 2(1 + m)/|λ|, and 2/|λ| without momentum.

    `eigenvalues`: (…, k), real or complex; the result has shape (…): the smallest bound of the k. A zero eigenvalue
    sets none (nothing grows along it); one with ρ > 0 or ρ = 0 ≠ ω allows no rate (0); NaN stays NaN.
    """
    values, m = np.asarray(eigenvalues, dtype=complex), as_float64(momentum, "momentum")[..., None]
    pull, turn = -values.real / (1 + m), values.imag / (1 - m)
    square = pull * pull + turn * turn
    bound = np.divide(2 * pull, square, out=np.full(np.shape(square), np.inf), where=square != 0)
    return np.min(np.maximum(bound, 0.0), axis=-1)


def largest_stable_lr(h: Hyperparameters, momentum=0.0) -> np.ndarray:
    """Largest learning rate at which the non-collapsed fixed point p₊ is stable under gradient descent on the weights.

    A flow's eigenvalues at a fixed point are the same in weights and in (p, s), so for η_p = η they are −2η and
    −(xτp₊ − 2η). NaN where there is no p₊ (η > η_c). Broadcasts. Raises ValueError for hyperparameters out of range
    or a momentum outside [0, 1).

    >>> from stopgrad.linear_theory import Hyperparameters
    >>> largest_stable_lr(Hyperparameters(sigma2=0.0, eta=0.16)).round(6)  # 2/0.48, by the fastest eigenvalue there
    np.float64(4.166667)
    """
    momentum = as_float64(momentum, "momentum")
    if not np.all((momentum >= 0) & (momentum < 1)):
        raise BadInput("momentum must be in [0, 1)")
    return stable_lr(fixed_points(h).eigenvalues_plus, momentum)

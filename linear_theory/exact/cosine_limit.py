"""What becomes of modes under the cosine loss, in closed form: weight decay as a clock, and which modes die.

For `flows.mean.cosine_mode_flow`, the limit of wide embeddings; the first section holds for `flows.cosine` as a whole,
on any finite sample, and for any network of layers whose lengths the loss does not see. Derived here.

- **Weight decay acts on norms, not on directions.** Where both layers share it, W(t) = e^(−ηt) Ŵ(θ) and W_p likewise,
  Ŵ and Ŵ_p being the path without decay at θ = (e^(2ηt) − 1)/(2η): the same directions, run through ever faster.
  Where η_p ≠ η the path is that of a predictor whose learning rate is α_p e^(2(η_p − η)t): one that decays less falls
  behind.
- **Where modes go.** c_j = s_j − x_j p_j²/α_p stays, and so does Σ p_j². Each p_j is drawn to P/a_j, one P for all, and
  can fall no further than b_j = √(−α_p c_j/x_j), where s_j = 0. So a mode with c_j > 0 lives; one with c_j ≤ 0 lives if
  p_j > 0 and P/a_j > b_j, and else is lost **in direction**, however large the norms. Σ p_j² fixes P.
- **What equalises modes.** At rest p_j = P/a_j and s_j = x_j P²/(α_p a_j²) + c_j: on the parabola (c_j = 0) modes with
  like data come out alike, whatever their start; off it c_j stays in s_j, for weight decay shrinks both alike.
"""

from typing import NamedTuple

import numpy as np

from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.modes import Mode, balance
from stopgrad.linear_theory.tools.arrays import as_float64, in_float64
from stopgrad.linear_theory.tools.errors import BadInput

_HALVINGS = 200
_SAME = 1e-12  # of s: a balance this near to the parabola is on it, but for rounding


# ---------------------------------------------------------------- weight decay


def decay_clock(t, eta) -> np.ndarray:
    """θ = (e^(2ηt) − 1)/(2η): the time at which the path without weight decay has the directions of time t. Shape (…).

    >>> decay_clock(5.0, [0.0, 0.1]).round(4)
    array([5.    , 8.5914])
    """
    t, eta = as_float64(t, "t"), as_float64(eta, "eta")
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(eta == 0, t, np.expm1(2 * eta * t) / (2 * eta))


def decayed(state: Mode, t, eta) -> Mode:
    """A mode of the path without decay, at `decay_clock(t, eta)`, as it is at time t with it: p e^(−ηt), s e^(−2ηt).

    >>> decayed(Mode(1.0, 1.0), t=5.0, eta=0.1).s.round(4)
    np.float64(0.3679)
    """
    left = np.exp(-as_float64(eta, "eta") * as_float64(t, "t"))
    return Mode(*(v * share for v, share in zip(in_float64(state), (left, left * left))))


def predictor_rate(t, h: Hyperparameters) -> np.ndarray:
    """α_p e^(2(η_p − η)t): the learning rate of the predictor, over the encoder's, that the directions see at t. (…).

    >>> predictor_rate(5.0, Hyperparameters(eta=0.1, eta_p=0.0)).round(4)
    np.float64(0.3679)
    """
    h = h.validate()
    return h.alpha_p * np.exp(2 * (h.predictor_decay - h.eta) * as_float64(t, "t"))


def settled_turn(lr, weight_decay, momentum=0.0) -> np.ndarray:
    """√(2 lr·wd/(1 + m)): the angle, in radians, that SGD turns a layer in a step once its norm has settled. Shape (…).

    A step leaves ‖W‖² as it is but for lr²‖∇L‖² and weight decay (coupled), whose balance the norm reaches at the rate
    4 lr·wd/(1 − m) a step; the angle then knows neither the loss nor the data. For small lr·wd. Derived here.

    >>> settled_turn(0.05, 1e-4, 0.9).round(6)
    np.float64(0.002294)
    """
    lr, decay, momentum = as_float64(lr, "lr"), as_float64(weight_decay, "weight_decay"), as_float64(momentum)
    return np.sqrt(2 * lr * decay / (1 + momentum))


# ---------------------------------------------------------------- where modes end


class CosineLimit(NamedTuple):
    """Where modes end, the weight decay taken out; NaN where the start has no agreement, Σ p s ≤ 0."""

    p: np.ndarray
    """(…, modes)."""
    s: np.ndarray
    """(…, modes)."""
    level: np.ndarray
    """P, (…): every living p_j is P/a_j."""
    lives: np.ndarray
    """(…, modes): whether the mode keeps a share of the embeddings."""


def cosine_limit(start: Mode, h: Hyperparameters) -> CosineLimit:
    """Where `cosine_mode_flow` leads from `start` (…, modes), for η_p = η of any size; σ² and x as in the flow.

    P is found by bisection of Σ max(P/a_j, b_j)² = Σ p_j(0)² to rounding. With weight decay the modes are e^(−ηt) and
    e^(−2ηt) times these. Raises BadInput for s < 0, hyperparameters out of range, an EMA, and η_p ≠ η.

    >>> h = Hyperparameters(sigma2=0.0, eta=0.0)
    >>> end = cosine_limit(Mode([0.3, 0.9, 1.0], [0.09, 0.81, 0.01]), h)  # the last predictor outweighs its encoder
    >>> end.lives.tolist(), end.p.round(4), end.s.round(4)
    ([True, True, False], array([0.6745, 0.6745, 0.995 ]), array([0.455, 0.455, 0.   ]))
    """
    h = h.validate()
    if h.beta is not None:
        raise BadInput("beta is the rate of an EMA target, for which the end of the cosine loss is not known; leave it")
    if h.eta_p is not None and not np.array_equal(*np.broadcast_arrays(h.eta_p, h.eta)):
        raise BadInput("eta_p differs from eta; the end under the cosine loss is known where both decay alike")
    p, s = np.broadcast_arrays(*in_float64(start))
    if np.any(s < 0):
        raise BadInput(f"the initial s is {s.min():g}; an eigenvalue of W X Wᵀ is at least 0")
    parabola = h.x / h.alpha_p
    p, s, a, parabola = np.broadcast_arrays(p, s, h.a, parabola)
    c = balance(Mode(p, s), h)
    c = np.where(np.abs(c) <= _SAME * np.maximum(s, parabola * p * p), 0.0, c)
    floor = np.sqrt(np.maximum(-c, 0) / parabola)
    lost = (s == 0) | ((c <= 0) & (p <= 0))
    held = np.where(s == 0, np.abs(p), floor)

    def ended(level):
        """|p_j| where the common level is P."""
        return np.where(lost, held, np.maximum(level / a, floor))

    total = np.sum(p * p, axis=-1, keepdims=True)
    low, high = np.zeros_like(total), np.sqrt(total) * np.max(a, axis=-1, keepdims=True)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        less = np.sum(ended(middle) ** 2, axis=-1, keepdims=True) < total
        low, high = np.where(less, middle, low), np.where(less, high, middle)
    level = (low + high) / 2
    agrees = np.sum(p * s, axis=-1, keepdims=True) > 0
    lives = ~lost & (level / a > floor) & agrees
    end = np.where(lost & (p < 0), -1, 1) * ended(level)
    end_s = np.where(lives, parabola * end * end + c, 0.0)
    unknown = np.where(agrees, 0.0, np.nan)
    return CosineLimit(end + unknown, end_s + unknown, (level + unknown)[..., 0], lives)

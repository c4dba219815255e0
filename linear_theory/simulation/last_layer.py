"""A trained last layer held against Lemma 1: the flow that its X and X′ foretell, and what both say of each law.

Everything here is of one network's course: times (k,), weights W_p (k, d, d) and W (k, d, n), correlations X and X′ of
what the layer reads, (k, n, n). A law is a number of such a course, the same function for what was measured and for
what was computed, so that the two can be set against each other.
"""

import math
from typing import NamedTuple

import numpy as np

from stopgrad.linear_theory.exact.fixed_points import critical_eta
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.matrices import Correlations, Network, Switches, network_flow
from stopgrad.linear_theory.simulation.integrate import integrate
from stopgrad.linear_theory.spectra.alignment import balance_residual, misalignment
from stopgrad.linear_theory.tools.errors import BadInput

LIVES_FROM = 0.1
"""A mode lives that is this part of the least that one at rest can be, x τ²/(4a²α_p), and a dead one falls for ever."""
MOST_STEPS, ENOUGH = 4096, 1e-4
"""Of an integration: networks need some hundreds; and the error with which it still counts as followed."""
NAMED = 1e-9
"""Directions of X with less than this part of the largest eigenvalue carry nothing of the image."""


class Course(NamedTuple):
    """A network's course as the laws see it."""

    t: np.ndarray
    """(k,) times, rising, in units of the flow."""
    s: np.ndarray
    """(k, d) eigenvalues of F = W X Wᵀ, falling."""
    misalignment: np.ndarray
    """(k,) ‖[F, W_p]‖/(‖F‖‖W_p‖)."""
    balance: np.ndarray
    """(k,) Theorem 1's residual, relative to its two terms."""

    @property
    def size(self) -> np.ndarray:
        """tr F: (k,)."""
        return self.s.sum(-1)


def course(t, weights: Network, X, h: Hyperparameters) -> Course:
    """The course of `weights`, (k, …), and of X, (k, n, n), or (n, n) where it stays; NaN where weights are not finite.

    >>> still = Network(np.ones((2, 1, 1)), np.ones((2, 1, 1)), np.ones((2, 1, 1)))
    >>> course([0.0, 1.0], still, np.eye(1), Hyperparameters(eta=0.0)).size
    array([1., 1.])
    """
    t, W, Wp = np.asarray(t, float), np.asarray(weights.W, float), np.asarray(weights.Wp, float)
    with np.errstate(over="ignore", invalid="ignore"):
        F = W @ X @ W.mT
    sound = (np.isfinite(F) & np.isfinite(Wp)).all((-2, -1))
    F, Wp = (np.where(sound[:, None, None], v, 0) for v in ((F + F.mT) / 2, Wp))
    W = np.where(sound[:, None, None], W, 0)
    first = Network(Wp[0], W[0], W[0])
    found = np.linalg.eigvalsh(F)[:, ::-1], misalignment(Wp, F), balance_residual(Network(Wp, W, W), first, t, h)
    return Course(t, *(np.where(sound[:, None] if v.ndim == 2 else sound, v, np.nan) for v in found))


# ---------------------------------------------------------------- the two readings


def forecast(t, start: Network, data: Correlations, h: Hyperparameters, switches: Switches = Switches()) -> Network:
    """Lemma 1 from `start` with X and X′ held as they are: weights (k, …) at the times `t`, which begin at 0.

    NaN throughout where it cannot be followed in `MOST_STEPS`: so stiff a flow is no network's that gradients train.
    """
    return _followed(start, data, h, switches, np.asarray(t, float))


def tracking(t, start: Network, data: Correlations, h: Hyperparameters, switches: Switches = Switches()) -> Network:
    """The same with X and X′ as they were measured at these times, (k, n, n): between two the mean of both.

    NaN from where it cannot be followed.
    """
    t, state, states = np.asarray(t, float), start, [start]
    for k, span in enumerate(np.diff(t)):
        between = Correlations(*((v[k] + v[k + 1]) / 2 for v in data))
        state = _followed(state, between, h, switches, float(span))
        states.append(state)
    return Network(*(np.stack(v) for v in zip(*states)))


def _followed(start: Network, data: Correlations, h: Hyperparameters, switches: Switches, t) -> Network:
    if not all(np.isfinite(v).all() for v in start):
        return Network(*(np.full((*np.shape(t), *np.shape(v)), np.nan) for v in start))
    found = integrate(network_flow, start, data, h, switches, t=t, event_dims=2, most_steps=MOST_STEPS)
    return Network(*(v if np.all(found.error <= ENOUGH) else np.full(np.shape(v), np.nan) for v in found.state))


def foreseen(t, data: Correlations, until: int, h: Hyperparameters) -> Correlations:
    """X and X′ at the times `t`, (k, n, n), known up to t[until], (until + 1, n, n), if they go on as they went.

    What is known says how fast tr X falls, −d ln tr X/dt; at that rate both shrink on, which is no slower than 0 and no
    faster than 2η, what weight decay alone does to a layer whose square they are.

    >>> once = Correlations(*(np.eye(1) * np.array([1.0, np.exp(-0.1)])[:, None, None],) * 2)
    >>> foreseen([0.0, 1.0, 3.0], once, 1, Hyperparameters(eta=0.2)).X[:, 0, 0].round(6)
    array([1.      , 0.904837, 0.740818])
    """
    t, known = np.asarray(t, float), Correlations(*(np.asarray(v, float) for v in data))
    first, last = (float(np.trace(known.X[k])) for k in (0, until))
    span = float(t[until] - t[0])
    rate = math.log(first / last) / span if span > 0 and first > 0 and last > 0 else 0.0
    shrink = np.exp(-min(max(rate, 0.0), 2 * float(h.eta)) * (t[until + 1 :] - t[until]))[:, None, None]
    return Correlations(*(np.concatenate([v[: until + 1], v[until] * shrink]) for v in known))


# ---------------------------------------------------------------- laws


class Allowed(NamedTuple):
    """What the mode equations let live at some X and X′."""

    modes: int
    """Modes with a fixed point, of the first so many that the layer has room for."""
    critical: float
    """η beyond which none has: the largest τ²x_j/(4(1 + σ_j²))."""
    floor: float
    """The eigenvalue of F from which a mode counts as alive."""


def allowed(data: Correlations, h: Hyperparameters, dimensions: int) -> Allowed:
    """Of the eigenvectors of X, (n, n), with x′ what X′ is along them: exact where both commute.

    Raises ValueError where X has no eigenvalue above zero.

    >>> allowed(Correlations(np.diag([1.0, 0.2]), 0.1 * np.eye(2)), Hyperparameters(eta=0.1), 2).modes
    1
    """
    x, directions = np.linalg.eigh(data.X)
    some = x > NAMED * x[-1]
    if not some.any() or x[-1] <= 0:
        raise BadInput("X has no eigenvalue above zero: the views have nothing in common")
    noise = np.einsum("ij,ik,kj->j", directions, data.Xp, directions)[some].clip(min=0)
    modes = h.replace(x=x[some], sigma2=noise / x[some])
    critical = np.asarray(critical_eta(modes), float)
    least = modes.x * h.tau**2 / (4 * modes.a**2 * h.alpha_p)
    lives = h.eta < critical
    floor = LIVES_FROM * float(least[lives].min() if lives.any() else least.max())
    return Allowed(min(int(lives.sum()), dimensions), float(critical.max()), floor)


def halves(t, curve) -> float:
    """The first time at which `curve`, (k,), is half of what it was at first, linear between times; inf where never.

    >>> halves([0.0, 1.0, 2.0], [1.0, 0.75, 0.25])
    1.5
    """
    t, curve = np.asarray(t, float), np.asarray(curve, float)
    below = np.flatnonzero(curve <= curve[0] / 2)
    if not len(below) or not curve[0] > 0:
        return math.inf
    k = int(below[0])
    return float(t[k] - (curve[0] / 2 - curve[k]) * (t[k] - t[k - 1]) / (curve[k - 1] - curve[k]))


def falls_by(t, curve, factor: float) -> float:
    """The first time at which `curve`, (k,), is 1/`factor` of its start, linear in its logarithm; inf where never.

    >>> round(falls_by([0.0, 1.0, 2.0], np.exp([0.0, -1.0, -2.0]), np.exp(1.5)), 9)
    1.5
    """
    t, fallen = np.asarray(t, float), -_logarithm(curve)
    below = np.flatnonzero(fallen >= math.log(factor))
    if not len(below):
        return math.inf
    k = int(below[0])
    return float(t[k] - (fallen[k] - math.log(factor)) * (t[k] - t[k - 1]) / (fallen[k] - fallen[k - 1]))


def settles(t, curve, within: float = 0.1) -> float:
    """The time from which `curve`, (k,), stays within e^±`within` of its last value, linear in its logarithm.

    NaN where an entry is.

    >>> settles([0.0, 1.0, 2.0, 3.0], [4.0, 2.0, 1.0, 1.0], within=float(np.log(2)))
    1.0
    """
    t, gap = np.asarray(t, float), _logarithm(curve)
    gap = np.abs(gap - gap[-1])
    if np.isnan(gap).any():
        return math.nan
    outside = np.flatnonzero(gap > within)
    if not len(outside):
        return float(t[0])
    k = int(outside[-1])
    return float(t[k] + (gap[k] - within) / (gap[k] - gap[k + 1]) * (t[k + 1] - t[k]))


def falls_at(t, curve, until: float) -> float:
    """The mean rate −d ln curve/dt from the first time to `until`; NaN where an entry is.

    >>> round(falls_at([0.0, 1.0, 2.0], np.exp([0.0, -1.0, -2.0]), 1.5), 9)
    1.0
    """
    t, logarithm = np.asarray(t, float), _logarithm(curve)
    if np.isnan(logarithm).any() or not until > t[0]:
        return math.nan
    return float((logarithm[0] - np.interp(until, t, logarithm)) / (until - t[0]))


def _logarithm(curve) -> np.ndarray:
    """ln of a curve over its start; what has fallen by thirty decades, or by rounding below zero, is at −30."""
    curve = np.asarray(curve, float)
    return np.log(np.maximum(curve / curve[0], 1e-30)) if curve[0] > 0 else np.full(len(curve), math.nan)

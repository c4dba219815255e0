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
TOLERANCE, MOST_STEPS, ENOUGH = 1e-6, 4096, 1e-4
"""Of an integration, of which networks need some hundred steps, and the error with which it counts as followed."""
GONE = 1e-30
"""Part of its start to which a curve has fallen when no more is told apart."""
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
    Raises ValueError for times that begin elsewhere.
    """
    if not len(t) or t[0] != 0:
        raise BadInput(f"t begins at {t[0] if len(t) else 'nothing'}; the start is at time 0")
    return _followed(start, data, h, switches, np.asarray(t, float))


def tracking(t, start: Network, data: Correlations, h: Hyperparameters, switches: Switches = Switches()) -> Network:
    """The same with X and X′ as they were measured at these times, (k, n, n): between two the mean of both.

    NaN from where it cannot be followed. Raises ValueError unless there are as many of them as times.
    """
    t, data = np.asarray(t, float), Correlations(*(np.asarray(v, float) for v in data))
    if not len(t) or any(len(v) != len(t) for v in data):
        raise BadInput(f"there are {len(t)} times, {len(data.X)} X and {len(data.Xp)} X′; each time needs both")
    state, states = start, [start]
    for k, span in enumerate(np.diff(t)):
        between = Correlations(*((v[k] + v[k + 1]) / 2 for v in data))
        state = _followed(state, between, h, switches, float(span))
        states.append(state)
    return Network(*(np.stack(v) for v in zip(*states)))


def _followed(start: Network, data: Correlations, h: Hyperparameters, switches: Switches, t) -> Network:
    if not all(np.isfinite(v).all() for v in start):
        return Network(*(np.full((*np.shape(t), *np.shape(v)), np.nan) for v in start))
    found = integrate(
        network_flow, start, data, h, switches, t=t, event_dims=2, most_steps=MOST_STEPS, tolerance=TOLERANCE
    )
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

    NaN where an entry is, or the first is not above zero.

    >>> halves([0.0, 1.0, 2.0], [1.0, 0.75, 0.25])
    1.5
    """
    t, curve = _checked(t, curve)
    if np.isnan(curve).any() or not curve[0] > 0:
        return math.nan
    below = np.flatnonzero(curve <= curve[0] / 2)
    if not len(below):
        return math.inf
    k = int(below[0])
    return float(t[k] - (curve[0] / 2 - curve[k]) * (t[k] - t[k - 1]) / (curve[k - 1] - curve[k]))


def falls_by(t, curve, factor: float) -> float:
    """The first time at which `curve`, (k,), is 1/`factor` of its start, linear in its logarithm; inf where never.

    NaN where an entry is, or the first is not above zero. factor: above 1.

    >>> round(falls_by([0.0, 1.0, 2.0], np.exp([0.0, -1.0, -2.0]), np.exp(1.5)), 9)
    1.5
    """
    t, curve = _checked(t, curve)
    fallen = -_logarithm(curve)
    if np.isnan(fallen).any():
        return math.nan
    below = np.flatnonzero(fallen >= math.log(factor))
    if not len(below):
        return math.inf
    k = int(below[0])
    return float(t[k] - (fallen[k] - math.log(factor)) * (t[k] - t[k - 1]) / (fallen[k] - fallen[k - 1]))


def settles(t, curve, within: float = 0.1) -> float:
    """The time from which `curve`, (k,), stays within e^±`within` of its last value, linear in its logarithm.

    NaN where an entry is; inf where the last is as good as zero, towards which it falls for ever.

    >>> settles([0.0, 1.0, 2.0, 3.0], [4.0, 2.0, 1.0, 1.0], within=float(np.log(2)))
    1.0
    """
    t, curve = _checked(t, curve)
    gap = _logarithm(curve)
    if np.isnan(gap).any():
        return math.nan
    if gap[-1] <= math.log(GONE):
        return math.inf
    gap = np.abs(gap - gap[-1])
    outside = np.flatnonzero(gap > within)
    if not len(outside):
        return float(t[0])
    k = int(outside[-1])
    return float(t[k] + (gap[k] - within) / (gap[k] - gap[k + 1]) * (t[k + 1] - t[k]))


def falls_at(t, curve, until: float) -> float:
    """The mean rate −d ln curve/dt from the first time to `until`; NaN where an entry is, and beyond the times.

    >>> round(falls_at([0.0, 1.0, 2.0], np.exp([0.0, -1.0, -2.0]), 1.5), 9)
    1.0
    """
    t, curve = _checked(t, curve)
    logarithm = _logarithm(curve)
    if np.isnan(logarithm).any() or not t[0] < until <= t[-1]:
        return math.nan
    return float((logarithm[0] - np.interp(until, t, logarithm)) / (until - t[0]))


def _checked(t, curve) -> tuple[np.ndarray, np.ndarray]:
    t, curve = np.asarray(t, float), np.asarray(curve, float)
    if t.ndim != 1 or not len(t) or t.shape != curve.shape:
        raise BadInput(f"times have shape {t.shape} and the curve {curve.shape}; both must be (k,), k at least 1")
    return t, curve


def _logarithm(curve: np.ndarray) -> np.ndarray:
    """ln of a curve over its start; what is `GONE`, or by rounding below zero, is at that."""
    return np.log(np.maximum(curve / curve[0], GONE)) if curve[0] > 0 else np.full(len(curve), math.nan)

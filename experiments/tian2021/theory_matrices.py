"""Statistics of Tian, Chen & Ganguli 2021 on whole matrices: Theorems 1 to 3, symmetry, appendix D.

Each function computes one number over a stated set of random networks, from a simulation of the flows; nothing is
looked up. Batches are small enough to run uncompiled: all together take a few seconds.
"""

import functools
from typing import Any, NamedTuple

import numpy as np

from stopgrad.experiments.tian2021.theory_modes import digits
from stopgrad.linear_theory.exact import nonisotropic
from stopgrad.linear_theory.exact.fixed_points import critical_eta, rest_points
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.matrices import (
    Aligned,
    Correlations,
    Network,
    Switches,
    network_flow,
    predictor_flow,
    symmetrised_flow,
)
from stopgrad.linear_theory.spectra import alignment

TOLERANCE = 1e-6


class Predictor(NamedTuple):
    """W_p alone: (…, n, n)."""

    Wp: Any


@functools.cache
def problem(n: int = 6, seed: int = 0) -> tuple[Network, Correlations]:
    """n random networks (3×4, as are their X and X′), from a fixed seed; the target starts from zero."""
    rng = np.random.default_rng(seed)
    Wp, W = 0.6 * rng.standard_normal((n, 3, 3)), 0.6 * rng.standard_normal((n, 3, 4))
    factors = rng.standard_normal((2, n, 4, 6))
    return Network(Wp, W, np.zeros_like(W)), Correlations(*(factors @ factors.mT / 6))


MATRIX = Hyperparameters(
    eta=0.05,
    alpha_p=np.array([0.5, 1, 2, 0.5, 1, 2]).reshape(-1, 1, 1),
    beta=0.3,
    tau=np.array([1, 1, 1, 0.5, 0.5, 0.5]).reshape(-1, 1, 1),
)


@functools.cache
def balance_digits(predictor: str, t: float = 5.0) -> float:
    """Digits to which W Wᵀ − W_pᵀ W_p/α_p at time t is e^{−2ηt} times its start; targets τW (τ = 1, ½) and EMA."""
    start, data = problem()
    worst = 0.0
    for target in ("proportional", "ema"):
        switches = Switches(target=target, predictor=predictor)
        end = _matrices(network_flow, start, data, MATRIX, switches, t=t)
        worst = max(worst, np.max(alignment.balance_residual(end, start, t, MATRIX)))
    return digits(worst)


@functools.cache
def symmetrised_balance_digits() -> float:
    """Digits to which C = F − W_p²/α_p obeys C′ = −2ηC − (a/2)[W_p, [W_p, F]] under the symmetrised flow."""
    start, _ = problem(n=12, seed=1)
    Wp, F = (start.Wp + start.Wp.mT) / 2, start.W @ start.W.mT
    h = Hyperparameters(sigma2=0.3, eta=0.05, alpha_p=2.0, tau=0.7)
    flow = symmetrised_flow(Aligned(Wp, F), h)
    C = F - Wp @ Wp / h.alpha_p
    rate = flow.F - (flow.Wp @ Wp + Wp @ flow.Wp) / h.alpha_p
    said = -2 * h.eta * C - h.a / 2 * alignment.commutator(alignment.commutator(F, Wp), Wp)
    return digits(np.abs(rate - said).max() / np.abs(rate).max())


@functools.cache
def rate_without_stop_gradient(t: float = 3.0) -> float:
    """Least ratio of the rate at which ‖W‖ falls from 0 to t to the smallest λ_min(H) met on the way."""
    start, data = problem()
    h, times = Hyperparameters(eta=0.05), np.linspace(t / 6, t, 6)
    path = _matrices(network_flow, start, data, h, Switches(stop_gradient="none"), t=times)
    lowest = np.min([alignment.collapse_rate_without_stop_gradient(Wp, data, h) for Wp in (start.Wp, *path.Wp)], axis=0)
    rate = np.log(_norm(start.W) / _norm(path.W[-1])) / t
    return float(np.min(rate / lowest))


@functools.cache
def lost_without_stop_gradient(t: float = 50.0) -> float:
    """Share of ‖W‖ lost by time t without stop-gradient where λ_min(H) = 0: X′ = 0, η = 0, W_p = I."""
    start, data = problem()
    start = start._replace(Wp=np.broadcast_to(np.eye(3), start.Wp.shape))
    still = data._replace(Xp=np.zeros_like(data.Xp))
    end = _matrices(network_flow, start, still, Hyperparameters(eta=0.0), Switches(stop_gradient="none"), t=t)
    return float(np.min(1 - _norm(end.W) / _norm(start.W)))


@functools.cache
def without_predictor(t: float = 30.0) -> tuple[float, float]:
    """(share of ‖W‖ lost, digits to which W(t) = W(0)e^{−X′t}) at η = 0, X′ of rank 2 of 4, no predictor."""
    start, data = problem()
    start = start._replace(Wp=np.broadcast_to(np.eye(3), start.Wp.shape))
    values, vectors = np.linalg.eigh(data.Xp)
    values = values * (np.arange(4) >= 2)
    data = data._replace(Xp=(vectors * values[..., None, :]) @ vectors.mT)
    end = _matrices(network_flow, start, data, Hyperparameters(eta=0.0), Switches(predictor="fixed"), t=t)
    exact = start.W @ (vectors * np.exp(-values * t)[..., None, :]) @ vectors.mT
    return float(np.min(1 - _norm(end.W) / _norm(start.W))), digits(_norm(end.W - exact) / _norm(start.W))


@functools.cache
def aligning(share: float, p: float, s: float, t: float = 20.0) -> tuple[float, float, float]:
    """Symmetrised flow of 8 random pairs about (p·p₊ I, s·s₊ I) at η = share·η_c, from 0 to t.

    Returns (least ratio of ‖[F, W_p]‖'s rate of decay to 2 inf λ_min(K), NaN where that is not positive; least decades
    by which the scale-free misalignment falls; largest of the runs' inf λ_min(K)).
    """
    noise = np.random.default_rng(2).standard_normal((2, 8, 3, 3))
    h = Hyperparameters(sigma2=0.2)
    h = h.replace(eta=share * critical_eta(h))
    rest = rest_points(h)
    Wp = rest.p_plus * (p * np.eye(3) + 0.1 * p * (noise[0] + noise[0].mT))
    root = np.sqrt(s * rest.s_plus) * (np.eye(3) + 0.2 * noise[1])
    start, times = Aligned(Wp, root @ root.mT), np.linspace(t / 20, t, 20)
    path = _matrices(symmetrised_flow, start, h, t=times)
    whole = Aligned(*(np.concatenate([first[None], later]) for first, later in zip(start, path)))
    lowest = alignment.alignment_rate(whole.Wp, whole.F, h).min(axis=0)
    L, scale_free = (measure(whole.Wp, whole.F) for measure in (alignment.commutator_norm, alignment.misalignment))
    rate, fallen = np.log(L[0] / L[-1]) / t, np.log10(scale_free[0] / scale_free[-1])
    bound = np.min(rate / (2 * lowest)) if np.all(lowest > 0) else np.nan
    return float(bound), float(np.min(fallen)), float(np.max(lowest))


def aligning_through_negative_K() -> float:
    """Least decades by which the misalignment falls in runs that all pass through λ_min(K) < 0; NaN if one does not."""
    _, fallen, lowest = aligning(0.1, 0.4, 0.15)
    return fallen if lowest < 0 else float("nan")


@functools.cache
def asymmetry_decades(t: float = 60.0) -> float:
    """Decades by which W_p's asymmetry falls under Eq. 62 at a fixed F of full rank, the least of a grid."""
    start, _ = problem(n=12, seed=3)
    F = start.W @ start.W.mT
    fallen = []
    for eta in (0.1, 0.2):
        h = Hyperparameters(sigma2=0.2, eta=eta)
        end = _matrices(_alone, Predictor(start.Wp), F, h, t=t)
        fallen.append(np.log10(alignment.asymmetry(start.Wp) / np.maximum(alignment.asymmetry(end.Wp), 1e-16)))
    return float(np.min(fallen))


@functools.cache
def fixed_point_digits() -> float:
    """Digits to which Lemma 1 at η = 0 stands still where W_p W = W X(X + X′)⁻¹ (appendix D), for random X and X′."""
    _, data = problem()
    found = nonisotropic.fixed_point_without_decay(data, 3)
    h = Hyperparameters(eta=0.0, beta=0.3)
    flow = network_flow(found, data, h, Switches(target="ema"))
    size = _norm(found.W @ data.X @ found.W.mT)
    return digits([_norm(part) / size for part in flow])


def _alone(state: Predictor, F, h: Hyperparameters) -> Predictor:
    return Predictor(predictor_flow(state.Wp, F, h))


def _matrices(flow, start, *args, t):
    from stopgrad.linear_theory.simulation.integrate import integrate

    return integrate(flow, start, *args, t=t, tolerance=TOLERANCE, event_dims=2, compiled=False).state


def _norm(matrix):
    return np.linalg.norm(matrix, axis=(-2, -1))

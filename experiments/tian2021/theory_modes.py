"""Statistics of Tian, Chen & Ganguli 2021 on one mode (p, s): basins, Eq. 14, the alignment condition, the EMA.

Each function computes one number over a stated grid, from a simulation of the flow or from two routes to one result;
nothing is looked up. Batches are small enough to run uncompiled: all together take a few seconds.
"""

import functools

import numpy as np

from stopgrad.experiments.claims.theory_claims import digits
from stopgrad.linear_theory.exact import basin, fixed_points
from stopgrad.linear_theory.exact.fixed_points import critical_eta
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.modes import EmaMode, Mode, balance, ema_mode_flow, mode_flow
from stopgrad.linear_theory.simulation import fate
from stopgrad.linear_theory.spectra import alignment

_FATE = 1e-4  # tolerance where only a fate is asked for: a border is missed by less than the grids come near it
SIGMA2, TAU, ALPHA_P = (0.0, 0.5), (0.6, 1.0), (1.0, 4.0)
SHARES = (0.1, 0.3, 0.6, 0.9)
"""η/η_c of the grids."""


def grid(shares=SHARES, sigma2=SIGMA2, tau=TAU, alpha_p=ALPHA_P) -> Hyperparameters:
    """Every combination as one batch, (n, 1), with η the given shares of its own η_c."""
    share, sigma2, tau, alpha_p = (v.reshape(-1, 1) for v in np.meshgrid(shares, sigma2, tau, alpha_p, indexing="ij"))
    h = Hyperparameters(sigma2=sigma2, eta=0.0, tau=tau, alpha_p=alpha_p)
    return h.replace(eta=share * critical_eta(h))


def starts(h: Hyperparameters) -> Mode:
    """Starts off the parabola in the units of the mode, p from −τ/2a to 3τ/2a and s over four decades: (n, 60)."""
    p, s = (v.ravel() for v in np.meshgrid(np.linspace(-0.5, 1.5, 10), np.geomspace(3e-4, 1.5, 6)))
    unit = h.tau / h.a
    return Mode(p * unit, s * unit**2 / h.alpha_p)


def survives(start: Mode, h: Hyperparameters) -> np.ndarray:
    """Whether each mode is alive in the end, by simulation."""
    return fate.simulate(start, h, tolerance=_FATE).fate == fate.ALIVE


# ---------------------------------------------------------------- basins


@functools.cache
def basin_agreement() -> tuple[float, float]:
    """Share of simulated starts whose fate is that foretold by (the separatrix, p₀ < p₋): the least of a grid."""
    h = grid(shares=(0.1, 0.3, 0.6))
    start = starts(h)
    alive = survives(start, h)
    by_curve = np.mean(alive != basin.collapses(start, h), axis=-1)
    by_p = np.mean(alive == (start.p > fixed_points.fixed_points(h).p_minus), axis=-1)
    return float(by_curve.min()), float(by_p.min())


@functools.cache
def free_agreement() -> tuple[float, float]:
    """Share of simulated starts at η = 0 whose fate is that of (the closed form, s₀ > p₀²/α_p): the least of a grid."""
    h = grid(shares=(0.0,))
    start = starts(h)
    alive = survives(start, h)
    closed = basin.outcome_without_decay(start, h).s > 0
    return tuple(float(np.mean(alive == said, axis=-1).min()) for said in (closed, balance(start, h) > 0))


def separatrix_ratio() -> float:
    """Least ratio of the s₀ that a mode needs to survive to the s₀ it needs at twice α_p, from p₀ = 0 and off it."""
    h = grid(alpha_p=(0.5, 1.0, 4.0))
    p0 = np.array([-0.3, 0.0, 0.3, 0.7]) * fixed_points.fixed_points(h).p_minus
    return float(np.min(basin.critical_s0(p0, h) / basin.critical_s0(p0, h.replace(alpha_p=2 * h.alpha_p))))


@functools.cache
def collapsed_share(shares: tuple[float, ...]) -> float:
    """Least share of simulated starts that collapse, over weight decays of these shares of η_c."""
    h = grid(shares=shares)
    return float(np.mean(~survives(starts(h), h), axis=-1).min())


def smallest_p_ratio(field: str) -> float:
    """How p₋ follows η (least of d ln p₋/d ln η) or τ (least of p₋(τ/2)/p₋(τ)), over a grid with p₋ throughout."""
    h = grid(shares=(0.01, 0.05, 0.1, 0.15, 0.2))
    here = fixed_points.fixed_points(h).p_minus
    if field == "tau":
        return float(np.min(fixed_points.fixed_points(h.replace(tau=h.tau / 2)).p_minus / here))
    more = fixed_points.fixed_points(h.replace(eta=1.01 * h.eta)).p_minus
    return float(np.min(np.log(more / here) / np.log(1.01)))


@functools.cache
def saved_by_predictor_decay() -> float:
    """Least share of simulated starts with p₀ > 0 that survive where the predictor alone decays (η = 0 < η_p)."""
    h = grid(shares=(0.3, 3.0), tau=(1.0,), alpha_p=(1.0,))
    h = h.replace(eta=np.zeros_like(h.eta), eta_p=h.eta)
    start = starts(h)
    alive = survives(start, h)
    return float((np.sum(alive & (start.p > 0), axis=-1) / np.sum(start.p > 0, axis=-1)).min())


# ---------------------------------------------------------------- growth and balance


@functools.cache
def growth_ratio(t: float = 20.0) -> float:
    """Least ratio of s's growth at η = 0, from 0 to t, to that at four times α_p, by simulation."""
    from stopgrad.linear_theory.simulation.integrate import integrate

    alpha_p = np.array([1.0, 4.0, 16.0])[:, None]
    p0, s0 = (np.tile(v.ravel(), (3, 1)) for v in np.meshgrid([0.05, 0.2, 0.4], [0.2, 0.6]))
    h = Hyperparameters(sigma2=0.2, eta=0.0, alpha_p=alpha_p)
    growth = integrate(mode_flow, Mode(p0, s0), h, t=t, tolerance=1e-6, compiled=False).state.s - s0
    return float(np.min(growth[:-1] / growth[1:]))


@functools.cache
def balance_path() -> tuple[float, float, float]:
    """How s(t) = p(t)²/α_p + c e^{−2ηt} (Eq. 14) fares at the time 2/η, the worst of a grid of simulated alive modes.

    Returns (digits with c = s(0) − p(0)²/α_p, digits with c of the opposite sign, decades by which |s − p²/α_p| falls).
    """
    from stopgrad.linear_theory.simulation.integrate import integrate

    h = grid(shares=(0.1, 0.3, 0.6))
    unit = h.tau / h.a
    start = Mode(np.array([0.8, 0.9, 1.2]) * unit, np.array([1.4, 0.3, 0.7]) * unit**2 / h.alpha_p)
    end = integrate(mode_flow, start, h, t=2.0, duration=1 / h.eta, tolerance=1e-8, compiled=False).state
    c, left = balance(start, h), np.exp(-4.0)
    parabola = end.s - balance(end, h)
    right, flipped = (digits(np.abs(parabola + sign * c * left - end.s) / end.s) for sign in (1, -1))
    return right, flipped, float(np.min(np.log10(np.abs(c / balance(end, h)))))


# ---------------------------------------------------------------- the alignment condition (Eq. 17)


def _box(h: Hyperparameters) -> Mode:
    """p between 0 and τ/a and s between 0 and (τ/a)², 50 × 50 midpoints: (n, 2500)."""
    at = (np.arange(50) + 0.5) / 50
    p, s = (v.ravel() for v in np.meshgrid(at, at))
    return Mode(p * h.tau / h.a, s * (h.tau / h.a) ** 2)


def aligned_share(h: Hyperparameters, on_parabola: bool) -> np.ndarray:
    """Share of the states with K > 0, along s = p²/α_p or in the whole box: (n,)."""
    state = _box(h)
    if on_parabola:
        p = (np.arange(5000) + 0.5) / 5000 * h.tau / h.a
        state = Mode(p, p**2 / h.alpha_p)
    return np.mean(alignment.alignment_operator_mode(state, h) > 0, axis=-1)


def loosened_by_alpha_p(on_parabola: bool) -> float:
    """Least rise of `aligned_share` from α_p = 1 to 4."""
    h = grid(shares=(0.05, 0.1, 0.2), alpha_p=(1.0,))
    return float(np.min(aligned_share(h.replace(alpha_p=4 * h.alpha_p), on_parabola) - aligned_share(h, on_parabola)))


def loosened_by_decay() -> float:
    """Least rise of `aligned_share` on the parabola from each η to twice it."""
    h = grid(shares=(0.05, 0.1, 0.2))
    return float(np.min(aligned_share(h.replace(eta=2 * h.eta), True) - aligned_share(h, True)))


# ---------------------------------------------------------------- EMA

BETAS = (0.4, 0.2, 0.1, 0.05)


@functools.cache
def ema_runs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Runs on the parabola from p₀ = 1/5a and 1/2a at η = η_c/10, σ² = 0 and ½: with β of `BETAS`, and with τ = 1.

    Returns (lowest K with an EMA from τ(0) = 0, that with τ = 1, time until p stays within 2 % of p₊ with an EMA), the
    first and the last of shape (β, runs). K has the τ of its moment (Theorem 3's identity is one of the moment).
    """
    from stopgrad.linear_theory.simulation.integrate import integrate

    sigma2, share = (v.ravel() for v in np.meshgrid([0.0, 0.5], [0.2, 0.5]))
    h = Hyperparameters(sigma2=sigma2, beta=np.array(BETAS)[:, None])
    h = h.replace(eta=0.1 * critical_eta(h.replace(beta=None)))
    p0 = np.broadcast_to(share / h.a, (len(BETAS), len(share)))
    times = np.linspace(0, 240.0, 241)[1:]
    moving = integrate(
        ema_mode_flow, EmaMode(p0, p0**2, np.zeros_like(p0)), h, t=times, tolerance=_FATE, compiled=False
    )
    fixed_h = h.replace(beta=None)
    fixed = integrate(mode_flow, Mode(p0[0], p0[0] ** 2), fixed_h, t=times[:60], tolerance=_FATE, compiled=False)
    K_moving = alignment.alignment_operator_mode(Mode(*moving.state[:2]), h.replace(tau=moving.state.tau))
    K_fixed = alignment.alignment_operator_mode(fixed.state, fixed_h)
    away = np.abs(moving.state.p - fixed_points.fixed_points(h).p_plus) > 0.02 / h.a
    last = len(times) - np.argmax(away[::-1], axis=0)
    time = np.where(last < len(times), times[np.minimum(last, len(times) - 1)], np.nan)
    return K_moving.min(axis=0), K_fixed.min(axis=0), np.where(moving.state.p[-1] > 0.1, time, np.nan)


def curriculum() -> float:
    """By what share of its depth at τ = 1 the dip of K below 0 is shallower with an EMA: the least over β and runs."""
    moving, fixed, _ = ema_runs()
    return float(np.min((moving - fixed) / np.abs(fixed)))


def slowing() -> float:
    """Least ratio of the time that a run needs with half the β to that with β."""
    time = ema_runs()[2]
    return float(np.min(time[1:] / time[:-1]))

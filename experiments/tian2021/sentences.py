"""What the linear theory computes for the claims about networks: a sentence each, its numbers computed each time."""

import math

import numpy as np

from stopgrad.deep.measuring.units import Noise, units
from stopgrad.experiments.suites.grid import change
from stopgrad.experiments.tian2021.ablation import LINEAR, LINEAR_EMA, SQUARED, faster_predictor
from stopgrad.linear_theory.exact.basin import critical_s0
from stopgrad.linear_theory.exact.closed_loop import directpred_threshold
from stopgrad.linear_theory.exact.fixed_points import critical_eta, fixed_points
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters


def _linear() -> Hyperparameters:
    return units(LINEAR_EMA, Noise(LINEAR.data.gaussian_sigma2, 1.0))


def _isotropic(config) -> Hyperparameters:
    """The run's η, α_p, β for a mode of input variance 1 with σ² = 0.1: networks have many; this is one to look at."""
    return units(config, Noise(0.1, 1.0))


def without_stop_gradient() -> str:
    h = _isotropic(SQUARED)
    rate = h.a - 1 / h.a + h.eta
    return (
        f"Theorem 2 at X = I, X′ = 0.1 I: whatever W_p is, the norm of W falls at least as e^(−{rate:.3g} t), F as "
        "its square."
    )


def without_predictor() -> str:
    h = _isotropic(SQUARED)
    return f"W′ = −(X′ + η I) W: every mode falls as e^(−{h.sigma2 + h.eta:.3g} t) at X′ = 0.1 I, F as its square."


def cosine_only() -> str:
    return "The theory is of squared error; under a cosine loss it is indicative, and collapse is one of directions."


def aligned() -> str:
    h = _linear()
    p = fixed_points(h).p_plus
    return (
        f"Theorem 3: the commutator of F and W_p falls where K > 0. At η = {h.eta:.3g}, K = {h.tau * p / 2:.3g} at the "
        f"stable fixed point, so modes that live are aligned in the end."
    )


def symmetric_in_the_end() -> str:
    h = _linear()
    return (
        "The fixed point of Eq. 2 is W_p = τ F (a F + (η/α_p) I)^-1, symmetric and without negative eigenvalues; "
        f"at s = p₊² its eigenvalue is {fixed_points(h).p_plus:.3g}."
    )


def balance() -> str:
    h = _linear()
    return (
        "Theorem 1: W Wᵀ − W_pᵀ W_p/α_p decays exactly as e^(−2ηt) in the flow; steps of SGD keep it to first "
        f"order in lr/(1 − m), {_step(LINEAR):.3g} in the linear network (η = {h.eta:.3g}) and {_step(SQUARED):.3g} "
        "in the ResNet."
    )


def larger_alpha() -> str:
    h = _linear().replace(beta=None)
    fast = h.replace(alpha_p=8.0)
    here, there = (float(np.asarray(critical_s0(np.float64(0.0), at))) for at in (h, fast))
    return (
        f"A mode that starts with p = 0 survives above s0 = {here:.3g} at α_p = 1 and above {there:.3g} at α_p = 8 "
        "(the true separatrix), so more of a spectrum does."
    )


def symmetric_collapse() -> str:
    h = _isotropic(SQUARED)
    points = fixed_points(h)
    return (
        f"Modes are independent once W_p is symmetric: one that starts with p below p₋ = {points.p_minus:.3g} on the "
        "parabola dies, and nothing turns it. A free W_p can rotate; for it the paper's theory makes no such statement."
    )


def symmetric_collapse_without_decay() -> str:
    h = _isotropic(SQUARED).replace(eta=0.0)
    return (
        f"Without weight decay p₋ = {fixed_points(h).p_minus:.3g}: on the parabola every mode with p > 0 at the start "
        "lives. Only p < 0, or s0 far below p0²/α_p, dies. The theory of one mode does not foretell this collapse."
    )


def faster_predictor_rescues() -> str:
    slow, fast = _isotropic(SQUARED), _isotropic(change(SQUARED, **faster_predictor(SQUARED, 4.0)))
    here, there = (float(np.asarray(critical_s0(np.float64(0.0), h))) for h in (slow, fast))
    return f"At p0 = 0 the border of collapse falls from s0 = {here:.3g} to {there:.3g} as α_p goes from 1 to 4."


def decay_of_predictor_only() -> str:
    h = _isotropic(SQUARED).replace(eta=0.0, eta_p=SQUARED.optimisation.weight_decay)
    return (
        f"With η_s = 0 and η_p = {h.eta_p:.3g} K gains η_p/2 = {h.eta_p / 2:.3g} over no decay at all (and has "
        f"{h.eta_p:.3g} less than with both decays), while nothing pulls s to 0."
    )


def ema_first() -> str:
    h = _linear()
    return (
        f"Where τ is small W_p and W cannot grow and align first (K > 0 for τ < {3 * math.sqrt(h.eta * h.a):.3g}); at "
        f"β = {h.beta:.3g} τ takes about {1 / h.beta:.3g} of the run's {_time(LINEAR):.3g} units of time to come to 1. "
        "Here the target starts as a copy, so it lags rather than starts at 0."
    )


def slow_target() -> str:
    h = _linear()
    return f"At β = {h.beta / 10:.3g} the target needs {10 / h.beta:.3g} units of time, of {_time(LINEAR):.3g}."


def too_much_decay(config, factor: float) -> str:
    h = _isotropic(config)
    strong = h.replace(eta=factor * h.eta)
    return (
        f"η_c = τ²x/(4a) for a mode of input variance x: η = {strong.eta:.3g} is beyond it for every mode with x < "
        f"{strong.eta / float(critical_eta(h)):.3g} (σ² = {h.sigma2:g}), whose only fixed point is then 0."
    )


def a_set_predictor() -> str:
    h = _isotropic(SQUARED)
    return (
        "With W_p set from F a weak mode beside a settled one grows for ε above "
        f"{float(directpred_threshold(h)[0]):.3g} (Eq. 18, isotropic); a learned W_p must first grow along it."
    )


def cutoff() -> str:
    h = _isotropic(SQUARED)
    return f"p = √max(s − c, 0): for c > 0 every mode with s < c has p = 0 and dies at the rate 2η = {2 * h.eta:.3g}."


def optimal() -> str:
    return (
        "The optimal W_p solves W_p F = E[f_a fᵀ]: the bracket of Eq. 3, times Wᵀ, is then 0, and along the rows of "
        "W only weight decay is left. No mode grows."
    )


def as_an_accuracy() -> str:
    return "The linear theory has no accuracy; it orders modes that live and die."


def proportional() -> str:
    h = _linear()
    return (
        f"A1 is exact where all modes have the same s′/s. The target lags by 1/β = {1 / h.beta:.3g}: that of a mode "
        "that grows at the rate r is smaller by 1/(1 + r/β)."
    )


def _step(config) -> float:
    return config.optimisation.lr / (1 - config.optimisation.momentum)


def _time(config) -> float:
    o = config.optimisation
    return o.epochs * (config.data.gaussian_samples // o.batch_size) * _step(config)

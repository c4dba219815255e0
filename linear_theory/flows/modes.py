"""The decoupled dynamics: one eigenvalue p of the predictor against one eigenvalue s of F = W X Wᵀ.

Every function is a right-hand side written with plain operators only, so that one text serves NumPy, torch and SymPy.
States broadcast: a field may be a number or an array of any shape.
"""

from typing import Any, NamedTuple

from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters


class Mode(NamedTuple):
    """p: eigenvalue of the predictor W_p. s: eigenvalue of F = W X Wᵀ (s ≥ 0).

    >>> Mode(p=0.5, s=0.25)
    Mode(p=0.5, s=0.25)
    """

    p: Any
    s: Any


class EmaMode(NamedTuple):
    """A `Mode` whose target follows by EMA: W_a = τ W with τ free.

    >>> EmaMode(p=0.5, s=0.25, tau=0.0)
    EmaMode(p=0.5, s=0.25, tau=0.0)
    """

    p: Any
    s: Any
    tau: Any


class ScalarNetwork(NamedTuple):
    """One-dimensional predictor, encoder and target: w_p, w, w_a (appendix D; s = x w², p = w_p, τ = w_a/w)."""

    wp: Any
    w: Any
    wa: Any


def mode_flow(state: Mode, h: Hyperparameters) -> Mode:
    """Eq. 11–12, with a mode's own input variance x: p′ = α_p s(τ − a p) − η_p p, s′ = 2s[x p(τ − a p) − η].

    >>> from stopgrad.linear_theory import Hyperparameters
    >>> mode_flow(Mode(0.5, 0.25), Hyperparameters(sigma2=0, eta=0))  # p′ = s(1 − p), s′ = 2sp(1 − p)
    Mode(p=0.125, s=0.125)
    """
    p, s = state
    pull = h.tau - h.a * p
    return Mode(h.alpha_p * s * pull - h.predictor_decay * p, 2 * s * (h.x * p * pull - h.eta))


def ema_mode_flow(state: EmaMode, h: Hyperparameters) -> EmaMode:
    """Eq. 11–13. s cancels from (13): τ′ = β(1 − τ) − τ s′/(2s) = β(1 − τ) − τ[x p(τ − a p) − η], regular at s = 0.

    >>> from stopgrad.linear_theory import Hyperparameters
    >>> ema_mode_flow(EmaMode(0.5, 0.25, 1.0), Hyperparameters(sigma2=0, eta=0, beta=0.5)).tau  # −τ p(τ − p)
    -0.25
    """
    p, s, tau = state
    pull = tau - h.a * p
    growth = h.x * p * pull - h.eta
    return EmaMode(h.alpha_p * s * pull - h.predictor_decay * p, 2 * s * growth, h.beta * (1 - tau) - tau * growth)


def scalar_network_flow(state: ScalarNetwork, h: Hyperparameters) -> ScalarNetwork:
    """Lemma 1 for 1×1 weights (Eq. 104–106 plus weight decay), with λ_d = x and λ_s = a x."""
    wp, w, wa = state
    residual = h.x * (wa - h.a * wp * w)
    return ScalarNetwork(
        h.alpha_p * residual * w - h.predictor_decay * wp, wp * residual - h.eta * w, h.beta * (w - wa)
    )


def parabola_flow(p, h: Hyperparameters):
    """Eq. 16: the flow of p on the invariant parabola s = x p²/α_p (needs η_p = η): p′ = p[x p(τ − a p) − η].

    >>> from stopgrad.linear_theory import Hyperparameters
    >>> parabola_flow(0.5, Hyperparameters(sigma2=0, eta=0.25))  # at the rest p = ½ of the critical weight decay
    0.0
    """
    return p * (h.x * p * (h.tau - h.a * p) - h.eta)


def balance(state: Mode, h: Hyperparameters):
    """Eq. 14: c = s − x p²/α_p, which decays exactly as e^{−2ηt} when η_p = η (for fixed and for dynamic τ).

    >>> from stopgrad.linear_theory import Hyperparameters
    >>> balance(Mode(0.5, 1.0), Hyperparameters())
    0.75
    """
    return state.s - h.x / h.alpha_p * state.p * state.p


class BalancedMode(NamedTuple):
    """A `Mode` told by p and its balance c: s = x p²/α_p + c, where c decays exactly as e^{−2ηt} if η_p = η."""

    p: Any
    c: Any


def mode_of(state: BalancedMode, h: Hyperparameters) -> Mode:
    """The `Mode` with this predictor eigenvalue and balance."""
    return Mode(state.p, h.x / h.alpha_p * state.p * state.p + state.c)


def balanced_mode_flow(state: BalancedMode, h: Hyperparameters) -> BalancedMode:
    """Eq. 11 with s eliminated by Eq. 14 (needs η_p = η): one equation fewer to integrate."""
    return BalancedMode(mode_flow(mode_of(state, h), h).p, -2 * h.eta * state.c)


class Scales(NamedTuple):
    """Units in which a mode problem has σ² = 0, τ = α_p = x = 1: p = p·p̂, s = s·ŝ, t = time·t̂."""

    p: Any
    s: Any
    time: Any


def scales(h: Hyperparameters) -> Scales:
    """The units τ/a, xτ²/(α_p a²) and a/(xτ²) in which all mode flows are one, with η̂ = η·time the only parameter.

    With an EMA (h.beta given) τ is a state and the units are those of τ = 1; η̂_p and β̂ scale like η̂.

    >>> from stopgrad.linear_theory import Hyperparameters
    >>> scales(Hyperparameters(sigma2=1.0, tau=0.5, x=2.0))
    Scales(p=0.25, s=0.125, time=4.0)
    """
    tau = h.tau if h.beta is None else 1
    p, square = tau / h.a, tau * tau
    return Scales(p, h.x * square / (h.alpha_p * h.a * h.a), h.a / (h.x * square))


def scaled(h: Hyperparameters) -> Hyperparameters:
    """The hyperparameters of the scaled problem: η̂, η̂_p, β̂ in units of 1/time; everything else is 1 (σ̂²: 0)."""
    time = scales(h).time
    beta = None if h.beta is None else h.beta * time
    return Hyperparameters(0, h.eta * time, 1, 1, beta, h.predictor_decay * time, 1)

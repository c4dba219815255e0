"""The equations of decoupled modes (Tian, Chen & Ganguli 2021, section 3.3 on), derived from the flows of
`mode_flow`."""

import sympy as sp

from stopgrad.linear_theory.exact.fixed_points import critical_eta
from stopgrad.linear_theory.flows.modes import (
    EmaMode,
    Mode,
    ScalarNetwork,
    balance,
    ema_mode_flow,
    mode_flow,
    parabola_flow,
    scalar_network_flow,
)
from stopgrad.linear_theory.spectra.alignment import alignment_operator_mode, parabola_minimum
from stopgrad.linear_theory.symbolic.derivation import (
    TIED,
    H,
    a,
    along,
    alpha_p,
    beta,
    derivation,
    equal,
    eta,
    eta_p,
    p,
    rate,
    s,
    tau,
    x,
)

_MODE, _EMA = Mode(p, s), EmaMode(p, s, tau)
_LEVEL = x * p**2 / alpha_p  # s on the invariant parabola
_DECAY = x * p * (tau - a * p)  # the η at which p is a fixed point's
_w, _wp, _wa = sp.symbols("w w_p w_a", real=True)


@derivation
def scalar_network():
    """Eq. 11–12 are Lemma 1 for 1×1 weights, with p = w_p, s = x w² and a target w_a = τ w."""
    weights = scalar_network_flow(ScalarNetwork(_wp, _w, tau * _w), H)
    at_weights = mode_flow(Mode(_wp, x * _w**2), H)
    shown = mode_flow(_MODE, H)
    return [equal(rate(p), shown.p), equal(rate(s), shown.s)], [
        at_weights.p - weights.wp,
        at_weights.s - 2 * x * _w * weights.w,
    ]


@derivation
def ema_mode():
    """Eq. 13, s τ′ = β(1 − τ)s − τ s′/2, divided by s is Lemma 1 for τ = w_a/w and regular at s = 0."""
    weights = scalar_network_flow(ScalarNetwork(_wp, _w, _wa), H)
    at_weights = ema_mode_flow(EmaMode(_wp, x * _w**2, _wa / _w), H)
    shown = ema_mode_flow(_EMA, H)
    return [equal(rate(tau), shown.tau)], [
        at_weights.p - weights.wp,
        at_weights.s - 2 * x * _w * weights.w,
        at_weights.tau - (weights.wa * _w - _wa * weights.w) / _w**2,
        s * shown.tau - (beta * (1 - tau) * s - tau * shown.s / 2),
    ]


@derivation
def rescaled_mode():
    """A mode of input variance x is an isotropic one (x = 1) with these hyperparameters and this time."""
    scaled = {v: v / x for v in (eta, alpha_p, eta_p, beta)}
    unit = H.replace(eta=eta / x, alpha_p=alpha_p / x, eta_p=eta_p / x, beta=beta / x, x=1)
    pairs = [
        *zip(mode_flow(_MODE, H), mode_flow(_MODE, unit)),
        *zip(ema_mode_flow(_EMA, H), ema_mode_flow(_EMA, unit)),
    ]
    time = sp.Symbol("t")
    equations = [equal(sp.Symbol(rf"\tilde{{{sp.latex(v)}}}"), new) for v, new in {**scaled, time: x * time}.items()]
    return equations, [slow - x * fast for slow, fast in pairs]


@derivation
def mode_balance():
    """Eq. 14: the imbalance of a mode decays as exp(−2ηt), for fixed and for dynamic τ."""
    c = sp.Symbol("c")
    code = balance(_MODE, TIED)
    return [equal(c, code), equal(rate(c), -2 * eta * c)], [
        along(code, _MODE, mode_flow(_MODE, TIED)) + 2 * eta * code,
        along(code, _EMA, ema_mode_flow(_EMA, TIED)) + 2 * eta * code,
    ]


@derivation
def parabola():
    """Eq. 16: the parabola s = x p²/α_p is invariant, and on it p follows a cubic."""
    flow = mode_flow(Mode(p, _LEVEL), TIED)
    cubic = parabola_flow(p, TIED)
    return [equal(s, _LEVEL), equal(rate(p), cubic)], [flow.p - cubic, flow.s - sp.diff(_LEVEL, p) * cubic]


@derivation
def fixed_points():
    """The fixed points p₊ and p₋, which merge at η_c; η_p moves only s, off the parabola unless η_p = η."""
    equations, residuals = [], []
    root = sp.sqrt(tau**2 - 4 * eta * a / x)
    both = {"+": (tau + root) / (2 * a), "-": (tau - root) / (2 * a)}
    for sign, point in both.items():
        name, height = sp.symbols(f"p_{sign} s_{sign}")
        level = eta_p * x * name**2 / (alpha_p * eta)
        equations += [equal(name, point), equal(height, level)]
        at_point = level.subs(name, point)
        residuals += [*mode_flow(Mode(point, at_point), H), at_point.subs(eta_p, eta) - _LEVEL.subs(p, point)]
    critical = tau**2 * x / (4 * a)
    residuals += [(both["+"] - both["-"]).subs(eta, critical), critical_eta(H) - critical]
    return [*equations, equal(sp.Symbol("eta_c"), critical)], residuals


@derivation
def jacobian_eigenvalues():
    """Characteristic polynomials at a fixed point (p, s): any η_p, with r = x η_p/η; η_p = η, whose roots are −2η and
    −(xτp − 2η); and at the origin."""
    lam, r = sp.symbols("lambda r")

    def characteristic(h, p_star, s_star):
        jacobian = sp.Matrix(mode_flow(_MODE, h)).jacobian(_MODE).subs({p: p_star, s: s_star}, simultaneous=True)
        return (lam * sp.eye(2) - jacobian).det()

    general = lam**2 + r * tau * p * lam + 2 * r * eta * p * (2 * a * p - tau)
    tied = (lam + 2 * eta) * (lam + x * tau * p - 2 * eta)
    origin = (lam + eta_p) * (lam + 2 * eta)
    level = eta_p * x * p**2 / (alpha_p * eta)
    return [equal(general, 0), equal(tied, 0), equal(origin, 0)], [
        (characteristic(H, p, level) - general.subs(r, x * eta_p / eta)).subs(eta, _DECAY),
        (characteristic(TIED, p, _LEVEL) - tied).subs(eta, _DECAY),
        characteristic(H, 0, 0) - origin,
    ]


@derivation
def time_course():
    """Time from w₀ = 1/p₀ to w = 1/p on the parabola, with d = x a (p₊ − p₋); the second form is for η = 0."""
    plus, minus, w0, w = sp.symbols("p_+ p_- w_0 w", positive=True)
    d = sp.Symbol("d")
    ahead = sp.log(1 - (w - w0) * minus / (1 - w0 * minus)) / minus
    behind = sp.log((w - 1 / plus) / (w0 - 1 / plus)) / plus
    time = (ahead - behind) / d
    free = -((w - w0) + a / tau * sp.log((tau * w - a) / (tau * w0 - a))) / (x * tau)

    def excess_speed(t, h):
        """dt/dw · dw/dt − 1 along the code's flow."""
        return sp.cancel(sp.together(sp.diff(t, w) * -parabola_flow(1 / w, h) * w**2)) - 1

    by_roots = TIED.replace(tau=a * (plus + minus), eta=x * a * plus * minus)
    name = sp.Symbol("t")
    return [equal(name, time), equal(name, free)], [
        excess_speed(time.subs(d, x * a * (plus - minus)), by_roots),
        excess_speed(free, TIED.replace(eta=0)),
        time.subs(w, w0),
        free.subs(w, w0),
    ]


@derivation
def alignment_on_parabola():
    """K of an isotropic mode on the parabola: its minimum, the window in which it is negative, its value at p₊ and p₋;
    and the growth rate of ‖L‖/(‖F‖‖W_p‖) between two modes of equal p."""
    level = _LEVEL.subs(x, 1)
    shown = sp.Rational(3, 2) * (a * p**2 + eta) - tau * p
    lowest = sp.Rational(3, 2) * eta - tau**2 / (6 * a)
    window = [(tau + sign * sp.sqrt(tau**2 - 9 * eta * a)) / (3 * a) for sign in (-1, 1)]
    isotropic = TIED.replace(x=1)
    flow = mode_flow(Mode(p, level), isotropic)
    K, star = sp.symbols("K p_\\pm")
    equations = [
        equal(K, shown),
        equal(sp.Symbol(r"K_{\min}"), lowest),
        *(equal(p, edge) for edge in window),
        equal(sp.Function("K")(star), tau * star / 2),
        equal(-2 * K - rate(s) / s - rate(p) / p, -tau * p),
    ]
    return equations, [
        alignment_operator_mode(Mode(p, level), isotropic) - shown,
        parabola_minimum(isotropic) - lowest,
        sp.diff(shown, p).subs(p, tau / (3 * a)),
        shown.subs(p, tau / (3 * a)) - lowest,
        *(shown.subs(p, edge) for edge in window),
        (shown - tau * p / 2).subs(eta, _DECAY.subs(x, 1)),
        sp.cancel(-2 * shown - flow.s / level - flow.p / p) + tau * p,
    ]

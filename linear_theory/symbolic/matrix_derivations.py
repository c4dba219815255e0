"""The matrix equations of Tian, Chen & Ganguli 2021, derived for 2×2 or 3×3 matrices of independent entries
(X, X′, F and a symmetrised W_p: of symmetric ones) from the flows of `matrix_flow`."""

import numpy as np
import sympy as sp

from stopgrad.linear_theory.flows.matrices import (
    Aligned,
    Correlations,
    Network,
    Switches,
    balance_matrix,
    network_flow,
    predictor_flow,
    symmetrised_flow,
)
from stopgrad.linear_theory.spectra.alignment import alignment_operator, commutator
from stopgrad.linear_theory.symbolic.derivation import (
    TIED,
    H,
    a,
    along,
    alpha_p,
    beta,
    derivation,
    entries,
    equal,
    eta,
    eta_p,
    explicit,
    gradient,
    matrices,
    rate,
    replaced,
    tau,
)

_STOPPED = entries(sp.MatrixSymbol("T", 2, 2))


def _network():
    """Symbols for display, their entries, and the state and data made of the entries."""
    symbols = matrices("W_p W W_a X X'", 2)
    values = {m: entries(m, symmetric=m.name.startswith("X")) for m in symbols}
    Wp, W, Wa, X, Xp = values.values()
    return symbols, values, Network(Wp, W, Wa), Correlations(X, Xp)


def _aligned():
    symbols = matrices("W_p F", 3)
    values = {m: entries(m, symmetric=True) for m in symbols}
    return symbols, values, Aligned(*values.values())


def _loss(Wp, online, target, data: Correlations):
    """J = ½ E‖W_p W x₁ − W_a x₂‖²: products of the views' entries replaced by E[x₁x₁ᵀ] = X + X′ and E[x₁x₂ᵀ] = X."""
    n = len(data.X)
    first, second = (np.array(sp.symbols(f"{view}:{n}"), dtype=object) for view in ("u", "v"))
    error = Wp @ online @ first - target @ second
    same = data.X + data.Xp
    moments = np.block([[same, data.X], [data.X, same]])
    terms = sp.Poly(error @ error / 2, *first, *second).terms()
    pairs = [(np.repeat(np.arange(2 * n), powers), factor) for powers, factor in terms]
    return sum(factor * moments[i, j] for (i, j), factor in pairs)


@derivation
def lemma_1():
    """Lemma 1 (Eq. 1–4): gradient descent on J = ½ E‖W_p f₁ − sg(f₂)‖² plus weight decay, written in X and X′; the
    target is W, τ W or the EMA W_a (shown)."""
    (Wp, W, Wa, X, Xp), values, state, data = _network()
    total = X + Xp
    twice = Wp * W * total * W.T * Wp.T + Wa * total * Wa.T - 2 * Wp * W * X * Wa.T  # its trace is 2J
    force = Wa * X - Wp * W * total
    equations = [
        equal(rate(Wp), alpha_p * force * W.T - eta_p * Wp),
        equal(rate(W), Wp.T * force - eta * W),
        equal(rate(Wa), beta * (W - Wa)),
    ]
    flow = network_flow(state, data, H, Switches(target="ema"))
    residuals = [explicit(eq.rhs, values) - moves for eq, moves in zip(equations, flow)]
    residuals.append(np.trace(explicit(twice, values)) - 2 * _loss(*state, data))

    loss = _loss(state.Wp, state.W, _STOPPED, data)
    for name, target in {"shared": state.W, "ema": state.Wa, "proportional": tau * state.W}.items():
        flow = network_flow(state, data, H, Switches(target=name))
        residuals += [
            flow.Wp + alpha_p * replaced(gradient(loss, state.Wp), _STOPPED, target) + eta_p * state.Wp,
            flow.W + replaced(gradient(loss, state.W), _STOPPED, target) + eta * state.W,
        ]
    return [equal(2 * sp.Symbol("J"), sp.Trace(twice)), *equations], residuals


@derivation
def no_stop_gradient():
    """Theorem 2 (Eq. 6): without stop-gradient W only decays, by a positive semi-definite rate."""
    (Wp, W, _, X, Xp), values, state, data = _network()
    one = sp.Identity(2)
    decay = -(Wp.T * Wp + one) * W * Xp - (Wp - one).T * (Wp - one) * W * X - eta * W
    flow = network_flow(state, data, H, Switches(stop_gradient="none"))
    loss = _loss(state.Wp, state.W, state.W, data)
    return [equal(rate(W), decay)], [
        explicit(decay, values) - flow.W,
        flow.W + gradient(loss, state.W) + eta * state.W,
        flow.Wp + alpha_p * gradient(loss, state.Wp) + eta_p * state.Wp,
    ]


@derivation
def mirrored_stop_gradient():
    """Stop-gradient on the online features instead: J = ½ E‖W_p sg(f₁) − f₂‖²."""
    (Wp, W, _, X, Xp), values, state, data = _network()
    moves = Wp * W * X - W * (X + Xp) - eta * W
    flow = network_flow(state, data, H, Switches(stop_gradient="mirrored"))
    loss = _loss(state.Wp, _STOPPED, state.W, data)
    return [equal(rate(W), moves)], [
        explicit(moves, values) - flow.W,
        flow.W + replaced(gradient(loss, state.W), _STOPPED, state.W) + eta * state.W,
        flow.Wp + alpha_p * replaced(gradient(loss, state.Wp), _STOPPED, state.W) + eta_p * state.Wp,
    ]


@derivation
def no_predictor():
    """Without a predictor (W_p = I, fixed) W decays even with stop-gradient (remark to Theorem 2)."""
    (_, W, _, _, Xp), values, state, data = _network()
    decay = -W * (Xp + eta * sp.Identity(2))
    identity = np.array(sp.eye(2), dtype=object)
    flow = network_flow(state._replace(Wp=identity), data, H, Switches(predictor="fixed"))
    return [equal(rate(W), decay)], [explicit(decay, values) - flow.W, flow.Wp]


@derivation
def balance_theorem():
    """Theorem 1 (Eq. 5): for any target, X and X′ the imbalance of encoder and predictor decays as exp(−2ηt)."""
    (Wp, W, *_), values, state, data = _network()
    (C,) = matrices("C", 2)
    imbalance = W * W.T - Wp.T * Wp / alpha_p
    code = balance_matrix(state, TIED)
    flows = [network_flow(state, data, TIED, Switches(target=name)) for name in ("shared", "ema", "proportional")]
    return [equal(C, imbalance), equal(rate(C), -2 * eta * C)], [
        explicit(imbalance, values) - code,
        *(along(code, state, flow) + 2 * eta * code for flow in flows),
    ]


@derivation
def predictor_rate_symmetry():
    """The predictor's learning rate is a size of the encoder: these weights follow Lemma 1 with α_p = 1, and W_p
    moves as before."""
    (_, W, Wa, *_), _, state, data = _network()
    r = sp.sqrt(alpha_p)
    switches = Switches(target="ema")
    flow = network_flow(state, data, H, switches)
    scaled = network_flow(Network(state.Wp, r * state.W, r * state.Wa), data, H.replace(alpha_p=1), switches)
    equations = [equal(sp.MatrixSymbol(rf"\tilde{{{m.name}}}", 2, 2), r * m) for m in (W, Wa)]
    return equations, [scaled.Wp - flow.Wp, scaled.W - r * flow.W, scaled.Wa - r * flow.Wa]


@derivation
def symmetrised_imbalance():
    """The symmetrised flow (Eq. 7–8) breaks Theorem 1 by a double commutator, unless W_p and F commute."""
    (Wp, F), values, state = _aligned()
    (C,) = matrices("C", 3)
    imbalance = F - Wp * Wp / alpha_p
    inner = Wp * F - F * Wp
    violation = -a / 2 * (Wp * inner - inner * Wp)
    code = explicit(imbalance, values)
    moves = along(code, state, symmetrised_flow(state, TIED))
    equations = [equal(C, imbalance), equal(rate(C), -2 * eta * C + violation)]
    return equations, [moves + 2 * eta * code - explicit(violation, values)]


@derivation
def commutator_decay():
    """Theorem 3 (Eq. 9–10): the commutator L = [F, W_p] of the symmetrised flow decays where K is positive; the last
    term of K is 3η/2 where η_p = η."""
    (Wp, F), values, state = _aligned()
    L, K = matrices("L K", 3)
    commuted = F * Wp - Wp * F
    operator = a * (alpha_p / 2 * F + Wp * Wp - tau / a * Wp) + (eta + eta_p / 2) * sp.Identity(3)
    code, at_K = commutator(*state), alignment_operator(*state, H)
    moves = along(code, state, symmetrised_flow(state, H))
    equations = [equal(L, commuted), equal(rate(L), -L * K - K * L), equal(K, operator)]
    return equations, [
        moves + code @ at_K + at_K @ code,
        code - explicit(commuted, values),
        at_K - explicit(operator, values),
    ]


@derivation
def settled_predictor():
    """At a given F the predictor settles, without any symmetrisation, on a symmetric function of F (Eq. 62)."""
    Wp, F = matrices("W_p F", 2)
    values = {F: entries(F, symmetric=True)}
    fixed = tau * F * (a * F + eta_p / alpha_p * sp.Identity(2)).I
    settled = explicit(fixed, values)
    return [equal(Wp, fixed)], [predictor_flow(settled, values[F], H), settled - settled.T]

"""The equations of images with a mean, derived here from the losses, for the flows of `linear_theory.flows.mean`."""

import numpy as np
import sympy as sp

from stopgrad.linear_theory.flows.matrices import Correlations, Network, Switches, network_flow
from stopgrad.linear_theory.flows.mean import (
    BiasedNetwork,
    Centre,
    MeanHyperparameters,
    Norms,
    biased_network_flow,
    centre_flow,
    centre_norms,
    cosine_centre_flow_at,
    cosine_mode_flow,
    cosine_network_flow_at,
    mode_norms,
    network_norms,
    with_mean,
)
from stopgrad.linear_theory.flows.modes import Mode
from stopgrad.linear_theory.symbolic.derivation import (
    alpha_p,
    derivation,
    entries,
    equal,
    eta,
    eta_p,
    explicit,
    gradient,
    matrices,
    rate,
    rational,
    replaced,
    tau,
)
from stopgrad.linear_theory.tools.records import with_values

_alpha_b, _eta_b, _N, _G, _kappa, _c, _mu, _x, _x_mu, _xp = sp.symbols(
    "alpha_b eta_b N G kappa c mu x x_mu x'", positive=True
)
_p, _w, _b, _q, _v = sp.symbols("p w b q v", real=True)
_STOPPED = entries(sp.MatrixSymbol("T", 2, 2))
_H = MeanHyperparameters(
    _xp / _x, eta, tau, alpha_p, None, eta_p, _x, alpha_b=_alpha_b, eta_b=_eta_b, mu=_mu, x_mean=_x_mu, directions=1
)
_FREE = _H.replace(eta=0, eta_p=0, eta_b=0, tau=1)  # the loss alone


def _column(name: str):
    symbol = sp.MatrixSymbol(name, 2, 1)
    return symbol, np.array([[sp.Symbol(f"{name}{i}")] for i in range(2)], dtype=object)


def _network():
    """Symbols for display, their entries, and state, data and mean made of the entries."""
    Wp, W, X, Xp = matrices("W_p W X X'", 2)
    values = {m: entries(m, symmetric=m.name.startswith("X")) for m in (Wp, W, X, Xp)}
    (b, b_entries), (mu, mu_entries) = _column("b"), _column("mu")
    values |= {b: b_entries, mu: mu_entries}
    state = BiasedNetwork(values[Wp], values[W], values[b])
    return (Wp, W, X, Xp, b, mu), values, state, Correlations(values[X], values[Xp]), values[mu]


def _expectations(Wp, W, d, T, data: Correlations, mu):
    """E[g·T x₂] and E‖g‖² for g = W_p W x₁ + d; x₁, x₂ = μ + deviations of covariances X + X′ and, crossed, X."""
    A, M = Wp @ W, data.X + mu @ mu.T
    crossed = np.trace(A @ M @ T.T) + (d.T @ T @ mu)[0, 0]
    length = np.trace(A @ (M + data.Xp) @ A.T) + 2 * (d.T @ A @ mu)[0, 0] + (d.T @ d)[0, 0]
    return crossed, length


def _exact(array):
    """Each entry with `rational` numbers."""
    return np.vectorize(rational, otypes=[object])(array)


@derivation
def lemma_1_with_mean():
    """Lemma 1 for images of mean μ and covariance X: gradient descent on J = ½ E‖W_p f₁ + b − sg(τ f₂)‖². Without bias
    it is Lemma 1 with X + μμᵀ."""
    (Wp, W, X, Xp, b, mu), values, state, data, mean = _network()
    force = tau * W * (X + mu * mu.T) - Wp * W * (X + mu * mu.T + Xp) - b * mu.T
    equations = [
        equal(rate(Wp), alpha_p * force * W.T - eta_p * Wp),
        equal(rate(W), Wp.T * force - eta * W),
        equal(rate(b), _alpha_b * (tau * W * mu - Wp * W * mu - b) - _eta_b * b),
    ]
    flow = biased_network_flow(state, data, mean, _H)
    crossed, length = _expectations(state.Wp, state.W, state.b, _STOPPED, data, mean)
    loss = length / 2 - crossed  # and E‖T x₂‖²/2, which is stopped
    slopes = [replaced(gradient(loss, weights), _STOPPED, tau * state.W) for weights in state]
    pushed = (alpha_p, 1, _alpha_b), (eta_p, eta, _eta_b)
    residuals = [m + r * g + d * v for m, r, g, d, v in zip(flow, pushed[0], slopes, pushed[1], state)]
    residuals += [explicit(eq.rhs, values) - moves for eq, moves in zip(equations, flow)]
    plain = network_flow(Network(state.Wp, state.W, state.W), with_mean(data, mean), _H, Switches("proportional"))
    without = biased_network_flow(state._replace(b=0 * state.b), data, mean, _H)
    return equations, [*residuals, without.Wp - plain.Wp, without.W - plain.W]


@derivation
def settled_bias():
    """A bias that has settled, b = (I − W_p) W μ, leaves Lemma 1 the covariance X alone: the mean is of no effect."""
    (Wp, W, X, Xp, b, mu), values, state, data, mean = _network()
    settled = (sp.Identity(2) - Wp) * W * mu
    at = state._replace(b=explicit(settled, values))
    flow = biased_network_flow(at, data, mean, _FREE)
    centred = network_flow(Network(state.Wp, state.W, state.W), data, _FREE, Switches())
    force = W * X - Wp * W * (X + Xp)
    return [equal(b, settled), equal(rate(Wp), alpha_p * force * W.T), equal(rate(W), Wp.T * force)], [
        flow.b,
        flow.Wp - centred.Wp,
        flow.W - centred.W,
        explicit(Wp.T * force, values) - flow.W,
    ]


@derivation
def cosine_loss():
    """The cosine loss where norms do not vary: minus the gradient of −E[g·f₂]/(G N), g = W_p f₁ + N b, G² = E‖g‖² and
    N² = E‖f‖². κ = E[g·f₂]/G² and c = N G; the N of the target, which also divides f₂, is stopped."""
    (Wp, W, X, Xp, b, mu), values, state, data, mean = _network()
    seen = state.W @ (data.X + mean @ mean.T + data.Xp)
    crossed, length = _expectations(state.Wp, state.W, _N * state.b, _STOPPED, data, mean)

    def slope(of, weights):
        """∂/∂weights of E[g·T x₂] or E‖g‖², N moving with W by ∂N/∂W = W(X + μμᵀ + X′)/N; then the target is W."""
        inward = gradient(of, _N) * seen / _N if weights is state.W else 0
        return replaced(gradient(of, weights) + inward, _STOPPED, state.W)

    flow = BiasedNetwork(*map(_exact, cosine_network_flow_at(Norms(_N**2, _kappa, _c), state, data, mean, _FREE)))
    # −∇L = [∇E[g·f₂] − κ ∇G²/2]/c.
    residuals = [
        moves * _c - step * (slope(crossed, weights) - _kappa * slope(length, weights) / 2)
        for moves, step, weights in zip(flow, (alpha_p, 1, _alpha_b), state)
    ]
    d, root = _column("d")[1], (square := np.trace(seen @ state.W.T)) ** 0.5
    found = network_norms(state._replace(b=d / root), data, mean)
    crossed_here, length_here = _expectations(state.Wp, state.W, d, state.W, data, mean)
    residuals += [
        found.square - square,
        _exact(found.kappa * length_here - crossed_here),
        _exact(found.c**2 - square * length_here),
    ]
    zeta = sp.Symbol("zeta")
    force = W * (X + mu * mu.T) - _kappa * (Wp * W * (X + mu * mu.T + Xp) + _N * b * mu.T)
    bias = W * mu - _kappa * (Wp * W * mu + _N * b)
    inward = (values[b].T @ explicit(bias, values))[0, 0] / _N
    equations = [
        equal(rate(Wp), alpha_p / _c * force * W.T),
        equal(rate(W), (Wp.T * force + zeta * W * (X + mu * mu.T + Xp)) / _c),
        equal(rate(b), _alpha_b * _N / _c * bias),
        equal(zeta, b.T * bias / _N),
    ]
    residuals += [explicit(eq.rhs.subs(zeta, inward), values) - moves for eq, moves in zip(equations, flow)]
    return equations, residuals


@derivation
def settled_bias_of_the_cosine_loss():
    """The same under the cosine loss: where N b = (1/κ − W_p) W μ has settled, what is left is the loss of centred
    images, κ = tr(W_p W X Wᵀ)/tr(W_p W(X + X′)Wᵀ W_pᵀ) included; of the mean only the clock c knows."""
    (Wp, W, X, Xp, b, mu), values, state, data, mean = _network()
    settled = (W * mu / _kappa - Wp * W * mu) / _N
    at = state._replace(b=explicit(settled, values))
    flow = cosine_network_flow_at(Norms(_N**2, _kappa, _c), at, data, mean, _FREE)
    force = W * X - _kappa * Wp * W * (X + Xp)
    centred = [alpha_p / _c * force * W.T, Wp.T * force / _c]
    nothing = np.zeros((2, 1), dtype=int)
    both = (_expectations(state.Wp, state.W, d, state.W, data, m) for d, m in ((_N * at.b, mean), (nothing, nothing)))
    (crossed, length), (crossed_0, length_0) = both
    return [equal(b, settled), equal(rate(Wp), centred[0]), equal(rate(W), centred[1])], [
        flow.b,
        explicit(centred[0], values) - flow.Wp,
        explicit(centred[1], values) - flow.W,
        (crossed - _kappa * length) - (crossed_0 - _kappa * length_0),
    ]


@derivation
def centre_modes():
    """The mean's mode and a residual one are the network's flow where W, W_p, X and X′ are diagonal and μ lies along
    the first axis; squared and cosine loss."""
    state = Centre(_p, _w, _b, _q, _v)
    network = BiasedNetwork(
        np.array([[_p, 0], [0, _q]], dtype=object),
        np.array([[_w, 0], [0, _v]], dtype=object),
        np.array([[_b], [0]], dtype=object),
    )
    data = Correlations(np.array([[_x_mu, 0], [0, _x]], dtype=object), np.array([[_xp, 0], [0, _xp]], dtype=object))
    mean, norms = np.array([[_mu], [0]], dtype=object), Norms(_N**2, _kappa, _c)
    pairs = [
        (centre_flow(state, _H), biased_network_flow(network, data, mean, _H)),
        (cosine_centre_flow_at(norms, state, _H), cosine_network_flow_at(norms, network, data, mean, _H)),
    ]
    residuals = []
    for modes, whole in pairs:
        residuals += [
            whole.Wp - np.array([[modes.p, 0], [0, modes.q]], dtype=object),
            whole.W - np.array([[modes.w, 0], [0, modes.v]], dtype=object),
            whole.b - np.array([[modes.b], [0]], dtype=object),
        ]
    mine, theirs = centre_norms(state, _H), network_norms(network, data, mean)
    residuals += [mine.square - theirs.square, _squared(mine) - _squared(theirs)]
    shown = centre_flow(state, _H)
    return [equal(rate(name), moves) for name, moves in zip(state, shown)], residuals


def _squared(norms: Norms):
    """κ c², in which N occurs in even powers and once, with b."""
    return norms.kappa * norms.c**2


@derivation
def cosine_modes():
    """Without a bias the cosine loss couples the modes by κ and c alone: each is one of Eq. 11–12 with τ = 1/κ, at the
    clock κ/c. The mean is the mode with x = x_μ + μ²."""
    variances = np.array([_x_mu + _mu**2, _x], dtype=object)
    h = with_values(_FREE, {"x": variances, "sigma2": _xp / variances})
    p, w = (np.array(pair, dtype=object) for pair in ((_p, _q), (_w, _v)))
    state = Mode(p, variances * w**2)
    moves, norms = cosine_mode_flow(state, h), mode_norms(state, h)
    centre = Centre(_p, _w, sp.Integer(0), _q, _v)
    theirs = centre_norms(centre, _FREE)
    c = norms.c[0]
    whole = cosine_centre_flow_at(theirs._replace(c=c), centre, _FREE)
    shown = alpha_p * sp.Symbol("s") * (1 - _kappa * sp.Symbol("a") * _p) / _c
    return [equal(rate(_p), shown)], [
        norms.square[0] - theirs.square,
        norms.kappa[0] - theirs.kappa,
        _exact(c**2 - theirs.c**2),
        _exact((moves.p - np.array([whole.p, whole.q])) * c),
        _exact((moves.s - 2 * variances * w * np.array([whole.w, whole.v])) * c),
    ]

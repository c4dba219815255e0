"""The equations of the cosine loss, derived here from the loss, for `flows.cosine`, `cosine_modes`, `sixth_order` and
`set_loop`.

Lengths are square roots; a residual with them is cleared of its denominators, and every even power of a length is
replaced by what it is the root of (`_cleared`).
"""

import collections
import itertools

import numpy as np
import sympy as sp

from stopgrad.linear_theory.exact.cosine_limit import decay_clock
from stopgrad.linear_theory.flows.cosine import CosineNorms, Views, cosine_flow_at, cosine_norms, sample_cosine_flow
from stopgrad.linear_theory.flows.cosine_modes import finite_width_mode_flow, mean_cosine, moments, pull
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.matrices import Correlations, Network, Switches, balance_matrix
from stopgrad.linear_theory.flows.modes import Mode
from stopgrad.linear_theory.flows.set_loop import Eigenvalues, LoopHyperparameters, SetLoop
from stopgrad.linear_theory.flows.sixth_order import HeldNorms, Level, sixth_order_flow
from stopgrad.linear_theory.symbolic.derivation import (
    TIED,
    H,
    a,
    along,
    alpha_p,
    derivation,
    entries,
    equal,
    eta,
    eta_p,
    gradient,
    matrices,
    p,
    rate,
    rational,
    replaced,
)

_FREE = Hyperparameters(sigma2=a - 1, eta=0, alpha_p=1)
_STOPPED = entries(sp.MatrixSymbol("T", 2, 2))
_LOSS = sp.Symbol("L")
_kappa, _kappa_t, _c = sp.symbols("kappa kappa_t c", positive=True)
_NORMS = CosineNorms(_kappa, _kappa_t, _c)


def _cleared(residuals) -> list[sp.Expr]:
    """Each entry times lengths enough, in which no length is left but to the power 0 or 1."""
    return [_without_roots(sp.sympify(entry)) for residual in residuals for entry in np.ravel(residual)]


def _without_roots(expression: sp.Expr) -> sp.Expr:
    squares: dict[sp.Expr, sp.Symbol] = {}

    def is_length(e):
        return e.is_Pow and e.base.is_Add and e.exp.is_number and not (e.exp.is_Integer and e.exp > 0)

    def as_symbol(power):
        square, outside = sp.expand(power.base), sp.Integer(1)
        for factor in (one for one in square.free_symbols if one.is_positive):  # a length's own unit
            common = min(term.as_powers_dict()[factor] for term in sp.Add.make_args(square))
            square, outside = sp.expand(square / factor**common), outside * factor**common
        name = squares.setdefault(square, sp.Symbol(f"length_{len(squares)}", positive=True))
        return (outside ** sp.Rational(1, 2) * name) ** int(2 * power.exp)

    found = sp.expand(rational(expression.replace(is_length, as_symbol)))
    for square, name in squares.items():
        factors = collections.defaultdict(list)
        for term in sp.Add.make_args(found):
            power = term.as_powers_dict()[name]
            factors[power].append(term / name**power)
        powers = {power: power - min(factors) for power in factors}
        sums = [sp.Add(*factors[power]) * square ** (k // 2) * name ** (k % 2) for power, k in powers.items()]
        found = sp.expand(sp.Add(*sums))
    return found


def _network():
    symbols = matrices("W_p W X X'", 2)
    Wp, W, X, Xp = (entries(m, symmetric=m.name.startswith("X")) for m in symbols)
    return symbols, Network(Wp, W, _STOPPED), Correlations(X, Xp)


def _pair() -> Views:
    """One pair of views, in axes of which the first is x₁: rotations of the images are nothing but ones of W."""
    return Views(np.array([[1, 0]], dtype=object), np.array([sp.symbols("v:2", real=True)], dtype=object))


def _traces(state: Network, target, data: Correlations):
    """E[g·f₂], E‖g‖² and E‖f₂‖²."""
    A, seen = state.Wp @ state.W, data.X + data.Xp
    return np.trace(A @ data.X @ target.T), np.trace(A @ seen @ A.T), np.trace(target @ seen @ target.T)


@derivation
def cosine_loss_without_mean():
    """The flow of the cosine loss in expectation is minus the gradient of −E[g·f₂]/√(E‖g‖² E‖f₂‖²), the wide limit:
    Lemma 1 with κ W_p in the prediction, at the clock 1/c; without stop-gradient with its target's force."""
    (Wp, W, X, Xp), state, data = _network()
    force = (W * X - _kappa * Wp * W * (X + Xp)) / _c
    crossed, length, square = _traces(state, _STOPPED, data)
    residuals = []
    for stop in ("target", "none"):
        flow = cosine_flow_at(_NORMS, state, data, _FREE, Switches(stop_gradient=stop))
        # −∇L = [∇E[g·f₂] − κ ∇E‖g‖²/2 − κ_t ∇E‖f₂‖²/2]/c, the last of the target's weights T alone.
        by_predictor, by_encoder = (gradient(crossed, m) - _kappa * gradient(length, m) / 2 for m in state[:2])
        by_target = (gradient(crossed, _STOPPED) - _kappa_t * gradient(square, _STOPPED) / 2) * int(stop == "none")
        slopes = [replaced(m, _STOPPED, state.W) for m in (by_predictor, by_encoder + by_target)]
        residuals += [_c * moves - slope for moves, slope in zip(flow, slopes)]
    found = cosine_norms(state.Wp, state, data)
    crossed, length, square = _traces(state, state.W, data)
    residuals += [found.kappa * length - crossed, found.kappa_target * square - crossed]
    residuals.append(rational(found.c[0, 0] ** 2 - square * length))
    whole = sp.Trace(Wp * W * (X + Xp) * W.T * Wp.T)
    return [
        equal(rate(Wp), force * W.T),
        equal(rate(W), Wp.T * force),
        equal(_kappa, sp.Trace(Wp * W * X * W.T) / whole),
        equal(_c**2, sp.Trace(W * (X + Xp) * W.T) * whole),
    ], residuals


@derivation
def cosine_loss_on_a_pair():
    """On one pair of views the flow is minus the gradient of −cos(W_p W x₁, sg(W x₂)), exactly, with and without
    stop-gradient; of a sample it is the mean over pairs."""
    _, state, _ = _network()
    u, v = (x[0] for x in _pair())
    g, f = state.Wp @ state.W @ u, _STOPPED @ v
    loss = -(g @ f) / sp.sqrt(g @ g) / sp.sqrt(f @ f)
    residuals = []
    for stop in ("target", "none"):
        flow = sample_cosine_flow(state, _pair(), _FREE, Switches(stop_gradient=stop))
        slopes = [gradient(loss, state.Wp), gradient(loss, state.W) + gradient(loss, _STOPPED) * int(stop == "none")]
        residuals += _cleared([m + replaced(slope, _STOPPED, state.W) for m, slope in zip(flow, slopes)])
    shown = sp.Symbol("P"), sp.Symbol("Z"), sp.Function("cos")(sp.Symbol("P"), sp.Symbol("Z"))
    return [
        equal(-sp.Derivative(_LOSS, sp.Symbol("g")), (shown[1] - shown[2] * shown[0]) / sp.Symbol(r"\|g\|"))
    ], residuals


@derivation
def cosine_identities():
    """The cosine loss turns each layer and leaves its norm, ⟨W_p, ∂L/∂W_p⟩ = ⟨W, ∂L/∂W⟩ = 0, and W Wᵀ − W_pᵀ W_p/α_p
    decays as exp(−2ηt): on any sample (here a pair of views, of which it is the mean) and in expectation."""
    _, state, data = _network()
    Wp, W, C = matrices("W_p W C", 2)
    slope = {m: sp.MatrixSymbol(rf"\partial_{{{m.name}}} L", 2, 2) for m in (Wp, W)}
    crossed, length, _ = _traces(state, state.W, data)
    wide = [cosine_flow_at(_NORMS, state, data, h) for h in (_FREE, TIED)]
    pair = [sample_cosine_flow(state, _pair(), h) for h in (_FREE, TIED)]
    inner = [[(v * dv).sum() for v, dv in zip(state[:2], flow)] for flow in (wide[0], pair[0])]
    residuals = [sp.cancel(_c * one - (crossed - _kappa * length)) for one in inner[0]]  # which κ makes 0
    residuals += _cleared(inner[1])
    imbalance = balance_matrix(state, TIED)
    for flow in (wide[1], pair[1]):
        residuals += _cleared([along(imbalance, state[:2], flow[:2]) + 2 * eta * imbalance])
    return [
        *(equal(sp.Trace(m.T * slope[m]), 0) for m in (Wp, W)),
        equal(C, W * W.T - Wp.T * Wp / alpha_p),
        equal(rate(C), -2 * eta * C),
    ], residuals


@derivation
def cosine_decay_clock():
    """Weight decay changes the lengths of layers and the clock, and no direction: W_p = m V_p and W = n V follow the
    cosine loss with decay where m′ = −η_p m, n′ = −ηn and V_p, V follow it without, at α_p n²/m² and the clock 1/n²;
    for η_p = η from m = n that is the time (e^(2ηt) − 1)/(2η)."""
    m, n, t = sp.symbols("m n t", positive=True)
    _, state, data = _network()
    scaled = Network(m * state.Wp, n * state.W, state.Wa)
    slowed = _FREE.replace(alpha_p=alpha_p * n**2 / m**2)
    # κ and c of the longer weights: κ falls as 1/m, c grows as m n².
    longer = CosineNorms(_kappa / m, m * _kappa_t, m * n**2 * _c)
    flows = [
        (cosine_flow_at(longer, scaled, data, H), cosine_flow_at(_NORMS, state, data, slowed)),
        (sample_cosine_flow(scaled, _pair(), H), sample_cosine_flow(state, _pair(), slowed)),
    ]
    residuals = []
    for moves, free in flows:
        residuals += _cleared([moves.Wp - (m * free.Wp / n**2 - eta_p * m * state.Wp)])
        residuals += _cleared([moves.W - (n * free.W / n**2 - eta * n * state.W)])
    clock, theta = (sp.exp(2 * eta * t) - 1) / (2 * eta), sp.Symbol("theta")
    residuals += [sp.simplify(sp.diff(clock, t) - sp.exp(-eta * t) ** -2), clock.subs(t, 0)]
    at = {eta: sp.Rational(3, 10), t: 2}
    residuals.append(sp.Integer(abs(float(decay_clock(2.0, 0.3)) - float(clock.subs(at))) > 1e-12))
    return [equal(rate(theta), n**-2), equal(theta, clock)], residuals


# ---------------------------------------------------------------- modes


def _pairings(indices: tuple) -> list:
    """All ways to make pairs of these."""
    if not indices:
        return [[]]
    first, *rest = indices
    return [
        [(first, other), *more] for k, other in enumerate(rest) for more in _pairings(tuple(rest[:k] + rest[k + 1 :]))
    ]


def _isserlis(variables, covariance) -> sp.Expr:
    """E of a product of jointly Gaussian variables of mean 0."""
    return sum(sp.prod([covariance(i, j) for i, j in pairs]) for pairs in _pairings(tuple(variables)))


@derivation
def finite_width_modes():
    """The mean cosine of Gaussian g and f₂ to second order in how far ‖g‖², ‖f₂‖² and g·f₂ vary, with w = E[g f₂],
    u = E[g²], v = E[f₂²] of each mode, and its slope along a mode's amplitude in g, which sums to 0."""
    w, u, v, shift = (np.array(sp.symbols(f"{name}:2", positive=True), dtype=object) for name in ("w", "u", "v", "d"))

    def covariance(one, other):
        (kind, k), (like, j) = one, other
        return {"gg": u, "ff": v}.get(kind + like, w)[k] if k == j else 0

    means = {"gg": u.sum(), "ff": v.sum(), "gf": w.sum()}

    def relative(first, second):
        """Cov of two of ‖g‖², ‖f₂‖², g·f₂, over the product of their means."""
        whole = sum(
            _isserlis([(kind, k) for kind in first] + [(kind, j) for kind in second], covariance)
            for k, j in itertools.product(range(2), repeat=2)
        )
        return whole / (means[first] * means[second]) - 1

    half = sp.Rational(1, 2)
    by_hand = (
        1
        - half * (relative("gf", "gg") + relative("gf", "ff"))
        + sp.Rational(3, 8) * (relative("gg", "gg") + relative("ff", "ff"))
        + relative("gg", "ff") / 4
    )
    limit = means["gf"] / sp.sqrt(means["gg"] * means["ff"])
    residuals = _cleared(np.array([mean_cosine(moments(w, u, v))[0] - limit * by_hand]))

    stretch = np.vectorize(sp.exp, otypes=[object])(shift)
    moved = mean_cosine(moments(w * stretch, u * stretch**2, v))[0]
    at = pull(w, u, v, moments(w, u, v))
    slopes = [sp.diff(moved, d).subs(dict.fromkeys(shift, 0)) for d in shift]
    forces = w * at.along - u * at.against
    residuals += _cleared(forces - slopes) + _cleared(np.array([forces.sum()]))
    q = np.array(sp.symbols("p:2", positive=True), dtype=object)
    s = np.array(sp.symbols("s:2", positive=True), dtype=object)
    moves = finite_width_mode_flow(Mode(q, s), _FREE)
    residuals += _cleared(np.array([(q * moves.p).sum()]))
    E = sp.Symbol(r"\mathrm{E}\cos")
    summed = ("w", "u", "v", "wu", "wv", "u^2", "v^2", "w^2")
    W, U, V, WU, WV, UU, VV, WW = (sp.Symbol(rf"\Sigma{{{name}}}") for name in summed)
    shown = 1 - WU / (W * U) - WV / (W * V) + sp.Rational(3, 4) * (UU / U**2 + VV / V**2) + WW / (2 * U * V)
    return [equal(E, W / sp.sqrt(U * V) * shown)], residuals


@derivation
def sixth_order():
    """Bao's reduction: E[(g·f₂) g f₁ᵀ] = a W_p W(tr A + A + Aᵀ)Wᵀ, A = Wᵀ W_p W, by Isserlis' theorem, and what it is
    for one mode on s = p² where the norms are held."""
    _, (Wp, W, _), _ = _network()

    def covariance(one, other):
        (view, i), (like, j) = one, other
        return 0 if i != j else (a if view == like else 1)

    A = W.T @ Wp @ W
    G = Wp @ W
    M = G.T @ W  # g·f₂ = x₁ᵀ M x₂
    axes = range(2)
    inner = np.array(
        [
            [
                sum(
                    M[k, m] * _isserlis([(1, k), (2, m), (1, i), (1, j)], covariance)
                    for k, m in itertools.product(axes, repeat=2)
                )
                for j in axes
            ]
            for i in axes
        ],
        dtype=object,
    )
    whole = G @ inner @ W.T
    symmetric = {Wp[0, 1]: Wp[1, 0]}
    one = np.array(sp.eye(2), dtype=object)
    stated = a * G @ (np.trace(M) * one + M + M.T) @ W.T
    residuals = [whole - stated, np.vectorize(lambda e: e.subs(symmetric), otypes=[object])(M.T - A)]
    n_phi, n_psi, m = sp.symbols("N_Phi N_Psi m", positive=True)
    T = sp.Symbol("T")
    shown = (p**2 - a * (T * p**3 + 2 * p**6) / n_psi**2) / (n_phi * n_psi) - eta * p
    levels = dict.fromkeys(W.ravel()) | {W[0, 0]: p, W[1, 1]: sp.Symbol("r"), W[0, 1]: 0, W[1, 0]: 0}
    levels |= {Wp[0, 0]: p, Wp[1, 1]: sp.Symbol("r"), Wp[0, 1]: 0, Wp[1, 0]: 0}
    on_modes = sp.sympify(whole[0, 0]).subs(levels)
    trace = p**3 + sp.Symbol("r") ** 3
    flow = sixth_order_flow(Level(p), HeldNorms(a - 1, eta, n_phi, n_psi, m)).p
    return [equal(rate(p), shown), equal(T, m * n_phi * n_psi)], [
        *residuals,
        on_modes - a * (trace * p**3 + 2 * p**6),
        flow - shown.subs(T, m * n_phi * n_psi),
    ]


@derivation
def halvagal_rates():
    """Halvagal's eigenvalues under squared error, W_P = U λ^α Uᵀ and clean images predicting noisy ones: with
    stop-gradient, under IsoLoss, without stop-gradient (at α = 1), without predictor."""
    lam, alpha, sigma2 = sp.symbols("lambda alpha sigma^2", positive=True)
    stated = {
        "predictor": 2 * lam ** (1 + alpha) * (1 - lam**alpha),
        "isoloss": 2 * lam * (1 - lam**alpha),
        "no-stop-gradient": -2 * lam * ((lam - 1) ** 2 + sigma2),
        "no-predictor": sp.Integer(0),
    }
    residuals = []
    for kind, shown in stated.items():
        exponent = 1 if kind == "no-stop-gradient" else alpha
        h = LoopHyperparameters(exponent, 0, sigma2, 0, 1)
        residuals.append(sp.simplify(SetLoop("squared", kind)(Eigenvalues(lam), h).s - shown))
    return [equal(rate(lam), shown) for shown in stated.values()], residuals

"""How far the predictor's eigenvectors agree with those of F = W X Wᵀ, and what makes them agree.

Measures of a pair (W_p, F) on arrays or torch tensors of shape (…, n, n), and the theory of their decay: the
alignment operator K of Theorem 3, its negative window on the parabola, Theorem 2's collapse rate without stop-gradient
(Tian, Chen & Ganguli 2021). K and the window belong to the isotropic theory (A1–A3): x = 1.

Measures raise ValueError for entries that are not finite, shapes that do not match and half precision.
"""

from typing import Any, Literal, NamedTuple

import numpy as np

from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.matrices import Correlations, Network, balance_matrix, symmetric_part
from stopgrad.linear_theory.flows.modes import Mode
from stopgrad.linear_theory.predictors.matrices import as_correlation, as_square, full_precision, identity_like
from stopgrad.linear_theory.tools.arrays import as_array, beside, namespace
from stopgrad.linear_theory.tools.eigen import eigh
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.lengths import MATRIX, length, magnitude


class EigenvectorAlignment(NamedTuple):
    """Eigenvalues of F, falling, and for each eigenvector u_j the cosine of u_j and W_p u_j: both (…, n)."""

    eigenvalues: Any
    cosine: Any


# ---------------------------------------------------------------- measures


@full_precision
def eigenvector_alignment(Wp, F, degeneracy: float | None = None) -> EigenvectorAlignment:
    """cos(u_j, W_p u_j) for the eigenvectors u_j of F (Fig. 2, third column); 0 where W_p u_j vanishes to rounding.

    Eigenvectors of (nearly) equal eigenvalues are arbitrary up to a rotation, so neighbours closer than `degeneracy` ·
    max s (default: the square root of the rounding unit) form a cluster with projector P, and each of its members gets
    tr(P W_p P)/(√rank P ‖W_p P‖_F): the cosine itself for rank 1, independent of the basis, and 1 exactly when every u
    in the cluster's span has cos(u, W_p u) = 1. (A W_p that merely commutes with F may give less: see `misalignment`.)

    >>> import numpy as np
    >>> eigenvector_alignment(np.diag([3.0, 2.0]), np.diag([2.0, 1.0]))
    EigenvectorAlignment(eigenvalues=array([2., 1.]), cosine=array([1., 1.]))
    """
    Wp, F = _finite(Wp=Wp, F=F)
    xp, n, unit = namespace(F), F.shape[-1], namespace(F).finfo(F.dtype).eps
    falling, U = eigh(-as_correlation(F))
    s = 0.0 - falling

    gap = xp.concatenate([s[..., :1], s[..., :-1]], -1) - s
    width = unit**0.5 if degeneracy is None else degeneracy
    cluster = xp.cumsum(gap > width * xp.amax(xp.abs(s), axis=-1, keepdims=True), -1)
    members = xp.asarray(cluster[..., :, None] == cluster[..., None, :], dtype=F.dtype)

    Wp = Wp / magnitude(Wp, MATRIX)
    image = Wp @ U
    trace, square, rank = (
        (members @ column[..., None])[..., 0]
        for column in ((U * image).sum(axis=-2), (image * image).sum(axis=-2), xp.ones_like(s))
    )
    length = xp.sqrt(rank * square)
    alive = xp.sqrt(square) > n * unit * _norm(Wp)[..., None]
    cosine = xp.where(alive, trace / xp.where(alive, length, xp.ones_like(length)), xp.zeros_like(length))
    return EigenvectorAlignment(s, cosine.clip(min=-1, max=1))


def commutator(Wp, F):
    """L = [F, W_p] = F W_p − W_p F (Theorem 3). Plain operators: SymPy object arrays too."""
    return F @ Wp - Wp @ F


@full_precision
def commutator_norm(Wp, F):
    """‖[F, W_p]‖_F: (…,). Theorem 3 is about this absolute value, which also shrinks when W_p and F do.

    >>> import numpy as np
    >>> round(float(commutator_norm([[0.0, 1.0], [1.0, 0.0]], np.diag([2.0, 1.0]))), 9)  # √2
    1.414213562
    """
    return _norm(commutator(*_finite(Wp=Wp, F=F)))


@full_precision
def misalignment(Wp, F):
    """‖[F, W_p]‖_F/(‖F‖_F ‖W_p‖_F), between 0 and √2, and 0 where F or W_p vanishes: (…,). Free of scale.

    >>> import numpy as np
    >>> misalignment(np.diag([3.0, 2.0]), np.diag([2.0, 1.0]))
    np.float64(0.0)
    """
    Wp, F = _finite(Wp=Wp, F=F)
    Wp, F = Wp / magnitude(Wp, MATRIX), F / magnitude(F, MATRIX)
    return _ratio(_norm(commutator(Wp, F)), _norm(F) * _norm(Wp))


def asymmetry(Wp, kind: Literal["frobenius", "absolute"] = "frobenius"):
    """‖(W_p − W_pᵀ)/2‖_F/‖W_p‖_F, or Σ|W_p − W_pᵀ|/Σ|W_p| with "absolute" (√2 for Gaussian entries): (…,).

    The first lies in [0, 1] and is √½ for independent entries; both are 0 for W_p = 0.

    >>> asymmetry([[0.0, 1.0], [-1.0, 0.0]])  # all of it
    np.float64(1.0)
    """
    (Wp,) = _finite(Wp=Wp)
    Wp = Wp / magnitude(Wp, MATRIX)
    if kind == "frobenius":
        return _ratio(_norm(Wp - Wp.mT) / 2, _norm(Wp))
    if kind == "absolute":
        xp = namespace(Wp)
        return _ratio(xp.abs(Wp - Wp.mT).sum(axis=(-2, -1)), xp.abs(Wp).sum(axis=(-2, -1)))
    raise BadInput(f"kind is {kind!r}; it must be 'frobenius' or 'absolute'")


def balance_residual(state: Network, initial: Network, t, h: Hyperparameters):
    """‖C(t) − e^{−2ηt} C(0)‖_F/(‖W Wᵀ‖_F + ‖W_pᵀ W_p‖_F/α_p) for Theorem 1's C = W Wᵀ − W_pᵀ W_p/α_p: (…,).

    Zero, but for rounding and the integrator's error, wherever Theorem 1 holds (η_p = η, no symmetrisation); relative
    to the two terms that C is the difference of. `t` broadcasts against the leading dimensions of `state`.
    """
    state, initial = (Network(*map(as_array, v, v._fields)) for v in (state, initial))
    xp = namespace(state.W)
    elapsed = xp.asarray(beside(state.W, t), dtype=state.W.dtype)[..., None, None]
    departure = balance_matrix(state, h) - xp.exp(-2 * h.eta * elapsed) * balance_matrix(initial, h)
    encoder, predictor = state.W @ state.W.mT, state.Wp.mT @ state.Wp / h.alpha_p
    return _ratio(_norm(departure), _norm(encoder) + _norm(predictor))


# ---------------------------------------------------------------- Theorem 3


def alignment_operator(Wp, F, h: Hyperparameters):
    """K = a[(α_p/2) F + W_p² − (τ/a) W_p] + (η + η_p/2) I: L′ = −LK − KL under `symmetrised_flow` (Theorem 3, Eq. 10).

    Symmetric W_p and F of shape (…, n, n); with η_p = η the last term is the paper's (3/2) η I.

    >>> import numpy as np
    >>> from stopgrad.linear_theory import Hyperparameters
    >>> alignment_operator(0.5 * np.eye(1), np.eye(1), Hyperparameters(sigma2=0.0, eta=0.0))  # ½ + ¼ − ½
    array([[0.25]])
    """
    decay = h.eta + h.predictor_decay / 2
    return h.a * (h.alpha_p / 2 * F + Wp @ Wp) - h.tau * Wp + decay * identity_like(F)


@full_precision
def alignment_rate(Wp, F, h: Hyperparameters):
    """λ_min(K): (…,). While it exceeds λ₀ > 0, ‖[F, W_p]‖ shrinks at least as e^{−2λ₀t}; sufficient, not necessary."""
    K = alignment_operator(*_finite(Wp=Wp, F=F), h)
    return namespace(K).linalg.eigvalsh(symmetric_part(K))[..., 0]


def alignment_operator_mode(mode: Mode, h: Hyperparameters):
    """K on a common eigenvector: a[(α_p/2) s + p²] − τp + η + η_p/2. Two nearby modes misalign at the rate −2K.

    It equals ½[α_p a s + η_p] − Δ with Δ = p(τ − a p) − η: the margin of Eq. 17 (stable alignment where > 0).
    On the parabola s = p²/α_p (η_p = η) it is (3/2)(a p² + η) − τp.
    """
    p, s = mode
    return h.a * (h.alpha_p / 2 * s + p * p) - h.tau * p + h.eta + h.predictor_decay / 2


def negative_window(h: Hyperparameters):
    """The two ends (τ ∓ √(τ² − 9ηa))/(3a) of the p for which K < 0 on the parabola; NaN where K ≥ 0 throughout."""
    h = h.validate()
    inside = h.tau * h.tau - 9 * h.eta * h.a
    root = h.tau + np.sqrt(np.where(inside >= 0, inside, np.nan))
    return 3 * h.eta / root, root / (3 * h.a)


def parabola_minimum(h: Hyperparameters):
    """The smallest K on the parabola, (3/2)η − τ²/(6a), taken at p = τ/(3a)."""
    return 3 * h.eta / 2 - h.tau * h.tau / (6 * h.a)


def kappa(h: Hyperparameters):
    """κ = 4ηa/τ²: collapse only above 1; K > 0 on the whole parabola above 4/9; below, a window of p with K < 0."""
    return 4 * h.eta * h.a / (h.tau * h.tau)


def tau_thresholds(h: Hyperparameters):
    """(2√(ηa), 3√(ηa)): below the first τ all modes collapse, up to the second K > 0 on the whole parabola."""
    h = h.validate()
    root = np.sqrt(h.eta * h.a)
    return 2 * root, 3 * root


# ---------------------------------------------------------------- Theorem 2


def hessian_without_stop_gradient(Wp, data: Correlations, h: Hyperparameters):
    """H = X′ ⊗ (W_pᵀ W_p + I) + X ⊗ (W_p − I)ᵀ(W_p − I) + ηI of Theorem 2: (…, n1 n2, n1 n2).

    d vec(W)/dt = −H vec(W) for a shared target without stop-gradient, vec stacking the columns of W.
    """
    Wp, data = as_square(Wp, "Wp"), Correlations(*map(as_square, data, data._fields))
    one = identity_like(Wp)
    off = Wp - one
    H = _kronecker(data.Xp, Wp.mT @ Wp + one) + _kronecker(data.X, off.mT @ off)
    return H + h.eta * identity_like(H)


def collapse_rate_without_stop_gradient(Wp, data: Correlations, h: Hyperparameters):
    """λ_min(H): (…,). While it exceeds λ₀ > 0, ‖W(t)‖ ≤ e^{−λ₀t} ‖W(0)‖ (Theorem 2, Lemma 2)."""
    H = hessian_without_stop_gradient(Wp, data, h)
    return namespace(H).linalg.eigvalsh(H)[..., 0]


def stop_gradient_rate_bound(h: Hyperparameters):
    """Least λ_min(H) over all W_p for X = xI, X′ = xσ²I: x(a − 1/a) + η, reached at W_p = I/a."""
    return h.x * (h.a - 1 / h.a) + h.eta


def _kronecker(A, B):
    """A ⊗ B over the last two axes, batched."""
    product = A[..., :, None, :, None] * B[..., None, :, None, :]
    return product.reshape(*product.shape[:-4], A.shape[-2] * B.shape[-2], A.shape[-1] * B.shape[-1])


# ---------------------------------------------------------------- shared


def _finite(**matrices):
    """The matrices as arrays or tensors of one size; ValueError naming the one that is not finite or does not fit."""
    squares = [as_square(matrix, name) for name, matrix in matrices.items()]
    for name, matrix in zip(matrices, squares, strict=True):
        if matrix.shape[-1] != squares[0].shape[-1]:
            raise ValueError(f"{name} is {tuple(matrix.shape)} beside {tuple(squares[0].shape)}; sizes must agree")
        if not namespace(matrix).isfinite(matrix).all():
            raise BadInput(f"{name} has entries that are NaN or infinite; it must be finite")
    return squares


def _norm(matrix):
    """Frobenius norm."""
    return length(matrix, MATRIX)


def _ratio(numerator, denominator):
    """numerator/denominator, and 0 for 0/0."""
    xp = namespace(denominator)
    return numerator / xp.where(denominator > 0, denominator, xp.ones_like(denominator))

"""Beyond isotropic data: modes of X and X′ with shared eigenvectors; appendix D's fixed points and 1×1 system."""

from typing import Any, NamedTuple

import numpy as np

from stopgrad.linear_theory.exact.fixed_points import critical_eta
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.matrices import Correlations, Network
from stopgrad.linear_theory.flows.modes import ScalarNetwork, scalar_network_flow
from stopgrad.linear_theory.tools.arrays import as_float64, in_float64
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.lengths import MATRIX, magnitude

_ROUNDING = 1e-10  # relative: eigenvalues and asymmetries below this are zero


class Modes(NamedTuple):
    """Variances x_j (of the means, descending) and x′_j (within an image), shape (…, n), along the columns of `vectors`
    (…, n, n)."""

    x: Any
    xp: Any
    vectors: Any


def shared_modes(data: Correlations, tolerance: float = 1e-8) -> Modes:
    """The common eigenvectors of X and X′ and their eigenvalues; leading dimensions are batch dimensions.

    Raises ValueError if a matrix is not symmetric positive semi-definite, the shapes differ, or the two do not commute:
    ‖[X, X′]‖ > tolerance·‖X‖‖X′‖ (Frobenius; beyond rounding), where no shared eigenvectors exist.

    >>> import numpy as np
    >>> shared_modes(Correlations(np.diag([2.0, 1.0]), np.diag([0.2, 0.5]))).x.tolist()
    [2.0, 1.0]
    """
    X, Xp = _checked(data)
    unit = np.maximum(magnitude(X, MATRIX), magnitude(Xp, MATRIX))  # of which no product vanishes or overflows
    X, Xp = X / unit, Xp / unit
    size, sizep, defect = (np.linalg.norm(m, axis=(-2, -1)) for m in (X, Xp, X @ Xp - Xp @ X))
    if np.any(defect > tolerance * size * sizep + 1e-14 * (size + sizep) ** 2):
        raise BadInput("X and X′ do not commute, so they share no eigenvectors; integrate the matrix flow instead")
    # A generic combination separates what is degenerate in one matrix alone.
    _, vectors = np.linalg.eigh(X + 0.6180339887498949 * Xp)
    x, xp = (np.maximum(np.sum(vectors * (m @ vectors), axis=-2), 0.0) for m in (X, Xp))
    order = np.argsort(-x, axis=-1)
    x, xp = (np.take_along_axis(v, order, axis=-1) for v in (x, xp))
    return Modes(x * unit[..., 0], xp * unit[..., 0], np.take_along_axis(vectors, order[..., None, :], axis=-1))


def mode_hyperparameters(
    data: Correlations, h: Hyperparameters, leading: int | None = None, tolerance: float = 1e-8
) -> Hyperparameters:
    """`h` for each mode of `data`: x = x_j and σ² = x′_j/x_j on a new last axis, largest x first (`leading`: so many).

    The other fields keep their values; their axes, if any, are the batch dimensions of `data`.

    Raises ValueError as `shared_modes` does, or if a mode asked for has x_j = 0: it carries nothing of the image.

    >>> import numpy as np
    >>> mode_hyperparameters(Correlations(np.diag([2.0, 1.0]), np.diag([0.2, 0.5])), Hyperparameters()).sigma2.tolist()
    [0.1, 0.5]
    """
    modes = shared_modes(data, tolerance)
    x, xp = modes.x[..., :leading], modes.xp[..., :leading]
    positive = x > _ROUNDING * modes.x[..., :1]
    if not np.all(positive):
        least = int(positive.sum(axis=-1).min())
        raise BadInput(f"X has {least} eigenvalues above zero; ask for at most that many leading modes")
    return h.map(lambda value: as_float64(value)[..., None]).replace(x=x, sigma2=xp / x)


def surviving_modes(h: Hyperparameters, axis: int = -1) -> np.ndarray:
    """How many modes along `axis` have a non-collapsed fixed point: η < η_j = τ²x_j/(4a_j).

    >>> surviving_modes(Hyperparameters(sigma2=0, eta=0.1, x=[1.0, 0.5, 0.3])).tolist()  # η < x τ²/(4a)
    2
    """
    return np.sum(np.asarray(h.eta < critical_eta(h)), axis=axis)


def fixed_point_without_decay(data: Correlations, features: int) -> Network:
    """A fixed point of Lemma 1 at η = 0 with W_a = W, for any X and X′ (appendix D): W_p W = W X(X + X′)⁻¹.

    The rows of W (features × n) are left eigenvectors of X(X + X′)⁻¹, orthonormal in X + X′, largest eigenvalue first;
    W_p is the diagonal of the eigenvalues λ_j = 1/a_j. Further fixed points: `transformed`.

    Raises ValueError unless 1 ≤ features ≤ n, X is positive semi-definite and X + X′ positive definite.
    """
    X, Xp = _checked(data)
    total = X + Xp
    spectrum = np.linalg.eigvalsh(total)
    if not np.all(spectrum[..., 0] > _ROUNDING * spectrum[..., -1]):
        raise BadInput("X + X′ is singular; project the data onto its range first")
    if not 1 <= features <= X.shape[-1]:
        raise BadInput(f"features is {features}; it must be between 1 and the input dimension {X.shape[-1]}")
    inverse = np.linalg.inv(np.linalg.cholesky(total))
    ratios, basis = np.linalg.eigh(inverse @ X @ inverse.mT)
    W = np.flip(basis.mT @ inverse, axis=-2)[..., :features, :]
    Wp = np.flip(ratios, axis=-1)[..., :features, None] * np.eye(features)
    return Network(Wp, W, W)


def transformed(network: Network, S) -> Network:
    """W_p → S W_p S⁻¹, W → S W, W_a → S W_a with S invertible: fixed points at η = 0 stay fixed points (appendix D)."""
    S, network = as_float64(S, "S"), in_float64(network)
    return Network(S @ network.Wp @ np.linalg.inv(S), S @ network.W, S @ network.Wa)


def multiplicative_scrambling(inputs, kept) -> Correlations:
    """Augmentations that keep one subspace and scramble the rest (appendix D): X = P Σ P, X + X′ = Σ.

    `inputs`: Σ (…, n, n); `kept`: the projector P, commuting with Σ. Then X(X + X′)⁻¹ = P: W_p is 1 or 0 on a mode.

    Raises ValueError if Σ is not PSD, or P is no orthogonal projector or does not commute with Σ.
    """
    inputs, kept = _psd("inputs", inputs), _psd("kept", kept)
    scale = np.abs(inputs).max(axis=(-2, -1), keepdims=True)
    if not np.allclose(kept @ kept, kept, rtol=0, atol=_ROUNDING):
        raise BadInput("kept is not a projector; its square must be itself")
    if np.any(np.abs(kept @ inputs - inputs @ kept) > _ROUNDING * scale):
        raise BadInput("kept does not commute with inputs; it must project onto eigenvectors of inputs")
    lost = np.eye(kept.shape[-1]) - kept
    return Correlations(kept @ inputs @ kept, lost @ inputs @ lost)


def additive_scrambling(inputs, noise) -> Correlations:
    """Augmentations that add noise (appendix D): X = Σ_x, X′ = Σ_n, so W_p's eigenvalues are those of Σ_x(Σ_x + Σ_n)⁻¹.

    Raises ValueError for matrices that are not PSD or differ in shape.
    """
    return Correlations(*_checked(Correlations(inputs, noise)))


def settled_predictor(F, h: Hyperparameters) -> np.ndarray:
    """W_p = τF(aF + (η_p/α_p)I)⁻¹: where Eq. 62 settles at a fixed F (…, n, n), symmetric without any symmetrisation.

    Hyperparameters that vary over the batch have shape (…, 1, 1). Raises ValueError if F is not PSD, or is singular
    while η_p = 0: the predictor then keeps its initial value on F's null space.
    """
    F = _psd("F", F)
    spectrum = np.linalg.eigvalsh(F)
    floor = as_float64(h.predictor_decay / h.alpha_p)
    singular = spectrum[..., 0] <= _ROUNDING * spectrum[..., -1]
    if np.any(singular[..., None, None] & (floor == 0)):
        raise BadInput("F is singular and there is no weight decay, so W_p is not unique; give eta_p or eta above 0")
    return np.linalg.solve(h.a * F + floor * np.eye(F.shape[-1]), h.tau * F).mT


class Online(NamedTuple):
    """1×1 encoder w and its EMA target w_a, where the predictor is tied to w or absent (Fig. 10)."""

    w: Any
    wa: Any


def tied_flow(state: Online, h: Hyperparameters) -> Online:
    """Eq. 104–106 on w_p = w, which is invariant for α_p = 1 and η_p = η."""
    flow = scalar_network_flow(ScalarNetwork(state.w, state.w, state.wa), h)
    return Online(flow.w, flow.wa)


def predictorless_flow(state: Online, h: Hyperparameters) -> Online:
    """Eq. 105–106 with w_p = 1."""
    flow = scalar_network_flow(ScalarNetwork(1.0, state.w, state.wa), h)
    return Online(flow.w, flow.wa)


def _checked(data: Correlations) -> tuple[np.ndarray, np.ndarray]:
    X, Xp = _psd("X", data.X), _psd("X′", data.Xp)
    if X.shape[-2:] != Xp.shape[-2:]:
        raise ValueError(f"X is {X.shape[-2:]} and X′ is {Xp.shape[-2:]}; they must have one shape")
    return np.broadcast_arrays(X, Xp)


def _psd(name: str, matrix) -> np.ndarray:
    """The matrix as float64, exactly symmetric. Raises ValueError unless finite, symmetric and PSD to rounding."""
    matrix = as_float64(matrix, name)
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2] or matrix.shape[-1] == 0:
        raise ValueError(f"{name} has shape {matrix.shape}; it must be (…, n, n)")
    if not np.all(np.isfinite(matrix)):
        raise BadInput(f"{name} holds NaN or infinity; it must be finite")
    scale = np.abs(matrix).max(axis=(-2, -1), keepdims=True)
    if np.any(np.abs(matrix - matrix.mT) > _ROUNDING * scale):
        raise BadInput(f"{name} is not symmetric; a correlation matrix equals its transpose")
    matrix = (matrix + matrix.mT) / 2
    if np.any(np.linalg.eigvalsh(matrix)[..., 0] < -_ROUNDING * scale[..., 0, 0]):
        raise BadInput(f"{name} has a negative eigenvalue; a correlation matrix is positive semi-definite")
    return matrix

"""Predictors that are set, not learned: W_p as a function of the correlation matrix of the features it is applied to.

DirectPred (Tian, Chen & Ganguli 2021, Eq. 18), DirectSet(α) and DirectCopy (Wang et al. 2021, arXiv 2110.04947) keep
F's eigenvectors and choose the eigenvalues: each is a function of a spectrum (`…_spectrum`, last axis = modes, shared
with `linear_theory.exact.closed_loop`) and the same function of a matrix. Arrays and torch tensors alike
(`tools.arrays`); float32 or float64, the result in F's dtype and on F's device. Half precision is refused: cast
the features, not the matrix.

Nothing here is meant to be differentiated (the gradient of `eigh` is infinite on a degenerate spectrum): call it under
`torch.no_grad()`. `check=True` looks for NaN, asymmetry and negative eigenvalues beyond half of the dtype's digits,
for one Cholesky factorisation and one device synchronisation; turn it off inside flows and compiled code.
"""

from functools import wraps
from typing import Literal

import numpy as np

from stopgrad.linear_theory.flows.matrices import symmetric_part
from stopgrad.linear_theory.tools.arrays import as_array, as_tensor, beside, is_tensor, namespace
from stopgrad.linear_theory.tools.eigen import eigh, eigvalsh
from stopgrad.linear_theory.tools.errors import BadInput

Normalisation = Literal["none", "spectral", "frobenius"]


def full_precision(function):
    """Suspend torch's autocast inside `function`: it would run products of float32 tensors in half precision."""

    @wraps(function)
    def suspended(*args, **kwargs):
        first = args[0] if args else next(iter(kwargs.values()), None)
        if not is_tensor(first):
            return function(*args, **kwargs)
        with namespace(first).autocast(first.device.type, enabled=False):
            return function(*args, **kwargs)

    return suspended


def _nonzero(scale):
    return namespace(scale).where(scale > 0, scale, namespace(scale).ones_like(scale))


# ---------------------------------------------------------------- spectra


def spectral_size(s, normalisation: Normalisation):
    """What `normalisation` divides by: the largest |s| or √Σs² over the last axis (kept), and 1 where that is 0."""
    if normalisation not in ("none", "spectral", "frobenius"):
        raise BadInput(f"normalisation is {normalisation!r}; it must be 'none', 'spectral' or 'frobenius'")
    s = as_array(s, "s")
    xp = namespace(s)
    largest = _nonzero(xp.amax(xp.abs(s), axis=-1, keepdims=True))
    if normalisation == "frobenius":
        unit = s / largest
        return largest * _nonzero(xp.sqrt((unit * unit).sum(axis=-1, keepdims=True)))
    return largest if normalisation == "spectral" else xp.ones_like(largest)


def directpred_spectrum(s, eps=0.1, cutoff=0.0, normalisation: Normalisation = "none", floor=0.0):
    """Eq. 18–19: p = √max(s − c, 0) + ε max s, at least `floor`. s: (…, modes), s ≥ 0; the other arguments broadcast.

    `cutoff` is Table 7's c (of either sign). The released code is `normalisation="spectral", floor=1e-4`: it divides s
    by its maximum first, so that p = √(s/max s) + ε.
    """
    s, eps, cutoff, floor = _spectrum(s, eps, cutoff, floor)
    xp = namespace(s)
    s = s / spectral_size(s, normalisation)
    p = xp.sqrt((s - cutoff).clip(min=0)) + eps * xp.amax(s, axis=-1, keepdims=True)
    return p.clip(min=floor)


def directset_spectrum(s, alpha=1.0, eps=0.0, normalisation: Normalisation = "none"):
    """p = s^α/‖s^α‖ + ε, the norm being 1 for "none". s: (…, modes), s ≥ 0; DirectCopy is α = 1."""
    s, alpha, eps = _spectrum(s, alpha, eps)
    p = s**alpha
    return p / spectral_size(p, normalisation) + eps


def inverse_spectrum(s, ridge=0.0, cutoff=None):
    """1/(s + ridge), and 0 for s ≤ cutoff · max s (by default number of modes × rounding unit): the pseudo-inverse."""
    s, ridge, cutoff = _spectrum(s, ridge, cutoff)
    xp = namespace(s)
    cutoff = s.shape[-1] * xp.finfo(s.dtype).eps if cutoff is None else cutoff
    kept = s > cutoff * xp.amax(s, axis=-1, keepdims=True)
    return xp.where(kept, 1 / xp.where(kept, s + ridge, xp.ones_like(s)), xp.zeros_like(s))


def _spectrum(s, *parameters):
    """A spectrum and what goes with it, through the gate."""
    s = as_array(s, "s")
    return s, *(beside(s, value) for value in parameters)


# ---------------------------------------------------------------- matrices


@full_precision
def spectral_function(F, function, check: bool = True):
    """U function(s) Uᵀ for F = U diag(s) Uᵀ of shape (…, n, n); `function` maps (…, n) to (…, n), s rising and ≥ 0.

    Raises ValueError for half precision, a shape that is not square and, with `check`, for NaN, an asymmetric F and
    an F with materially negative eigenvalues. Negative eigenvalues from rounding count as 0.

    >>> import numpy as np
    >>> spectral_function(np.diag([4.0, 1.0]), np.sqrt).diagonal()
    array([2., 1.])
    """
    F = as_correlation(F, check)
    s, U = eigh(F)
    p = function(s.clip(min=0))
    return symmetric_part(_cast((U * p[..., None, :]) @ U.mT, F.dtype))


def directpred(F, eps=0.1, cutoff=0.0, normalisation: Normalisation = "none", floor=0.0, check: bool = True):
    """DirectPred, W_p = U diag(p) Uᵀ with p of `directpred_spectrum` (Eq. 18; headline ε = 0.1). F: (…, n, n).

    Arguments other than F broadcast against its eigenvalues: give them shape (…, 1) to vary them over a batch.

    >>> import numpy as np
    >>> directpred(np.diag([4.0, 1.0]), eps=0.1).diagonal()  # √s + ε max s
    array([2.4, 1.4])
    """
    _check_numbers(check, eps=eps, floor=floor, **{"|cutoff|": as_tensor(cutoff).abs() if check else 0.0})
    return spectral_function(F, lambda s: directpred_spectrum(s, eps, cutoff, normalisation, floor), check)


def directset(F, alpha=1.0, eps=0.0, normalisation: Normalisation = "none", check: bool = True):
    """DirectSet(α), W_p = F^α/‖F^α‖ + εI. F: (…, n, n); α ≥ 0 and ε as scalars or of shape (…, 1).

    >>> import numpy as np
    >>> directset(np.diag([4.0, 1.0]), alpha=0.5, eps=0.1).diagonal()  # s^α + ε
    array([2.1, 1.1])
    """
    _check_numbers(check, alpha=alpha, eps=eps)
    return spectral_function(F, lambda s: directset_spectrum(s, alpha, eps, normalisation), check)


def directcopy(F, eps=0.0, normalisation: Normalisation = "none", check: bool = True):
    """DirectCopy, W_p = F/‖F‖ + εI, without an eigendecomposition ("spectral" needs the eigenvalues alone).

    F: (…, n, n); ε as a scalar or of shape (…, 1). The released code uses "none"; a replication ("frobenius", ε = 0.3).

    >>> import numpy as np
    >>> directcopy(np.diag([4.0, 1.0]), eps=0.1).diagonal()  # s + ε
    array([4.1, 1.1])
    """
    _check_numbers(check, eps=eps)
    F = as_correlation(F, check)
    eps = beside(F, eps)
    xp, n = namespace(F), F.shape[-1]
    values = eigvalsh(F) if normalisation == "spectral" else F.reshape(*F.shape[:-2], n * n)
    size = spectral_size(values, normalisation)[..., None]
    return _cast(F / size + (eps * xp.ones_like(F[..., 0]))[..., None] * identity_like(F), F.dtype)


@full_precision
def optimal_regression(F, cross, ridge=0.0, cutoff=None, check: bool = True):
    """Table 1's 'optimal' predictor: the least-norm W_p with W_p E[f fᵀ] = ½(E[f_a fᵀ] + E[f f_aᵀ]).

    F = E[f fᵀ] and cross = E[f_a fᵀ]: (…, n, n). `ridge` is added to the eigenvalues of F that exceed
    `cutoff` · max s; the others are dropped. Not symmetric unless F and the cross-correlation commute.

    >>> import numpy as np
    >>> optimal_regression(np.diag([4.0, 1.0]), np.diag([2.0, 1.0])).diagonal()
    array([0.5, 1. ])
    """
    F, cross = as_square(F, "F"), as_square(cross, "cross")
    if F.shape[-1] != cross.shape[-1]:
        raise ValueError(f"F is {tuple(F.shape)} and cross {tuple(cross.shape)}; their last two axes must agree")
    if check and not namespace(cross).isfinite(cross).all():
        raise BadInput("cross has entries that are NaN or infinite; it must be finite")
    _check_numbers(check, ridge=ridge)
    inverse = spectral_function(F, lambda s: inverse_spectrum(s, ridge, cutoff), check)
    return symmetric_part(cross) @ inverse


def identity_like(matrix):
    """The identity of the matrix's size, dtype and device."""
    n = matrix.shape[-1]
    if is_tensor(matrix):
        return namespace(matrix).eye(n, dtype=matrix.dtype, device=matrix.device)
    return np.eye(n, dtype=matrix.dtype)


# ---------------------------------------------------------------- correlations


@full_precision
def correlation(features, centred: bool = False, check: bool = True):
    """E[f fᵀ] over a batch of features: (…, batch, n) to (…, n, n), in the dtype of the features.

    Half precision is promoted to float32 first, whole numbers to float64.

    Not centred by default: 'otherwise the performance deteriorates' (Tian et al., section 4). Sums over this process
    only. Raises ValueError for an empty batch and, with `check` (one device synchronisation), for NaN or infinity.

    >>> correlation([[1.0, 0.0], [0.0, 2.0]])
    array([[0.5, 0. ],
           [0. , 2. ]])
    """
    features = as_array(features, "features")
    if features.ndim < 2 or features.shape[-2] == 0:
        raise ValueError(f"features are {tuple(features.shape)}; they must be (…, batch, n) with at least one sample")
    if check and not namespace(features).isfinite(features).all():
        raise BadInput("features have entries that are NaN or infinite; they must be finite")
    if _name(features.dtype) not in ("float32", "float64"):
        features = _cast(features, namespace(features).float32)
    if centred:
        features = features - features.mean(axis=-2, keepdims=True)
    features = features / features.shape[-2] ** 0.5
    return symmetric_part(features.mT @ features)


def update_correlation(F_hat, F_new, rho):
    """F̂ ← ρF̂ + (1 − ρ)F, starting from the first batch (F̂ None). Raises ValueError for ρ outside [0, 1].

    >>> import numpy as np
    >>> update_correlation(np.eye(2), 2 * np.eye(2), rho=0.75).diagonal()
    array([1.25, 1.25])
    """
    if not 0 <= rho <= 1:
        raise BadInput(f"rho is {rho:g}; it must be in [0, 1]")
    if F_hat is None:
        return as_array(F_new, "F_new")
    F_hat, F_new = as_array(F_hat, "F_hat"), as_array(F_new, "F_new")
    if tuple(F_hat.shape) != tuple(F_new.shape):
        raise ValueError(f"F_hat is {tuple(F_hat.shape)} and F_new {tuple(F_new.shape)}; their shapes must agree")
    return rho * F_hat + (1 - rho) * F_new


def as_correlation(F, check: bool = True):
    """F's symmetric part as a float32 or float64 array or tensor (…, n, n); ValueError where it is no correlation."""
    F = as_square(F, "F")
    if check:
        _require_correlation(F)
    return symmetric_part(F)


def as_square(matrix, name: str):
    """A float32 or float64 array or tensor (…, n, n), integers becoming float64; ValueError for anything else."""
    matrix = as_array(matrix, name)
    if _name(matrix.dtype) not in ("float32", "float64"):
        raise ValueError(f"{name} is {_name(matrix.dtype)}; it must be float32 or float64")
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2] or matrix.shape[-1] == 0:
        raise ValueError(f"{name} is {tuple(matrix.shape)}; it must be square, (…, n, n)")
    return matrix


def _require_correlation(F):
    """One verdict on the device, so one synchronisation; what is wrong is worked out only if something is."""
    import torch

    F = as_tensor(F).detach()
    F = F / _nonzero(F.abs().amax((-2, -1), keepdim=True))
    tolerance = torch.finfo(F.dtype).eps ** 0.5
    finite = F.isfinite().all()
    symmetric = ((F - F.mT).abs() <= tolerance).all()
    empty = (F == 0).all(-1, keepdim=True).all(-2, keepdim=True)  # a zero matrix has no scale: any shift will do
    shifted = symmetric_part(F) + (tolerance + empty.to(F.dtype)) * identity_like(F)
    positive = (torch.linalg.cholesky_ex(shifted).info == 0).all()
    if finite & symmetric & positive:
        return
    if not finite:
        raise BadInput("F has entries that are NaN or infinite; a correlation matrix is finite")
    if not symmetric:
        raise BadInput("F is not symmetric; a correlation matrix is, to rounding")
    worst = torch.linalg.eigvalsh(symmetric_part(F)).min()
    raise BadInput(f"F has an eigenvalue of {worst:.3g} times its largest entry; a correlation has none below 0")


def _check_numbers(check, **values):
    for name, value in values.items() if check else ():
        value = as_tensor(value, name)
        good = value.isfinite() & (value >= 0)
        if not good.all():
            raise BadInput(f"{name} is {value[~good].flatten()[0]:g}; it must be finite and at least 0")


def _name(dtype):
    return str(dtype).removeprefix("torch.")


def _cast(array, dtype):
    return array.to(dtype) if is_tensor(array) else array.astype(dtype)

"""Do InfoNCE's negatives de-correlate? Their residual against the gradient of a de-correlation loss, in theory.

InfoNCE's extra gradient on Z_a is −Σ λ_i Z_i, λ = softmax(Z_a·Z_i/τ) over the keys, the other view's embeddings of a
batch; its residual is r_e = −Σ λ_i r_i. What de-correlates is −offdiag(C) r_a, C the batch's covariance: the gradient
of Σ_{i≠j} C_ij² (Zhang et al. 2022, Algorithm 6). Figure 5c of that paper shows the cosine of the two against τ, with a
peak at τ = 0.15 to 0.2. Here it is a closed form for Gaussian residuals of a given spectrum (`contrast_alignment`),
and measured on embeddings (`measured_alignment`). Derived here. What it says of the figure:

- Exponential tilting of Gaussian keys gives C r_a/τ, at every τ: negatives alone de-correlate.
- The rise, at small τ. The positive is one of the keys, with the weight λ_0 = 1/(1 + K e^{q/2τ² − s/τ}), K the number
  of negatives, s = ρ(1 − m_o²) its cosine beyond the centre and q = r_aᵀC r_a. Below τ = s/ln K (`grip`) it holds the
  softmax, and r_e = −r_b, which de-correlates as little as any pull at one image. The figure's half height at 0.07 is
  that of ρ = 0.4 at 256 images. (Negatives alone freeze below √(q/2 ln K), which is less: only the nearest counts.)
- The fall, at large τ. C r_a/τ vanishes; what does not is what the centre that is taken off has beyond that of the
  keys. Where keys are of the other view and the centre is of both, (ō_a − ō_b)/2 stays, of size √((1 − ρ)/2N); where
  keys are of both views but the own embedding, r_a/2N, which points the other way and turns the cosine negative. Beside
  these the signal, of size 1/(effective rank · τ), is small where the spectrum of C is nearly flat and its effective
  rank that of a batch or more. With the keys' own centre the cosine rises to a constant, as r_e = −(1/τ) C r_a says;
  with few modes it does not fall below τ of order 1. So the fall is in how r_e is told from o_e, and no loss of
  de-correlation.
- Not explained is how steep the fall is: at one spectrum the tangent of the angle grows as τ, that of the digitised
  curve as τ² from 0.2 to 0.4. Were each τ a network of its own, C would differ along the curve.
"""

import math
from typing import Literal

import numpy as np

from stopgrad.linear_theory.tools.arrays import as_float64
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.lengths import directions

Keys = Literal["other", "both"]
Centre = Literal["keys", "both"]
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(41)


def positive_weight(spectrum, tau, batch: int = 256, rho: float = 0.8, keys: Keys = "other") -> np.ndarray:
    """λ_0, the softmax weight of the positive among the keys, on average. Shape of `tau`.

    Arguments as in `contrast_alignment`. The negatives' sum is K e^{q/2τ²}, and that of its largest term, e^{√(2q ln
    K)/τ}, below the temperature √(q/2 ln K) at which it freezes (the random energy model, Derrida 1981).

    >>> positive_weight(np.full(128, 1 / 128), [0.05, 0.2, 5.0]).round(3)
    array([1.   , 0.166, 0.005])
    """
    spectrum, tau = _checked(spectrum, tau, batch, rho)
    total, q = spectrum.sum(), np.sum(spectrum**2)
    log_k = np.log(_negatives(batch, keys))
    frozen = np.sqrt(q / (2 * log_k))
    negatives = np.where(tau > frozen, log_k + q / (2 * tau**2), np.sqrt(2 * q * log_k) / tau)
    matching = rho * total + np.sqrt((1 - rho**2) * q) * _NODES
    gap = np.clip(negatives[..., None] - matching / tau[..., None], -700, 700)
    return np.sum(_WEIGHTS / (1 + np.exp(gap)), axis=-1) / _WEIGHTS.sum()


def contrast_alignment(
    spectrum, tau, batch: int = 256, rho: float = 0.8, keys: Keys = "other", centre: Centre = "both"
) -> np.ndarray:
    """cos(r_e, −offdiag(C) r_a) over a batch, for Gaussian residuals. Shape of `tau`.

    spectrum: eigenvalues of the residuals' covariance, (modes,), its sum 1 − m_o²; zeros count as dimensions. Its
    eigenvectors lie askew to the channels, so that all channels have one variance. batch: N, images in the batch. rho:
    correlation of residuals across views. keys: the N embeddings of the other view, or those of both views but the own
    one, 2N − 1 (SimCLR). centre: what is taken off the keys' weighted mean, the mean of the N keys or of both views; of
    keys from both views it is the mean of both views.

    To leading order in 1/N and where the spectrum has many modes; C is the batch's own, the sample itself in it, as the
    de-correlation loss sees it. ValueError for values out of range.

    >>> flat = np.full(512, 1 / 512)
    >>> contrast_alignment(flat, [0.05, 0.2, 1.0], batch=256, rho=0.6).round(2)  # the positive, negatives, centres
    array([0.49, 0.54, 0.13])
    """
    held, (spectrum, tau) = positive_weight(spectrum, tau, batch, rho, keys), _checked(spectrum, tau, batch, rho)
    if centre not in ("keys", "both"):
        raise BadInput(f"centre is {centre!r}; it must be keys or both")
    pairs, all_keys, count = keys == "both", batch * (1 + (keys == "both")), _negatives(batch, keys)
    s1, s2, s3 = (np.sum(spectrum**k) for k in (1, 2, 3))
    free, tilt = 1 - held, 1 / np.maximum(tau, np.sqrt(s2 / (2 * np.log(count))))  # no further where it has frozen
    own = s1 / batch - s1 / spectrum.size  # of C's own sample, less its diagonal, on r_a
    noise = s2 * s1 / batch  # of C r_a, squared, as estimated from a batch
    gradient = s3 + 2 * own * s2 + own**2 * s1 + noise  # its square

    # −r_e = excess·r_b − missing·r_a + free·tilt·C r_a + what the weights of few negatives scatter about
    excess, missing, shared = held - 1 / all_keys, pairs / all_keys, pairs * rho
    scattered = np.exp(np.minimum(s2 * tilt**2, 700)) + shared * np.exp(np.minimum(rho * s2 * tilt**2, 700))
    scatter = np.minimum(free**2 * scattered / count, 1)  # of the weights themselves; less that of equal ones, which
    scatter = scatter + (1 + shared) * (count / all_keys**2 - 2 * free / all_keys)  # the centre takes off
    apart = (not pairs and centre == "both") * (1 - rho) / (2 * batch)  # half the way between the views' centres
    pull = free * tilt
    squared = (
        (excess**2 - 2 * excess * missing * rho + missing**2) * s1
        + 2 * (excess * rho - missing) * pull * s2
        + pull**2 * s3
        + (np.maximum(scatter, 0) + apart) * s1
    )
    alike = (1 + rho**2) / 2 if pairs else rho**2  # of the noise in C and that in the negatives
    along = (excess * rho - missing) * (s2 + own * s1) + pull * (s3 + own * s2 + alike * noise)
    return along / np.sqrt(squared * gradient)


def grip(rho: float = 0.8, batch: int = 256, total: float = 1.0, keys: Keys = "other") -> float:
    """The temperature ρ(1 − m_o²)/ln K below which the positive holds the softmax against K negatives.

    total: 1 − m_o².

    >>> round(grip(0.8, 256), 3)
    0.144
    """
    return rho * total / math.log(_negatives(batch, keys))


def _negatives(batch: int, keys: Keys) -> int:
    """K: how many keys are of other images."""
    if keys not in ("other", "both"):
        raise BadInput(f"keys is {keys!r}; it must be other or both")
    return batch - 1 if keys == "other" else 2 * batch - 2


def _checked(spectrum, tau, batch, rho):
    spectrum, tau = as_float64(spectrum, "the spectrum"), as_float64(tau, "tau")
    if spectrum.ndim != 1 or not (np.isfinite(spectrum).all() and (spectrum >= 0).all() and spectrum.sum() > 0):
        raise BadInput("the spectrum must be eigenvalues of at least 0 in one dimension, not all of them 0")
    if not (np.isfinite(tau) & (tau > 0)).all():
        raise BadInput("tau must be finite and above 0")
    if batch < 3:
        raise BadInput(f"batch is {batch}; it takes at least 3 images")
    if not -1 <= rho <= 1:
        raise BadInput(f"rho is {rho:g}; it must be from -1 to 1")
    return spectrum, tau


# ---------------------------------------------------------------- on embeddings


def infonce_residuals(Z_a, Z_b, tau: float, keys: Keys = "other", centre: Centre = "both") -> np.ndarray:
    """r_e = o − Σ λ_i Z_i of every image, (N, d), for embeddings Z_a, Z_b (N, d) of two views; arguments as above.

    >>> infonce_residuals([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]], 0.01).round(6).tolist()  # o − Z_b
    [[-0.5, 0.5], [0.5, -0.5]]
    """
    Z_a, Z_b = directions(as_float64(Z_a, "Z_a")), directions(as_float64(Z_b, "Z_b"))
    among = Z_b if keys == "other" else np.concatenate([Z_b, Z_a])
    logits = Z_a @ among.T / tau
    np.fill_diagonal(logits[:, len(Z_b) :], -np.inf)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    o = Z_b.mean(axis=0) if (keys, centre) == ("other", "keys") else (Z_a.mean(axis=0) + Z_b.mean(axis=0)) / 2
    return o - weights @ among


def decorrelation_gradient(Z) -> np.ndarray:
    """−offdiag(C) r of every row, (N, d): minus the gradient of Σ_{i≠j} C_ij² by Z, up to a factor 4/(N − 1).

    C = rᵀr/(N − 1), r = Z − mean, of normalised rows (Zhang et al. 2022, Algorithm 6).

    >>> decorrelation_gradient([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]).tolist()  # nothing is correlated
    [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
    """
    Z = directions(as_float64(Z, "Z"))
    r = Z - Z.mean(axis=0)
    C = r.T @ r / (len(r) - 1)
    return 0.0 - r @ (C - np.diag(C.diagonal()))


def measured_alignment(Z_a, Z_b, tau, keys: Keys = "other", centre: Centre = "both") -> np.ndarray:
    """The cosine of r_e and the de-correlation gradient over a batch, each as one vector of N·d. Shape of `tau`.

    NaN where either is 0. Arguments as in `infonce_residuals`.

    >>> rng = np.random.default_rng(0)
    >>> Z = rng.normal(size=(64, 8)) * np.sqrt(np.arange(1, 9))
    >>> float(measured_alignment(Z, Z, 1.0).round(2))
    0.43
    """
    gradient, tau = decorrelation_gradient(Z_a), as_float64(tau, "tau")
    cosines = []
    for each in tau.ravel():
        residual = infonce_residuals(Z_a, Z_b, each, keys, centre)
        with np.errstate(invalid="ignore"):
            cosines.append(np.sum(residual * gradient) / (np.linalg.norm(residual) * np.linalg.norm(gradient)))
    return np.reshape(cosines, tau.shape)

"""Collapse as a spectrum shows it: metrics on singular values, how to get these from features, and what noise gives.

The metrics take singular values σ ≥ 0 (…, modes) of a matrix of features (N, d), in any order, NumPy or torch, and give
float64 (…): λ = σ² are variances up to a factor, and every metric is scale-free. Authors differ in whether σ or λ
enters, in centring and in what stands for log 0 (`Convention`), so a number means little without its `SpectrumReport`.
ValueError for an empty spectrum, half precision, complex numbers, NaN, infinity, a negative value, or all 0.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache, reduce
from typing import NamedTuple

import numpy as np

from stopgrad.linear_theory.spectra.moments import (
    float64_of,
    merge,
    moments,
    rounding_of,
    singular_values,
    unit_rows,
)
from stopgrad.linear_theory.spectra.white_noise import white_noise_spectrum
from stopgrad.linear_theory.tools.arrays import as_array, as_float64, is_tensor, namespace
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.lengths import length

FLOAT32 = 2.0**-23  # distance from 1 to the next float32, the precision that published spectra were computed in
FIT = (12, 100)  # ranks that α-ReQ's released code fits (0-based 11…99)


def _checked(sigma):
    """σ as float64 (…, modes), or ValueError."""
    sigma = as_array(sigma, "the spectrum")
    xp = namespace(sigma)
    if sigma.ndim == 0 or 0 in sigma.shape:
        raise ValueError(f"the spectrum has shape {tuple(sigma.shape)}; it needs at least one singular value")
    if str(sigma.dtype).removeprefix("torch.") in ("float16", "bfloat16"):
        raise ValueError(f"the spectrum is {sigma.dtype}; take singular values of float32 or float64 features")
    sigma = float64_of(sigma)
    if not bool(xp.isfinite(sigma).all()):
        raise BadInput("the spectrum holds NaN or infinity; look for them in the features")
    if bool((sigma < 0).any()):
        raise BadInput("the spectrum holds a negative value; give singular values (of eigenvalues, the square roots)")
    if not bool((sigma > 0).any(-1).all()):
        raise BadInput("all singular values are 0: the features do not vary, which is complete collapse")
    return sigma


def _relative(sigma):
    """σ/σ₁ in float64, largest first: no square of it overflows."""
    sigma = _checked(sigma)
    rising = sigma.sort(-1).values if is_tensor(sigma) else np.sort(sigma, -1)
    sigma = namespace(sigma).flip(rising, (-1,))
    return sigma / sigma[..., :1]


def _exp_entropy(p):
    xp = namespace(p)
    return xp.exp(-(p * xp.log(xp.where(p > 0, p, 1.0))).sum(-1))


# ---------------------------------------------------------------- metrics


def cumulative_spectrum(sigma):
    """CEV_j = Σ_{i≤j} σ_i/Σσ (…, modes), σ falling; of σ, not σ², though Li et al. 2022 say 'explained variance'.

    >>> cumulative_spectrum([2.0, 1.0, 1.0])
    array([0.5 , 0.75, 1.  ])
    """
    total = _relative(sigma).cumsum(-1)
    return total / total[..., -1:]


def collapse_auc(sigma, dim: int | None = None):
    """Li et al. 2022, Eq. 2: the plain mean of CEV_j, from (d+1)/(2d) for a flat spectrum to 1 for rank 1.

    `dim` is the features' dimension d, by default the number of values given. It must be told where there are fewer:
    the SVD of N < d samples returns N, and the missing zeros count. ValueError if dim is less than the values given.

    >>> collapse_auc([1.0, 1.0, 1.0, 1.0]), collapse_auc([1.0, 0.0, 0.0, 0.0])
    (np.float64(0.625), np.float64(1.0))
    """
    cev = cumulative_spectrum(sigma)
    modes = cev.shape[-1]
    dim = modes if dim is None else dim
    if dim < modes:
        raise BadInput(f"dim is {dim}, but there are {modes} singular values; dim is the features' dimension")
    return (cev.sum(-1) + (dim - modes)) / dim


def rankme(sigma, eps: float = 0.0):
    """Garrido et al. 2023: exp(−Σ p ln p) with p = σ/Σσ + eps, over all values given, zeros too.

    The paper's eps is 1e-7; with it, a flat spectrum exceeds d, and a zero counts: its spectrum is the min(N, d) values
    of an SVD (`report`). `variance_effective_rank` is the same of σ².

    >>> rankme([1.0, 1.0, 0.0]).round(9)  # exp of the entropy of two equal shares
    np.float64(2.0)
    """
    if not 0 <= eps < math.inf:
        raise BadInput(f"eps is {eps}; it must be at least 0")
    sigma = _relative(sigma)
    return _exp_entropy(sigma / sigma.sum(-1)[..., None] + eps)


def variance_effective_rank(sigma):
    """exp(−Σ p ln p) with p = σ²/Σσ²: Roy & Vetterli (2007) with variances for singular values; at most `rankme`.

    >>> variance_effective_rank([1.0, 1.0, 0.0]).round(9)
    np.float64(2.0)
    """
    lam = _relative(sigma) ** 2
    return _exp_entropy(lam / lam.sum(-1)[..., None])


def participation_ratio(sigma):
    """(Σσ²)²/Σσ⁴.

    >>> participation_ratio([1.0, 1.0, 0.0])
    np.float64(2.0)
    """
    lam = _relative(sigma) ** 2
    return lam.sum(-1) ** 2 / (lam * lam).sum(-1)


def stable_rank(sigma):
    """Σσ²/σ₁²; elsewhere NESum.

    >>> stable_rank([2.0, 1.0])  # Σσ²/max σ²
    np.float64(1.25)
    """
    return (_relative(sigma) ** 2).sum(-1)


def alpha_req(sigma, first: int = FIT[0], last: int = FIT[1], weighted: bool = True):
    """α of σ_i² ~ i^−α (Agrawal et al. 2022): least squares of ln σ² on ln i over the ranks i = first … last, from 1.

    Each point weighs 1/i, or 1 if not `weighted`. Published windows are 12…100 (the default), 4…100, 4…50 and 6…50.
    ValueError unless 1 ≤ first < last ≤ modes, or where a value in the window is 0. A window that reaches into rounding
    noise fits the noise: see `numerical_rank`.

    >>> import numpy as np
    >>> alpha_req(np.arange(1, 101) ** -0.5).round(9)  # λ_j = σ_j² = 1/j
    np.float64(1.0)
    """
    sigma = _relative(sigma)
    if not 1 <= first < last <= sigma.shape[-1]:
        raise BadInput(f"ranks {first} to {last} cannot be fitted to {sigma.shape[-1]} values; choose first and last")
    window = sigma[..., first - 1 : last]
    if not bool((window > 0).all()):
        raise BadInput(f"a singular value of the ranks {first} to {last} is 0; fit fewer ranks")
    rank = np.arange(first, last + 1)
    x, w = np.log(rank), 1 / rank if weighted else np.ones(len(rank))
    slope = w * (x - np.average(x, weights=w))
    slope /= slope @ x
    xp = namespace(sigma)
    return -2 * (xp.log(window) * (xp.as_tensor(slope).to(sigma.device) if is_tensor(sigma) else slope)).sum(-1)


def numerical_rank(sigma, rtol: float | None = None):
    """Number of values above rtol·σ₁ (…); rtol is by default modes · the spacing of σ's dtype at 1.

    torch.linalg.matrix_rank multiplies by max(N, d) instead, which for a million float32 samples is 0.15.

    >>> numerical_rank([1.0, 1e-3, 1e-20])
    np.int64(2)
    """
    relative = _relative(sigma)
    return (relative > (relative.shape[-1] * rounding_of(sigma) if rtol is None else rtol)).sum(-1)


# ---------------------------------------------------------------- what noise would give


class Metrics(NamedTuple):
    """The metrics of this module on one spectrum; alpha_req is None where too few values are positive for a fit."""

    collapse_auc: float
    rankme: float
    variance_effective_rank: float
    participation_ratio: float
    stable_rank: float
    alpha_req: float | None


def _metrics(sigma, samples: int, dim: int, eps: float, window: tuple[int, int] | None) -> Metrics:
    """Of σ (…,) falling. RankMe is over the min(N, d) values that an SVD returns, whatever number is given of zeros."""
    returned = np.append(sigma, np.zeros(dim))[: min(samples, dim)]
    return Metrics(
        float(collapse_auc(sigma, dim)),
        float(rankme(returned, eps)),
        float(variance_effective_rank(sigma)),
        float(participation_ratio(sigma)),
        float(stable_rank(sigma)),
        window and float(alpha_req(sigma, *window)),
    )


@lru_cache(maxsize=256)
def white_noise(
    samples: int, dim: int, centred: bool = True, eps: float = 0.0, window: tuple[int, int] | None = None
) -> Metrics:
    """Each metric for white Gaussian features of the same N and d: what 'no collapse' scores at this sample size.

    Of `white_noise_spectrum`, but for two: E(Σλ)²/EΣλ² of a Wishart matrix, exactly, as the participation ratio, and
    the mean of λ₁ (Johnstone 2001, centred as in Ma 2012) in the stable rank. `eps` is `rankme`'s, `window` the ranks
    that `alpha_req` fits.
    """
    sigma = white_noise_spectrum(samples, dim, centred)
    n = samples - centred
    ratio = (n * dim + 2) / (n + dim + 1)
    a, b = math.sqrt(n - 0.5), math.sqrt(dim - 0.5)
    largest = (a + b) ** 2 - 1.2065335746 * (a + b) * (1 / a + 1 / b) ** (1 / 3)  # −1.2…: mean of Tracy–Widom, β = 1
    # Below some ten samples or dimensions λ₁'s asymptotics leave the range [1, ratio] in which a stable rank lies.
    stable = min(max(n * dim / largest, 1.0), ratio)
    return _metrics(sigma, samples, dim, eps, window)._replace(participation_ratio=ratio, stable_rank=stable)


# ---------------------------------------------------------------- one measurement


@dataclass(frozen=True)
class Convention:
    """What a paper does before it measures. `CONVENTIONS` has the published ones by name."""

    name: str
    space: str
    """What the paper measures: the representation (backbone's output) or the embedding (projector's output)."""
    centred: bool = True
    """The features' mean is subtracted."""
    normalised: bool = False
    """Rows are scaled to length 1 first (`unit_rows`)."""
    rankme_eps: float = 0.0
    """eps of `rankme`, which each of min(N, d) values is given."""
    alpha_window: tuple[int, int] = FIT
    """First and last rank of `alpha_req`'s fit; cut where fewer values are positive."""


LI2022 = Convention("li2022", "representation")
LI2022_NORMALISED = Convention("li2022-normalised", "representation", normalised=True)
GARRIDO2023 = Convention("garrido2023", "embedding", centred=False, rankme_eps=1e-7)
CONVENTIONS = {convention.name: convention for convention in (LI2022, LI2022_NORMALISED, GARRIDO2023)}


@dataclass(frozen=True)
class SpectrumReport:
    """One measurement, all that decides its numbers, and what white noise of the same size would score."""

    space: str
    """Which features: representation, embedding, prediction, …"""
    convention: str
    centred: bool
    normalised: bool
    samples: int
    """N."""
    dim: int
    """d, the dimension that `collapse_auc` divides by."""
    rms: float
    """√(Σσ²/N), the length of a typical feature (less the mean if centred): no metric sees it."""
    rankme_eps: float
    alpha_window: tuple[int, int] | None
    """The ranks fitted; None where there are not two."""
    metrics: Metrics | None
    """None where all σ are 0: complete collapse, of which no spectrum can be measured."""
    white_noise: Metrics

    def row(self) -> dict:
        """The report flat, for a table: each metric under its name and, for white noise, as NAME_white_noise."""
        flat = asdict(self)
        measured, noise = flat.pop("metrics"), flat.pop("white_noise")
        flat["alpha_first"], flat["alpha_last"] = flat.pop("alpha_window") or (None, None)
        for name in Metrics._fields:
            flat[name] = getattr(measured, name, None)
            flat[f"{name}_white_noise"] = getattr(noise, name)
        return flat


def report(sigma, samples: int, dim: int, convention: Convention = LI2022, space: str | None = None) -> SpectrumReport:
    """All metrics of one spectrum σ (modes,) of N = `samples` features of d = `dim`, treated as `convention` says.

    `space` is the paper's unless told. All-zero σ is reported (`metrics` None), since complete collapse is a result.
    ValueError for NaN, infinity, negative values, more values than d, and for more of them above float32's rounding
    than there can be: min(d, N), or min(d, N − 1) if centred, which means that the features were not.
    """
    sigma = as_array(sigma, "the spectrum")
    if sigma.ndim != 1:
        raise ValueError(f"the spectrum has shape {tuple(sigma.shape)}; a report is about one spectrum, (modes,)")
    if len(sigma) > dim:
        raise BadInput(f"dim is {dim}, but there are {len(sigma)} singular values; dim is the features' dimension")
    collapsed = len(sigma) > 0 and not sigma.any()
    sigma = np.sort(as_float64(sigma if collapsed else _checked(sigma)))[::-1]
    cap = max(min(samples - convention.centred, dim), 0)
    if (beyond := sigma[cap:]).any():
        if beyond[0] > dim * FLOAT32 * sigma[0]:
            how = "centred" if convention.centred else "uncentred"
            raise BadInput(
                f"{samples} {how} samples of {dim} dimensions span {cap}, but more singular values are not 0; "
                "check samples, and whether the features were centred"
            )
        sigma = np.append(sigma[:cap], np.zeros(len(beyond)))
    first, last = convention.alpha_window
    last = min(last, cap if collapsed else int((sigma > 0).sum()))
    window = (first, last) if first < last else None
    return SpectrumReport(
        space=space or convention.space,
        convention=convention.name,
        centred=convention.centred,
        normalised=convention.normalised,
        samples=samples,
        dim=dim,
        rms=float(length(sigma) / math.sqrt(samples)),
        rankme_eps=convention.rankme_eps,
        alpha_window=window,
        metrics=None if collapsed else _metrics(sigma, samples, dim, convention.rankme_eps, window),
        white_noise=white_noise(samples, dim, convention.centred, convention.rankme_eps, window),
    )


def measure(batches: Iterable, convention: Convention = LI2022, space: str | None = None) -> SpectrumReport:
    """`report` on features: one array (N, d) or an iterable of such batches, read once and never held together.

    Raises as `moments`, `merge`, `singular_values` and `report` do, and for no batches.

    >>> import numpy as np
    >>> found = measure(np.vstack([np.eye(3), -np.eye(3)]))  # three directions, equally strong
    >>> round(found.metrics.rankme, 9), round(found.metrics.stable_rank, 9)
    (3.0, 3.0)
    """
    rows = isinstance(batches, list) and len(batches) > 0 and np.ndim(batches[0]) == 1
    batches = [batches] if rows or hasattr(batches, "__array__") else batches
    prepared = unit_rows if convention.normalised else float64_of
    parts = (moments(prepared(z))._replace(rounding=rounding_of(z)) for z in batches)
    if (first := next(parts, None)) is None:
        raise BadInput("there are no batches of features; give at least one")
    total = reduce(merge, parts, first)
    return report(singular_values(total, convention.centred), total.count, len(total.mean), convention, space)

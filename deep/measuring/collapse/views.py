"""Metrics that a spectrum does not hold: how directions spread over the sphere, and how an image's views agree.

Sums first (`spread`, `agreement`), which chunks add up, then the metrics on them; each metric is a function of features
too. Beside each stands what white noise scores: features whose directions are uniform and whose views are independent.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from stopgrad.linear_theory.spectra.moments import Moments, float64_of, merge, moments
from stopgrad.linear_theory.spectra.spectrum import rankme
from stopgrad.linear_theory.tools.arrays import as_float64, namespace
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.lengths import directions

SAMPLED = 4096
"""Features of which uniformity compares all pairs, evenly spaced among those given."""
_ROWS = 1024  # of the matrix of pairs, held at once


# ---------------------------------------------------------------- one vector an image


class Spread(NamedTuple):
    """Sums over the directions z/‖z‖ of features."""

    count: int
    mean: Any
    """(d,)"""
    squares: Any
    """Σ(u − mean)² by channel, (d,)."""

    @property
    def std(self) -> float:
        """Mean over channels of their (population) standard deviation."""
        return float(((self.squares / self.count) ** 0.5).mean())


def spread(features) -> Spread:
    """`Spread` of features (N, d), NumPy or torch."""
    u = directions(float64_of(features))
    mean = u.mean(0)
    return Spread(len(u), mean, ((u - mean) ** 2).sum(0))


def join_spreads(a: Spread, b: Spread) -> Spread:
    """`Spread` of both sets together, without a difference of large numbers (Chan et al. 1983)."""
    count, step = a.count + b.count, b.mean - a.mean
    share = b.count / count
    return Spread(count, a.mean + share * step, a.squares + b.squares + a.count * share * step * step)


def channel_std(features) -> float:
    """Mean over channels of the std of z/‖z‖, features (N, d): 1/√d for uniform directions, 0 for a single one.

    What SimSiam's Figure 2 watches (Chen & He 2021). It cannot see a dimensional collapse.

    >>> round(channel_std([[2.0, 0.0], [-1.0, 0.0], [0.0, 3.0], [0.0, -1.0]]), 6)  # 1/√2
    0.707107
    """
    return spread(_features(features)).std


def uniformity(features, t: float = 2.0) -> float:
    """ln E exp(−t‖u − v‖²) over pairs of different features' directions (Wang & Isola 2020): 0 for a single direction.

    The less, the more evenly spread; `uniformity_white_noise(d)` is the value of a uniform spread. Of more than 4,096
    features (N, d) as many are taken, evenly spaced.

    >>> round(uniformity([[1.0, 0.0], [-1.0, 0.0]]), 6)  # one pair, ‖u − v‖² = 4
    -8.0
    """
    z = _features(features)
    u = directions(float64_of(z[evenly(len(z))]))
    if len(u) < 2:
        raise BadInput("uniformity compares features with each other; give at least two")
    xp, total = namespace(u), 0.0
    for start in range(0, len(u), _ROWS):
        rows = u[start : start + _ROWS]
        with_others, with_itself = rows @ u.T, (rows * rows).sum(-1)
        total += sum(sign * float(xp.exp(2 * t * (c - 1)).sum()) for sign, c in ((1, with_others), (-1, with_itself)))
    return math.log(total / (len(u) * (len(u) - 1)))


def evenly(count: int) -> np.ndarray:
    """Up to `SAMPLED` of `count` indices, evenly spaced: a sample that needs no seed."""
    return np.unique(np.linspace(0, count - 1, min(count, SAMPLED)).round().astype(int))


def uniformity_white_noise(dim: int, t: float = 2.0) -> float:
    """`uniformity` of uniform directions in d dimensions: −2t + ln ₀F₁(; d/2; t²).

    >>> round(uniformity_white_noise(2), 4), round(uniformity_white_noise(512), 4)
    (-1.575, -3.9844)
    """
    from scipy.special import hyp0f1

    return -2 * t + math.log(float(hyp0f1(dim / 2, t * t)))


# ---------------------------------------------------------------- several views of an image


class Agreement(NamedTuple):
    """Sums over images whose views are known."""

    views: int
    gap: float
    """Σ over images of the mean of ‖u − v‖² over pairs of its views' directions."""
    between: Moments
    """Of the images' means over their views."""
    within: Moments
    """Of what is left of each view."""


def agreement(views) -> Agreement:
    """`Agreement` of views (V, N, d), row i of each being of image i; V ≥ 2. NumPy or torch."""
    z = float64_of(views)
    u, mean = directions(z), z.mean(0)
    # Σ over pairs of ‖u_a − u_b‖² is V Σ_a ‖u_a − ū‖²
    gap = 2 / (len(z) - 1) * float(((u - u.mean(0)) ** 2).sum())
    return Agreement(len(z), gap, moments(mean), moments((z - mean).reshape(-1, z.shape[-1])))


def join_agreements(a: Agreement, b: Agreement) -> Agreement:
    """`Agreement` of both sets of images together."""
    return Agreement(a.views, a.gap + b.gap, merge(a.between, b.between), merge(a.within, b.within))


def alignment(views) -> float:
    """E‖u − v‖² of two views' directions (Wang & Isola 2020), views (V, N, d): 0 where they agree, 2 if independent.

    With more than two views the mean over their pairs.

    >>> alignment([[[1.0, 0.0]], [[0.0, 2.0]]])  # two views of one image, at a right angle
    2.0
    """
    return alignment_of(agreement(_views(views)))


def alignment_of(found: Agreement) -> float:
    """`alignment` from sums."""
    return found.gap / found.between.count


def lidar(views, delta: float = 1e-4, eps: float = 1e-8) -> float:
    """LiDAR of views (V, N, d): the effective rank of what tells images apart, beside what changes within one.

    exp of the entropy of the eigenvalues of Σ_w^−½ Σ_b Σ_w^−½, as shares: Σ_b is the covariance of the images' means
    over their views, Σ_w that of views about them, plus δI, in units of features squared; eps is added to each
    eigenvalue (Thilak et al.). At most min(d, N − 1). Raises BadInput where all images have one mean.

    >>> import numpy as np
    >>> means = 3 * np.vstack([np.eye(3), -np.eye(3)])  # of six images, in three dimensions
    >>> round(lidar([means + 0.1, means - 0.1]), 3)
    2.022
    """
    return lidar_of(agreement(_views(views)), delta, eps)


def lidar_of(found: Agreement, delta: float = 1e-4, eps: float = 1e-8) -> float:
    """`lidar` from sums."""
    from scipy.linalg import eigh

    between, within = (as_float64(m.scatter * m.unit**2 / m.count) for m in (found.between, found.within))
    if not np.trace(between) > 0:
        raise BadInput("the views' mean is the same for all images; nothing tells them apart")
    ratios = eigh(between, within + delta * np.eye(len(within)), eigvals_only=True).clip(min=0)
    return float(rankme(ratios + eps))


def lidar_white_noise(samples: int, views: int, dim: int) -> float | None:
    """`lidar` of Gaussian features whose images differ alike in all directions, as do an image's views.

    By the limiting law of the eigenvalues of Σ_b Σ_w⁻¹ (Wachter), for large samples and dimensions, whatever the ratio
    of the two variances. None where views are too few to span d dimensions, N(V − 1) ≤ d: then δ decides.

    >>> round(lidar_white_noise(10_000, 2, 64), 1)
    63.6
    """
    own, other = samples - 1, samples * (views - 1)
    if own < 1 or other <= dim:
        return None
    g1, g2 = dim / own, dim / other
    root = math.sqrt(g1 + g2 - g1 * g2)
    theta = (np.arange(1 << 14) + 0.5) * math.pi / (1 << 14)
    x = ((1 - root) ** 2 + 4 * root * np.sin(theta / 2) ** 2) / (1 - g2) ** 2
    mass = np.sin(theta) ** 2 / (x * (g1 + g2 * x))
    share = x / np.average(x, weights=mass)
    return min(own, dim) * math.exp(-np.average(share * np.log(share), weights=mass))


# ---------------------------------------------------------------- input


def _features(features):
    return _of(features, 2, "features", "(samples, dimensions)", (1, 1))


def _views(views):
    return _of(views, 3, "views", "(views, images, dimensions), two views at least", (2, 1, 1))


def _of(value, axes: int, name: str, wanted: str, least: tuple[int, ...]):
    z = float64_of(value)
    if z.ndim != axes or any(n < m for n, m in zip(z.shape, least)):
        raise BadInput(f"the {name} have shape {tuple(z.shape)}; they must be {wanted}")
    if not bool(namespace(z).isfinite(z).all()):
        raise BadInput(f"the {name} hold NaN or infinity")
    return z

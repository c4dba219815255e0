"""One pass over features, and what it says of their collapse: metrics beside white noise's, and their limits.

Sums are kept in float64 (d × d), so that a million samples cost no more memory than a thousand.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from stopgrad.deep.measuring.collapse import views
from stopgrad.deep.measuring.collapse.features import Features, of_array
from stopgrad.deep.measuring.collapse.presets import convention_of
from stopgrad.linear_theory.spectra.moments import (
    Moments,
    float64_of,
    merge,
    moments,
    rounding_of,
    singular_values,
    unit_rows,
)
from stopgrad.linear_theory.spectra.spectrum import Convention, SpectrumReport, numerical_rank, report
from stopgrad.linear_theory.tools.arrays import as_array, as_float64
from stopgrad.linear_theory.tools.errors import BadInput

_ENDLESS = 2**62
"""Samples so many that white noise is flat, for a spectrum of which nobody knows how many there were."""


@dataclass(frozen=True)
class Collapse:
    """What was measured of a set of features, or of their singular values; None where it could not be."""

    features: str
    """Where they came from."""
    spectrum: SpectrumReport
    """The spectrum's metrics beside white noise's, with space, centring, normalisation, N and d."""
    sigma: np.ndarray
    """Singular values, falling: of the first view, as the convention wants it."""
    noise_floor: float
    """Singular values up to about this one are rounding: of the dtype in which features came, or of the sums."""
    numerical_rank: int
    """Singular values above the floor."""
    views: int | None = None
    constant_channels: int | None = None
    """Dimensions that do not vary beyond rounding."""
    channel_std: float | None = None
    uniformity: float | None = None
    alignment: float | None = None
    lidar: float | None = None

    def row(self) -> dict:
        """All of it flat, each metric under its function's name and, for white noise, as NAME_white_noise."""
        n, d = self.spectrum.samples, self.spectrum.dim
        several = self.alignment is not None
        noise = {
            "channel_std": None if self.channel_std is None else d**-0.5,
            "uniformity": None if self.uniformity is None else views.uniformity_white_noise(d),
            "alignment": 2.0 if several else None,
            "lidar": views.lidar_white_noise(n, self.views, d) if several else None,
        }
        own = {name: getattr(self, name) for name in ("views", "noise_floor", "numerical_rank", "constant_channels")}
        flat = {"features": self.features} | self.spectrum.row() | own
        for name, value in noise.items():
            flat |= {name: getattr(self, name), f"{name}_white_noise": value}
        return flat


def measure_collapse(
    features,
    preset: str | Convention = "li2022",
    space: str | None = None,
    each: Callable[[list], Iterable] = iter,
) -> Collapse:
    """All metrics of features (N, d), or of views (V, N, d), NumPy or torch, or of `Features` that stand in a file.

    The spectrum, the channels' std and the uniformity are of the first view; alignment and LiDAR are of all, where
    there are two or more. `space` says which features they are, the preset's unless told; `each` wraps the parts that
    are read, to show progress. Raises BadInput for features of another shape, with NaN or infinity, or that do not
    vary.

    >>> import numpy as np
    >>> found = measure_collapse(np.vstack([np.eye(3), -np.eye(3)]))  # three directions, equally strong
    >>> round(found.spectrum.metrics.rankme, 9), found.numerical_rank
    (3.0, 3)
    >>> from stopgrad.deep.measuring.collapse.verdict import verdict
    >>> verdict(found).word
    'healthy'
    """
    convention = convention_of(preset)
    if not isinstance(features, Features):
        array = as_array(features, "the features")
        features = of_array(lambda: array, "the features")
    sampled = views.evenly(features.samples)
    parts = (_sums(features, span, sampled, convention.normalised) for span in each(features.spans()))
    total = reduce(_join, parts)
    sigma = as_float64(singular_values(total.moments, convention.centred))
    if not sigma.any():
        told = "the features do not vary, which is complete collapse; there is no spectrum"
        few = "there is but one sample, and a spectrum is of two or more"
        raise BadInput(f"{features.name}: {few if features.samples == 1 else told}")
    floor = _floor(total.moments, sigma)
    return Collapse(
        features=features.name,
        spectrum=report(sigma, features.samples, features.dim, convention, space),
        sigma=sigma,
        noise_floor=floor,
        numerical_rank=int((sigma > floor).sum()),
        views=features.views,
        constant_channels=_constant(total.moments),
        channel_std=total.spread.std,
        uniformity=views.uniformity(np.concatenate(total.sampled)) if features.samples > 1 else None,
        alignment=total.agreement and views.alignment_of(total.agreement),
        lidar=total.agreement and views.lidar_of(total.agreement),
    )


def measure_spectrum(
    sigma,
    samples: int | None = None,
    dim: int | None = None,
    preset: str | Convention = "li2022",
    space: str | None = None,
    name: str = "the spectrum",
) -> Collapse:
    """What singular values (modes,) alone say. `samples`: how many features they are of; None: not known, and white
    noise then is of infinitely many. `dim`: the features' dimension, unless as many values are given.

    Raises BadInput for another shape, values that are no spectrum, and more of them than so many samples can have.

    >>> found = measure_spectrum([3.0, 1.0])
    >>> found.spectrum.metrics.collapse_auc, found.spectrum.white_noise.collapse_auc
    (0.875, 0.75)
    """
    sigma = as_array(sigma, name)
    if sigma.ndim != 1:
        raise BadInput(f"{name} has shape {tuple(sigma.shape)}; singular values are one row of numbers")
    convention, dim = convention_of(preset), len(sigma) if dim is None else dim
    found = report(float64_of(sigma), _ENDLESS if samples is None else samples, dim, convention, space)
    if found.metrics is None:
        raise BadInput(f"{name}: all singular values are 0: the features do not vary, which is complete collapse")
    if samples is None:
        flat = report(np.ones(dim), _ENDLESS, dim, replace(convention, alpha_window=found.alpha_window or (1, 1)))
        found = replace(found, samples=None, rms=math.nan, white_noise=flat.metrics)
    falling = np.sort(as_float64(sigma))[::-1]
    floor = len(falling) * rounding_of(sigma) * falling[0]
    return Collapse(name, found, falling, floor, int(numerical_rank(sigma)))


# ---------------------------------------------------------------- sums over parts of the features


class _Sums(NamedTuple):
    moments: Moments
    spread: views.Spread
    agreement: views.Agreement | None
    sampled: tuple[Any, ...]


def _sums(features: Features, span: tuple[int, int], sampled: np.ndarray, normalised: bool) -> _Sums:
    start, stop = span
    z = features.part(start, stop)
    prepared = (unit_rows if normalised else float64_of)(z)
    chosen = sampled[(start <= sampled) & (sampled < stop)] - start
    return _Sums(
        moments(prepared[0])._replace(rounding=rounding_of(z)),
        views.spread(prepared[0]),
        views.agreement(prepared) if features.views > 1 else None,
        (as_float64(z[0][chosen]),),
    )


def _join(a: _Sums, b: _Sums) -> _Sums:
    return _Sums(
        merge(a.moments, b.moments),
        views.join_spreads(a.spread, b.spread),
        a.agreement and views.join_agreements(a.agreement, b.agreement),
        a.sampled + b.sampled,
    )


# ---------------------------------------------------------------- what is rounding


_SUMMED = 1e-12  # a mean of thousands of equal numbers, added up in turn, is off by as much


def _floor(m: Moments, sigma: np.ndarray) -> float:
    """σ that rounding makes: that of the features' entries, an error of ulp/√12 each, or that of the sums' squares.

    Random errors of N × d entries have singular values up to √N + √d times their size.
    """
    count, unit = m.count, float(m.unit)
    scatter, mean = as_float64(m.scatter), as_float64(m.mean)
    entry = unit * math.sqrt((np.trace(scatter) / count + mean @ mean) / len(mean))
    of_entries = m.rounding / math.sqrt(12) * entry * (math.sqrt(count) + math.sqrt(len(mean)))
    return max(of_entries, math.sqrt(len(mean) * np.finfo(float).eps) * float(sigma[0]))


def _constant(m: Moments) -> int:
    """Channels whose deviation is within the rounding of their mean, as it is given or as it is summed up."""
    deviation = np.sqrt(np.diagonal(as_float64(m.scatter)) / m.count)
    return int((deviation <= max(m.rounding, _SUMMED) * np.abs(as_float64(m.mean))).sum())

"""Is it collapsed? What was measured of features, in a word and in sentences.

A verdict on spread, not on quality: nothing here knows what the features are for. It rests on RankMe beside white
noise's of the same size and on the spread of directions, never on a loss.
"""

import math
from typing import NamedTuple

from stopgrad.deep.measuring.collapse.measurement import Collapse
from stopgrad.deep.measuring.diagnosis import DIRECTION_COLLAPSED, RANK_LOST


class Limits(NamedTuple):
    """Below what a space's features have collapsed."""

    alike: float
    """Channel std × √d, for all features to point one way."""
    partly: float
    """RankMe over white noise's, for many directions to be nearly unused; `RANK_LOST` of it, for most to be."""


# Calibrated on multi-layer perceptrons on digits, SimSiam's loss, 600 steps, seeds 1000 to 1002: 64-256-128 with
# BatchNorm and a projector 128-128-64, and 64-128-128 to six layers without either. Brackets: what was seen.
LIMITS = {"representation": Limits(alike=0.012, partly=0.42)}
"""Those behind a ReLU have a large mean in common, so that `DIRECTION_COLLAPSED` is no sign there. [alike: no predictor
or stop-gradient, without BatchNorm, 0.0004 to 0.0078; untrained from 0.0175 with six layers, 0.10 with four, 0.32 with
two; healthy 0.84, without BatchNorm 0.21 in two layers, where more collapse as well; pixels 0.47. partly: no predictor
or stop-gradient behind BatchNorm 0.33 to 0.38; healthy from 0.46; untrained 0.53 to 0.56; pixels 0.62. Li et al. 2022's
spectra of ImageNet: 0.27 to 0.36 where the kNN accuracy has fallen, 0.63 where it is best, 0.91 for the model of least
data]"""
OTHERWISE = Limits(alike=DIRECTION_COLLAPSED, partly=0.3)
"""Embeddings and predictions. [alike: no predictor or stop-gradient 0.02 to 0.03; untrained from 0.132, healthy 0.91.
partly: the same behind BatchNorm 0.046 to 0.062, which is `RANK_LOST` too; healthy from 0.386]"""
FEW = 0.1
"""Share of RankMe that the effective rank of σ² has where few directions hold most of the variance."""

WORDS = (
    "healthy",
    "partial dimensional collapse",
    "dimensional collapse",
    "complete collapse (direction)",
)


class Verdict(NamedTuple):
    """What features look like: the word, the sentence behind it, and what else should be known."""

    word: str
    """One of `WORDS`, each but the second as `diagnose` has it for a run."""
    sentence: str
    notes: tuple[str, ...]


def verdict(found: Collapse) -> Verdict:
    """The verdict on what was measured.

    >>> from stopgrad.deep.measuring.collapse.measurement import measure_spectrum
    >>> verdict(measure_spectrum([1.0] * 20 + [0.0] * 80)).word
    'partial dimensional collapse'
    """
    rank, noise = found.spectrum.metrics.rankme, found.spectrum.white_noise.rankme
    numbers = {
        "rank": rank,
        "noise": noise,
        "share": rank / noise,
        "std": math.nan if found.channel_std is None else found.channel_std * found.spectrum.dim**0.5,
    }
    limits = LIMITS.get(found.spectrum.space, OTHERWISE)
    if numbers["std"] < limits.alike:
        word = "complete collapse (direction)"
    elif rank < RANK_LOST * noise:
        word = "dimensional collapse"
    else:
        word = "partial dimensional collapse" if rank < limits.partly * noise else "healthy"
    return Verdict(word, _SENTENCES[word].format(**numbers), tuple(_notes(found)))


_RANK = "RankMe {rank:.4g} where white noise of the same size has {noise:.4g} ({share:.0%})."
_SENTENCES = {
    "healthy": f"Features spread over most directions: {_RANK}",
    "partial dimensional collapse": f"Features leave many directions nearly unused: {_RANK}",
    "dimensional collapse": f"Features vary in few directions: {_RANK}",
    "complete collapse (direction)": "All features point one way: channel std × √d is {std:.2g}, where 1 is a uniform "
    "spread.",
}


def _notes(found: Collapse):
    """What limits the numbers, and what they do not say by themselves."""
    of = found.spectrum
    metrics = of.metrics
    if of.samples is None:
        yield "How many samples the spectrum is of is not known (--samples): white noise is of infinitely many."
    elif of.samples <= of.dim:
        yield (
            f"Too few samples: {of.samples} of {of.dim} dimensions span {min(of.samples - of.centred, of.dim)} at most;"
            " no value means anything but beside white noise's."
        )
    if found.channel_std is None:
        yield "A spectrum does not tell whether all features point one way, nor how it was centred and normalised."
    if found.constant_channels:
        yield f"{found.constant_channels} of {of.dim} dimensions are constant."
    live = of.dim - (found.constant_channels or 0)
    most = live if of.samples is None else min(live, of.samples - of.centred)
    if found.numerical_rank < most:
        yield (
            f"Only {found.numerical_rank} singular values are above rounding ({found.noise_floor:.2g}): other "
            "dimensions are constant, or linear functions of these."
        )
    if metrics.variance_effective_rank < FEW * metrics.rankme:
        yield (
            f"Few directions hold most of the variance: effective rank {metrics.variance_effective_rank:.3g}, σ₁² has "
            f"{1 / metrics.stable_rank:.0%}."
        )
    if not of.centred:
        yield "Not centred: the mean of the features counts as a direction."

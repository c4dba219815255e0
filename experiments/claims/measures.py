"""What claims and figures read off a finished run: one number of a `Record` each.

Spectra and alignment are those of F, the uncentred correlation of the embeddings in the last measured batch, unless a
name says otherwise. A run that diverged, or that lacks what is asked for, gives NaN.
"""

import math

import numpy as np

from stopgrad.deep.measuring.diagnosis import NORM_COLLAPSED
from stopgrad.experiments.store.store import Record


def eigenvalues(record: Record, row: int = -1) -> np.ndarray:
    """Eigenvalues of F at a measurement, falling, none below 0; empty where none were taken."""
    series = record.columns.arrays.get("eigenvalues")
    return np.zeros(0) if series is None else np.maximum(series.values[row].astype(float), 0.0)


def modes(record: Record) -> float:
    """Effective number of modes of F at the end: exp of the entropy of its normalised eigenvalues, mean direction
    included. 1 where all embeddings point one way, however long they are, and 1 where nothing is left of them: a
    trace below NORM_COLLAPSED of its start is a complete collapse in norm, in whatever proportions modes died."""
    s = eigenvalues(record)
    if not (len(s) and np.all(np.isfinite(s))):
        return math.nan
    if not s.sum() >= NORM_COLLAPSED * record.first("trace_z") > 0:
        return 1.0
    q = s[s > 0] / s.sum()
    return float(np.exp(-(q * np.log(q)).sum()))


def log_modes(record: Record) -> float:
    """ln of `modes`, so that differences are ratios."""
    return math.log(modes(record))


def lost_decades(record: Record) -> float:
    """By how many powers of ten the trace of F has fallen since the start; at most 30, which is nothing left."""
    first, last = record.first("trace_z"), record.last("trace_z")
    return min(math.log10(first / last), 30.0) if last > 0 else (30.0 if last == 0 else math.nan)


def log_spread(record: Record) -> float:
    """ln of the share 1 − m_o² of the normalised embeddings' energy that is not their mean direction: 0 is uniform."""
    return math.log(max(1 - record.last("m_o_z") ** 2, 1e-12))


def alignment_beyond_first(record: Record, row: int = -1) -> float:
    """cos(u_j, W_p u_j) of the modes j ≥ 2 of F, averaged with their eigenvalues as weights.

    The first mode is the mean direction, aligned almost from the start; modes that have died have no direction.
    """
    series, s = record.columns.arrays.get("alignment"), eigenvalues(record, row)
    if series is None or not s[1:].sum() > 0:
        return math.nan
    return float(series.values[row][1:] @ s[1:] / s[1:].sum())


def fall(record: Record, name: str) -> float:
    """By how much a scalar has fallen from the first measurement to the last."""
    return record.first(name) - record.last(name)


def digits_of(record: Record, name: str) -> float:
    """−log10 of a relative residual at the end: how many digits of a law hold."""
    return -math.log10(max(record.last(name), 1e-16))


def mean_growth(record: Record) -> float:
    """By how much the trace of F exceeds its start, averaged over the run's measurements, relative to the start."""
    return record.mean("trace_z") / record.first("trace_z") - 1


def accuracy(record: Record) -> float:
    """Test accuracy of the linear probe in per cent; NaN without a probe."""
    probe = record.summary.get("probe")
    return 100 * probe["accuracy"] if probe else math.nan


def knn(record: Record) -> float:
    """Test accuracy of the nearest neighbours at the end in per cent; NaN where they have none."""
    found = (record.summary.get("knn") or {}).get("after")
    return math.nan if found is None else 100 * found


def end_loss(record: Record) -> float:
    """The loss over the last tenth of the measurements, one of them at least: a single batch's is noise."""
    values = record.columns.scalars.get("loss", np.zeros(0))
    return float(values[-max(1, len(values) // 10) :].mean()) if len(values) else record.last("loss")

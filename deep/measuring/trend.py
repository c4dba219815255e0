"""A collapse that has only begun: embeddings that had settled gather in fewer directions, and around one of them.

BatchNorm behind a projector rules out one common embedding, and what is left takes long to reach any level that would
be a collapse: few directions for nearly all images, a few long vectors holding the balance. Its beginning shows first
in two statistics together, against what they were when both had settled. Each of them alone changes in healthy runs.
"""

import itertools
import math
from collections.abc import Mapping
from typing import NamedTuple

NAMES = ("participation_z", "m_o_squared_z")
"""Fewer directions, and a centre: both need no decomposition, whatever d."""

# Calibrated on SimSiam on digits with lightly's heads (64-128-32 and 64-128-128, mlp and linear predictor, with
# BatchNorm at the end and without, 8 to 64 images a batch, constant and falling rates), measured every second to fifth
# step, seeds 1000 to 1004. Brackets: what was seen on either side.
WINDOW = 8
"""Measurements that are averaged, and compared with as many before them. [6 and 10: the same within 20 steps]"""
SETTLED = 0.1
"""Change of the participation ratio, relative, from one window to the next, below which it has settled."""
FELL = 0.8
"""Participation ratio over its settled value, for a fall. [healthy, with the other sign: none of 45 below, one at 0.85;
predictor removed: 31 of 35 below behind BatchNorm, the median 76 steps after]"""
ROSE = 0.03
"""Rise of the de-biased m_o² since it had settled, for a centre. [healthy: by itself in 2 of 45; removed: up to 0.5]"""
CLEAR = 4.0
"""Standard errors that both changes must exceed, from differences of successive measurements."""


class _Level(NamedTuple):
    """Mean of a statistic, and the noise of one measurement of it."""

    mean: float
    noise: float


class Trend:
    """Looks at rows of measurements, one after the other, and knows what they were when they had settled.

    >>> trend = Trend()
    >>> rows = [{"participation_z": 4 + 0.01 * (k % 2), "m_o_squared_z": 0.001 * (k % 2)} for k in range(16)]
    >>> rows += [{"participation_z": 2 + 0.01 * (k % 2), "m_o_squared_z": 0.1} for k in range(8)]
    >>> [k for k, row in enumerate(rows) if trend.look(row)]  # as soon as the mean of eight has fallen far enough
    [19, 20, 21, 22, 23]
    """

    def __init__(self):
        self._last: list[tuple[float, ...]] = []
        self._settled: tuple[_Level, ...] | None = None

    def look(self, row: Mapping[str, float]) -> dict[str, float]:
        """The numbers behind a collapse that begins in this row, which comes next; empty where none does.

        A row that lacks a statistic, as one of a single image does, is passed over.
        """
        values = tuple(float(row.get(name, math.nan)) for name in NAMES)
        if not all(map(math.isfinite, values)):
            return {}
        self._last = [*self._last, values][-2 * WINDOW :]
        if len(self._last) < 2 * WINDOW:
            return {}
        before, now, noise = zip(*map(_windows, zip(*self._last)))
        if self._settled is None:
            error = math.sqrt(2 / WINDOW)
            still = abs(now[1] - before[1]) < 2 * noise[1] * error
            if still and abs(now[0] - before[0]) < max(2 * noise[0] * error, SETTLED * before[0]):
                self._settled = tuple(_Level((a + b) / 2, s) for a, b, s in zip(before, now, noise))
            return {}
        width, centre = self._settled
        error = [CLEAR * max(s, level.noise) * math.sqrt(1.5 / WINDOW) for s, level in zip(noise, self._settled)]
        fell = now[0] < FELL * width.mean and width.mean - now[0] > error[0]
        if not (fell and now[1] - centre.mean > max(ROSE, error[1])):
            return {}
        return dict(zip(NAMES, now)) | {f"{name}_settled": level.mean for name, level in zip(NAMES, self._settled)}


def _windows(values: tuple[float, ...]) -> tuple[float, float, float]:
    """Means of the earlier and of the later half, and the noise of one value, from their differences."""
    noise = math.sqrt(sum((b - a) ** 2 for a, b in itertools.pairwise(values)) / (2 * (len(values) - 1)))
    return sum(values[:WINDOW]) / WINDOW, sum(values[WINDOW:]) / WINDOW, noise

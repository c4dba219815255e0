"""Is it collapsed? A run's statistics in one word, and the first signs of trouble: values first, sentences last.

Everything here reads rows of numbers by name, as `monitor.measure` takes them. No verdict rests on m_o, on the
loss or on an accuracy: a healthy run with a linear predictor may hold m_o = 0.98, a collapsing one with squared error
m_o = 0.05, and the loss is near its minimum in the best run and in the worst (Zhang et al. 2022; Chen & He 2021).
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from stopgrad.deep.measuring.trend import Trend
from stopgrad.linear_theory.tools.errors import BadInput

Row = Mapping[str, float]

# Thresholds, calibrated on multi-layer perceptrons (64-256-256-64, 16 content dimensions, 300 to 2000 steps, seeds from
# 1000, which no verdict uses) and on the digits with the default network; brackets: what was seen on either side.
NORM_COLLAPSED = 0.02
"""E‖z‖² over its start. [squared error, no stop-gradient or no predictor: 0.016 to 2e-5, falling; healthy: 1 to 22]"""
NORM_WARNED = 0.1
"""The same, where a warning is due; a collapse of P alone in norm needs Z above it."""
DIRECTION_COLLAPSED = 0.125
"""Channel std × √d of Z. [naive, no stop-gradient: 0.05 to 0.10, on digits 0.09 to 0.11; healthy with a linear
predictor: from 0.146 in passing, 0.24 on digits at the end; with an mlp, from 0.78]"""
DIRECTION_WARNED = 0.18
"""The same, where a warning is due."""
PREDICTOR_SHARE = 0.15
"""Of Z's std, for P's to be collapsed alone. [symmetric predictor: 0.07; healthy: from 0.19, since a linear predictor
shrinks what is not the mean direction by no more than the views' correlation in it]"""
RANK_LOST = 0.12
"""Centred effective rank of Z over its start. [Mirror; no predictor or stop-gradient behind BatchNorm: 0.09 to 0.115;
healthy with a linear predictor: from 0.127 in passing, 0.18 at the end; with another, from 0.27]"""
RANK_FLOOR = 2.0
"""Effective rank that is too low whatever it was at the start, where a random network's may be low as well; but at most
half of what the batch can span, `rank_ceiling`. [B images of white noise, both views alike: from 1.85 at B = 3, 2.8 at
4, 3.7 at 5; the default network untrained: from 1.8 at B = 2]"""
NOT_PREDICTED = 0.7
"""Cosine of prediction and target, over the cosine of the two views. [fixed random predictor: 0.37; healthy: from 0.97,
since a predictor that learns is no worse than none]"""

WORDS = (
    "healthy",
    "complete collapse (direction)",
    "complete collapse (norm)",
    "dimensional collapse",
    "predictor collapse",
    "not converged",
    "diverged",
)


class Diagnosis(NamedTuple):
    """What has become of a run: values first, from which `sentence` says why."""

    word: str
    """One of `WORDS`; empty where nothing was trained."""
    evidence: dict[str, float]
    """The numbers that decided."""
    case: str = ""
    """Why, where the word alone does not tell."""

    @property
    def sentence(self) -> str:
        """Why, in a sentence."""
        few = self.word in ("healthy", "not converged") and _rank_floor(self.evidence) <= 1
        return (_SENTENCES[self.case or self.word] + _TOO_FEW * few).format(**self.evidence)


class Sign(NamedTuple):
    """A sign that a run is going wrong: which, and the numbers behind it."""

    kind: str
    values: dict
    step: int | None = None
    """When it was seen; None for what came after training."""

    def words(self) -> str:
        """The sign in a sentence."""
        when = "" if self.step is None else f"step {self.step}: "
        return when + _SIGN_WORDS[self.kind].format(**self.values)


def diagnose(start: Row, now: Row, history: Sequence[Row] = ()) -> Diagnosis:
    """What has become of a run, from its first and its present row.

    A rank that is not measured at every step is taken from the rows of `history` that have one: the first for the
    start, the last for now; without any, no dimensional collapse is found, nor in a batch that spans two directions at
    most, as the sentence then says: no effective rank is below 1. Missing or infinite numbers are a divergence. Raises
    ValueError for a start that lacks its statistics.

    >>> start = {"trace_z": 64.0, "std_z": 1.0, "trace_p": 64.0, "std_p": 1.0}
    >>> start |= {"cosine_views": 0.2, "cosine_prediction": 0.2}
    >>> diagnose(start, start | {"std_z": 0.01, "cosine_views": 1.0, "cosine_prediction": 1.0}).word
    'complete collapse (direction)'
    """
    needed = ("trace_z", "std_z", "trace_p", "std_p", "cosine_views", "cosine_prediction")
    if not _finite(start, needed):
        raise BadInput(f"the first row must have finite {', '.join(needed)}")
    if not _finite(now, needed):
        return Diagnosis("diverged", {})
    evidence = {name: float(v) for name, v in _evidence(start, now, [start, *history, now]).items()}
    return Diagnosis(next((word for word, holds in _RULES if holds(evidence)), "healthy"), evidence)


def warnings(row: Row, previous: Sequence[Row], trend: Trend | None = None) -> list[Sign]:
    """What is first seen in `row`, of signs that a run is going wrong; each once, so none that a previous row showed.

    `previous`: the rows before, from the start. `trend`: what has looked at those and looks at this one; it may show
    its sign again. None: no trend is looked for.
    """
    start = {name: float(v) for name, v in (previous[0] if previous else row).items()}
    return [
        Sign(kind, _behind(names, row, start))
        for kind, (names, shows) in _SIGNS.items()
        if shows(row, start) and not any(shows(other, start) for other in reversed(previous))
    ] + ([Sign("directions fall away", falling)] if trend is not None and (falling := trend.look(row)) else [])


# ---------------------------------------------------------------- the verdict


def _evidence(start: Row, now: Row, rows: Sequence[Row]) -> dict[str, float]:
    ranks = [row["rank_z"] for row in rows if _finite(row, ("rank_z",))]
    return {
        "trace_ratio": _over(now["trace_z"], start["trace_z"]),
        "trace_ratio_p": _over(now["trace_p"], start["trace_p"]),
        **{name: now[name] for name in ("std_z", "std_p", "cosine_views", "cosine_prediction")},
        "std_z_start": start["std_z"],
        **({"rank_z": ranks[-1], "rank_z_start": ranks[0]} if ranks else {}),
        **{name: now[name] for name in ("m_o_z", "m_o_p", "rank_p", "rank_ceiling") if name in now},
    }


def _rank_floor(row: Row) -> float:
    """The effective rank below which a batch's embeddings have collapsed, whatever they were.

    1 where a batch spans two directions at most, for no rank is below 1; then an eighth of each further direction more.
    White noise of few images in few dimensions falls below in one batch of a hundred or fewer.
    """
    ceiling = row.get("rank_ceiling", math.inf)
    return 1.0 if ceiling <= 2 else min(RANK_FLOOR, 1 + (ceiling - 1) / 8)


def _rank_lost(e) -> bool:
    return "rank_z" in e and e["rank_z"] < max(_rank_floor(e), RANK_LOST * e["rank_z_start"])


def _unpredicted(cosine: float) -> float:
    """What a prediction's cosine is below where it is clearly worse than none; few images may have one below 0."""
    return min(NOT_PREDICTED * cosine, cosine / NOT_PREDICTED)


def _predictor_collapsed(e) -> bool:
    gathered = e["std_p"] < min(DIRECTION_COLLAPSED, PREDICTOR_SHARE * e["std_z"])
    return gathered or (e["trace_ratio_p"] < NORM_COLLAPSED and e["trace_ratio"] > NORM_WARNED)


_RULES = (  # the first that holds: what is worse hides what follows
    ("complete collapse (norm)", lambda e: e["trace_ratio"] < NORM_COLLAPSED),
    ("complete collapse (direction)", lambda e: e["std_z"] < DIRECTION_COLLAPSED),
    ("predictor collapse", _predictor_collapsed),
    ("dimensional collapse", _rank_lost),
    ("not converged", lambda e: e["cosine_prediction"] < _unpredicted(e["cosine_views"])),
)

_SENTENCES = {
    "untrained": "Nothing was trained; the network is evaluated as initialised.",
    "diverged": "Embeddings or predictions are no longer finite numbers.",
    "weights diverged": "The loss, the weights or the representations are no longer finite numbers.",
    "healthy": "Embeddings keep their size (trace of F at {trace_ratio:.3g} of its start) and spread over directions "
    "(std × √d {std_z:.2g}), and their predictions agree with the target (cosine {cosine_prediction:.2g}).",
    "complete collapse (norm)": "Embeddings shrink to nothing: the trace of F is {trace_ratio:.2g} of its start, while "
    "directions (std × √d {std_z:.2g}) need not show it; a cosine loss does not feel it, a squared error rewards it.",
    "complete collapse (direction)": "All embeddings point one way: channel std × √d of Z is {std_z:.2g}, where "
    "{std_z_start:.2g} was at the start and 1 is a uniform spread.",
    "predictor collapse": "Predictions carry nothing while embeddings do: channel std × √d of P is {std_p:.2g} and its "
    "trace {trace_ratio_p:.2g} of its start; Z has {std_z:.2g} and {trace_ratio:.2g}.",
    "dimensional collapse": "Embeddings spread, but in few directions: the centred effective rank of Z is {rank_z:.3g} "
    "where it was {rank_z_start:.3g} at the start.",
    "not converged": "Nothing has collapsed, but the prediction is not learned: its cosine with the target is "
    "{cosine_prediction:.2g}, while the two views' embeddings have {cosine_views:.2g}.",
}
_TOO_FEW = " Views that agree have a rank of {rank_ceiling:g} at most: too few images to tell a dimensional collapse."


# ---------------------------------------------------------------- early signs


def _fell(name: str, share: float):
    """Whether a statistic is below this share of its start."""
    return lambda row, start: _finite(row, (name,)) and _finite(start, (name,)) and row[name] < share * start[name]


def _below(name: str, threshold: float):
    return lambda row, start: _finite(row, (name,)) and row[name] < threshold


_SIGNS = {  # by kind: the statistics behind it, and whether a row shows it
    "not finite": ((), lambda row, _: not all(map(math.isfinite, row.values()))),
    "norm falls": (("trace_z",), _fell("trace_z", NORM_WARNED)),
    "norm collapsed": (("trace_z",), _fell("trace_z", NORM_COLLAPSED)),
    "direction narrows": (("std_z",), _below("std_z", DIRECTION_WARNED)),
    "direction collapsed": (("std_z",), _below("std_z", DIRECTION_COLLAPSED)),
    "rank collapsed": (("rank_z",), _fell("rank_z", RANK_LOST)),
    "rank low": (("rank_z",), lambda row, _: _finite(row, ("rank_z",)) and row["rank_z"] < _rank_floor(row)),
    "predictions narrow": (
        ("std_z", "std_p"),
        lambda row, _: _finite(row, ("std_z", "std_p")) and row["std_p"] < PREDICTOR_SHARE * row["std_z"],
    ),
}
_SIGN_WORDS = {
    "not finite": "a statistic is no longer a finite number",
    "norm falls": "the trace of F has shrunk to a tenth of its start: embeddings die out in norm",
    "norm collapsed": f"the trace of F has shrunk to {NORM_COLLAPSED:.0%} of its start",
    "direction narrows": f"channel std × √d of Z fell below {DIRECTION_WARNED:g}: embeddings gather in one direction "
    "(a linear predictor may pass through this and recover)",
    "direction collapsed": f"channel std × √d of Z fell below {DIRECTION_COLLAPSED:g}: complete collapse in direction",
    "directions fall away": "the participation ratio of Z fell to {participation_z:.3g} from the "
    "{participation_z_settled:.3g} where it had settled, while a centre grows (m_o² {m_o_squared_z:.2g}): embeddings "
    "begin to collapse",
    "rank collapsed": f"effective rank of Z fell below {RANK_LOST:.0%} of its start, {{rank_z_start:.3g}}",
    "rank low": "effective rank of Z fell below {floor:g}",
    "predictions narrow": f"channel std × √d of P fell below {PREDICTOR_SHARE:.0%} of that of Z: predictions gather in "
    "one direction",
    "not computed": "{what}: {why}",
}


def _behind(names, row: Row, start: Row) -> dict[str, float]:
    """The numbers behind a sign: statistics now and at the start, and the floor of the rank."""
    first = {f"{name}_start": start[name] for name in names if name in start}
    return {name: float(row[name]) for name in names} | first | {"floor": _rank_floor(row)}


def _finite(row: Row, names) -> bool:
    return all(math.isfinite(row.get(name, math.nan)) for name in names)


def _over(now: float, start: float) -> float:
    """now/start; 1 for 0/0, a start without any size being none to lose."""
    return now / start if start > 0 else (1.0 if now == 0 else math.inf)

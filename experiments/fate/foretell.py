"""From what Lemma 1 lets expect of a run's first tenth to a probability and an interval, and how good they are.

A logistic regression from the expected fall of tr F, the expected number of modes and the loss says whether a run ends
collapsed; a linear one says how many modes live. Both are fitted to runs whose end is known. Beside them stand what
needs no theory: the share of known runs that collapse, the effective rank after an epoch, the loss after an epoch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stopgrad.experiments.fate.draws import DIMENSIONS, fate
from stopgrad.experiments.store.evidence import backed
from stopgrad.experiments.store.store import Record, Store, number
from stopgrad.linear_theory.tools.errors import BadInput

COLLAPSES = ("complete collapse (norm)", "complete collapse (direction)", "dimensional collapse", "predictor collapse")
MODELS = {
    "theory": "Lemma 1 from the first tenth",
    "share": "the share of known runs that collapse",
    "rank": "effective rank after an epoch",
    "loss": "loss after an epoch",
}
FALL = (-3.0, 12.0)
"""Falls of ln tr F beyond which nothing is told apart."""
COVERED = 0.9
"""Share of the known runs whose number of modes lies within the interval."""


def collapsed(run: Record) -> bool | None:
    """Whether a run ended in any kind of collapse; None of one that diverged, or has no diagnosis."""
    if run.summary["state"] != "finished" or not run.summary.get("laws"):
        return None
    return run.summary["diagnosis"] in COLLAPSES


def theory(early: dict, cosine: bool) -> list[float]:
    """What the model of this name reads of `laws.of_early`: the loss, the fall of ln tr F, ln(modes + 1)."""
    size = number(early["size"])
    fall = FALL[1] if math.isnan(size) else min(max(size, FALL[0]), FALL[1])
    modes = early["modes"] if early["modes"] is not None else 0
    return [float(cosine), fall, math.log(modes + 1)]


def values(run: Record, model: str) -> list[float]:
    """What a model reads of a run; the loss (cosine or not) is known to all."""
    cosine = run.config.method.objective.theory == "cosine"
    if model == "theory":
        return theory(run.summary["laws"]["early"], cosine)
    if model == "share":
        return []
    return [float(cosine), _after_an_epoch(run, {"rank": "rank_z", "loss": "loss"}[model])]


def _after_an_epoch(run: Record, name: str) -> float:
    """The first measurement behind the start; a rank by its logarithm."""
    columns = run.columns
    value = float(columns.scalars[name][1])
    return math.log(max(value, 1e-9)) if name.startswith("rank") else value


@dataclass(frozen=True)
class Model:
    """Regressions of one model, on standardised values."""

    name: str
    centre: np.ndarray
    scale: np.ndarray
    classifier: object
    """Of collapse; a number where all known runs ended alike, or nothing is read."""
    modes: np.ndarray
    """Coefficients of ln(modes + 1), the constant first."""
    spread: float
    """Half the width of the interval of ln(modes + 1)."""

    def probability(self, asked: np.ndarray) -> np.ndarray:
        """Of a collapse, (runs,), from values (runs, n)."""
        if isinstance(self.classifier, float):
            return np.full(len(asked), self.classifier)
        return self.classifier.predict_proba((asked - self.centre) / self.scale)[:, 1]

    def log_modes(self, asked: np.ndarray) -> np.ndarray:
        """ln(modes + 1), (runs,)."""
        return self.modes[0] + (asked - self.centre) / self.scale @ self.modes[1:]


def fitted(name: str, known: Sequence[Record]) -> Model:
    """The model of this name on runs that finished. Raises BadInput for fewer than 8."""
    if len(known) < 8:
        raise BadInput(
            f"{len(known)} runs are finished to calibrate with and at least 8 are needed; "
            "`python -m experiments run fate --whole` carries them out"
        )
    return fit(name, np.array([values(run, name) for run in known]).reshape(len(known), -1), *_ends(known))


def fit(name: str, given: np.ndarray, ends: np.ndarray, modes: np.ndarray) -> Model:
    """From values (runs, n), whether each collapsed (runs,), and the modes that lived at the end (runs,)."""
    from sklearn.linear_model import LogisticRegression, Ridge

    centre, scale = given.mean(0), np.where(given.std(0) > 0, given.std(0), 1.0)
    given, log = (given - centre) / scale, np.log(modes + 1)
    # Laplace's rule: of known runs alone nothing is impossible
    classifier: object = float((ends.sum() + 1) / (len(ends) + 2))
    if given.shape[1] and 0 < ends.sum() < len(ends):
        classifier = LogisticRegression(C=1.0).fit(given, ends)
    if given.shape[1]:
        line = Ridge(alpha=1.0).fit(given, log)
        coefficients = np.concatenate([[line.intercept_], line.coef_])
    else:
        coefficients = np.array([log.mean()])
    spread = float(np.quantile(np.abs(log - coefficients[0] - given @ coefficients[1:]), COVERED))
    return Model(name, centre, scale, classifier, coefficients, spread)


def _ends(runs: Sequence[Record]) -> tuple[np.ndarray, np.ndarray]:
    return (
        np.array([bool(collapsed(run)) for run in runs]),
        np.array([run.summary["laws"]["measured"]["modes"] for run in runs], float),
    )


# ---------------------------------------------------------------- how good it is


@dataclass(frozen=True)
class Score:
    """A model on runs that it was not fitted to."""

    brier: float
    """Mean square of probability less outcome: 0 is best, 0.25 what a coin says."""
    bias: float
    """Mean probability less the share that collapsed."""
    right: float
    """Share of runs on whose fate it is right, at a half."""
    modes: float
    """Mean |ln((modes + 1)/(forecast + 1))|."""
    covered: float
    """Share of runs whose number of modes is within the interval."""
    probabilities: np.ndarray
    """(runs,)."""


def scored(model: Model, new: Sequence[Record]) -> Score:
    """`model` on finished runs whose end is known and was not told to it."""
    asked = np.array([values(run, model.name) for run in new]).reshape(len(new), -1)
    ends, modes = _ends(new)
    told, log = model.probability(asked), model.log_modes(asked)
    gap = np.abs(np.log(modes + 1) - log)
    return Score(
        brier=float(((told - ends) ** 2).mean()),
        bias=float(told.mean() - ends.mean()),
        right=float(((told > 0.5) == ends).mean()),
        modes=float(gap.mean()),
        covered=float((gap <= model.spread + 1e-9).mean()),
        probabilities=told,
    )


def when(run: Record) -> float | None:
    """ln(measured/expected) of the time in which tr F falls by e²; None where either never comes."""
    laws = run.summary["laws"]
    seen, told = laws["measured"]["dies"], laws["early"]["dies"]
    return math.log(max(seen, 1e-6) / max(told, 1e-6)) if seen is not None and told is not None else None


def parted(runs: dict[str, Record]) -> tuple[list[Record], list[Record]]:
    """(known, new) of runs by arm, without those that diverged."""
    there = {arm: run for arm, run in runs.items() if collapsed(run) is not None}
    return [run for arm, run in there.items() if arm.startswith("known/")], [
        run for arm, run in there.items() if arm.startswith("new/")
    ]


# ---------------------------------------------------------------- a run that has only begun


def drawn_runs(root: Path) -> dict[str, Record]:
    """{"arm, seed N": run} of scale cpu whose end is known, from the store `root` or the record."""
    whole = fate("cpu")
    kept = backed(Store(root), whole)
    there = {f"{arm}, seed {seed}": kept.find(config) for arm, seed, config in whole.configs()}
    return {name: run for name, run in there.items() if run and collapsed(run) is not None}


def foretold(model: Model, early: dict, cosine: bool, dimensions: int) -> dict:
    """What `model` makes of `training.beginning.expected`, a run's of this loss and so many embedding dimensions."""
    asked = np.array([theory(early, cosine)])
    log, probability = float(model.log_modes(asked)[0]), float(model.probability(asked)[0])
    modes, low, high = (min(max(math.expm1(v), 0.0), dimensions) for v in (log, log - model.spread, log + model.spread))
    dies, steps = early["dies"], early["steps"]
    at = None if dies is None or not math.isfinite(dies) else round(float(np.interp(dies, early["times"], steps)))
    beyond = []
    if dimensions != DIMENSIONS:
        beyond.append(
            f"known runs have {DIMENSIONS} embedding dimensions and this one {dimensions}: numbers of modes extrapolate"
        )
    if not FALL[0] <= early["size"] <= FALL[1]:
        beyond.append(f"ln tr F is to fall by {early['size']:.3g}, as {FALL[0 if early['size'] < 0 else 1]:g} counts")
    return {
        "collapse": probability,
        "kind": "in direction" if cosine else "in norm",
        "modes": modes,
        "modes_interval": [low, high],
        "dies_at_step": at,
        "steps": steps[-1],
        "beyond": beyond,
    }

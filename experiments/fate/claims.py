"""What is claimed of the forecast on drawn runs that it did not see; the known runs of a seed forecast its new ones."""

import math

import numpy as np

from stopgrad.experiments.claims import kinds
from stopgrad.experiments.claims.claim import Claim, Rule
from stopgrad.experiments.fate.draws import KNOWN, NEW, arm_name
from stopgrad.experiments.fate.foretell import MODELS, fitted, parted, scored, when

ARMS = tuple(arm_name(number) for number in range(KNOWN + NEW))
BETTER = 0.02
SCALES = ("cpu", "cifar", "gpu", "paper")


def _theory() -> str:
    return (
        "The matrix flow goes on from the weights after a tenth of the run, with X and X′ that shrink as they did, no "
        "faster than e^(−2ηt)."
    )


def _score(runs, model: str):
    known, new = parted(runs)
    return scored(fitted(model, known), new)


def _of(name: str, statement: str, rule: Rule, value, **more) -> Claim:
    return kinds.claim(name, "held-out runs", statement, _theory, rule, ARMS, value, scales=SCALES, **more)


def _better(model: str, statement: str) -> Claim:
    rule = Rule(f"Brier score by {MODELS[model]} less that by theory", BETTER, "", "a twelfth of a coin's")
    value = lambda runs: _score(runs, model).brier - _score(runs, "theory").brier  # noqa: E731
    return _of(f"brier-{model}", statement, rule, value, headline=True)


def _when(runs) -> float:
    found = [gap for run in parted(runs)[1] if (gap := when(run)) is not None]
    return -float(np.median(np.abs(found))) if found else math.nan


CLAIMS = (
    _better("share", "Lemma 1 from a tenth of a run tells its fate better than the share of runs that collapse."),
    _better("rank", "Lemma 1 from a tenth of a run tells its fate better than the effective rank after an epoch."),
    _better("loss", "Lemma 1 from a tenth of a run tells its fate better than the loss after an epoch."),
    _of(
        "calibrated",
        "Runs collapse as often as forecast.",
        Rule("0.1 − |mean probability − share that collapses|", 0.0, "", "within ten in a hundred"),
        lambda runs: 0.1 - abs(_score(runs, "theory").bias),
    ),
    _of(
        "modes",
        "Lemma 1 from a tenth of a run tells how many modes live better than the effective rank after an epoch.",
        Rule("mean |ln ratio| of modes by rank less that by theory", 0.1, "nats", "a tenth"),
        lambda runs: _score(runs, "rank").modes - _score(runs, "theory").modes,
    ),
    _of(
        "when",
        "Lemma 1 from a tenth of a run tells when it collapses within a factor of two, where both do.",
        Rule("−median |ln(measured ÷ expected)| of the time in which tr F falls by e²", -math.log(2), "nats", "twice"),
        _when,
    ),
)

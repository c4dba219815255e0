"""What a rung's runs say against a reading of Lemma 1, law by law, as the logarithm of a ratio: 0 where they agree."""

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

from stopgrad.experiments.ladder.rungs import arm_name
from stopgrad.experiments.store.store import Record, number

Reading = Literal["forecast", "tracking"]
READINGS: dict[Reading, str] = {"forecast": "X, X′ of the start, held", "tracking": "X(t), X′(t) as measured"}
LEAST = 0.01
"""A rate of less than this part of the predicted one, or of the other sign, counts as this part of it."""


class Law(NamedTuple):
    """One of the theory's laws, as a run tells how far it is kept."""

    setting: str
    """The rung's arm that it is read from."""
    words: str
    band: float
    """|ln ratio| within which it is said to hold."""
    why: str


LAWS = {
    "balance": Law("baseline", "balance of W and W_p (Theorem 1)", math.log(1.05), "residual within 5 %"),
    "alignment": Law("baseline", "half-time of alignment (Theorem 3)", math.log(1.25), "within a quarter"),
    "modes": Law("baseline", "modes that live", math.log(1.5), "within half as many again"),
    "settling": Law("baseline", "time to converge", math.log(1.25), "within a quarter"),
    "no-stop-gradient": Law(
        "no-stop-gradient", "rate of collapse, no stop-gradient", math.log(1.25), "within a quarter"
    ),
    "no-predictor": Law("no-predictor", "rate of collapse, no predictor", math.log(1.25), "within a quarter"),
}
CRITICAL_BAND = math.log(1.25)


def error(run: Record, law: str, reading: Reading) -> float:
    """ln(measured/predicted) of a run; NaN where there is nothing to compare. Of the balance ln(1 + residual).

    A time that does not come within the run counts as the run's length, so the error is then the least that it is.
    """
    told = run.summary["laws"]
    measured, predicted = told["measured"], told[reading]
    match law:
        case "balance":
            return math.log1p(number(measured["balance"]))
        case "modes":
            return math.log((number(measured["modes"]) + 1) / (number(predicted["modes"]) + 1))
        case "alignment" | "settling":
            name = {"alignment": "half_time", "settling": "settles"}[law]
            if measured[name] is None and predicted[name] is None:
                return math.nan
            return math.log(_time(measured[name], told) / _time(predicted[name], told))
    rate, expected = number(measured["fall"]), number(predicted["fall"])
    return math.log(max(rate, LEAST * expected) / expected) if expected > 0 else math.nan


def _time(value: float | None, told: Mapping) -> float:
    """A time, not below a thousandth of the run, so that two that are next to nothing are alike."""
    return told["t_end"] if value is None else max(value, told["t_end"] / 1000)


# ---------------------------------------------------------------- the critical weight decay


class Bracket(NamedTuple):
    """The largest weight decay at which something lived and the least at which nothing did; 0 or inf where none."""

    low: float
    high: float

    @property
    def middle(self) -> float:
        """The geometric mean, or the end that there is."""
        if self.low > 0 and self.high < math.inf:
            return math.sqrt(self.low * self.high)
        return self.low if self.low > 0 else self.high


def bracket(runs: Mapping[str, Record], rung: int, settings: Mapping[str, float], reading: str) -> Bracket:
    """Of one seed's runs by arm, at rising weight decays: between which two the last mode dies, by a reading or as
    `measured`. What lives again beyond a decay at which all died counts as alive."""
    lived = {eta: runs[arm_name(rung, name)].summary["laws"][reading]["modes"] != 0 for name, eta in settings.items()}
    alive = [eta for eta, lives in lived.items() if lives]
    low = max(alive, default=0.0)
    return Bracket(low, min((eta for eta in lived if eta > low), default=math.inf))


def foretold(runs: Mapping[str, Record], rung: int, settings: Mapping[str, float]) -> float:
    """The largest τ²x_j/(4(1 + σ_j²)) by X and X′ of the start, which all decays share."""
    first = next(iter(settings))
    return number(runs[arm_name(rung, first)].summary["laws"]["forecast"]["critical"])

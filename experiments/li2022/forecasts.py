"""Claims on the forecast of Li, Efros & Pathak 2022: accuracies from AUC and training loss, over the arms of a seed."""

from collections.abc import Callable

import numpy as np

from stopgrad.experiments.claims import kinds
from stopgrad.experiments.claims.claim import Claim, Rule
from stopgrad.experiments.claims.kinds import ACCURACY
from stopgrad.experiments.claims.measures import accuracy
from stopgrad.experiments.forecasting.metrics import METRICS
from stopgrad.experiments.forecasting.regression import Forecast, forecast
from stopgrad.experiments.li2022 import sentences
from stopgrad.experiments.store.store import Record

SMALL = (
    *("baseline", "fraction-10", "single-pass", "cumulative", "hybrid-40"),
    *("half-width/baseline", "half-width/fraction-10", "bottleneck-same-output/baseline"),
    *("byol/baseline", "directcopy/baseline"),
)
_SHARES = ("baseline", "fraction-5", "fraction-10", "fraction-20", "fraction-50")
_ORDERS = ("single-pass", "cumulative", "hybrid-40")
# Orders are compared at the largest width and at the smallest.
_WIDTHS = {"": (*_SHARES, *_ORDERS), "half-width/": _SHARES, "quarter-width/": (*_SHARES, *_ORDERS)}
LARGE = tuple(family + setting for family, settings in _WIDTHS.items() for setting in settings)
"""Arms over which a forecast is made, at scale cpu and from cifar on."""
PAPERS = ("collapse_auc", "loss")
"""What the paper forecasts from."""


def made(runs: dict[str, Record], *metrics: str) -> Forecast:
    """The regression of the probe on these metrics over the runs of one seed."""
    values = np.array([[METRICS[name](run) for name in metrics] for run in runs.values()])
    return forecast(metrics, values, np.array([accuracy(run) for run in runs.values()]))


def ordered(runs: dict[str, Record]) -> float:
    """Pearson's correlation of the probe with its forecast from AUC and loss, each run left out in turn."""
    return made(runs, *PAPERS).pearson_left_out.value


def beats(*others: str) -> Callable[[dict[str, Record]], float]:
    """By how many points the error of a run left out is smaller with AUC and loss than with `others`."""
    return lambda runs: made(runs, *others).error - made(runs, *PAPERS).error


def forecasts(suffix: str, arms: tuple[str, ...], scales: tuple[str, ...], **more) -> tuple[Claim, ...]:
    """Claims on the forecast over these arms: how well it orders, and whether it beats others."""

    def one(name: str, said: str, rule: Rule, value) -> Claim:
        about = (f"forecast{name}{suffix}", "Figure 4", said, sentences.of_forecast, rule, arms, value)
        return kinds.claim(*about, scales=scales, **more)

    def better(than: str) -> Rule:
        statistic = f"mean error of a run left out, forecast {than}, less that by AUC and loss"
        return Rule(statistic, 0.0, "points", "any difference that is there")

    correlated = "Pearson's correlation of probe and forecast, arms left out in turn"
    return (
        one(
            "",
            "AUC and training loss forecast the linear probe (Pearson .98 on ImageNet; here of runs left out).",
            Rule(correlated, 0.8, "", "two thirds of the variance", within=kinds.COSINE),
            ordered,
        ),
        one("-mean", "The forecast from AUC and training loss is better than none.", better("by the mean"), beats()),
        one(
            "-rankme",
            "The forecast from AUC and training loss is better than that from RankMe alone.",
            better("by RankMe"),
            beats("rankme"),
        ),
        one("-auc", "The forecast needs the loss: AUC alone is worse.", better("by AUC alone"), beats("collapse_auc")),
    )


FORECASTS = (*forecasts("", SMALL, ("cpu",), headline=True), *forecasts("-large", LARGE, ACCURACY))

"""What a figure reads off the runs of a suite: statistics of one run, and quantities by name over its steps.

The statistics are those that the ledger's claims rest on, so that a picture and a verdict cannot disagree.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from stopgrad.experiments.claims import measures


class Runs(NamedTuple):
    """The finished runs of some arms of a suite."""

    suite: str
    scale: str
    arms: Mapping[str, Any]
    """`experiments.suites.grid.Arm` by name, for every arm of these that the suite has at this scale."""
    records: Mapping[str, Mapping[int, Any]]
    """By arm and seed; what is not there has not been run by this code."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """Every seed that some of the arms asks for."""
        return tuple(sorted({seed for arm in self.arms.values() for seed in arm.seeds}))

    def of(self, arm: str) -> Mapping[int, Any]:
        """{seed: record} of an arm; empty where it has none."""
        return self.records.get(arm, {})

    def ids(self) -> dict[str, str]:
        """{"arm/seed": key of the run}, all that a figure's data can depend on."""
        return {f"{arm}/{seed}": run.key for arm, runs in self.records.items() for seed, run in runs.items()}


FAMILIES = {"squared error": "", "cosine loss": "cosine/"}
"""What the name of an arm begins with when it is trained with the theory's loss, or with that of the papers."""


class Statistic(NamedTuple):
    """One number of a finished run."""

    words: str
    value: Callable[[Any], float]
    """Of a record; NaN where the run has none, as one that diverged."""
    limits: tuple[float | None, float | None]
    """What an axis shows at least; None: as the values are."""
    scales: tuple[str, ...] | None = None
    """Where it means something; None: everywhere."""


STATISTICS = {
    "modes": Statistic("modes of F at the end", measures.modes, (1, None)),
    "trace": Statistic(r"log$_{10}$ of trace of F ÷ its start", lambda run: -measures.lost_decades(run), (-1, 0)),
    "accuracy": Statistic("linear probe, %", measures.accuracy, (None, None), ("cifar", "gpu", "paper")),
    "m_o": Statistic(r"$m_o$ of Z at the end", lambda run: run.last("m_o_z"), (0, 1)),
    "m_o_p": Statistic(r"$m_o$ of P at the end", lambda run: run.last("m_o_p"), (0, 1)),
    "rank": Statistic("effective rank of Z at the end", lambda run: run.last("rank_z"), (1, None)),
    "auc": Statistic("AUC of representations", lambda run: run.evaluated("collapse_auc"), (0.5, 1)),
    "knn": Statistic("kNN accuracy, %", measures.knn, (None, None)),
    "loss": Statistic("training loss at the end", measures.end_loss, (-1, None)),
}
"""How many modes are left, what of their size, and what the papers report; how far the centre has won, and the rank of
what is around it: directions and norms collapse apart, and so do directions and dimensions."""
USUAL = ("modes", "trace", "accuracy")


def value_of(statistic: Statistic, record) -> float:
    """The statistic of a record; NaN where there is none, or one that diverged, whose last row means nothing."""
    gone = record is None or record.summary["state"] == "diverged"
    return float("nan") if gone else statistic.value(record)


def statistics_at(scale: str, names: Iterable[str] = USUAL) -> dict[str, Statistic]:
    """Those of STATISTICS with these names that mean something at this scale."""
    asked = {name: STATISTICS[name] for name in names}
    return {name: one for name, one in asked.items() if one.scales is None or scale in one.scales}

"""The metrics that forecasts are made from, the accuracies that they are of, and which go together."""

from collections.abc import Callable

from stopgrad.experiments.claims.measures import accuracy, end_loss, knn
from stopgrad.experiments.store.store import Record


def _metric(name: str) -> Callable[[Record], float]:
    return lambda record: record.evaluated(name)


METRICS: dict[str, Callable[[Record], float]] = {
    "collapse_auc": _metric("collapse_auc"),
    "loss": end_loss,
    "rankme": _metric("rankme"),
    "variance_effective_rank": _metric("variance_effective_rank"),
    "participation_ratio": _metric("participation_ratio"),
    "stable_rank": _metric("stable_rank"),
    "alpha_req": _metric("alpha_req"),
}
"""What needs no label, of the representation at the end and of the last tenth of the training."""
TARGETS: dict[str, Callable[[Record], float]] = {"probe": accuracy, "knn": knn}
"""In per cent of the test set."""
MODELS: dict[str, tuple[str, ...]] = {
    "collapse_auc + loss": ("collapse_auc", "loss"),
    **{name: (name,) for name in METRICS},
    "mean": (),
}
"""The paper's regression, each metric alone, and none."""

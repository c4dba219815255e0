"""What Li, Efros & Pathak 2022 claim of accuracies: the order of arms under a linear probe, from scale cifar on."""

from stopgrad.experiments.claims.claim import Claim
from stopgrad.experiments.claims.kinds import more_accurate
from stopgrad.experiments.li2022 import sentences


def accurate(name, place, statement, better, worse, above, **more) -> Claim:
    """A claim that one arm is more accurate than another by so many points."""
    return more_accurate(f"accuracy-{name}", place, statement, sentences.as_an_accuracy, better, worse, above, **more)


ACCURACIES = (
    accurate(
        "single-pass",
        "Table of orders",
        "A single pass over chunks is more accurate than many passes over all (44.5 against 30.0 %).",
        *("single-pass", "baseline", 2.0),
    ),
    accurate(
        "cumulative",
        "Table of orders",
        "Growing data are more accurate than many passes over all (33.0 against 30.0 %).",
        *("cumulative", "baseline", 1.0),
    ),
    accurate(
        "hybrid",
        "Table of orders",
        "A single pass first and then many is more accurate than many passes alone (48.3 against 30.0 %).",
        *("hybrid-40", "baseline", 2.0),
    ),
    accurate(
        "hybrid-single",
        "Table of orders",
        "A single pass first and then many is more accurate than a single pass alone (48.3 against 44.5 %).",
        *("hybrid-40", "single-pass", 1.0),
    ),
    accurate(
        "small-hybrid",
        "Table of orders",
        "The smaller network gains more by a single pass first: a quarter as wide it gains too.",
        *("quarter-width/hybrid-40", "quarter-width/baseline", 2.0),
    ),
    accurate(
        "deep",
        "Table of orders",
        "A deeper network of the same width is less accurate (ResNet-34 16.8 against ResNet-18 30.0 %).",
        *("baseline", "deep/baseline", 2.0),
    ),
    accurate(
        "large-single-pass",
        "Table of orders",
        "A large network loses by a single pass (ResNet-50 55.9 against 68.1 %).",
        *("deep-bottleneck/baseline", "deep-bottleneck/single-pass", 2.0),
    ),
    accurate(
        "large-hybrid",
        "Table of orders",
        "A large network loses nothing by a single pass first (ResNet-50 67.6 against 68.1 %).",
        *("deep-bottleneck/hybrid-40", "deep-bottleneck/baseline", -2.0),
    ),
    accurate(
        "byol",
        "Table of orders",
        "BYOL is more accurate than SimSiam where the network is small (47.5 against 30.0 %).",
        *("byol/baseline", "baseline", 2.0),
    ),
    accurate(
        "restart",
        "Hybrid",
        "A learning rate that starts anew at the switch does as well as one that goes on falling.",
        *("hybrid-40-restart", "hybrid-40", -1.0),
    ),
)

"""What Tian, Chen & Ganguli 2021 claim of accuracies: the order of arms under a linear probe, with the papers' loss.

The paper's own numbers stand in the statements: STL-10, 100 epochs, unless a statement says otherwise. A minimum effect
is well under the paper's difference.
"""

from stopgrad.experiments.claims.claim import Claim
from stopgrad.experiments.claims.kinds import more_accurate
from stopgrad.experiments.tian2021 import sentences

WITH_IMAGES = "2026-11-29"
"""The day of the rules that came with scale cifar."""


def accurate(name: str, place: str, statement: str, better: str, worse: str, above: float, **more) -> Claim:
    """A claim that `better` is more accurate than `worse` by so many points."""
    arms = (f"cosine/{better}", f"cosine/{worse}")
    return more_accurate(f"accuracy-{name}", place, statement, sentences.as_an_accuracy, *arms, above, **more)


ACCURACIES = (
    accurate(
        "stop-gradient",
        "Theorem 2",
        "Without stop-gradient accuracy falls.",
        *("baseline", "no-stop-gradient", 2.0),
        since=WITH_IMAGES,
    ),
    accurate(
        "predictor",
        "Theorem 2, remark",
        "Without predictor accuracy falls.",
        *("baseline", "no-predictor", 2.0),
        since=WITH_IMAGES,
    ),
    accurate(
        "symmetric",
        "Table 3",
        "Without EMA a symmetric predictor is far less accurate than a free one (36.6 against 72.9 %).",
        *("baseline", "symmetric", 5.0),
    ),
    accurate(
        "rescue-ema",
        "Table 3",
        "An EMA target saves the accuracy of the symmetric predictor (75.1 against 36.6 %).",
        *("symmetric-ema", "symmetric", 5.0),
        since=WITH_IMAGES,
    ),
    accurate(
        "two-layers",
        "Table 3",
        "Without EMA a predictor of two layers is less accurate than a matrix (66.0 against 72.9 %).",
        *("baseline", "mlp", 1.0),
        since=WITH_IMAGES,
    ),
    accurate(
        "two-layers-ema",
        "Table 3",
        "With EMA a predictor of two layers is more accurate than a matrix (78.9 against 74.5 %).",
        *("mlp-ema", "ema", 1.0),
        since=WITH_IMAGES,
    ),
    accurate(
        "rescue-predictor-decay",
        "Table 5",
        "Weight decay on the predictor alone saves the accuracy of the symmetric predictor without EMA (71.1 against "
        "36.6 %).",
        *("symmetric-predictor-decay", "symmetric", 5.0),
        since=WITH_IMAGES,
    ),
    accurate(
        "rescue-alpha-p",
        "Figure 6",
        "α_p = 8 saves the accuracy of the symmetric predictor without EMA.",
        *("symmetric-alpha-8", "symmetric", 5.0),
        since=WITH_IMAGES,
    ),
    accurate(
        "weight-decay",
        "Table 2",
        "Without weight decay accuracy falls (70.6 against 74.5 %, EMA).",
        *("ema", "no-decay-ema", 1.0),
    ),
    accurate(
        "optimal",
        "Table 1",
        "The optimal predictor is far less accurate than one learned by gradient (40.7 against 74.5 %, EMA).",
        *("ema", "optimal-ema", 5.0),
    ),
    accurate(
        "directpred",
        "Table 8",
        "DirectPred is at least as accurate as the learned linear predictor (77.9 against 75.1 %).",
        *("directpred", "ema", 0.0),
    ),
    accurate(
        "epsilon",
        "Table 6",
        "ε = 0.1 is more accurate than 0.5 (77.9 against 75.1 %, rho = 0.3).",
        *("directpred", "directpred-eps-0.5", 0.5),
    ),
    accurate(
        "sign-of-c",
        "Table 7",
        "c = -0.1 is more accurate than c = 0.1 (76.5 against 46.6 %, set at every step).",
        *("directpred-c-0.1", "directpred-c+0.1", 5.0),
    ),
    accurate(
        "freq",
        "Table 8",
        "Setting W_p every 5 steps is as accurate as at every step (77.5 against 77.9 %).",
        *("directpred-freq-5", "directpred", -1.0),
    ),
    accurate(
        "directcopy",
        "Wang et al. 2021",
        "DirectCopy, without an eigendecomposition, is as accurate as DirectPred.",
        *("directcopy", "directpred", -1.0),
        since=WITH_IMAGES,
    ),
    more_accurate(
        "accuracy-imagenet",
        "Table 9",
        "On ImageNet DirectPred is more accurate than a linear predictor (64.4 against 59.4 %, 60 epochs).",
        sentences.as_an_accuracy,
        "imagenet/directpred",
        "imagenet/linear",
        1.0,
        scales=("paper",),
    ),
)

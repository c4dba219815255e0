"""What Chen & He 2021 claim of accuracies: the order of arms under a linear probe.

The paper's own numbers stand in the statements: ImageNet, ResNet-50, 100 epochs. A minimum effect is well under the
paper's difference, and where the paper says that something does not matter, a loss of so many points is allowed.
"""

from stopgrad.experiments.claims.claim import Claim
from stopgrad.experiments.claims.kinds import more_accurate
from stopgrad.experiments.simsiam2021 import sentences


def accurate(name: str, place: str, statement: str, better: str, worse: str, above: float) -> Claim:
    """A claim that `better` is more accurate than `worse` by so many points."""
    return more_accurate(f"accuracy-{name}", place, statement, sentences.as_an_accuracy, better, worse, above)


ACCURACIES = (
    accurate(
        "stop-gradient",
        "Stop-gradient",
        "Without stop-gradient accuracy is that of chance (0.1 against 67.7 %).",
        *("baseline", "no-stop-gradient", 5.0),
    ),
    accurate(
        "predictor",
        "Predictor",
        "Without predictor accuracy is that of chance (0.1 against 67.7 %).",
        *("baseline", "no-predictor", 5.0),
    ),
    accurate(
        "fixed-predictor",
        "Predictor",
        "A random predictor that is never trained is of no use (1.5 against 67.7 %).",
        *("baseline", "fixed-predictor", 5.0),
    ),
    accurate(
        "constant-predictor",
        "Predictor",
        "A predictor whose learning rate is not decayed is as accurate (68.1 against 67.7 %).",
        *("predictor-constant", "predictor-decayed", -1.0),
    ),
    accurate(
        "small-batch",
        "Batch size",
        "An eighth of the batch costs little (66.1 % at 64, 68.1 % at 512).",
        *("batch-over-8", "baseline", -4.0),
    ),
    accurate(
        "large-batch",
        "Batch size",
        "Eight times the batch costs accuracy (64.0 % at 4096, 68.1 % at 512).",
        *("baseline", "batch-times-8", 1.0),
    ),
    accurate(
        "hidden-batchnorm",
        "BatchNorm on heads",
        "BatchNorm on hidden layers alone is nearly as accurate (67.4 against 68.2 % with an affine-free output one).",
        *("bare/baseline", "baseline", -2.0),
    ),
    accurate(
        "affine",
        "BatchNorm on heads",
        "Affine parameters of the output BatchNorm make no difference (68.1 with, 68.2 % without).",
        *("affine-output", "baseline", -1.0),
    ),
    accurate(
        "cross-entropy",
        "Similarity",
        "Cross-entropy is less accurate than the cosine (63.2 against 68.1 %).",
        *("baseline", "cross-entropy", 1.0),
    ),
    accurate(
        "asymmetric",
        "Symmetrisation",
        "The loss of one direction alone is less accurate (64.8 against 68.1 %).",
        *("baseline", "asymmetric", 1.0),
    ),
    accurate(
        "asymmetric-twice",
        "Symmetrisation",
        "Twice the pairs of views make up for most of it (67.3 against 64.8 %).",
        *("asymmetric-twice", "asymmetric", 1.0),
    ),
    accurate(
        "alternation-10",
        "Multi-step alternation",
        "A target that stands still for 10 steps is as accurate (68.7 against 68.1 %).",
        *("alternation-10", "baseline", -1.0),
    ),
    accurate(
        "alternation-100",
        "Multi-step alternation",
        "A target that stands still for 100 steps is as accurate (68.9 against 68.1 %).",
        *("alternation-100", "baseline", -1.0),
    ),
    accurate(
        "alternation-epoch",
        "Multi-step alternation",
        "A target that stands still for an epoch is nearly as accurate (67.0 against 68.1 %).",
        *("alternation-epoch", "baseline", -2.0),
    ),
    accurate(
        "moving-average",
        "Expectation over augmentation",
        "Without predictor a moving average of each image's embeddings saves accuracy (55.0 against 0.1 %).",
        *("moving-average", "no-predictor", 5.0),
    ),
    accurate(
        "dimension",
        "Output dimension",
        "Outputs of an eighth of the dimension are less accurate (65.3 % at 256, 68.1 % at 2048).",
        *("baseline", "dimension-over-8", 1.0),
    ),
    accurate(
        "simclr",
        "Relation to other methods",
        "SimCLR gains nothing from a predictor and stop-gradient (66.0 against 66.5 %).",
        *("simclr", "simclr-predictor-stop-gradient", -1.0),
    ),
)

"""What Chen & He 2021 claim of networks, each with the arms that would show it and the rule that decides.

Below `cifar` claims rest on collapse: the embeddings' centre m_o and modes, the paper's std and loss. Accuracies are
claims of their own, for larger scales (`experiments.simsiam2021.accuracies`). Places are the paper's ablations by name.
"""

from functools import partial

from stopgrad.experiments.claims import kinds
from stopgrad.experiments.claims.kinds import ACCURACY, AS_GOOD, more_modes, narrower, survives
from stopgrad.experiments.simsiam2021 import sentences
from stopgrad.experiments.simsiam2021.accuracies import ACCURACIES

CPU_ALONE = ("cpu",)
"""Of arms on digits."""
FROM_CPU = ("cpu", *ACCURACY)
STD, LOSS, M_O = "√d times the channels' std", "loss", "m_o of Z"
short_of = partial(kinds.short_of, scales=FROM_CPU)
keeps = partial(survives, scales=FROM_CPU)

CLAIMS = (
    narrower(
        "stop-gradient",
        "Stop-gradient",
        "Without stop-gradient the outputs collapse to one direction (0.1 against 67.7 ± 0.1 %).",
        sentences.without_stop_gradient,
        "bare/no-stop-gradient",
        "bare/baseline",
        headline=True,
    ),
    kinds.short_of(
        "stop-gradient-std",
        "Stop-gradient",
        "Without stop-gradient the std of the normalised outputs goes to 0.",
        sentences.smallest_std,
        *("bare/no-stop-gradient", "std_z", STD, 1, 0.9, "a tenth of the std of a uniform direction is left"),
        headline=True,
    ),
    kinds.short_of(
        "stop-gradient-loss",
        "Stop-gradient",
        "Without stop-gradient the loss goes to its minimum of -1.",
        sentences.smallest_loss,
        *("bare/no-stop-gradient", "loss", LOSS, 0, 0.95, "within 18° on average"),
    ),
    more_modes(
        "stop-gradient-dimensions",
        "Stop-gradient",
        "Without stop-gradient the outputs lose dimensions, where an affine-free output BatchNorm leaves no other way.",
        sentences.in_dimensions,
        "baseline",
        "no-stop-gradient",
        scales=FROM_CPU,
        headline=True,
    ),
    narrower(
        "stop-gradient-digits",
        "Stop-gradient",
        "Without stop-gradient a ResNet on digits collapses to one direction.",
        sentences.without_stop_gradient,
        "digits/no-stop-gradient",
        "digits/baseline",
        scales=CPU_ALONE,
        headline=True,
    ),
    narrower(
        "predictor",
        "Predictor",
        "Without predictor the outputs collapse to one direction, although gradients stop (0.1 against 67.7 %).",
        sentences.without_predictor,
        "bare/no-predictor",
        "bare/baseline",
        scales=FROM_CPU,
        headline=True,
    ),
    more_modes(
        "predictor-dimensions",
        "Predictor",
        "Without predictor the outputs lose dimensions, where an affine-free output BatchNorm leaves no other way.",
        sentences.in_dimensions,
        "baseline",
        "no-predictor",
        scales=FROM_CPU,
    ),
    short_of(
        "fixed-predictor-no-collapse",
        "Predictor",
        "With a random predictor that is never trained the outputs do not collapse to one direction (1.5 %).",
        sentences.fixed_predictor,
        *("bare/fixed-predictor", "m_o_z", M_O, 1, 0.1, "a fifth of the energy, 1 − m_o², is left"),
    ),
    kinds.apart(
        "fixed-predictor-loss",
        "Predictor",
        "With a random predictor that is never trained the loss stays high.",
        sentences.fixed_predictor,
        *("bare/fixed-predictor", "bare/baseline", "loss", LOSS, 0.1, "a tenth of its range from 0 to -1"),
        scales=FROM_CPU,
        headline=True,
    ),
    more_modes(
        "constant-predictor",
        "Predictor",
        "A predictor whose learning rate is not decayed does as well (68.1 against 67.7 %; modes kept).",
        sentences.constant_rate,
        "predictor-constant",
        "predictor-decayed",
        AS_GOOD,
        scales=ACCURACY,
    ),
    keeps(
        "small-batch",
        "Batch size",
        "An eighth of the batch does not collapse (66.1 % at 64, 68.1 % at 512).",
        sentences.of_batches,
        "batch-over-8",
        "baseline",
        scales=ACCURACY,
    ),
    keeps(
        "large-batch",
        "Batch size",
        "Eight times the batch does not collapse (64.0 % at 4096, 68.1 % at 512).",
        sentences.of_batches,
        "batch-times-8",
        "baseline",
        scales=ACCURACY,
    ),
    short_of(
        "hidden-batchnorm",
        "BatchNorm on heads",
        "BatchNorm on hidden layers alone is enough against collapse (67.4 against 68.1 %).",
        sentences.without_output_batchnorm,
        *("bare/baseline", "m_o_z", M_O, 1, 0.1, "a fifth of the energy, 1 − m_o², is left"),
        headline=True,
    ),
    keeps(
        "cross-entropy",
        "Similarity",
        "With cross-entropy for a similarity the outputs do not collapse (63.2 against 68.1 %).",
        sentences.another_similarity,
        "bare/cross-entropy",
        "bare/baseline",
        headline=True,
    ),
    keeps(
        "asymmetric",
        "Symmetrisation",
        "With the loss of one direction alone the outputs do not collapse (64.8 against 68.1 %).",
        sentences.one_direction,
        "bare/asymmetric",
        "bare/baseline",
        scales=ACCURACY,
    ),
    keeps(
        "alternation",
        "Multi-step alternation",
        "Against a target that stands still for 100 steps the outputs do not collapse (68.9 against 68.1 %).",
        sentences.standing_target,
        "bare/alternation-100",
        "bare/baseline",
        headline=True,
    ),
    keeps(
        "alternation-epoch",
        "Multi-step alternation",
        "Against a target that stands still for an epoch the outputs do not collapse (67.0 against 68.1 %).",
        sentences.standing_target,
        "alternation-epoch",
        "baseline",
        scales=ACCURACY,
    ),
    short_of(
        "moving-average",
        "Expectation over augmentation",
        "Without predictor, against a moving average of each image's embeddings, the outputs do not collapse, even "
        "without an output BatchNorm.",
        sentences.moving_average,
        *("bare/moving-average", "m_o_z", M_O, 1, 0.1, "a fifth of the energy, 1 − m_o², is left"),
        headline=True,
    ),
    short_of(
        "moving-average-affine",
        "Expectation over augmentation",
        "Without predictor, against a moving average of each image's embeddings, the outputs do not collapse (55.0 %), "
        "with the paper's output BatchNorm.",
        sentences.moving_average,
        *("affine-output-moving-average", "m_o_z", M_O, 1, 0.1, "a fifth of the energy, 1 − m_o², is left"),
        headline=True,
    ),
    more_modes(
        "moving-average-dimensions",
        "Expectation over augmentation",
        "Without predictor, a moving average of each image's embeddings keeps dimensions, behind an output BatchNorm.",
        sentences.moving_average,
        "moving-average",
        "no-predictor",
        scales=FROM_CPU,
    ),
    more_modes(
        "dimension",
        "Output dimension",
        "Outputs of eight times the dimension use more of it (65.3 % at 256, 68.1 % at 2048; modes kept).",
        sentences.of_dimensions,
        "baseline",
        "dimension-over-8",
        scales=ACCURACY,
    ),
    *ACCURACIES,
)
"""Every claim about networks: a new one is one entry here, or among the accuracies."""

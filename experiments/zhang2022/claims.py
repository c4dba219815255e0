"""What Zhang et al. 2022 claim of networks, each with the arms that would show it and the rule that decides.

A collapse is complete where the embeddings gather in one direction, m_o → 1, and dimensional where their rank falls:
m_o sees nothing of the second, a rank nothing certain of the first, whose rest is noise. So there are claims of both,
and of Z and of P. What a phase of a schedule does stands in `experiments.zhang2022.phases`; accuracies are claims from
`cifar` on.
"""

import math

from stopgrad.experiments.store.store import Record
from stopgrad.experiments.zhang2022 import sentences
from stopgrad.experiments.zhang2022.accuracies import ACCURACIES
from stopgrad.experiments.zhang2022.kinds import (
    FLOOR,
    HALF,
    collapses,
    keeps_spread,
    moves,
    ranks_higher,
    survives,
)
from stopgrad.experiments.zhang2022.phases import OF_PHASES
from stopgrad.linear_theory.exact.centre import decentring


def _of_theory(run: Record) -> float:
    """ln of η_p over what the best linear predictor would have at the run's own m_o and ρ, without its sign."""
    best = float(decentring(run.last("m_o_z"), run.last("rho_z")))
    return abs(math.log(max(-run.last("eta_p"), FLOOR) / best))


CLAIMS = (
    collapses(
        "fresh-views",
        "Table 1",
        "Without predictor the mean of ten fresh views as target, which would be its expectation, collapses.",
        sentences.without_predictor,
        "fresh-views-10",
    ),
    keeps_spread(
        "moving-average",
        "Table 1",
        "Without predictor a moving average of each image's embeddings as target does not collapse (here without an "
        "output BatchNorm).",
        sentences.moving_average,
        "moving-average",
    ),
    keeps_spread(
        "moving-average-random",
        "Table 1",
        "It does not if averages start at random unit vectors, as in the authors' code (without an output BatchNorm).",
        sentences.moving_average,
        "moving-average-random",
    ),
    survives(
        "moving-average-start",
        "Table 1",
        "Averages that start at random unit vectors delay the collapse, beside those that start at embeddings.",
        sentences.moving_average,
        "moving-average-random",
        "moving-average",
    ),
    keeps_spread(
        "moving-average-affine",
        "Table 1",
        "Behind an output BatchNorm with affine parameters a moving average as target does not collapse.",
        sentences.moving_average,
        "affine/moving-average",
        headline=True,
    ),
    collapses(
        "naive-affine",
        "Table 2",
        "Behind an output BatchNorm with affine parameters a network without predictor and average collapses.",
        sentences.moving_average,
        "affine/naive",
        "affine/moving-average",
    ),
    collapses(
        "naive",
        "Table 2",
        "Without predictor SimSiam collapses, although gradients stop at the target.",
        sentences.without_predictor,
        "naive",
        headline=True,
    ),
    collapses(
        "mirror",
        "Table 2",
        "Mirror SimSiam, whose gradient passes the branch without predictor, collapses (two layers with BatchNorm).",
        sentences.mirror,
        "mirror",
    ),
    collapses(
        "mirror-linear",
        "Table 2",
        "Mirror SimSiam collapses where its predictor is linear, without a BatchNorm of its own.",
        sentences.mirror,
        "mirror-linear",
    ),
    ranks_higher(
        "mirror-rank",
        "Table 2",
        "Mirror SimSiam collapses in dimension where its predictor has two layers with BatchNorm.",
        sentences.mirror,
        "simsiam",
        "mirror",
        HALF,
    ),
    collapses(
        "symmetric",
        "Table 2",
        "A predictor on both sides is a naive Siamese network of encoder and predictor: its predictions collapse.",
        sentences.symmetric,
        "symmetric",
        side="p",
    ),
    survives(
        "inverse",
        "Figure 3",
        "With an inverse predictor behind the predictor on the stopped side SimSiam does not collapse.",
        sentences.inverse,
        "inverse",
    ),
    survives(
        "triplet-both",
        "Table 3",
        "A triplet loss, whose extra gradient is a random negative, does not collapse.",
        sentences.negatives,
        "triplet-both",
    ),
    survives(
        "triplet-centre",
        "Table 3",
        "The centre of the triplet's extra gradient alone prevents a collapse.",
        sentences.decentring,
        "triplet-centre",
        headline=True,
    ),
    collapses(
        "triplet-residual",
        "Table 3",
        "The residual of the triplet's extra gradient alone does not prevent a collapse.",
        sentences.residual_negative,
        "triplet-residual",
        "triplet-both",
    ),
    collapses(
        "components-none",
        "Table 4",
        "Without its extra gradient SimSiam collapses (in its predictions).",
        sentences.symmetric,
        "keep-none",
        side="p",
        headline=True,
    ),
    survives(
        "components-centre",
        "Table 4",
        "The centre of SimSiam's extra gradient alone prevents a complete collapse.",
        sentences.decentring,
        "keep-centre",
    ),
    survives(
        "components-residual",
        "Table 4",
        "The residual of SimSiam's extra gradient alone prevents a complete collapse.",
        sentences.decorrelation,
        "keep-residual",
    ),
    ranks_higher(
        "residual-removed",
        "Figure 6",
        "Without the residual part of its extra gradient SimSiam collapses in dimension.",
        sentences.decorrelation,
        "simsiam",
        "keep-centre",
        HALF,
        headline=True,
    ),
    ranks_higher(
        "residual-alone",
        "Table 4",
        "The residual alone does as well as both parts (66.2 against 66.6 %); here, ranks.",
        sentences.decorrelation,
        "keep-residual",
        "simsiam",
        -HALF,
    ),
    *(
        moves(
            f"decentring{name}",
            "Figure 5a",
            f"The centre of the extra gradient points against the prediction's, η_p < 0 ({what}; in the paper −0.44).",
            sentences.decentring,
            arm,
            lambda run: -run.last("eta_p"),
            "−η_p, at which o_e − η_p o_p stands at right angles to o_p, at the end",
            0.1,
            "a quarter of the paper's",
            headline=not name,
            **more,
        )
        for name, what, arm, more in (
            ("", "MLP", "simsiam", {}),
            ("-digits", "ResNet on digits", "digits/simsiam", {"scales": ("cpu",)}),
        )
    ),
    *(
        moves(
            f"decentring-theory{name}",
            "Figure 5a",
            f"How much of the centre is removed is what the best linear predictor would remove ({what}).",
            sentences.decentring,
            arm,
            lambda run: -_of_theory(run),
            "−|ln(−η_p ÷ (1 − √(m_o² + ρ²(1 − m_o²))))|, with the run's own m_o and ρ of Z",
            -HALF,
            "within a factor of two",
            unit="nats",
            **more,
        )
        for name, what, arm, more in (
            ("", "MLP", "simsiam", {"headline": True}),
            ("-digits", "ResNet on digits", "digits/simsiam", {"scales": ("cpu",)}),
        )
    ),
    survives(
        "bias",
        "§ simplified predictors",
        "A single bias as predictor prevents a complete collapse.",
        sentences.bias,
        "bias",
        headline=True,
    ),
    survives(
        "linear",
        "Table 5",
        "A linear predictor prevents a complete collapse.",
        sentences.decentring,
        "linear",
    ),
    ranks_higher(
        "bias-rank",
        "§ simplified predictors",
        "A bias cannot keep the rank, which a predictor of two layers does.",
        sentences.bias,
        "simsiam",
        "bias",
    ),
    ranks_higher(
        "temperature",
        "Figure 5c",
        "The lower InfoNCE's temperature, the stronger its de-correlation: a higher rank at 0.1 than at 5.",
        sentences.temperature,
        "infonce-0.1",
        "infonce-5",
        HALF,
    ),
    survives(
        "infonce",
        "§ InfoNCE",
        "Negatives de-centre: InfoNCE does not collapse without predictor, even at a temperature of 5.",
        sentences.negatives,
        "infonce-5",
    ),
    survives(
        "batchnorm",
        "Chen & He 2021, §4.4",
        "Behind an affine-free output BatchNorm no collapse is complete, without predictor neither.",
        sentences.behind_bn,
        "bn/naive",
    ),
    ranks_higher(
        "batchnorm-dimensional",
        "Chen & He 2021, §4.4",
        "Behind an affine-free output BatchNorm a network without predictor loses rank instead.",
        sentences.behind_bn,
        "bn/simsiam",
        "bn/naive",
    ),
    *OF_PHASES,
    *ACCURACIES,
)
"""Every claim about networks: a new one is one entry here."""

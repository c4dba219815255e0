"""What Tian, Chen & Ganguli 2021 claim of networks, each with the arms that would show it and the rule that decides.

Below `cifar` claims rest on spectra and alignment; accuracies are claims of their own, for larger scales
(`experiments.tian2021.accuracies`).
"""

from functools import partial

from stopgrad.experiments.claims import kinds, measures
from stopgrad.experiments.claims.claim import Claim, Rule
from stopgrad.experiments.claims.kinds import (
    ACCURACY,
    AS_GOOD,
    COSINE,
    MORE,
    TRAINED,
    claim,
    falls,
    lost_more,
    more_modes,
)
from stopgrad.experiments.tian2021 import sentences
from stopgrad.experiments.tian2021.ablation import LINEAR, SQUARED
from stopgrad.experiments.tian2021.accuracies import ACCURACIES, WITH_IMAGES

BY_LOG_ODDS = "2026-11-28"
"""The day from which cosines are averaged by their log odds."""
aligns = partial(kinds.aligns, since=BY_LOG_ODDS)
balanced = partial(kinds.balanced, place="Theorem 1", theory=sentences.balance, headline=True)
narrower = partial(kinds.narrower, theory=sentences.cosine_only, headline=True)

WITH_SQUARED_ERROR = tuple(scale for scale in TRAINED if scale != "cifar")


def in_both_losses(name, place, statement, theory, better, worse, above=MORE, **more) -> tuple[Claim, Claim]:
    """`more_modes` with squared error, and where images and length allow with the papers' loss.

    At scale cifar, where every run counts, the papers' loss alone is tried on the arms of such claims.
    """
    under_cosine = f"{statement.removesuffix('.')} (cosine loss)."
    arms, scales = (f"cosine/{better}", f"cosine/{worse}"), {"scales": ACCURACY, "since": WITH_IMAGES}
    return (
        more_modes(name, place, statement, theory, better, worse, above, scales=WITH_SQUARED_ERROR, **more),
        more_modes(f"{name}-cosine", place, under_cosine, sentences.cosine_only, *arms, above, **scales),
    )


CLAIMS = (
    balanced("theorem1-linear-network", arm="linear/baseline", what="linear network, SGD"),
    balanced("theorem1-resnet", arm="baseline", what="last layer of a ResNet's projector, squared error"),
    lost_more(
        "theorem2-stop-gradient",
        "Theorem 2",
        "Without stop-gradient a network with a learned predictor collapses.",
        sentences.without_stop_gradient,
        "no-stop-gradient",
        "baseline",
        headline=True,
    ),
    lost_more(
        "theorem2-stop-gradient-linear",
        "Theorem 2",
        "Without stop-gradient a linear network with a learned predictor collapses.",
        sentences.without_stop_gradient,
        "linear/no-stop-gradient",
        "linear/baseline",
    ),
    narrower(
        "theorem2-stop-gradient-cosine",
        "Theorem 2",
        "Without stop-gradient the embeddings gather in one direction, under the cosine loss too.",
        dead="cosine/no-stop-gradient",
        alive="cosine/baseline",
    ),
    lost_more(
        "theorem2-predictor",
        "Theorem 2, remark",
        "Without predictor the network collapses, although gradients stop at the target.",
        sentences.without_predictor,
        "no-predictor",
        "baseline",
        headline=True,
    ),
    narrower(
        "theorem2-predictor-cosine",
        "Theorem 2, remark",
        "Without predictor the embeddings gather in one direction, under the cosine loss too.",
        dead="cosine/no-predictor",
        alive="cosine/baseline",
    ),
    aligns(
        "alignment-linear-network",
        "Theorem 3",
        sentences.aligned,
        "linear/baseline",
        "linear network",
        headline=True,
    ),
    aligns("alignment-resnet", "Theorem 3", sentences.aligned, "baseline", "ResNet, squared error, free predictor"),
    aligns(
        "alignment-resnet-ema",
        "Figure 2",
        sentences.aligned,
        "ema",
        "ResNet, squared error, EMA target",
        headline=True,
    ),
    aligns(
        "alignment-resnet-symmetric",
        "Figure 2",
        sentences.aligned,
        "symmetric-ema",
        "ResNet, EMA, symmetrised predictor",
    ),
    aligns(
        "alignment-resnet-cosine",
        "Figure 2",
        sentences.cosine_only,
        "cosine/baseline",
        "ResNet, cosine loss",
        headline=True,
    ),
    falls(
        "predictor-symmetric",
        "Figure 2",
        "A free predictor becomes symmetric while it learns.",
        sentences.symmetric_in_the_end,
        "ema",
        "asymmetry",
        "asymmetry of W_p",
        headline=True,
    ),
    falls(
        "predictor-positive",
        "Figure 2",
        "The predictor's negative eigenvalues shrink.",
        sentences.symmetric_in_the_end,
        "ema",
        "predictor_negative",
        "share of negative eigenvalues of W_p",
        headline=True,
    ),
    claim(
        "target-proportional",
        "Assumption A1, Figure 7",
        "The EMA target stays nearly proportional to the online network (correlation 0.9 at worst).",
        sentences.proportional,
        Rule("lowest cosine of W_a and W (projector's last layer)", 0.9, "", "the paper's own number", within=COSINE),
        ["ema"],
        lambda runs: runs["ema"].lowest("target_correlation"),
        BY_LOG_ODDS,
        needs=("beta_t",),
        headline=True,
    ),
    more_modes(
        "observation1-linear",
        "Observation 1",
        "A larger α_p shrinks the basin of collapse: more modes live.",
        sentences.larger_alpha,
        "linear/alpha-8",
        "linear/baseline",
        needs=("eta_t",),
        headline=True,
    ),
    lost_more(
        "observation5-linear",
        "Observation 5",
        "Beyond η = τ²/(4(1 + σ²)) all modes collapse (linear network).",
        lambda: sentences.too_much_decay(LINEAR, 4.0),
        "linear/beyond-critical-decay",
        "linear/baseline",
        needs=("eta_t",),
    ),
    lost_more(
        "observation5-resnet",
        "Observation 5",
        "Too much weight decay collapses everything (ResNet).",
        lambda: sentences.too_much_decay(SQUARED, 64.0),
        "decay-64",
        "baseline",
        needs=("eta_t",),
        headline=True,
    ),
    more_modes(
        "observation8-linear",
        "Observation 8",
        "An EMA target lets more modes live: it aligns first and grows later.",
        sentences.ema_first,
        "linear/ema",
        "linear/baseline",
        needs=("eta_t", "beta_t"),
    ),
    claim(
        "observation9-linear",
        "Observation 9",
        "A slow EMA trains slowly.",
        sentences.slow_target,
        Rule(
            "mean growth of F's trace over the run in linear/ema, less that in linear/slow-ema",
            0.05,
            "",
            "of its start; set after a first look, in which the size of F at the start had drowned a ratio",
        ),
        ["linear/ema", "linear/slow-ema"],
        lambda runs: measures.mean_growth(runs["linear/ema"]) - measures.mean_growth(runs["linear/slow-ema"]),
    ),
    *in_both_losses(
        "symmetric-collapse",
        "Table 3",
        "A symmetric predictor without EMA collapses where a free one does not.",
        sentences.symmetric_collapse,
        "baseline",
        "symmetric",
        needs=("eta_t",),
        headline=True,
    ),
    *in_both_losses(
        "symmetric-collapse-no-decay",
        "Table 5",
        "A symmetric predictor without EMA and weight decay collapses where a free one does not.",
        sentences.symmetric_collapse_without_decay,
        "no-decay",
        "symmetric-no-decay",
    ),
    *in_both_losses(
        "rescue-alpha-p",
        "Figure 6",
        "α_p > 1 saves the symmetric predictor without EMA.",
        sentences.faster_predictor_rescues,
        "symmetric-alpha-4",
        "symmetric",
        needs=("eta_t",),
        headline=True,
    ),
    *in_both_losses(
        "rescue-predictor-decay",
        "Table 5",
        "More weight decay on the predictor than on the rest saves the symmetric predictor without EMA.",
        sentences.decay_of_predictor_only,
        "symmetric-predictor-decay",
        "symmetric",
        needs=("eta_t",),
    ),
    *in_both_losses(
        "rescue-predictor-decay-alone",
        "Table 5",
        "Weight decay on the predictor alone saves the symmetric predictor without EMA, as against none at all.",
        sentences.decay_of_predictor_only,
        "symmetric-predictor-decay",
        "symmetric-no-decay",
        needs=("eta_t",),
    ),
    *in_both_losses(
        "rescue-ema",
        "Table 3",
        "An EMA target saves the symmetric predictor.",
        sentences.ema_first,
        "symmetric-ema",
        "symmetric",
        needs=("eta_t", "beta_t"),
    ),
    *in_both_losses(
        "directpred-spectrum",
        "Table 8",
        "DirectPred does at least as well as the learned predictor (modes kept).",
        sentences.a_set_predictor,
        "directpred",
        "ema",
        AS_GOOD,
        needs=("eta_t",),
        headline=True,
    ),
    *in_both_losses(
        "directpred-epsilon",
        "Table 6",
        "Regularising with ε = 0.1 does better than without (modes kept).",
        sentences.a_set_predictor,
        "directpred",
        "directpred-eps-0",
        needs=("eta_t",),
    ),
    *in_both_losses(
        "directpred-sign-of-c",
        "Table 7",
        "Cutting small eigenvalues off (c = 0.1) hurts (modes kept).",
        sentences.cutoff,
        "directpred-eps-0",
        "directpred-c+0.1",
        needs=("eta_t",),
        headline=True,
    ),
    *in_both_losses(
        "directpred-negative-c",
        "Table 7",
        "Adding to all eigenvalues (c = -0.1) does not hurt (modes kept).",
        sentences.cutoff,
        "directpred-c-0.1",
        "directpred-eps-0",
        AS_GOOD,
        needs=("eta_t",),
    ),
    *in_both_losses(
        "directpred-freq",
        "Table 8",
        "Setting W_p every 5 steps only, with gradient steps in between, does as well (modes kept).",
        sentences.a_set_predictor,
        "directpred-freq-5",
        "directpred",
        AS_GOOD,
        needs=("eta_t",),
    ),
    more_modes(
        "optimal-fails",
        "Table 1",
        "The predictor that is optimal at every step is worse than one learned by gradient (modes kept).",
        sentences.optimal,
        "cosine/baseline",
        "cosine/optimal",
        needs=("eta_t",),
        headline=True,
    ),
    *ACCURACIES,
)
"""Every claim about networks: a new one is one entry here, or among the accuracies."""

"""What Li, Efros & Pathak 2022 claim of networks, each with the arms that would show it and the rule that decides.

The paper's numbers stand in the statements: ImageNet, ResNet-18 unless another is named, 100 epochs' worth of steps.
`collapse_auc` is of the representation, over the training images or as many as are evaluated.
"""

import functools
import math

from stopgrad.experiments.claims import kinds
from stopgrad.experiments.claims.claim import Claim, Rule
from stopgrad.experiments.claims.kinds import ACCURACY
from stopgrad.experiments.claims.measures import knn
from stopgrad.experiments.li2022 import modes, sentences
from stopgrad.experiments.li2022.accuracies import ACCURACIES
from stopgrad.experiments.li2022.forecasts import FORECASTS
from stopgrad.experiments.store.store import Record

FROM_CPU = ("cpu", *ACCURACY)
HUNDREDTH = "two hundredths of AUC, a tenth of what ImageNet's spectra differ by"


def auc(run: Record) -> float:
    """AUC of the representation at the end."""
    return run.evaluated("collapse_auc")


def share_used(run: Record) -> float:
    """ln of RankMe over the representation's dimension: what share of it is in use, whatever it is."""
    return math.log(run.evaluated("rankme") / run.evaluated("dim"))


def overfit(run: Record) -> float:
    """Loss on new views of unseen images less that on new views of the images it learned from last."""
    seen = run.summary["generalisation"]
    return seen["test"]["loss"] - seen["train"]["loss"]


def disagreement(run: Record) -> float:
    """ln σ² at the projector's input, of the images that it learned from last."""
    return math.log(run.summary["generalisation"]["train"]["sigma2"])


def by(measure, words, unit, name, place, statement, theory, more, less, above, why, scales=FROM_CPU, **also) -> Claim:
    """A claim that `measure` is larger in one arm than in another with the same seed."""
    rule = Rule(f"{words} of {more} less that of {less}", above, unit, why)
    value = lambda runs: measure(runs[more]) - measure(runs[less])  # noqa: E731
    return kinds.claim(name, place, statement, theory, rule, (more, less), value, scales=scales, **also)


more_collapsed = functools.partial(by, auc, "AUC", "", above=0.02, why=HUNDREDTH)
uses_more = functools.partial(by, share_used, "ln(RankMe ÷ d)", "nats", above=0.1, why="a tenth more")
nearer = functools.partial(by, knn, "kNN accuracy", "points")


# ---------------------------------------------------------------- modes

HALF_AGAIN = -math.log(1.5)


def as_many(name, statement, arm, **more) -> Claim:
    """A claim that as many modes of a linear arm live as theory lets live, by X of the points that it saw."""
    rule = Rule(
        f"−|ln((modes that live + 1) ÷ (modes that may + 1))|, {arm}", HALF_AGAIN, "nats", "within half as many again"
    )
    value = lambda runs: modes.agreement(runs[arm])  # noqa: E731
    return kinds.claim(name, "Figure 2", statement, sentences.of_modes, rule, (arm,), value, needs=("eta_t",), **more)


def _network_modes(runs: dict[str, Record]) -> float:
    [run] = runs.values()
    return -abs(math.log(run.last("rank_z") / max(modes.allowed_in_network(run), 1)))


def _alive_more(more: str, less: str):
    return lambda runs: math.log((modes.alive(runs[more]) + 1) / (modes.alive(runs[less]) + 1))


CLAIMS = (
    as_many("modes", "Where the population can bear the weight decay all modes live.", "linear/baseline"),
    as_many("modes-few", "On few images as many modes live as their own X lets live.", "linear/few", headline=True),
    as_many("modes-narrow", "With an encoder of lower rank as many modes live as its rank.", "linear/narrow"),
    as_many("modes-beyond", "Beyond the critical decay no mode lives.", "linear/beyond"),
    kinds.claim(
        "modes-beyond-few",
        "Figure 2",
        "Beyond the critical decay of the population modes live where few images are repeated (linear network).",
        sentences.of_modes,
        Rule(
            "ln((modes that live, linear/beyond-few, + 1) ÷ (those of linear/beyond + 1))", math.log(2), "nats", "twice"
        ),
        ("linear/beyond-few", "linear/beyond"),
        _alive_more("linear/beyond-few", "linear/beyond"),
        needs=("eta_t",),
        headline=True,
    ),
    kinds.claim(
        "modes-network",
        "Figure 2",
        "X and X′ at a ResNet's projector's input tell the rank of its embeddings by the linear theory's rule.",
        sentences.of_network_modes,
        Rule("−|ln(rank of Z ÷ modes that may live)|, baseline", -math.log(2), "nats", "within a factor of two"),
        ("baseline",),
        _network_modes,
        scales=FROM_CPU,
        headline=True,
    ),
    more_collapsed(
        "data",
        "Figure 2",
        "More data make the representation collapse more (AUC .845 on 10 %, .858 on all; .610 on 1 %).",
        sentences.of_data,
        "baseline",
        "fraction-10",
        headline=True,
    ),
    more_collapsed(
        "data-five",
        "Figure 2",
        "More data make the representation collapse more (AUC .748 on 5 %, .858 on all).",
        sentences.of_data,
        "baseline",
        "fraction-5",
        scales=ACCURACY,
    ),
    nearer(
        "data-knn",
        "Figure 2",
        "A share of the images is as good as all, at the same number of steps (kNN 22.2 % on 10 %, 21.9 % on all).",
        sentences.of_data,
        *("fraction-10", "baseline", -1.0, "not a point fewer"),
        headline=True,
    ),
    nearer(
        "data-knn-five",
        "Figure 2",
        "Five per cent of the images are better than all, at the same number of steps (kNN 27.4 against 21.9 %).",
        sentences.of_data,
        *("fraction-5", "baseline", 1.0, "well under the paper's own difference"),
        scales=ACCURACY,
    ),
    by(
        *(overfit, "validation less training loss", "", "overfit", "Figure 2"),
        "On few images validation loss and training loss part (-.517 and -.997 on 1 %, -.894 and -.893 on all).",
        sentences.of_generalisation,
        *("fraction-10", "baseline", 0.02, "two hundredths of the loss's range"),
        headline=True,
    ),
    by(
        *(disagreement, "ln σ²", "nats", "known-images", "Figure 2"),
        "Of few images, often repeated, views agree better at the projector's input than of all.",
        sentences.of_generalisation,
        *("baseline", "fraction-10", 0.1, "a tenth more"),
    ),
    uses_more(
        "size",
        "Figure 2",
        "A network that is too small for its data collapses: half as wide it uses a smaller share of its dimensions.",
        sentences.of_size,
        "baseline",
        "half-width/baseline",
        headline=True,
    ),
    uses_more(
        "size-quarter",
        "Figure 2",
        "A network that is too small for its data collapses: a quarter as wide it uses a smaller share of dimensions.",
        sentences.of_size,
        "baseline",
        "quarter-width/baseline",
        scales=ACCURACY,
    ),
    kinds.claim(
        "size-and-data",
        "Figure 2",
        "The smaller the network the more it suffers from more data.",
        sentences.of_size,
        Rule("what AUC rises by from a tenth of the data to all, half-width less full", 0.0, "", "any"),
        ("half-width/baseline", "half-width/fraction-10", "baseline", "fraction-10"),
        lambda runs: (
            auc(runs["half-width/baseline"])
            - auc(runs["half-width/fraction-10"])
            - (auc(runs["baseline"]) - auc(runs["fraction-10"]))
        ),
        scales=FROM_CPU,
    ),
    more_collapsed(
        "single-pass",
        "Figure 6",
        "A single pass over chunks collapses less than many passes over all (no floor; from 479 of 512).",
        sentences.of_order,
        "baseline",
        "single-pass",
        headline=True,
    ),
    more_collapsed(
        "hybrid",
        "Figure 6",
        "A single pass first and then many passes collapses less than many passes alone.",
        sentences.of_order,
        "baseline",
        "hybrid-40",
        headline=True,
    ),
    uses_more(
        "cumulative",
        "Figure 6",
        "Growing data lose more rank than many passes over all (index 443 against 479), and probe better for all that.",
        sentences.of_order,
        "baseline",
        "cumulative",
        headline=True,
    ),
    nearer(
        "single-pass-knn",
        "Table of orders",
        "A single pass over chunks is better than many passes over all (probe 44.5 against 30.0 %; here kNN).",
        sentences.of_order,
        *("single-pass", "baseline", 1.0, "well under the paper's own difference"),
    ),
    nearer(
        "hybrid-knn",
        "Table of orders",
        "A single pass first and then many is the best (probe 48.3 against 30.0 %; here kNN).",
        sentences.of_order,
        *("hybrid-40", "baseline", 1.0, "well under the paper's own difference"),
    ),
    more_collapsed(
        "block",
        "Architectures",
        "Bottlenecks at the same output width collapse no less than basic blocks.",
        sentences.of_block,
        "bottleneck-same-output/baseline",
        "baseline",
        above=-0.02,
        why="two hundredths of AUC fewer",
    ),
    uses_more(
        "byol",
        "Table of orders",
        "BYOL's target network is no cure: it uses no more of its dimensions than SimSiam.",
        sentences.of_method,
        "baseline",
        "byol/baseline",
        above=-0.1,
        why="not a tenth more",
    ),
    uses_more(
        "directcopy",
        "Direct predictors",
        "A predictor that is set from the embeddings' correlation keeps as much of the dimensions as one that learns.",
        sentences.of_method,
        "directcopy/baseline",
        "baseline",
        above=-0.1,
        why="not a tenth less",
    ),
    *FORECASTS,
    *ACCURACIES,
)
"""Every claim about networks: a new one is one entry here."""

"""What Zhang et al. 2022 claim of networks, each with the arms that would show it and the rule that decides.

A collapse is complete where the embeddings gather in one direction, m_o → 1, and dimensional where their rank falls:
m_o sees nothing of the second, a rank nothing certain of the first, whose rest is noise. So there are claims of both,
and of Z and of P. Accuracies are claims from `cifar` on.
"""

import math

from stopgrad.experiments.claims.claim import Claim, Rule
from stopgrad.experiments.claims.kinds import MORE, claim
from stopgrad.experiments.store.store import Record
from stopgrad.experiments.zhang2022 import sentences
from stopgrad.experiments.zhang2022.ablation import DIRECTIONS
from stopgrad.experiments.zhang2022.accuracies import ACCURACIES
from stopgrad.linear_theory.exact.centre import decentring

HALF = math.log(2)
FLOOR = 1e-12


# ---------------------------------------------------------------- what is read off a run


def log_spread(run: Record, side: str = "z") -> float:
    """ln of 1 − m_o², the share of the unit vectors' energy that is not their common direction."""
    return math.log(max(1 - run.last(f"m_o_{side}") ** 2, FLOOR))


def log_rank(run: Record) -> float:
    """ln of the effective rank of Z at the end."""
    return math.log(run.last("rank_z"))


def at_ends(run: Record, name: str) -> list[float]:
    """A scalar at the last measurement of each phase of a run that switches objectives."""
    scalars = run.columns.scalars
    phase, values = scalars["phase"], scalars[name]
    return [float(values[k]) for k in range(len(phase)) if k + 1 == len(phase) or phase[k + 1] != phase[k]]


# ---------------------------------------------------------------- kinds


def collapses(name, place, statement, theory, dead, alive="simsiam", side="z", **more) -> Claim:
    """A claim that an arm gathers in one direction, which leaves at most half of another's spread."""
    what = "embeddings" if side == "z" else "predictions"
    rule = Rule(
        f"ln(spread of {alive} ÷ spread of {dead}) of {what}, spread being 1 − m_o²", HALF, "nats", "half is left"
    )
    value = lambda runs: log_spread(runs[alive], side) - log_spread(runs[dead], side)  # noqa: E731
    return claim(name, place, statement, theory, rule, (dead, alive), value, **more)


def survives(name, place, statement, theory, alive, dead="naive", **more) -> Claim:
    """A claim that an arm keeps at least twice the spread of one that collapses."""
    rule = Rule(f"ln(spread of {alive} ÷ spread of {dead}), spread being 1 − m_o²", HALF, "nats", "twice as much")
    value = lambda runs: log_spread(runs[alive]) - log_spread(runs[dead])  # noqa: E731
    return claim(name, place, statement, theory, rule, (alive, dead), value, **more)


def ranks_higher(name, place, statement, theory, better, worse, above=MORE, **more) -> Claim:
    """A claim that one arm's embeddings have a higher effective rank than another's."""
    why = "a tenth more" if above > 0 else "not a tenth less"
    rule = Rule(f"ln(effective rank of Z in {better} ÷ {worse})", above, "nats", why)
    value = lambda runs: log_rank(runs[better]) - log_rank(runs[worse])  # noqa: E731
    return claim(name, place, statement, theory, rule, (better, worse), value, **more)


def moves(name, place, statement, theory, arm, value, statistic, above, why, **more) -> Claim:
    """A claim about one arm."""
    unit = more.pop("unit", "")
    rule = Rule(statistic, above, unit, why, within=more.pop("within", None))
    return claim(name, place, statement, theory, rule, [arm], lambda runs: value(runs[arm]), **more)


def _phase(first: int, second: int):
    """m_o of Z at the end of one of Figure 4's phases less that at the end of another."""

    def value(run: Record) -> float:
        ends = at_ends(run, "m_o_z")
        return ends[first] - ends[second]

    return value


def _undone(run: Record) -> float:
    """Of the spread that the collapse took, the share that the regulariser gave back."""
    healthy, collapsed, end = (1 - m_o * m_o for m_o in at_ends(run, "m_o_z"))
    return (end - collapsed) / max(healthy - collapsed, FLOOR)


def _escaped(run: Record) -> float:
    """ln of the spread at the end over that at the end of the collapse."""
    collapsed, end = (1 - m_o * m_o for m_o in at_ends(run, "m_o_z"))
    return math.log(max(end, FLOOR) / max(collapsed, FLOOR))


def _of_theory(run: Record) -> float:
    """ln of η_p over what the best linear predictor would have at the run's own m_o and ρ, without its sign."""
    best = float(decentring(run.last("m_o_z"), run.last("rho_z")))
    return abs(math.log(max(-run.last("eta_p"), FLOOR) / best))


def undoes(name, statement, theory, arm, place="Figure 5b", **more) -> Claim:
    """A claim that a regulariser brings a collapsed network's spread back."""
    why = "half of what the collapse took"
    return moves(name, place, statement, theory, arm, _undone, f"share of the lost spread that {arm} regains", 0.5, why,
                 **more)  # fmt: skip


CENTRE, RANDOM, RESIDUAL = 0, 1, 2
assert DIRECTIONS[:3] == ("centre", "random", "residual")

CLAIMS = (
    collapses(
        "fresh-views",
        "Table 1",
        "Without predictor the mean of ten fresh views as target, which would be its expectation, collapses.",
        sentences.without_predictor,
        "fresh-views-10",
    ),
    survives(
        "moving-average",
        "Table 1",
        "Without predictor a moving average of each image's embeddings as target keeps twice the spread that the other "
        "view leaves (in the paper it does not collapse).",
        sentences.moving_average,
        "moving-average",
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
        "Mirror SimSiam, whose gradient passes the branch without predictor, collapses.",
        sentences.mirror,
        "mirror",
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
    moves(
        "gradient-centre",
        "Figure 4, Conjecture 1",
        "The centre vector as gradient raises m_o; the control in a random direction ends lower.",
        sentences.opposite,
        "directions",
        _phase(CENTRE, RANDOM),
        "m_o at the end of the phase 'centre' less that of 'random'",
        0.2,
        "the paper's is 0.2 at least",
        unit="",
        headline=True,
    ),
    moves(
        "gradient-residual",
        "Figure 4, Conjecture 1",
        "The residual vector as gradient lowers m_o; the control in a random direction ends higher.",
        sentences.opposite,
        "directions",
        _phase(RANDOM, RESIDUAL),
        "m_o at the end of the phase 'random' less that of 'residual'",
        0.1,
        "the paper's is 0.1 at least",
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
    undoes(
        "undo-covariance",
        "The covariance penalty of Alg. 6 undoes a collapse.",
        sentences.covariance,
        "undo-covariance",
    ),
    undoes(
        "undo-correlation",
        "A penalty of correlations, as the paper's text has it, undoes a collapse.",
        sentences.correlation,
        "undo-correlation",
    ),
    undoes(
        "undo-covariance-affine",
        "Behind an output BatchNorm with affine parameters the covariance penalty undoes a collapse.",
        sentences.behind_bn,
        "affine/undo-covariance",
        scales=("cpu", "cifar", "gpu", "paper"),
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
    moves(
        "escape",
        "Figure 5b",
        "SimSiam gets out of a collapsed state.",
        sentences.escape,
        "from-collapse",
        _escaped,
        "ln of the spread at the end over that of the collapsed state it started from",
        HALF,
        "twice as much",
        unit="nats",
    ),
    moves(
        "fall",
        "Table 2",
        "A healthy network collapses once its predictor is taken away.",
        sentences.without_predictor,
        "from-health",
        lambda run: -_escaped(run),
        "ln of the spread at the end of SimSiam over that at the end without it",
        HALF,
        "half is left",
        unit="nats",
    ),
    *ACCURACIES,
)
"""Every claim about networks: a new one is one entry here."""

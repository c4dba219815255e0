"""What a phase does to what the phase before left: Figures 4 and 5b of Zhang et al. 2022, as claims.

The paper's Figure 5b has a covariance penalty undo a collapse. Which factor decides is asked of both forms of the
penalty, on unit and on raw embeddings, without an output BatchNorm, and behind one with affine parameters or without.
"""

import math
from functools import partial

from stopgrad.experiments.claims.claim import Claim
from stopgrad.experiments.claims.kinds import MORE
from stopgrad.experiments.store.store import Record
from stopgrad.experiments.zhang2022 import sentences
from stopgrad.experiments.zhang2022.ablation import DIRECTIONS
from stopgrad.experiments.zhang2022.kinds import FLOOR, HALF, at_ends, moves

# ---------------------------------------------------------------- what is read off a run

HEALTHY, COLLAPSED, END = 1, 2, 3
"""Of a run of three phases, the places in `at_ends` of SimSiam's, the collapse's and the regulariser's end."""
CENTRE, AFTER_CENTRE, RESIDUAL, AFTER_RESIDUAL = range(4)
assert DIRECTIONS == ("centre", "random", "residual", "random")


def _rise(run: Record, phase: int) -> float:
    """By how much m_o of Z rises from the start of one of Figure 4's phases to its end."""
    ends = at_ends(run, "m_o_z")
    return ends[phase + 1] - ends[phase]


def _spreads(run: Record) -> list[float]:
    """1 − m_o² of Z at the start and at the end of each phase."""
    return [max(1 - m_o * m_o, FLOOR) for m_o in at_ends(run, "m_o_z")]


def _undone(run: Record) -> float:
    """Of the spread that the collapse took, the share that the regulariser gave back."""
    spread = _spreads(run)
    return (spread[END] - spread[COLLAPSED]) / max(spread[HEALTHY] - spread[COLLAPSED], FLOOR)


def _escaped(run: Record) -> float:
    """ln of the spread at the end of the second of two phases over that at the end of the first."""
    _, first, second = _spreads(run)
    return math.log(second / first)


def _rank(run: Record, first: int, second: int) -> float:
    """ln of the effective rank of Z at one place over that at another."""
    ranks = at_ends(run, "rank_z")
    return math.log(ranks[second] / ranks[first])


# ---------------------------------------------------------------- kinds


def undoes(name, statement, theory, arm, **more) -> Claim:
    """A claim that a regulariser brings a collapsed network's spread back."""
    why = "half of what the collapse took"
    return moves(name, "Figure 5b", statement, theory, arm, _undone,
                 f"share of the lost spread that {arm} regains", 0.5, why, **more)  # fmt: skip


def widens(name, statement, theory, arm, **more) -> Claim:
    """A claim that a regulariser brings rank back, where a collapse cannot be but of dimensions."""
    statistic = f"ln(effective rank of Z at the end ÷ after the collapse), {arm}"
    return moves(name, "Figure 5b", statement, theory, arm, partial(_rank, first=COLLAPSED, second=END), statistic,
                 HALF, "twice as much", unit="nats", **more)  # fmt: skip


OF_PHASES = (
    moves(
        "gradient-centre",
        "Figure 4, Conjecture 1",
        "The centre vector as gradient raises m_o more than a random direction does from where the residual left it.",
        sentences.directions,
        "directions",
        lambda run: _rise(run, CENTRE) - _rise(run, AFTER_RESIDUAL),
        "rise of m_o over the phase 'centre' less that over 'random' after 'residual', each from its own start",
        0.2,
        "the paper's is 0.2 at least",
        headline=True,
    ),
    moves(
        "gradient-residual",
        "Figure 4, Conjecture 1",
        "The residual vector as gradient lowers m_o more than a random direction does from where the centre left it.",
        sentences.directions,
        "directions",
        lambda run: _rise(run, AFTER_CENTRE) - _rise(run, RESIDUAL),
        "fall of m_o over the phase 'residual' less that over 'random' after 'centre', each from its own start",
        0.1,
        "the paper's is 0.1 at least",
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
        sentences.covariance_affine,
        "affine/long-undo-covariance",
    ),
    undoes(
        "undo-covariance-raw-affine",
        "Behind an output BatchNorm with affine parameters the covariance penalty on raw embeddings undoes a collapse.",
        sentences.covariance_affine,
        "affine/long-undo-covariance-raw",
    ),
    undoes(
        "undo-correlation-affine",
        "Behind an output BatchNorm with affine parameters a penalty of correlations undoes a collapse.",
        sentences.correlation,
        "affine/long-undo-correlation",
        headline=True,
    ),
    moves(
        "lost-bn",
        "Figure 5b",
        "Behind an affine-free output BatchNorm the collapsing loss takes rank from a network (spread it cannot).",
        sentences.behind_bn,
        "bn/undo-covariance",
        partial(_rank, first=COLLAPSED, second=HEALTHY),
        "ln(effective rank of Z after SimSiam ÷ after the collapse), bn/undo-covariance",
        MORE,
        "a tenth is lost",
        unit="nats",
    ),
    widens(
        "undo-covariance-bn",
        "Behind an affine-free output BatchNorm the covariance penalty of unit embeddings brings rank back.",
        sentences.covariance_free,
        "bn/undo-covariance",
    ),
    widens(
        "undo-covariance-raw-bn",
        "Behind an affine-free output BatchNorm the covariance penalty of raw embeddings brings rank back.",
        sentences.covariance_free,
        "bn/undo-covariance-raw",
    ),
    widens(
        "undo-correlation-bn",
        "Behind an affine-free output BatchNorm a penalty of correlations brings rank back.",
        sentences.covariance_free,
        "bn/undo-correlation",
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
)
"""Claims about what a phase changes in what the one before left."""

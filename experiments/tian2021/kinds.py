"""Kinds of claims about networks: what is compared, and how much of it is enough.

Minimum effects are the same throughout: a tenth (0.1 in natural logarithms) where the paper says "more" or "less", none
(−0.1) where it says "as good", a power of ten for a collapse in norm.
"""

import math
from dataclasses import replace

from stopgrad.experiments.claims import measures
from stopgrad.experiments.claims.claim import Claim, Rule
from stopgrad.experiments.claims.measures import accuracy, alignment_beyond_first, log_modes, log_spread, lost_decades
from stopgrad.experiments.tian2021 import sentences

PAPER, FIRST = "tian2021", "2026-11-22"
"""The day of the first rules; whichever is added or changed later is given its own."""
COSINE, BY_LOG_ODDS = (-1.0, 1.0), "2026-11-28"
"""The range of a cosine, and the day from which cosines are averaged by their log odds in it."""
MORE, AS_GOOD = 0.1, -0.1
ACCURACY = ("cifar", "gpu", "paper")
TRAINED = ("quick", "cpu", "cifar", "gpu", "paper")
"""A smoke run is over before anything has happened."""


def claim(name: str, place: str, statement: str, theory, rule: Rule, arms, value, since=FIRST, **more) -> Claim:
    """A claim of this paper, meant for runs that have learned something unless `scales` says otherwise."""
    more.setdefault("scales", TRAINED)
    return Claim(
        id=f"{PAPER}-{name}",
        paper=PAPER,
        place=place,
        statement=statement,
        theory=theory,
        rule=replace(rule, since=since),
        arms=tuple(arms),
        value=value,
        **more,
    )


def more_modes(name, place, statement, theory, better, worse, above=MORE, **more) -> Claim:
    """A claim that one arm keeps more modes of F than another."""
    rule = Rule(f"ln(modes of {better} ÷ modes of {worse})", above, "nats", _why(above))
    return claim(
        name, place, statement, theory, rule, (better, worse), lambda b, w: log_modes(b) - log_modes(w), **more
    )


def more_accurate(name, place, statement, theory, better, worse, above, scales=ACCURACY) -> Claim:
    """A claim that one arm's linear probe is better than another's by so many points."""
    rule = Rule(f"accuracy of {better} − accuracy of {worse}", above, "points", "well under the paper's own difference")
    value = lambda b, w: accuracy(b) - accuracy(w)  # noqa: E731
    return claim(name, place, statement, theory, rule, (better, worse), value, scales=scales)


def _why(above: float) -> str:
    return "a tenth more" if above > 0 else "not a tenth fewer"


def lost_more(name, place, statement, theory, dead, alive, **more) -> Claim:
    """A claim that one arm loses at least ten times more of F's trace than another."""
    rule = Rule(
        f"powers of ten that F's trace lost in {dead}, less those in {alive}", 1.0, "decades", "a tenth is left"
    )
    return claim(
        name,
        place,
        statement,
        theory,
        rule,
        (dead, alive),
        lambda d, a: lost_decades(d) - lost_decades(a),
        **more,
    )


def narrower(name, place, statement, dead, alive) -> Claim:
    """A claim that one arm's embeddings gather in one direction, as seen beside another's."""
    rule = Rule(f"ln(spread of {alive} ÷ spread of {dead}), spread being 1 − m_o²", math.log(2), "nats", "half is left")
    value = lambda d, a: log_spread(a) - log_spread(d)  # noqa: E731
    return claim(name, place, statement, sentences.cosine_only, rule, (dead, alive), value, headline=True)


def falls(name, statement, scalar, words) -> Claim:
    """A claim that a part of the predictor's matrix shrinks while it learns."""
    rule = Rule(f"{words} at the start less that at the end, ResNet", MORE, "", "a tenth of its range")
    value = lambda r: measures.fall(r, scalar)  # noqa: E731
    return claim(name, "Figure 2", statement, sentences.symmetric_in_the_end, rule, ["ema"], value, headline=True)


def aligns(name, place, arm, what, theory=sentences.aligned, **more) -> Claim:
    """A claim that the predictor aligns with the eigenvectors of F behind the first."""
    statistic = f"cos(u_j, W_p u_j) over modes j ≥ 2 weighted by eigenvalue at the end, {arm}"
    rule = Rule(statistic, 0.9, "", "within 26°", within=COSINE)
    statement = f"The eigenvectors of F become eigenvectors of W_p ({what})."
    return claim(name, place, statement, theory, rule, [arm], alignment_beyond_first, BY_LOG_ODDS, **more)


def balanced(name, arm, what) -> Claim:
    """A claim that Theorem 1's balance holds to a digit."""
    rule = Rule(f"-log10 of the relative residual of Eq. 5 at the end, {arm}", 1.0, "digits", "within 10 %")
    statement = f"W Wᵀ and W_pᵀ W_p/α_p differ by e^(−2ηt) C alone ({what})."
    return claim(
        name,
        "Theorem 1",
        statement,
        sentences.balance,
        rule,
        [arm],
        lambda r: measures.digits_of(r, "balance_residual"),
        needs=("eta_t",),
        headline=True,
    )

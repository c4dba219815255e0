"""Kinds of claims about networks, of any paper: what is compared, and how much of it is enough.

Minimum effects are the same throughout: a tenth (0.1 in natural logarithms) where the paper says "more" or "less", none
(−0.1) where it says "as good", a power of ten for a collapse in norm. `theory` is what the linear theory computes for
the claim, a function to a sentence; `more` are further fields of the `Claim`.
"""

import math
from dataclasses import replace

from stopgrad.experiments.claims import measures
from stopgrad.experiments.claims.claim import Claim, Rule
from stopgrad.experiments.claims.measures import accuracy, alignment_beyond_first, log_modes, log_spread, lost_decades
from stopgrad.experiments.suites.grid import SCALES

COSINE = (-1.0, 1.0)
"""The range of a cosine."""
MORE, AS_GOOD = 0.1, -0.1
ACCURACY = ("cifar", "gpu", "paper")
TRAINED = tuple(scale for scale in SCALES if scale != "smoke")
"""A smoke run is over before anything has happened."""


def claim(name: str, place: str, statement: str, theory, rule: Rule, arms, value, since="", **more) -> Claim:
    """A claim meant for runs that have learned something unless `scales` says otherwise.

    `since`: the day (ISO) from which its rule stands, where that is not the day of its paper's other rules.
    """
    about = {"id": name, "place": place, "statement": statement, "theory": theory, "scales": TRAINED}
    return Claim(**about | more, rule=replace(rule, since=since), arms=tuple(arms), value=value)


def more_modes(name, place, statement, theory, better, worse, above=MORE, **more) -> Claim:
    """A claim that one arm keeps more modes of F than another."""
    why = "a tenth more" if above > 0 else "not a tenth fewer"
    rule = Rule(f"ln(modes of {better} ÷ modes of {worse})", above, "nats", why)
    return _compared(name, place, statement, theory, rule, better, worse, log_modes, **more)


def more_accurate(name, place, statement, theory, better, worse, above, **more) -> Claim:
    """A claim that one arm's linear probe is better than another's by so many points."""
    rule = Rule(f"accuracy of {better} − accuracy of {worse}", above, "points", "well under the paper's own difference")
    return _compared(name, place, statement, theory, rule, better, worse, accuracy, **{"scales": ACCURACY} | more)


def lost_more(name, place, statement, theory, dead, alive, **more) -> Claim:
    """A claim that one arm loses at least ten times more of F's trace than another."""
    statistic = f"powers of ten that F's trace lost in {dead}, less those in {alive}"
    rule = Rule(statistic, 1.0, "decades", "a tenth is left")
    return _compared(name, place, statement, theory, rule, dead, alive, lost_decades, **more)


def narrower(name, place, statement, theory, dead, alive, **more) -> Claim:
    """A claim that one arm's embeddings gather in one direction, as seen beside another's."""
    rule = Rule(f"ln(spread of {alive} ÷ spread of {dead}), spread being 1 − m_o²", math.log(2), "nats", "half is left")
    return _compared(name, place, statement, theory, rule, dead, alive, lambda run: -log_spread(run), **more)


def survives(name, place, statement, theory, arm, base, **more) -> Claim:
    """A claim that one arm does not collapse: it keeps at least half as many modes of F as another that does not.

    Modes count both kinds of collapse: 1 where all embeddings point one way, few where few dimensions are left.
    """
    rule = Rule(f"ln(modes of {arm} ÷ modes of {base})", -math.log(2), "nats", "half of them are left")
    return _compared(name, place, statement, theory, rule, arm, base, log_modes, **more)


def apart(name, place, statement, theory, high, low, scalar, words, above, why, **more) -> Claim:
    """A claim that a scalar ends higher in one arm than in another with the same seed, by `above` at least."""
    rule = Rule(f"{words} at the end of {high} less that of {low}", above, "", why)
    return _compared(name, place, statement, theory, rule, high, low, lambda run: run.last(scalar), **more)


def short_of(name, place, statement, theory, arm, scalar, words, limit, above, why, **more) -> Claim:
    """A claim that a scalar of an arm ends below `limit` by `above` at least."""
    less = f"{limit:g} − {words}" if limit else f"−{words}"
    rule = Rule(f"{less} at the end, {arm}", above, "", why)
    return claim(name, place, statement, theory, rule, [arm], lambda runs: limit - runs[arm].last(scalar), **more)


def falls(name, place, statement, theory, arm, scalar, words, **more) -> Claim:
    """A claim that a scalar, such as a part of the predictor's matrix, shrinks while an arm learns."""
    rule = Rule(f"{words} at the start less that at the end, ResNet", MORE, "", "a tenth of its range")
    return claim(name, place, statement, theory, rule, [arm], lambda runs: measures.fall(runs[arm], scalar), **more)


def aligns(name, place, theory, arm, what, **more) -> Claim:
    """A claim that the predictor aligns with the eigenvectors of F behind the first."""
    statistic = f"cos(u_j, W_p u_j) over modes j ≥ 2 weighted by eigenvalue at the end, {arm}"
    rule = Rule(statistic, 0.9, "", "within 26°", within=COSINE)
    statement = f"The eigenvectors of F become eigenvectors of W_p ({what})."
    return claim(name, place, statement, theory, rule, [arm], lambda runs: alignment_beyond_first(runs[arm]), **more)


def balanced(name, place, theory, arm, what, **more) -> Claim:
    """A claim that the balance of encoder and predictor (Theorem 1) holds to a digit."""
    rule = Rule(f"-log10 of the relative residual of Eq. 5 at the end, {arm}", 1.0, "digits", "within 10 %")
    statement = f"W Wᵀ and W_pᵀ W_p/α_p differ by e^(−2ηt) C alone ({what})."
    digits = lambda runs: measures.digits_of(runs[arm], "balance_residual")  # noqa: E731
    return claim(name, place, statement, theory, rule, [arm], digits, needs=("eta_t",), **more)


def _compared(name, place, statement, theory, rule, first, second, measure, **more) -> Claim:
    """A claim about by how much `measure` of a run of one arm exceeds that of another with the same seed."""
    value = lambda runs: measure(runs[first]) - measure(runs[second])  # noqa: E731
    return claim(name, place, statement, theory, rule, (first, second), value, **more)

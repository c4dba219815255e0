"""Kinds of claims about collapse, of Zhang et al. 2022: what is read off a run, and how much of it is enough."""

import math

import numpy as np

from stopgrad.deep.config import Config
from stopgrad.experiments.claims.claim import Claim, Rule
from stopgrad.experiments.claims.kinds import MORE, claim
from stopgrad.experiments.store.store import Record

HALF = math.log(2)
FLOOR = 1e-12


# ---------------------------------------------------------------- what is read off a run


def log_spread(run: Record, side: str = "z") -> float:
    """ln of 1 − m_o², the share of the unit vectors' energy that is not their common direction."""
    return math.log(max(1 - run.last(f"m_o_{side}") ** 2, FLOOR))


def log_rank(run: Record) -> float:
    """ln of the effective rank of Z at the end."""
    return math.log(run.last("rank_z"))


def phases(config: Config, last: int) -> list[tuple[str, int, int]]:
    """(text, first step, step after the last) of each phase of a config's objective up to step `last`; none where it
    does not switch."""
    objective, found, start = config.method.objective, [], 0
    while start < last:
        for text, phase in zip(getattr(objective, "phases", ()), getattr(objective, "read", ())):
            end = last if phase.steps is None else min(start + phase.steps, last)
            if start < end:
                found.append((text, start, end))
            start = end
        if not getattr(objective, "repeat", False):
            break
    return found


def at_ends(run: Record, name: str) -> list[float]:
    """A scalar at the start of a run that switches objectives, and at the end of each phase.

    A measurement precedes its step, so that one at the first step of a phase is of the end of the phase before; where
    there is none the last one before it counts.
    """
    columns, last = run.columns, int(run.columns.step[-1])
    at = [0, *(end for _, _, end in phases(run.config, last))]
    return [float(v) for v in columns.scalars[name][np.searchsorted(columns.step, at, side="right") - 1]]


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


def keeps_spread(name, place, statement, theory, arm, **more) -> Claim:
    """A claim that an arm's embeddings do not gather in one direction."""
    why = "a fifth of the energy, 1 − m_o², is left"
    return moves(name, place, statement, theory, arm, lambda run: 1 - run.last("m_o_z"),
                 f"1 − m_o of Z at the end, {arm}", 0.1, why, **more)  # fmt: skip

"""What a sweep asks of the cosine loss without a mean, and of set predictors: whether one mode lives beside the others.

The cosine loss does not see how long embeddings are, so that a mode is lost where its share of them is: dead in
direction. Under squared error and at held norms it is lost where it goes to 0.
"""

from collections.abc import Mapping

import numpy as np

from stopgrad.linear_theory.exact.sixth_order import regime, sixth_order_rests
from stopgrad.linear_theory.flows.cosine_modes import (
    Pair,
    PairHyperparameters,
    finite_width_pair_flow,
    pair_flow,
)
from stopgrad.linear_theory.flows.set_loop import KINDS, LOSSES, LoopHyperparameters, Rivals, SetLoop
from stopgrad.linear_theory.flows.sixth_order import HeldNorms, Level, sixth_order_flow
from stopgrad.linear_theory.simulation.fate import ALIVE, COLLAPSED, UNDECIDED
from stopgrad.linear_theory.simulation.outcomes import End, threshold
from stopgrad.linear_theory.sweeps.flow_problem import FlowProblem
from stopgrad.linear_theory.tools.arrays import in_float64

_LEAST = 1e-3  # of the share that a mode would have among equals: what has less, and goes on to lose, is lost
_NEAR = 1e-3  # of a rest, relative: arrived
_SLOW = 1e-5  # e-foldings per unit of time of a mode beside the others, at which both are said to stay
_LEAST_SQUARED = 1e-3  # of an eigenvalue under squared error


def mode_share(state: Pair | Rivals, h: PairHyperparameters | LoopHyperparameters) -> np.ndarray:
    """The mode's energy over that of one of the others, (…): 1 among equals. NaN where nothing is left.

    >>> mode_share(Pair(0.5, 0.25, 1.0, 1.0), PairHyperparameters(sigma2=0.1))
    np.float64(0.25)
    """
    state = in_float64(state)
    mine, other = (h.a * state.s, h.a_rest * state.r) if isinstance(state, Pair) else state
    with np.errstate(all="ignore"):
        return mine / other


def pair_outcome(end: End, h: PairHyperparameters) -> np.ndarray:
    """Collapsed where the mode has lost its share and p cannot come back; alive where p is at 1/(κa). For `Pair`.

    From p < 0 a mode with s > x p²/α_p passes through a small s and lives.
    """
    p, s, q, r = in_float64(end.state)
    slope = in_float64(end.slope)
    energy, crossed = h.a * p * p * s + h.others * h.a_rest * q * q * r, p * s + h.others * q * r
    with np.errstate(all="ignore"):
        at = crossed / energy * h.a * p
        grows = slope.s / s - slope.r / r
    share = mode_share(end.state, h)
    heavy = s <= h.x / h.alpha_p * p * p
    lost = (s == 0) | (share < _LEAST) & (grows <= 0) & ((p > 0) | heavy)
    alive = (np.abs(at - 1) <= _NEAR) & (share >= _LEAST)
    return np.select([lost, alive], [COLLAPSED, ALIVE], UNDECIDED).astype(np.int8)


def level_outcome(end: End, h: HeldNorms) -> np.ndarray:
    """Alive near p₊; collapsed below half of p₋, and wherever there is no positive rest. For `Level`."""
    p = in_float64(end.state).p
    found = sixth_order_rests(h)
    none = np.isnan(found.p_minus)
    low = (p > found.p_negative) & ((p <= np.where(none, np.inf, found.p_minus / 2)) | (p <= 0))
    with np.errstate(invalid="ignore"):
        alive = np.abs(p / found.p_plus - 1) <= _NEAR
    return np.select([alive, low], [ALIVE, COLLAPSED], UNDECIDED).astype(np.int8)


def rivals_outcome(end: End, h: LoopHyperparameters) -> np.ndarray:
    """Collapsed where the mode has lost its share and goes on to; alive where both stay as they are. For `Rivals`."""
    state, slope = in_float64(end.state), in_float64(end.slope)
    with np.errstate(all="ignore"):
        grows = slope.s / state.s - slope.others / state.others
    share = mode_share(state, h)
    lost, alive = (share < _LEAST) & (grows < 0), (np.abs(grows) <= _SLOW) & (share >= _LEAST)
    return np.select([lost, alive], [COLLAPSED, ALIVE], UNDECIDED).astype(np.int8)


def _regime(state: Level, h: HeldNorms) -> np.ndarray:
    return regime(state.p, h)


def _of_a_set_predictor(loss: str, kind: str) -> FlowProblem:
    alive = rivals_outcome if loss == "cosine" else threshold("s", _LEAST_SQUARED)
    h = LoopHyperparameters(exponent=-1.0 if kind == "target" else 1.0)
    return FlowProblem(SetLoop(loss, kind), Rivals(0.3, 1.0), h, alive, measures={"share": mode_share})


_PAIR = Pair(0.5, 0.25, 1.0, 1.0), PairHyperparameters(eta=0.0), pair_outcome
COSINE_PROBLEMS: Mapping[str, FlowProblem] = {
    "cosine-modes": FlowProblem(pair_flow, *_PAIR, measures={"share": mode_share}),
    "cosine-modes-finite": FlowProblem(finite_width_pair_flow, *_PAIR, measures={"share": mode_share}),
    "sixth-order": FlowProblem(sixth_order_flow, Level(0.1), HeldNorms(), level_outcome, measures={"regime": _regime}),
    **{f"set-{loss}-{kind}": _of_a_set_predictor(loss, kind) for loss in LOSSES for kind in KINDS},
}
"""One mode beside others under the cosine loss; Bao's at held norms; Halvagal's and Zhuo's set predictors, LOSS-KIND.

>>> from stopgrad.linear_theory import Axis, phase_diagram
>>> start = Axis("p0", [0.5, 3.0]), Axis("s0", [0.01, 1.0])  # a predictor that outweighs its encoder loses the mode
>>> phase_diagram(*start, COSINE_PROBLEMS["cosine-modes"]).fate.values
array([[0, 1],
       [0, 1]], dtype=int8)
"""


def cosine_sample(problem: FlowProblem, rng: np.random.Generator, n: int, p: tuple, s: tuple):
    """n random starts of the one mode: p uniform within `p`, ln s within the logarithms of `s`."""
    drawn, size = rng.uniform(*p, n), np.exp(rng.uniform(*np.log(s), n))
    start = problem.start
    values = {"p": drawn, "s": size}
    return start._replace(**{name: v for name, v in values.items() if name in start._fields})

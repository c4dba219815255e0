"""What a sweep asks of images with a mean: whether anything but the embeddings' centre lives, and whether it does.

Alive is what keeps residual modes. Where the centre alone is left the collapse is complete (m_o → 1), as it is where
nothing is. The measures `m_o` and `survivors` say which, and how far the centre has won.
"""

import functools
from collections.abc import Mapping

import numpy as np

from stopgrad.linear_theory.flows.mean import (
    Centre,
    MeanHyperparameters,
    centre_flow,
    centre_norms,
    cosine_centre_flow,
)
from stopgrad.linear_theory.simulation.fate import ALIVE, COLLAPSED, UNDECIDED
from stopgrad.linear_theory.simulation.outcomes import End, Outcome, threshold
from stopgrad.linear_theory.sweeps.flow_problem import FlowProblem
from stopgrad.linear_theory.tools.arrays import in_float64

NOTHING, CENTRE_ALONE, RESIDUAL_ALONE, BOTH = range(4)
"""What `survivors` says."""
_LEAST_SHARE = 0.01  # of the embeddings' energy: what has less is lost, unless it grows
_LEAST_SQUARE = 1e-4  # of a singular value of W, squared, under the squared loss
_SLOW = 1e-5  # e-foldings per unit of time of the ratio of centre and residual, at which both are said to stay


def centre_length(state: Centre, h: MeanHyperparameters) -> np.ndarray:
    """m_o = ‖E Z‖ = ‖μ‖w/N: length of the centre of normalised embeddings, (…). NaN where nothing is left.

    >>> centre_length(Centre(1.0, 1.0, 0.0, 1.0, 1.0), MeanHyperparameters(mu=6.0, sigma2=0.0)).round(12)
    np.float64(0.6)
    """
    with np.errstate(all="ignore"):
        return np.abs(h.mu * state.w) / np.sqrt(centre_norms(state, h).square)


def mean_share(state: Centre, h: MeanHyperparameters) -> np.ndarray:
    """Share of E‖f‖² in the mode of the mean, with what varies along it, (…)."""
    with np.errstate(all="ignore"):
        return (h.mean_variance + h.xp) * state.w * state.w / centre_norms(state, h).square


def cosine_outcome(end: End, h: MeanHyperparameters) -> np.ndarray:
    """Collapsed where the mean's mode has all but a hundredth of the energy, and does not shrink beside the residual;
    alive where it has less than a hundredth and does not grow, or where the two stay as they are. For `Centre` states.

    The cosine loss does not see how long embeddings are, so that only the ratio counts.
    """
    state, slope = in_float64(end.state), in_float64(end.slope)
    share, ratio_grows = mean_share(state, h), 2 * (slope.w / state.w - slope.v / state.v)
    residual = (share < _LEAST_SHARE) & (ratio_grows <= 0) | (np.abs(ratio_grows) <= _SLOW)
    centre = (1 - share < _LEAST_SHARE) & (ratio_grows >= 0)
    return np.select([centre, residual], [COLLAPSED, ALIVE], UNDECIDED).astype(np.int8)


squared_outcome: Outcome = threshold(lambda state: state.v * state.v, _LEAST_SQUARE)
"""Under the squared loss: alive where the residual modes have settled away from 0."""


def survivors(state: Centre, h: MeanHyperparameters, relative: bool) -> np.ndarray:
    """0 nothing, 1 the centre alone, 2 residual modes alone, 3 both: int8 (…).

    relative: a mode lives if it has a hundredth of the energy (the cosine loss); else if W has not lost it.
    """
    if relative:
        share = mean_share(state, h)
        centre, residual = share >= _LEAST_SHARE, 1 - share >= _LEAST_SHARE
    else:
        centre, residual = (v * v > _LEAST_SQUARE for v in (state.w, state.v))
    return (centre * np.int8(CENTRE_ALONE) + residual * np.int8(RESIDUAL_ALONE)).astype(np.int8)


def centre_sample(problem: FlowProblem, rng: np.random.Generator, n: int, p: tuple, square: tuple) -> Centre:
    """n random starts: p and q uniform within `p`, ln w² and ln v² within the logarithms of `square`; no bias.

    A predictor that does not learn (α_p = 0) keeps the p and q of the problem.
    """
    w, v = np.exp(rng.uniform(*np.log(square), (2, n)) / 2)
    drawn, held = rng.uniform(*p, (2, n)), problem.start
    return Centre(*((held.p, w, 0.0, held.q, v) if np.all(problem.h.alpha_p == 0) else (drawn[0], w, 0.0, drawn[1], v)))


_FIXED = {"alpha_p": 0.0, "eta_p": 0.0}
_PREDICTORS: Mapping[str, dict] = {
    "none": {**_FIXED, "alpha_b": 0.0, "eta_b": 0.0},
    "bias": {**_FIXED, "alpha_b": 1.0, "eta_b": 0.0},
    "linear": {"alpha_b": 0.0},
    "linear-bias": {"alpha_b": 1.0, "eta_b": 0.0},
}
"""What learns of the predictor W_p f + b; what does not learn does not decay."""


def _problem(loss: str, predictor: str) -> FlowProblem:
    """Squared: weight decay 0.04 and every weight at ½. Cosine: no weight decay, which moves no direction, and at 1."""
    fixed, cosine = "linear" not in predictor, loss == "cosine"
    p, w = (1.0 if fixed or cosine else 0.5), (1.0 if cosine else 0.5)
    return FlowProblem(
        cosine_centre_flow if cosine else centre_flow,
        Centre(p, w, 0.0, p, w),
        MeanHyperparameters(eta=0.0 if cosine else 0.04, **_PREDICTORS[predictor]),
        cosine_outcome if cosine else squared_outcome,
        measures={"m_o": centre_length, "survivors": functools.partial(survivors, relative=cosine)},
    )


CENTRE_PROBLEMS: Mapping[str, FlowProblem] = {
    f"{loss}-{predictor}": _problem(loss, predictor) for loss in ("squared", "cosine") for predictor in _PREDICTORS
}
"""LOSS-PREDICTOR: the flow of the centre, its start, its hyperparameters and its outcome.

>>> from stopgrad.linear_theory import Axis, phase_diagram
>>> mu, noise = Axis("mu", [0.5, 2.0]), Axis("sigma2", [0.2, 0.8])
>>> {name: phase_diagram(mu, noise, CENTRE_PROBLEMS[name]).survivors.values[0].tolist()
...  for name in ("cosine-none", "cosine-bias", "cosine-linear")}  # the centre wins from ‖μ‖² = x on
{'cosine-none': [2, 1], 'cosine-bias': [2, 2], 'cosine-linear': [2, 3]}
"""

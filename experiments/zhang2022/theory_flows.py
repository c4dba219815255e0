"""Statistics of Zhang et al. 2022 on linear networks whose data have a mean: the centre as one mode among others.

Flows of `linear_theory.flows.mean` are integrated, and the closed forms of `linear_theory.exact.mean_mode` are held
against where they end. A second or less each, uncompiled.
"""

import functools

import numpy as np

from stopgrad.experiments.claims.theory_claims import digits
from stopgrad.linear_theory.exact import mean_mode
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.matrices import Correlations
from stopgrad.linear_theory.flows.mean import (
    BiasedNetwork,
    Centre,
    MeanHyperparameters,
    cosine_mode_flow,
    cosine_network_flow,
)
from stopgrad.linear_theory.flows.modes import Mode

DATA = MeanHyperparameters(eta=0.0, mu=5.0, sigma2=0.5, directions=32.0)
"""The data that the sentences speak of: ‖μ‖ = 5, 32 directions of variance 1, half of it again by augmentation."""
MU = np.array([0.7, 0.9, 1.2, 2.0, 5.0])
SIGMA2 = np.array([[0.2], [0.6], [1.5]])


def _ended(flow, start, *args, t, tolerance=1e-6, event_dims=0):
    from stopgrad.linear_theory.simulation.integrate import integrate

    return integrate(flow, start, *args, t=t, tolerance=tolerance, event_dims=event_dims, compiled=False).state


def _problem(name: str):
    from stopgrad.linear_theory.sweeps.centre_problem import CENTRE_PROBLEMS

    return CENTRE_PROBLEMS[name]


# ---------------------------------------------------------------- one shrinkage for centre and residual

X, XP = np.array([6.0, 2.0, 1.0, 1.0, 0.7]), np.array([0.6, 0.6, 0.2, 0.9, 0.6])
"""Second moments of five modes, the first of them the mean's, and their augmentation variances."""


@functools.cache
def shrinkage() -> tuple[float, float]:
    """(digits to p_j ∝ x/(x + x′), digits to shares ∝ x²/(x + x′)): cosine loss, learned predictor, five modes."""
    h = Hyperparameters(sigma2=XP / X, eta=0.0, x=X)
    p, s = _ended(cosine_mode_flow, Mode(np.ones(5), X), h, t=600.0, tolerance=1e-6, event_dims=1)
    expected, shares = X / (X + XP), h.a * s / np.sum(h.a * s)
    return (
        digits(np.abs(p / p[0] / (expected / expected[0]) - 1)),
        digits(np.abs(shares / mean_mode.settled_shares(X, XP) - 1)),
    )


def gains() -> np.ndarray:
    """By what the share of each of the five modes is multiplied from data to settled embeddings, the mean's being 1."""
    gain = mean_mode.settled_shares(X, XP) / (X + XP)
    return gain / gain[0]


# ---------------------------------------------------------------- squared loss

SQUARED_ETA = 0.14
"""Weight decay under the squared loss: no border passes within a twelfth of a second moment of the grid."""


@functools.cache
def squared_fates() -> float:
    """Share of a grid over ‖μ‖ and σ² where the modes that live are those that `can_live` names, squared loss."""
    from stopgrad.linear_theory.sweeps.centre_problem import CENTRE_ALONE, RESIDUAL_ALONE, survivors

    problem = _problem("squared-linear")
    h = problem.h.replace(mu=MU[:-1], sigma2=np.vstack([SIGMA2, [[6.0]]]), eta=SQUARED_ETA)
    end = _ended(problem.flow, Centre(0.5, 1.5, 0.0, 0.5, 1.5), h, t=80.0, tolerance=1e-3)
    centre, residual = mean_mode.can_live(h)
    return float(np.mean(survivors(end, h, relative=False) == centre * CENTRE_ALONE + residual * RESIDUAL_ALONE))


# ---------------------------------------------------------------- cosine loss


TIMES = {"cosine-none": 5000.0, "cosine-bias": 300.0, "cosine-linear": 2000.0}
"""Until when the flows run: each until it is decided."""


@functools.cache
def centre_ends(name: str) -> np.ndarray:
    """m_o where the flow of this problem ends, over `MU` (columns) and `SIGMA2` (rows), from W = I."""
    from stopgrad.linear_theory.sweeps.centre_problem import centre_length

    problem = _problem(name)
    h = problem.h.replace(mu=MU, sigma2=SIGMA2, directions=DATA.directions)
    return centre_length(_ended(problem.flow, problem.start, h, t=TIMES[name], tolerance=1e-3), h)


@functools.cache
def naive_fates() -> float:
    """Share of the grid where, without predictor, the mode that wins is the one that is augmented least."""
    wins = mean_mode.least_augmented(np.stack(np.broadcast_arrays(MU**2, 1.0), -1), 1.0) == 0
    largest = MU / np.sqrt(MU**2 + SIGMA2)  # where nothing but the mean's mode is left
    return float(np.mean(np.where(wins, centre_ends("cosine-none") / largest > 0.99, centre_ends("cosine-none") < 0.1)))


@functools.cache
def freed_by_bias() -> float:
    """Least amount of m_o that a bias takes off, over the grid where the centre wins without one."""
    return float(np.min((centre_ends("cosine-none") - centre_ends("cosine-bias"))[:, MU > 1]))


@functools.cache
def settled_m_o() -> float:
    """Digits to which m_o with a learned predictor ends at the closed form, over the grid."""
    h = DATA.replace(mu=MU, sigma2=SIGMA2)
    return digits(np.abs(centre_ends("cosine-linear") / mean_mode.settled_centre(h) - 1))


VARIANCES = np.array([0.0, 1.0, 0.8, 0.7, 0.6, 0.5])
"""Of the images along six axes, the first of them that of their mean, for the rank."""


@functools.cache
def matrices(predictor: str, t: float = 400.0) -> tuple[float, float]:
    """(m_o, participation ratio of the residuals, 6 at most) where a network under the cosine loss ends, from W = I.

    predictor: "none", "bias" or "linear" (without bias). Images have the mean 3 along the first axis and no variance
    there, `VARIANCES` along others; augmentation has the variance 0.3 along each.
    """
    n, linear = len(VARIANCES), predictor == "linear"
    data = Correlations(np.diag(VARIANCES), 0.3 * np.eye(n))
    mu = 3.0 * np.eye(n)[:, :1]
    h = MeanHyperparameters(eta=0.0, alpha_p=float(linear), alpha_b=float(predictor == "bias"))
    start = BiasedNetwork(np.eye(n), np.eye(n), np.zeros((n, 1)))
    W = _ended(cosine_network_flow, start, data, mu, h, t=t, tolerance=1e-4, event_dims=2).W
    covariance = W @ (data.X + data.Xp) @ W.T
    values, centre = np.linalg.eigvalsh(covariance), float(np.sum((W @ mu) ** 2))
    m_o = np.sqrt(centre / (centre + values.sum()))
    return float(m_o), float(values.sum() ** 2 / np.sum(values**2))

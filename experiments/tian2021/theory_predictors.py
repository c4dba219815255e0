"""Statistics of Tian, Chen & Ganguli 2021 and DirectSet on predictors that are set, and on what weight decay means.

Each function computes one number over a stated grid by simulation; the closed forms are what it is held against.
"""

import functools

import numpy as np

from stopgrad.experiments.tian2021.theory_matrices import problem
from stopgrad.experiments.tian2021.theory_modes import digits
from stopgrad.linear_theory.exact import closed_loop, unit_map
from stopgrad.linear_theory.exact.closed_loop import Amplitudes, SetPredictor, closed_loop_flow, isotropic_regression
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.matrices import Correlations, Switches, network_flow
from stopgrad.linear_theory.predictors.matrices import directpred_spectrum, directset_spectrum

DIRECT = tuple(Hyperparameters(sigma2=sigma2, eta=eta) for sigma2, eta in ((0.0, 0.04), (0.5, 0.02), (0.5, 0.08)))
WEAK = 1e-4
"""r = √s of a mode that is too weak to matter to p."""


def run(r0, h: Hyperparameters, spectrum, *parameters, t, tolerance=1e-5) -> np.ndarray:
    """r at the times t, (times, n, modes), of a predictor set from the views' correlation."""
    from stopgrad.linear_theory.simulation.integrate import integrate

    start = Amplitudes(np.asarray(r0, dtype=float))
    options = {"tolerance": tolerance, "event_dims": 1, "compiled": False}
    return integrate(closed_loop_flow, start, h, spectrum, "views", *parameters, t=np.asarray(t), **options).state.r


# ---------------------------------------------------------------- optimal predictor


@functools.cache
def optimal_predictor(t: float = 40.0) -> tuple[float, float]:
    """(rate over η at which ‖W‖ falls with the regression predictor, ‖W(t)‖/‖W(0)‖ with a learned one), isotropic data.

    Both are the least of 6 random encoders; the learned predictor starts from where the regression would put it.
    """
    from stopgrad.linear_theory.simulation.integrate import integrate

    start, _ = problem()
    data = Correlations(np.eye(4), 0.2 * np.eye(4))
    h = Hyperparameters(sigma2=0.2, eta=0.04)
    best = Switches(predictor=SetPredictor(isotropic_regression, (1.0, h.a)))
    start = start._replace(Wp=np.broadcast_to(np.eye(3) / h.a, start.Wp.shape))
    options = {"t": t, "tolerance": 1e-6, "event_dims": 2, "compiled": False}
    size, ends = np.linalg.norm(start.W, axis=(-2, -1)), []
    for switches in (best, Switches()):
        W = integrate(network_flow, start, data, h, switches, **options).state.W
        ends.append(np.linalg.norm(W, axis=(-2, -1)) / size)
    return float(np.min(-np.log(ends[0]) / t / h.eta)), float(np.min(ends[1]))


# ---------------------------------------------------------------- DirectPred


@functools.cache
def directpred_agreement(relaxing: bool) -> float:
    """Share of ε about the ends of `directpred_threshold` at which a weak simulated mode grows or dies as it says.

    With `relaxing` the leading mode is simulated as well (Eq. 18); else max s is held at 1. The least of a grid.
    """
    return min(_agreement(h, relaxing) for h in DIRECT)


def _agreement(h: Hyperparameters, relaxing: bool) -> float:
    lower, upper = (float(end) for end in closed_loop.directpred_threshold(h, relaxing=relaxing))
    ends = [end for end in (lower, upper) if np.isfinite(end)]
    eps = np.array([factor * end for end in ends for factor in (0.5, 0.8, 0.95, 1.05, 1.25, 2.0)])[:, None]
    if relaxing:
        at = run(np.tile([0.5, WEAK], (len(eps), 1)), h, directpred_spectrum, eps, t=[40.0, 60.0], tolerance=1e-8)[
            ..., 1
        ]
    else:
        at = run(np.full((len(eps), 1), WEAK), h, frozen_spectrum, eps, t=[20.0, 40.0], tolerance=1e-8)[..., 0]
    grows = ((at[1] > at[0]) & (at[1] > 1e-3 * WEAK)) | (at[1] > 100 * WEAK)
    return float(np.mean(grows == ((eps[:, 0] > lower) & (eps[:, 0] < upper))))


def frozen_spectrum(q, eps):
    """DirectPred's p = √q + ε with max s held at 1."""
    return q**0.5 + eps


@functools.cache
def threshold_sign() -> float:
    """Share of weak modes that grow with p = √max(s − c, 0) at c < 0, less that at c > 0: the least of a grid."""
    shares = []
    for h in DIRECT:
        r0 = np.tile([0.8, 0.1, 0.05, 0.01], (4, 1))
        cutoff = np.array([-0.05, -0.1, 0.05, 0.1])[:, None]
        grows = run(r0, h, directpred_spectrum, 0.0, cutoff, t=[60.0])[0][:, 1:] > r0[:, 1:]
        shares.append(np.mean(grows[:2], axis=-1).min() - np.mean(grows[2:], axis=-1).max())
    return float(np.min(shares))


# ---------------------------------------------------------------- DirectSet


def directset_agreement() -> float:
    """Share of starts about `directset_threshold` that die, or reach `directset_limit` to 1 %, as these say."""
    agree = []
    for h in DIRECT:
        alpha = np.array([0.5, 1.0, 2.0])[:, None]
        border, limit = (f(h, alpha) for f in (closed_loop.directset_threshold, closed_loop.directset_limit))
        r0 = (border * np.array([0.5, 0.7, 1.4, 2.0])).reshape(-1, 1)
        each = np.repeat(alpha, 4, axis=0)
        end = run(r0, h, directset_spectrum, each, t=[80.0], tolerance=1e-3)[0]
        survives = np.abs(end / np.repeat(limit, 4, axis=0) - 1) < 0.01
        agree.append(np.mean(np.where(r0 > np.repeat(border, 4, axis=0), survives, end < r0)))
    return float(np.min(agree))


def selective_decay() -> float:
    """Share of (α, η), η in `selective_weight_decay`'s window, where a signal mode lives and a nuisance mode dies."""
    signal, nuisance = Hyperparameters(sigma2=0.0), Hyperparameters(sigma2=1.0)
    lower, upper = closed_loop.selective_weight_decay(signal, nuisance)
    eta, alpha = (
        v.reshape(-1, 1) for v in np.meshgrid(lower + np.array([0.1, 0.5, 0.9]) * (upper - lower), [0.5, 1.0])
    )
    h = Hyperparameters(sigma2=np.array([[0.0, 1.0]]), eta=eta)
    end = run(np.full((len(eta), 2), 0.9), h, directset_spectrum, alpha, t=[120.0], tolerance=1e-3)[0]
    limit = closed_loop.directset_limit(signal.replace(eta=eta), alpha)[:, 0]
    return float(np.mean((np.abs(end[:, 0] / limit - 1) < 0.01) & (end[:, 1] < 0.01)))


# ---------------------------------------------------------------- weight decay


@functools.cache
def decay_digits(weight_decay: float = 4e-4, steps: int = 300) -> tuple[float, float]:
    """Digits to which a weight under torch's SGD, without a gradient, decays at (`unit_map`'s η, η̄/α of the paper).

    The rate is per unit of the flow's time, lr/(1 − momentum) a step, over the last two thirds of the run: the worst of
    lr 0.01 and 0.03, momentum 0 and 0.9.
    """
    import torch

    errors = []
    for lr, momentum in ((0.01, 0.0), (0.03, 0.0), (0.01, 0.9), (0.03, 0.9)):
        weight = torch.ones((), dtype=torch.float64, requires_grad=True)
        weight.grad = torch.zeros_like(weight)
        optimiser = torch.optim.SGD([weight], lr=lr, momentum=momentum, weight_decay=weight_decay)
        path = []
        for _ in range(steps):
            optimiser.step()
            path.append(weight.item())
        first = steps // 3
        elapsed = (steps - first) * lr / (1 - momentum)
        rate = float(np.log(path[first - 1] / path[-1])) / elapsed
        recipe = unit_map.TrainingRecipe(lr=lr, momentum=momentum, weight_decay=weight_decay)
        errors.append([abs(said / rate - 1) for said in (unit_map.to_theory(recipe)[0].eta, weight_decay / lr)])
    right, paper = (digits(worst) for worst in np.max(errors, axis=0))
    return right, paper

"""The two sides of the comparison on the digits: Lemma 1 with measured X and X′, and a linear network trained by SGD.

With and without stop-gradient, with and without a predictor (absent: W_p = I, fixed). Compared are the eigenvalues s_j
of F = W X Wᵀ, falling, over time.

The start. W has independent N(0, 0.1²) entries: s then starts where the predictor, whose pull is α_p s, turns within
the 40 units of time; a tenth of it would leave W_p where it was. W_p = (I + G/√n2)/4 with G standard normal: its
eigenvalues lie about 1/4, near the p = 1/(2a) of fastest growth for the digits' a of 1.6 to 4.7, and it is neither
symmetric nor aligned with F, so that alignment is learned and not given. n2 = 16 is more than the four modes that
weight decay 0.01 can let live (as many eigenvalues of X(X + X′)⁻¹X/4 exceed it), and less than the 64 pixels.
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from stopgrad.experiments.linear_digits.setting import LEADING, RECORDS, RESOLVED, SIDE, Setting
from stopgrad.experiments.linear_digits.views import DigitViews
from stopgrad.experiments.store.run_store import Arrays
from stopgrad.linear_theory.flows.matrices import Correlations, Network, Switches, network_flow
from stopgrad.linear_theory.samples.linear_siamese import train
from stopgrad.linear_theory.samples.views import measure_image_correlations
from stopgrad.linear_theory.simulation.integrate import integrate
from stopgrad.linear_theory.spectra.alignment import eigenvector_alignment

MEASURING_SEED = 20_000_000  # apart from any training seed


class Modes(NamedTuple):
    """s_j: eigenvalues of F = W X Wᵀ, falling. alignment: cos(u_j, W_p u_j). Both (…, n2)."""

    s: np.ndarray
    alignment: np.ndarray


def modes(state: Network, X: np.ndarray) -> Modes:
    """The modes of networks (…, n2, n1); NaN for a network that has diverged."""
    Wp, W = np.asarray(state.Wp), np.asarray(state.W)
    with np.errstate(over="ignore", invalid="ignore"):
        F = W @ X @ W.mT
    alive = (np.isfinite(F) & np.isfinite(Wp)).all((-2, -1), keepdims=True)
    found = eigenvector_alignment(np.where(alive, Wp, 0), np.where(alive, F, 0))
    return Modes(*(np.where(alive[..., 0], v, np.nan) for v in found))


def start(setting: Setting, seeds: Sequence[int], switches: Switches) -> Network:
    """The initial weights of each seed, (seeds, …): the same for all variants, but for W_p = I where it is absent."""
    n2, rngs = setting.n2, [np.random.default_rng(seed) for seed in seeds]
    W = np.stack([0.1 * rng.normal(size=(n2, SIDE**2)) for rng in rngs])
    Wp = np.stack([(np.eye(n2) + rng.normal(size=(n2, n2)) / n2**0.5) / 4 for rng in rngs])
    return Network(np.broadcast_to(np.eye(n2), Wp.shape).copy() if switches.predictor == "fixed" else Wp, W, W)


def measured(setting: Setting, digits: DigitViews) -> Correlations:
    """X and X′ of the augmented digits, from `setting.views` views of each."""
    return measure_image_correlations(digits.augment, torch.arange(digits.images), setting.views, MEASURING_SEED)


def predict(setting: Setting, data: Correlations, switches: Switches, seeds: Sequence[int]) -> Arrays:
    """Lemma 1 from the start of each seed: times, s and alignment (time, seeds, n2), the final weights."""
    training = setting.training
    steps = np.unique([*range(0, training.steps, training.record_every), training.steps])
    times = steps * training.time_per_step
    began = time.perf_counter()
    solution = integrate(
        network_flow, start(setting, seeds, switches), data, setting.hyperparameters, switches, t=times, event_dims=2
    )
    spent = time.perf_counter() - began
    final = {"Wp": solution.state.Wp[-1], "W": solution.state.W[-1]}
    return {
        "times": times,
        **modes(solution.state, data.X)._asdict(),
        **final,
        "worst_error": np.asarray(solution.worst_error),
        "seconds": np.asarray(spent),
    }


def measure(
    setting: Setting,
    digits: DigitViews,
    data: Correlations,
    switches: Switches,
    seed: int,
    advance: Callable[[float], None] = lambda part: None,
) -> Arrays:
    """SGD from the start of one seed: times, s and alignment (time, n2), the final weights, whether it diverged."""
    training, observations = setting.training, 0

    def observe(state):
        nonlocal observations
        advance(observations / RECORDS)
        observations += 1
        return modes(state, data.X)

    began = time.perf_counter()
    run = train(
        digits.draw, start(setting, [seed], switches), setting.hyperparameters, switches, training, [seed], observe
    )
    return {
        "times": run.times,
        "s": run.observed.s[:, 0],
        "alignment": run.observed.alignment[:, 0],
        "Wp": run.state.Wp[0],
        "W": run.state.W[0],
        "diverged": run.diverged[0],
        "seconds": np.asarray(time.perf_counter() - began),
    }


def agreement(predicted: np.ndarray, found: np.ndarray) -> dict[str, np.ndarray]:
    """How far s found (time, …, modes) is from s predicted, the worst of all times and of the leading modes: (…).

    `relative_gap` is over the predicted value of that very moment: where a mode collapses by decades, it is the error
    of its logarithm, and grows as sampling noise accumulates. `gap_over_peak` is over the largest value that the mode
    is predicted to take. A mode under `RESOLVED` counts as that large. NaN where the training diverged.
    """
    predicted, found = predicted[..., :LEADING], found[..., :LEADING]
    scale = np.maximum(predicted, RESOLVED)
    with np.errstate(over="ignore"):
        gap = np.abs(found - predicted)
        return {
            "relative_gap": (gap / scale).max((0, -1)),
            "gap_over_peak": (gap / scale.max(0)).max((0, -1)),
        }

"""How many modes the linear theory lets live: on a population, on few of its images, and in a run as measured."""

import functools
import math

import numpy as np

from stopgrad.deep.config import Config
from stopgrad.deep.measuring.units import Noise, units
from stopgrad.experiments.store.store import Record
from stopgrad.linear_theory.exact.nonisotropic import surviving_modes
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.spectra.white_noise import white_noise_spectrum

ALIVE = 0.006
"""Eigenvalue of F from which a mode of the linear arms lives: a tenth of the least that can stay, xτ²/(4a²α_p) at the
critical decay with α_p = 8; after t = 32 dead ones have decayed to e^(−2ηt) = 7e-5 of their start."""


def living(x, noise, eta: float) -> int:
    """Modes with eigenvalues x of X and `noise` of X′ (n,) that have a fixed point at η: η < x²/(4(x + noise)).

    >>> living([1.0, 0.5, 0.1], [0.1, 0.1, 0.1], 0.05)
    2
    """
    x, noise = np.asarray(x, float), np.asarray(noise, float)
    some = x > 0
    return int(surviving_modes(Hyperparameters(sigma2=noise[some] / x[some], eta=eta, x=x[some])))


def on_few(images: int, dim: int, sigma2: float, eta: float) -> int:
    """The same for X = I of `dim` dimensions as so many images have it: the eigenvalues of their X scatter by the
    Marčenko–Pastur law, while X′ = σ² I is of the augmentation and stays."""
    x = white_noise_spectrum(images, dim, centred=False) ** 2 / images
    return living(x, np.full(dim, sigma2), eta)


@functools.lru_cache(maxsize=32)  # a few claims look at the same runs, and drawing takes longer than all else here
def images_seen(config: Config) -> np.ndarray:
    """The points (n, dim) that a linear arm's run was trained on, drawn anew from its seed."""
    import torch

    from stopgrad.deep.data import datasets
    from stopgrad.deep.data.orders.setting import Setting

    train = datasets.load(config.data, config.seed).train
    setting = Setting.of(config, train.labels)
    first = range(setting.steps_per_epoch)  # every epoch sees the same of them
    index = torch.cat([config.data.order.at(setting, step)[0] for step in first]).unique()
    return train.images[index].double().numpy()


def allowed(record: Record) -> int:
    """Modes that theory lets live in a linear arm's run, by X of the points that it saw and the rank of W."""
    points, data = images_seen(record.config), record.config.data
    x = np.linalg.eigvalsh(points.T @ points / len(points))
    h = units(record.config, Noise(data.gaussian_sigma2, 1.0))
    return min(living(x, np.full(len(x), data.gaussian_sigma2), float(h.eta)), record.config.method.embedding_dim)


def alive(record: Record) -> int:
    """Modes of F that live at the end of a linear arm's run."""
    return int((record.columns.arrays["eigenvalues"].values[-1] > ALIVE).sum())


def agreement(record: Record) -> float:
    """−|ln of (modes that live + 1) over (modes that may + 1)|: 0 where they are as many."""
    return -abs(math.log((alive(record) + 1) / (allowed(record) + 1)))


def allowed_in_network(record: Record) -> int:
    """Modes that may live by X and X′ at the projector's input of a ResNet's run, at its own η and its rank.

    The loss is a cosine, for which η is indicative; embeddings have no more dimensions than `embedding_dim`.
    """
    seen = record.summary["generalisation"]["train"]
    h = units(record.config, Noise(seen["sigma2"] or 0.0, 1.0))
    return min(living(seen["signal"], seen["noise"], float(h.eta)), record.config.method.embedding_dim)

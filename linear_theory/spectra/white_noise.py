"""The spectrum of features in which nothing is collapsed, of as many samples and dimensions as one likes."""

import math

import numpy as np

from stopgrad.linear_theory.tools.errors import BadInput


def white_noise_spectrum(samples: int, dim: int, centred: bool = True) -> np.ndarray:
    """σ (dim,), falling, of white Gaussian features of unit variance: the Marčenko–Pastur law's quantiles (i − ½)/rank.

    Centring takes one sample's worth. Values beyond the rank are 0. ValueError if nothing is left to vary.

    >>> sigma = white_noise_spectrum(1000, 10)
    >>> sigma.shape
    (10,)
    """
    n = samples - centred
    if n < 1 or dim < 1:
        raise BadInput(f"{samples} samples of {dim} dimensions have no spectrum; give two samples and one dimension")
    rank, root = min(n, dim), math.sqrt(dim / n)
    # λ/n = 1 + g − 2√g cos θ turns the density √((b−λ)(λ−a))/λ, singular at its ends, into a smooth one on (0, π).
    theta = np.linspace(0, math.pi, 1 + max(1 << 14, 16 * rank))
    middle = (theta[1:] + theta[:-1]) / 2
    mass = np.cumsum(np.sin(middle) ** 2 / ((1 - root) ** 2 + 4 * root * np.sin(middle / 2) ** 2))
    quantile = np.interp((np.arange(rank, 0, -1) - 0.5) / rank, np.append(0, mass / mass[-1]), theta)
    lam = (1 - root) ** 2 + 4 * root * np.sin(quantile / 2) ** 2
    return np.append(np.sqrt(n * lam), np.zeros(dim - rank))

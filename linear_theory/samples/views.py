"""Pairs of views with given X and X′, and the X and X′ of given views.

A `draw(generator, batch) -> (x1, x2)` returns two float64 tensors (batch, n1): two independent augmentations of the
same `batch` images. Its second moments are E[x₁x₁ᵀ] = E[x₂x₂ᵀ] = X + X′ and E[x₁x₂ᵀ] = X (Tian, Chen & Ganguli 2021,
Lemma 1).
"""

from collections.abc import Callable

import numpy as np
import torch

from stopgrad.linear_theory.flows.matrices import Correlations, symmetric_part
from stopgrad.linear_theory.predictors.matrices import as_square
from stopgrad.linear_theory.tools.arrays import as_tensor
from stopgrad.linear_theory.tools.errors import BadInput


def gaussian_views(data: Correlations):
    """A `draw` of x₁ = x̄ + ξ₁, x₂ = x̄ + ξ₂ with x̄ ~ N(0, X) and ξ ~ N(0, X′). Raises ValueError unless both are PSD."""
    mean_root, noise_root = _roots(data)

    def draw(generator, batch):
        z, e1, e2 = torch.randn(3, batch, len(mean_root), dtype=torch.float64, generator=generator)
        mean = z @ mean_root.mT
        return mean + e1 @ noise_root.mT, mean + e2 @ noise_root.mT

    return draw


def exact_views(data: Correlations):
    """A `draw` of always the same 3·n1 pairs, whose second moments are those of `data` exactly.

    J is quadratic in the views, so its gradient on these pairs is the exact one, without sampling noise. The generator
    and the batch size are ignored. Raises ValueError unless X and X′ are PSD.
    """
    A, B = (root.mT * (3 * len(root)) ** 0.5 for root in _roots(data))
    none = torch.zeros_like(A)
    views = torch.cat([A, B, none]), torch.cat([A, none, B])
    return lambda generator, batch: views


def measure_correlations(draw, samples: int, seed: int = 0, batch: int = 4096) -> Correlations:
    """X and X′, (n1, n1) NumPy arrays, from `samples` fresh pairs of views; the error is O(1/√samples).

    X′ = ½E[(x₁ − x₂)(x₁ − x₂)ᵀ] is unbiased and PSD by itself. X = sym E[x₁x₂ᵀ] is unbiased until its negative
    eigenvalues, which are sampling error, are set to zero.
    """
    if samples < 1:
        raise BadInput(f"samples is {samples}; it must be at least 1")
    generator = torch.Generator().manual_seed(seed)
    X = Xp = 0
    for start in range(0, samples, batch):
        pair = draw(generator, min(batch, samples - start))
        x1, x2 = (as_tensor(v, "the view", dtype=torch.float64) for v in pair)
        weight = len(x1) / samples
        X = X + weight * (x1.mT @ x2) / len(x1)
        Xp = Xp + weight * ((x1 - x2).mT @ (x1 - x2)) / (2 * len(x1))
    return Correlations(nearest_psd(symmetric_part(X)).numpy(), symmetric_part(Xp).numpy())


def measure_image_correlations(augment: Callable, images, views: int, seed: int = 0) -> Correlations:
    """X and X′, (n1, n1) NumPy arrays, of a known set of images from `views` ≥ 2 augmentations of each.

    `augment(generator, images) -> (N, n1)` draws one view of each of the N images. X′ is the within-image covariance,
    unbiased and PSD. The correlation of the N means of `views` views exceeds X by X′/views, which is taken off;
    negative eigenvalues left by that are set to zero. The images themselves are taken as the whole population.
    """
    if views < 2:
        raise BadInput(f"views is {views}; a covariance within each image needs at least 2")
    generator = torch.Generator().manual_seed(seed)
    total = second = 0
    for _ in range(views):
        x = as_tensor(augment(generator, images), "the view", dtype=torch.float64)
        total, second = total + x, second + x.mT @ x
    n, means = len(total), total / views
    between = means.mT @ means / n
    Xp = symmetric_part(second / (n * views) - between) * views / (views - 1)
    return Correlations(nearest_psd(symmetric_part(between - Xp / views)).numpy(), Xp.numpy())


def nearest_psd(matrix: torch.Tensor) -> torch.Tensor:
    """The PSD matrix nearest to a symmetric one in Frobenius norm: negative eigenvalues become zero (Higham 1988)."""
    values, vectors = torch.linalg.eigh(as_tensor(as_square(matrix, "the matrix")))
    return symmetric_part((vectors * values.clamp(min=0)[..., None, :]) @ vectors.mT)


def _roots(data: Correlations):
    """R with R Rᵀ = M for X and for X′; ValueError where there is none."""
    roots = []
    for name, matrix in (("X", data.X), ("X′", data.Xp)):
        M = as_tensor(matrix, name, dtype=torch.float64)
        if M.ndim != 2 or M.shape[0] != M.shape[1] or M.shape != np.shape(data.X):
            raise BadInput(f"{name} has shape {tuple(M.shape)}; X and X′ must be square matrices of the same size")
        if not M.isfinite().all():
            raise BadInput(f"{name} holds NaN or infinity; it must be finite")
        if not torch.allclose(M, M.mT, rtol=1e-9, atol=1e-12 * float(M.abs().max())):
            raise BadInput(f"{name} is not symmetric; a correlation matrix must be")
        values, vectors = torch.linalg.eigh(symmetric_part(M))
        if values[0] < -1e-10 * max(float(values[-1]), 1e-300):
            raise BadInput(f"{name} has the negative eigenvalue {float(values[0]):.3g}; it must be PSD")
        roots.append(vectors * values.clamp(min=0).sqrt())
    return roots

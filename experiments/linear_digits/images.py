"""What the encoder has learned of the digits, as 8×8 images: its leading modes, and a view seen through them."""

import numpy as np
import torch

from stopgrad.experiments.linear_digits.setting import SIDE
from stopgrad.experiments.linear_digits.views import DigitViews
from stopgrad.linear_theory.flows.matrices import Correlations

SHOWN_MODES = 6
EXAMPLES = 10  # the first ten images are one of each class
KEPT = (1, 3)  # modes kept in a reconstruction, besides all
EXAMPLE_SEED = 0


def eigenvectors(W: np.ndarray, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(s, U) of F = W X Wᵀ: eigenvalues (…, n2), falling, and their eigenvectors as columns (…, n2, n2)."""
    s, U = np.linalg.eigh(W @ X @ W.mT)
    return s[..., ::-1], U[..., ::-1]


def patterns(W: np.ndarray, X: np.ndarray) -> np.ndarray:
    """X Wᵀ u_j/√s_j, (…, n2, n1): the image that mode j stands for, in pixels per standard deviation of the mode.

    These are the singular directions of W X^{1/2}, that is of W on the images it sees, carried back to pixels. They add
    up to the variance seen: Σ_j pattern_j pattern_jᵀ = X for an invertible W.
    """
    s, U = eigenvectors(W, X)
    return (X @ W.mT @ U / np.sqrt(s.clip(min=np.finfo(float).tiny))[..., None, :]).mT


def singular_directions(W: np.ndarray) -> np.ndarray:
    """The right singular vectors of W, (…, n2, n1), leading first: the filters through which the encoder looks."""
    return np.linalg.svd(W, full_matrices=False)[2]


def decoder(W: np.ndarray, data: Correlations, kept: int) -> np.ndarray:
    """(n1, n1): view ↦ best linear estimate of its image's augmentation mean from the view's `kept` leading modes."""
    read = eigenvectors(W, data.X)[1][:, :kept].mT @ W
    return data.X @ read.mT @ np.linalg.solve(read @ (data.X + data.Xp) @ read.mT, read)


def recovered(W: np.ndarray, data: Correlations, kept: int) -> float:
    """The share of the variance of the augmentation means that `decoder` recovers from one view, between 0 and 1."""
    return float(np.trace(decoder(W, data, kept) @ data.X) / np.trace(data.X))


def same_sign(images: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """`images` (…, n1), each with its sign turned to that of `reference`: an eigenvector has none of its own."""
    return images * np.where((images * reference).sum(-1, keepdims=True) < 0, -1, 1)


def upright(images: np.ndarray) -> np.ndarray:
    """`images` (…, n1), each with its sign turned so that its strongest pixel is positive."""
    strongest = np.take_along_axis(images, np.abs(images).argmax(-1, keepdims=True), -1)
    return images * np.where(strongest < 0, -1, 1)


def image_variables(W_flow: np.ndarray, W_sgd: np.ndarray, digits: DigitViews, data: Correlations) -> dict:
    """Variables for an xarray.Dataset from the final encoders (seeds, n2, 64) of the flow and of the training.

    `pattern_*` and `filter_*` are (seed, shown, row, col); `digit` (example, row, col) are images as they are,
    `average` their means over all views, `view` (example, side, row, col) two views of each, and `reconstruction`
    (example, kept, row, col) the estimate of `average` from what the trained network of the first seed makes of the
    first view. A network that diverged has NaN for images.
    """
    n2, shown = W_sgd.shape[-2], min(SHOWN_MODES, W_sgd.shape[-2])
    whole = np.isfinite(W_sgd).all((-2, -1))
    safe = np.where(whole[:, None, None], W_sgd, W_flow)
    drawn = {}
    for name, make in (("pattern", lambda W: patterns(W, data.X)), ("filter", singular_directions)):
        flow = upright(make(W_flow)[:, :shown])
        sgd = np.where(whole[:, None, None], same_sign(make(safe)[:, :shown], flow), np.nan)
        drawn |= {f"{name}_flow": (("seed", "shown", "row", "col"), _square(flow))}
        drawn |= {f"{name}_sgd": (("seed", "shown", "row", "col"), _square(sgd))}

    generator = torch.Generator().manual_seed(EXAMPLE_SEED)
    which = torch.arange(EXAMPLES)
    views = np.stack([digits.augment(generator, which).numpy() for _ in range(2)], 1)
    kept = [*KEPT, n2]
    guess = np.stack([views[:, 0] @ decoder(safe[0], data, k).mT for k in kept], 1)
    mean = digits.mean.numpy()
    unshifted = digits.shifted[len(digits.shifted) // 2, :EXAMPLES].numpy()
    return drawn | {
        "digit": (("example", "row", "col"), _square(unshifted + mean)),
        "average": (("example", "row", "col"), _square(digits.shifted.mean(0)[:EXAMPLES].numpy() + mean)),
        "view": (("example", "side", "row", "col"), _square(views + mean)),
        "reconstruction": (
            ("example", "kept", "row", "col"),
            _square(np.where(whole[0], guess, np.nan) + mean),
        ),
        "kept": ("kept", kept),
    }


def _square(images: np.ndarray) -> np.ndarray:
    return images.reshape(*images.shape[:-1], SIDE, SIDE)

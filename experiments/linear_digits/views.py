"""Scikit-learn's 8×8 digits under ±1-pixel shifts and pixel noise: the views of the linear experiment on real images.

Pixels are divided by 16. A shift moves the raw image and fills with 0, the digits' own background; only then is the
mean subtracted, and it is the mean over all images and all shifts, so that views have mean zero exactly.
"""

from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch.nn.functional import pad

from stopgrad.experiments.linear_digits.setting import SIDE
from stopgrad.linear_theory.flows.matrices import Correlations, symmetric_part


@dataclass(frozen=True, eq=False)
class DigitViews:
    """All shifts of all digits, and the noise that a view adds."""

    shifted: torch.Tensor
    """((2r + 1)², images, 64), centred; float64."""
    mean: torch.Tensor
    """(64,) what was subtracted."""
    noise: float
    """Standard deviation of the pixel noise."""

    @property
    def images(self) -> int:
        """How many images there are."""
        return self.shifted.shape[1]

    def augment(self, generator: torch.Generator, images: torch.Tensor) -> torch.Tensor:
        """One view of each image, given by its index: (len(images), 64); every shift is equally likely."""
        shift = torch.randint(len(self.shifted), images.shape, generator=generator)
        clean = self.shifted[shift, images]
        return clean + self.noise * torch.randn(clean.shape, dtype=clean.dtype, generator=generator)

    def draw(self, generator: torch.Generator, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Two independent views, each (batch, 64), of `batch` images drawn with replacement."""
        images = torch.randint(self.images, (batch,), generator=generator)
        return self.augment(generator, images), self.augment(generator, images)

    def enumerated(self) -> Correlations:
        """X and X′, (64, 64), exactly: every image in every shift, plus the noise's variance on the diagonal of X′."""
        means = self.shifted.mean(0)
        within = (self.shifted - means).flatten(0, 1)
        noise = self.noise**2 * torch.eye(means.shape[1], dtype=means.dtype)
        return Correlations(
            (means.mT @ means / len(means)).numpy(), (symmetric_part(within.mT @ within / len(within)) + noise).numpy()
        )


def digit_views(radius: int = 1, noise: float = 0.1) -> DigitViews:
    """The 1797 digits with all shifts of up to `radius` pixels in both directions."""
    images = pad(torch.as_tensor(load_digits().images / 16), (radius,) * 4)
    offsets = range(2 * radius, -1, -1)  # from a shift down and right by `radius` to one up and left
    shifted = torch.stack([images[:, i : i + SIDE, j : j + SIDE].flatten(1) for i in offsets for j in offsets])
    mean = shifted.mean((0, 1))
    return DigitViews(shifted - mean, mean, noise)

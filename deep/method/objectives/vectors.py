"""What objectives on directions share: centre, residual, random vectors, and being drawn somewhere.

Z = z/‖z‖ of the B images of a batch, through one view, is their centre o = mean Z and a residual r = Z − o for each
(Zhang et al. 2022). Everything here is of one view at a time: leading dimensions broadcast.
"""

from stopgrad.deep.data.fold import fold

_DIRECTION, _NEGATIVE = -1, -2
"""Keys of the random numbers here, apart from those of every seed."""


def centre(Z):
    """o = mean of Z over the images: (…, B, d) to (…, 1, d)."""
    return Z.mean(dim=-2, keepdim=True)


def residual(Z):
    """r = Z − o: (…, B, d) to (…, B, d), of mean 0 over the images."""
    return Z - centre(Z)


def drawn_to(Z, goal):
    """−Z·sg(goal), averaged: the negative gradient at each Z is its goal, taken as it is, at its own length."""
    return -(Z * goal.detach()).sum(dim=-1).mean()


def random_directions(step: int, index, d: int):
    """A unit vector for each image, drawn anew at each step: float64 (B, d), a function of (step, index[i]) alone.

    >>> import torch
    >>> random_directions(7, torch.arange(3), 4).norm(dim=1)
    tensor([1.0000, 1.0000, 1.0000], dtype=torch.float64)
    """
    from stopgrad.deep.data.counter import normal
    from stopgrad.linear_theory.tools.lengths import directions

    return directions(normal(fold(_DIRECTION, step), index, d))


def other_images(step: int, n: int):
    """For each of n ≥ 2 images the place of another of them, drawn anew at each step: int64 (n,), on the CPU.

    >>> [place == other for place, other in enumerate(other_images(7, 4).tolist())]
    [False, False, False, False]
    """
    import torch

    from stopgrad.deep.data.counter import uniform

    place = torch.arange(n)
    other = (uniform(fold(_NEGATIVE, step), place, 1)[:, 0] * (n - 1)).long()
    return other + (other >= place)


def idle_target(config) -> list[str]:
    """That a target of its own is not computed where the objective compares with none, in a sentence."""
    method = config.method
    said = f"Nothing is compared with the target (--target {method.target}), so it is not computed."
    return [said] * (not method.target.wanted(method.objective, method.predictor))


def idle_parts(config) -> list[str]:
    """What a loss of embeddings leaves idle, in sentences: a predictor that would learn, a target that would cost."""
    said = "The predictor gets no gradient: the loss is of the embeddings themselves."
    return [said] * config.method.predictor.learns + idle_target(config)

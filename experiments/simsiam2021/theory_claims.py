"""What Chen & He 2021 say of loss, collapse metric and BatchNorm and theory alone decides, without a run."""

import functools

import numpy as np

from stopgrad.experiments.claims.claim import Claim, Rule
from stopgrad.experiments.claims.theory_claims import claim
from stopgrad.linear_theory.exact import centre

SIZES = (4, 32, 256)
"""Vectors of a batch."""


@functools.cache
def half_gradient() -> tuple[float, float]:
    """(digits to which stop-gradient halves the gradient of the symmetrised loss, without predictor and with one).

    The gradient of a network of two layers with BatchNorm, in float64; without stop-gradient and with it: the worst of
    4 networks. With a predictor it does not: digits of the same comparison, near or below 0.
    """
    import torch

    from stopgrad.deep.method.objectives.predictive import Predictive
    from stopgrad.deep.method.outputs import Outputs

    found = []
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        draw = functools.partial(torch.randn, dtype=torch.float64, generator=generator)
        x, image = draw(2, 32, 12), draw(32, 12)
        views = image + 0.5 * x
        weights = [draw(12, 24).requires_grad_(), draw(24, 8).requires_grad_()]
        h = draw(8, 8)

        def gradients(predictor, stop, views=views, weights=weights):
            hidden = views @ weights[0]
            hidden = (hidden - hidden.mean(1, keepdim=True)) / hidden.std(1, keepdim=True)
            z = hidden.relu() @ weights[1]
            outputs = Outputs(z=z, p=z if predictor is None else z @ predictor, target=z)
            found = torch.autograd.grad(Predictive(stop_gradient=stop)(outputs), weights)
            return torch.cat([g.flatten() for g in found])

        for predictor in (None, h):
            stopped, free = (gradients(predictor, stop) for stop in ("target", "none"))
            found.append(float(torch.linalg.norm(stopped - free / 2) / torch.linalg.norm(free / 2)))
    digits = -np.log10(np.maximum(found, 1e-16)).reshape(-1, 2)
    return float(digits[:, 0].min()), float(digits[:, 1].max())


@functools.cache
def lost_std(k: int = 32, d: int = 2048) -> float:
    """What Chen & He's std, times √d, is short of 1 for a uniform cloud in k of its d dimensions: measured.

    On 20,000 directions in a random subspace.
    """
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.standard_normal((d, k)))
    points = rng.standard_normal((20_000, k))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    variances = np.einsum("jk,kl,jl->j", basis, np.cov(points.T, bias=True), basis)
    return float(1 - np.sqrt(d * variances).mean())


@functools.cache
def room_below_one(d: int = 8, steps: int = 300) -> tuple[float, float]:
    """(the least, the most) that m_o of N vectors, channel by channel centred, stays below 1, in units of 2/N.

    Driven up by gradient ascent from random starts and from one vector opposite to all others, over SIZES.
    """
    import torch

    rooms = []
    for n in SIZES:
        noise = torch.randn(2, n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
        outlier = torch.eye(n, 1, dtype=torch.float64) * torch.ones(d)
        z = torch.stack([noise[0], 1e-2 * noise[1] - n * outlier]).requires_grad_()
        optimiser = torch.optim.Adam([z], lr=0.03)
        for _ in range(steps):
            centred = z - z.mean(dim=1, keepdim=True)
            m_o = torch.nn.functional.normalize(centred, dim=2).mean(dim=1).norm(dim=1)
            optimiser.zero_grad()
            (-m_o.sum()).backward()
            optimiser.step()
        rooms.append((1 - m_o.max().item()) / (1 - float(centre.largest_m_o(n))))
    return min(rooms), max(rooms)


CLAIMS: tuple[Claim, ...] = (
    claim(
        "half-gradient",
        "Stop-gradient",
        "Without predictor and with the symmetrised loss stop-gradient halves the gradient and does nothing else.",
        Rule("digits to which it is half the gradient, the worst network", 10, "digits", "float64's own error"),
        lambda: half_gradient()[0],
        lambda: (
            f"Halved to {half_gradient()[0]:.1f} digits without predictor, to {half_gradient()[1]:.1f} at best with a "
            "linear one: it is the predictor that gives stop-gradient something to stop."
        ),
        "4 random networks 12-24-8 with BatchNorm, two views of 32 points, cosine loss",
    ),
    claim(
        "std-blind",
        "Stop-gradient",
        "The channels' std of normalised outputs, near 1/√d where nothing collapsed, is as near where 32 of 2048 "
        "dimensions are left.",
        Rule("0.05 less what √d·std is short of 1 in 32 of 2048 dimensions", 0, "", "within a twentieth of healthy"),
        lambda: 0.05 - lost_std(),
        lambda: (
            f"E χ_k/√k of a uniform cloud in k dimensions: {float(centre.subspace_std(1, 2048)):.3g} at k = 1, "
            f"{float(centre.subspace_std(8, 2048)):.3g} at 8, {float(centre.subspace_std(32, 2048)):.4g} at 32; "
            f"measured {1 - lost_std():.4g}. So a collapse of dimensions is read off an effective rank."
        ),
        "20,000 directions, uniform in a random 32-dimensional subspace of 2048 dimensions",
    ),
    claim(
        "std-bounded",
        "BatchNorm on heads",
        "Behind an affine-free output BatchNorm std cannot go to 0: m_o stays below 1 by 2/N at least.",
        Rule("1 − m_o over 2/N, the least that gradient ascent comes to", 1 - 1e-6, "", "the bound itself"),
        lambda: room_below_one()[0],
        lambda: (
            f"m_o ≤ 1 − 2/N, reached by one vector opposite to all others: ascent comes to {room_below_one()[0]:.6g} "
            f"times 2/N below 1, and to {room_below_one()[1]:.3g} at worst. The paper's default heads have affine "
            "parameters, and nothing holds them."
        ),
        "N = " + ", ".join(map(str, SIZES)) + " vectors of 8 channels, each centred over the N",
    ),
)

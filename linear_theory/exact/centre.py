"""The centre of unit embeddings and what is around it: values in closed form, and what an optimal predictor does to it.

Z = z/‖z‖ = o + r with o = E[Z], m_o = ‖o‖ and ‖o‖² + E‖r‖² = 1 (Zhang et al. 2022, §3). The cross-view correlation
ρ = E[r_a·r_b]/E‖r‖² of two views' residuals says how much of r is the image's: 1 without augmentation.

Numbers, NumPy arrays and torch tensors alike; arguments are of shapes that broadcast.
"""

import math

import numpy as np

from stopgrad.linear_theory.tools.arrays import as_array, beside, namespace

# ---------------------------------------------------------------- an optimal predictor


def optimal_bias(rho):
    """The factor c of the best single bias, b* = c o: 1/ρ − 1, a positive multiple of the centre.

    The best linear prediction of the other view's Z_b = o + r_b from Z_a = o + r_a is o + ρ r_a, and this points where
    Z_a + (1/ρ − 1) o does. For residuals with one correlation in all directions, and of one length. ρ: (…), in (0, 1].

    >>> optimal_bias(0.5)  # half of the residual is the augmentation's: the centre is doubled
    1.0
    """
    return 1 / rho - 1


def decentring(m_o, rho):
    """η of o_e = −η o_p, the share of the centre that an optimal predictor's extra gradient removes, in [0, 1].

    P is the direction of o + ρ r, so that o_p = o/√(m_o² + ρ²(1 − m_o²)), and o_e = o − o_p. It is
    1 − √(m_o² + ρ²(1 − m_o²)), for the best bias and the best isotropic linear predictor alike, and 0 where nothing is
    augmented (ρ = 1) or all are one (m_o = 1). Zhang et al. 2022, Fig. 5a, measure it. m_o, rho: (…), in [0, 1].

    >>> decentring(0.0, 0.25), decentring(0.6, 1.0)
    (0.75, 0.0)
    """
    square = m_o * m_o
    return 1 - (square + rho * rho * (1 - square)) ** 0.5


# ---------------------------------------------------------------- what m_o is where nothing has been learned


def chance_m_o_squared(samples):
    """E m_o² of N independent uniform directions, in any dimension: 1/N, exactly. samples: N, (…).

    >>> chance_m_o_squared(256) ** 0.5
    0.0625
    """
    return 1 / samples


def unbiased_m_o_squared(m_o_squared, images, alike=1.0):
    """‖E Z‖² from m_o² of a batch, free of what chance adds: the mean cosine of two different images, below 0 too.

    (N m_o² − 1)/(N − 1) of N independent vectors. Several views of an image are not independent: of V views each, N
    counts images, and the 1, a vector's cosine with itself, becomes the mean over all V² pairs of views of an image,
    `alike`; for two views (1 + c)/2, c being their mean cosine. m_o_squared, images, alike: (…), images ≥ 2.

    >>> unbiased_m_o_squared(0.5, 3)  # Z₁ = Z₂ ⊥ Z₃ would be 5/9: one pair in three has cosine 1
    0.25
    >>> unbiased_m_o_squared(0.25, 2, alike=0.5)  # two images, four views, all at right angles
    0.0
    """
    return (images * m_o_squared - alike) / (images - 1)


def initial_m_o(cosine=0.0):
    """m_o of a wide network that ends Linear–BatchNorm–ReLU–Linear, before training: 1/√π for unrelated inputs.

    After ReLU two vectors of independent Gaussians with correlation c have the cosine (√(1 − c²) + c(π − arccos c))/π
    (Cho & Saul 2009, the arc-cosine kernel of order 1), a random last layer keeps it, and m_o² is its mean over pairs.
    It is convex: c of mean 0 only add to 1/π. Behind an output BatchNorm m_o starts near 0 instead. cosine: c of all
    pairs, (…), in [−1, 1].

    >>> float(round(initial_m_o(), 4)), float(initial_m_o(1.0))
    (0.5642, 1.0)
    """
    c = as_array(cosine, "cosine")
    xp = namespace(c)
    return xp.sqrt((xp.sqrt(1 - c * c) + c * (math.pi - xp.arccos(c))) / math.pi)


def largest_m_o(samples):
    """The largest m_o that N vectors can have whose channels are centred over the batch: 1 − 2/N.

    So behind an output BatchNorm without affine parameters no collapse is complete. Reached by one vector opposite to
    all others. samples: N, (…), ≥ 2.

    >>> largest_m_o(4)
    0.5
    """
    return 1 - 2 / samples


# ---------------------------------------------------------------- spread


def subspace_std(k, d=np.inf):
    """Channel std × √d of directions uniform in a random k-dimensional subspace of d dimensions.

    E χ_k/√k as d → ∞ (0.80, 0.89, … 1): Chen & He's collapse metric hardly sees that d − k dimensions are gone. For a
    finite d, where ‖Ue_j‖² of the projector U is Beta(k/2, (d − k)/2): √(d/k) Γ((k+1)/2)Γ(d/2)/(Γ(k/2)Γ((d+1)/2)).
    k, d: (…), 1 ≤ k ≤ d.

    >>> float(subspace_std(1).round(4)), float(subspace_std(64).round(4)), float(subspace_std(64, 64))
    (0.7979, 0.9961, 1.0)
    """
    k = as_array(k, "k")
    return _chi(k) / _chi(beside(k, d))


def _chi(k):
    """E χ_k/√k, 1 at infinity; of a number a number."""
    if isinstance(k, (int, float)):
        return float(_chi(np.array(float(k))))
    xp = namespace(k)
    if xp is np:
        from scipy.special import gammaln as lgamma
    else:
        lgamma = xp.lgamma
    endless = xp.isinf(k)
    k = xp.where(endless, xp.ones_like(k), k)
    return xp.where(endless, xp.ones_like(k), xp.exp(lgamma((k + 1) / 2) - lgamma(k / 2)) * xp.sqrt(2 / k))


def infonce_residual(Z, C, tau):
    """r_e of InfoNCE's extra gradient to first order in 1/τ: −C Z/τ, a force that takes correlations apart.

    The negative gradient on Z_a is (Z_b − Σ_i λ_i Z_i)/τ, λ = softmax(Z_a·Z_i/τ). Of the extra −Σ λ_i Z_i the centre
    is −o whatever τ, and the rest −Σ λ_i r_i = −C Z_a/τ + O(1/τ²), which Zhang et al. 2022, Fig. 5c, hold against
    the gradient of a de-correlation loss. Z: (…, d), anchors; C: (d, d) or (…, d, d), the covariance of all Z_i, the
    positive among them; tau: τ, a number or (…, 1).

    >>> import numpy as np
    >>> infonce_residual(np.array([1.0, 0.0]), np.array([[0.2, 0.1], [0.1, 0.2]]), tau=2.0).tolist()
    [-0.1, -0.05]
    """
    return -(C @ Z[..., None])[..., 0] / tau

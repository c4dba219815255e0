"""Statistics of Zhang et al. 2022 on clouds of embeddings: their centre, its bounds, and what a predictor does to it.

Optima are found numerically on sampled or constructed clouds, and the closed forms are held against them. All draws
have seeds of their own.
"""

import functools
import itertools

import numpy as np

from stopgrad.experiments.claims.theory_claims import digits
from stopgrad.linear_theory.exact import centre
from stopgrad.linear_theory.tools.lengths import directions

CENTRES = tuple(itertools.product((0.2, 0.5, 0.8), (0.35, 0.6, 0.8)))
"""(m_o, ρ) of the clouds that predictors are held against."""
FIGURE5A = (-0.44, 0.18)
"""Zeros η_p and η_z of the cosines in the paper's Figure 5a, read to ±0.01."""


def m_o(z) -> float:
    """‖mean of directions‖."""
    return float(np.linalg.norm(directions(z).mean(0)))


# ---------------------------------------------------------------- centre and residual


@functools.cache
def split() -> tuple[float, float]:
    """(digits to which ‖o‖² + mean ‖r‖² = 1, largest shortfall of ‖o‖² + (mean ‖r‖)²) over 30 clouds."""
    errors, short = [], []
    for seed in range(30):
        Z = directions(np.random.default_rng(seed).standard_normal((25, 4)) + 0.05 * seed)
        o = Z.mean(0)
        lengths = np.linalg.norm(Z - o, axis=-1)
        errors.append(abs(o @ o + np.mean(lengths**2) - 1))
        short.append(1 - o @ o - np.mean(lengths) ** 2)
    return digits(errors), float(max(short))


@functools.cache
def chance_digits() -> float:
    """Digits to which m_o², averaged over all 2^N choices of the signs of N unit vectors, is 1/N: N = 3, 6, 10.

    A distribution on the sphere that does not change with the sign, as the uniform one, has this average for its mean.
    """
    errors = []
    for n in (3, 6, 10):
        Z = directions(np.random.default_rng(n).standard_normal((n, 5)))
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=n)))
        mean = np.mean(np.sum((signs @ Z / n) ** 2, -1))
        errors.append(abs(mean / centre.chance_m_o_squared(n) - 1))
    return digits(errors)


@functools.cache
def initial_m_o(output_bn: bool, images: int = 600, width: int = 1000, d: int = 300) -> float:
    """Root mean square of m_o, free of chance, of 4 wide Linear–BatchNorm–ReLU–Linear networks, unrelated inputs.

    Behind an output BatchNorm it is m_o itself: what is left there is not chance's 1/N.
    """
    random, squares = np.random.default_rng(9), []
    for _ in range(4):
        hidden = random.standard_normal((images, d)) @ random.standard_normal((d, width))
        z = np.maximum(_standardised(hidden), 0) @ random.standard_normal((width, width))
        square = m_o(_standardised(z) if output_bn else z) ** 2
        squares.append(square if output_bn else centre.unbiased_m_o_squared(square, images))
    return float(np.sqrt(np.mean(squares)))


def _standardised(z):
    """BatchNorm without affine parameters."""
    r = z - z.mean(0)
    return r / r.std(0)


# ---------------------------------------------------------------- the bound behind a BatchNorm


def outlier(n: int) -> np.ndarray:
    """n embeddings (n, 1) whose channel is centred: n − 1 alike, and one opposite to all of them."""
    return np.append(np.ones(n - 1), 1.0 - n)[:, None]


@functools.cache
def outlier_digits() -> float:
    """Digits to which one outlier reaches the bound 1 − 2/N."""
    return digits([abs(m_o(_standardised(outlier(n))) / centre.largest_m_o(n) - 1) for n in (4, 16, 256)])


@functools.cache
def adversary() -> float:
    """Least (1 − m_o) over 1 − the bound that ascent on m_o finds from random starts: 1 where the bound is met.

    m_o of N embeddings (N, d) behind a BatchNorm without affine parameters; L-BFGS, 3 starts each.
    """
    from scipy.optimize import minimize

    found = []
    for n, d in ((4, 2), (8, 3), (12, 1)):
        for seed in range(3):
            z = np.random.default_rng(seed).standard_normal((n, d)) ** 3
            best = minimize(_minus_m_o, z.ravel(), (z.shape,), "L-BFGS-B", jac=True, options={"maxiter": 40}).fun
            found.append((1 + best) / (1 - centre.largest_m_o(n)))
    return float(min(found))


def _minus_m_o(flat, shape):
    """−m_o behind the BatchNorm, and its gradient by autograd."""
    import torch

    z = torch.tensor(flat.reshape(shape), requires_grad=True)
    r = z - z.mean(dim=0)
    loss = -directions(r / r.std(dim=0, correction=0)).mean(dim=0).norm()
    loss.backward()
    return float(loss.detach()), z.grad.numpy().ravel()


# ---------------------------------------------------------------- channel std


@functools.cache
def sampled_std(k: int, d: int = 256, n: int = 2000) -> float:
    """√d × channel std of n directions uniform in a random k-dimensional subspace of d dimensions."""
    random = np.random.default_rng(k)
    basis = np.linalg.qr(random.standard_normal((d, k)))[0]
    return float(np.sqrt(d) * (directions(random.standard_normal((n, k))) @ basis.T).std(0).mean())


# ---------------------------------------------------------------- the predictor and the centre


@functools.cache
def views(m: float, rho: float, n: int = 4000, d: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two views' embeddings (n, d) of length 1 and their images' expectation over augmentation, not normalised.

    m_o = m along the first axis; residuals are isotropic beside it, of one length, and correlate with ρ across views.
    """
    random = np.random.default_rng(10)
    image, *noise = random.standard_normal((3, n, d - 1))
    image = directions(image - image.mean(0))
    across = (directions(v - np.sum(v * image, -1, keepdims=True) * image) for v in noise)
    size = np.sqrt(1 - m * m)
    residuals = [size * (np.sqrt(rho) * image + np.sqrt(1 - rho) * v) for v in across]
    return tuple(np.insert(r, 0, m, axis=1) for r in (*residuals, size * np.sqrt(rho) * image))


@functools.cache
def optimal_bias(m: float, rho: float) -> np.ndarray:
    """The bias (d,) that predicts one view's directions best from the other's, by L-BFGS over all directions."""
    from scipy.optimize import minimize

    one, other, _ = views(m, rho)

    def loss(b):
        p = one + b
        length = np.linalg.norm(p, axis=-1, keepdims=True)
        P = p / length
        cosine = np.sum(P * other, -1, keepdims=True)
        return -cosine.mean(), -((other - cosine * P) / length).mean(0)

    return minimize(loss, np.zeros(one.shape[1]), method="L-BFGS-B", jac=True).x


@functools.cache
def bias_deviation() -> tuple[float, float]:
    """(largest |b*/((1/ρ − 1) m_o) − 1|, least cos(b*, o_z)) over `CENTRES`."""
    found = [(optimal_bias(m, rho), centre.optimal_bias(rho) * m) for m, rho in CENTRES]
    return (
        max(abs(float(np.linalg.norm(b)) / expected - 1) for b, expected in found),
        min(float(b[0] / np.linalg.norm(b)) for b, _ in found),
    )


def extra_centre(prediction, embeddings, along) -> float:
    """(o_1 − o_2)·o/‖o‖² with the centres of directions: by how many `along` the first centre exceeds the second."""
    first, second, o = (directions(v).mean(0) for v in (prediction, embeddings, along))
    return float((first - second) @ o / (o @ o))


def predicted(m: float, rho: float, kind: str) -> np.ndarray:
    """One view's predictions (n, d): "bias", the best one; "linear", the least-squares fit of the other view."""
    one, other, _ = views(m, rho)
    if kind == "bias":
        return one + optimal_bias(m, rho)
    return one @ np.linalg.lstsq(one, other, rcond=None)[0]


@functools.cache
def decentring_deviation() -> float:
    """Largest |measured η − 1 + √(m_o² + ρ²(1 − m_o²))| over `CENTRES`, with the best bias and the best linear one."""
    return max(
        abs(-extra_centre(views(m, rho)[1], p := predicted(m, rho, kind), p) - centre.decentring(m, rho))
        for m, rho in CENTRES
        for kind in ("bias", "linear")
    )


def rho_of(eta: float, m: float = 0.0) -> float:
    """ρ at which an optimal predictor removes the share η of the centre."""
    return float(np.sqrt(((1 - eta) ** 2 - m * m) / (1 - m * m)))


@functools.cache
def range_of_eta() -> tuple[float, float]:
    """Least and largest η measured over `CENTRES`, with the best linear predictor."""
    measured = [-extra_centre(views(m, rho)[1], p := predicted(m, rho, "linear"), p) for m, rho in CENTRES]
    return min(measured), max(measured)


def turned(eta_p: float, eta_z: float) -> float:
    """The angle in degrees between o_p and o_z where the cosines of Figure 5a have these zeros.

    (o_e − η_p o_p)·o_p = 0 and (o_p − o_z − η_z o_z)·o_z = 0, so cos² = (1 + η_p)(1 + η_z).
    """
    return float(np.degrees(np.arccos(np.sqrt(min((1 + eta_p) * (1 + eta_z), 1)))))


def enlarged(eta_p: float, eta_z: float) -> float:
    """‖o_p‖/‖o_z‖ where the cosines have these zeros."""
    return float(np.sqrt((1 + eta_z) / (1 + eta_p)))


# ---------------------------------------------------------------- the expectation over augmentation as a target


@functools.cache
def target_centre(kind: str) -> tuple[float, float]:
    """Least and largest (o_target − o_z)·o_z/‖o_z‖² over `CENTRES`: what a target adds to the pull of Z_b's centre.

    "eoa": the images' expectation; "mirror": the best linear prediction of Z_a from Z_b. "simsiam": Z_b against the
    prediction P, whose extra gradient is Z_b − P.
    """
    found = []
    for m, rho in CENTRES:
        _, other, eoa = views(m, rho)
        P = predicted(m, rho, "linear")
        first, second = {"eoa": (eoa, other), "mirror": (P, other), "simsiam": (other, P)}[kind]
        found.append(extra_centre(first, second, other))
    return min(found), max(found)


def eoa_centre(m: float, rho: float) -> float:
    """1/√(m_o² + ρ(1 − m_o²)) − 1: the centre of the expectation's directions less o_z, over o_z.

    o + E_T r is √(m_o² + ρ(1 − m_o²)) long, so that its direction has the larger centre.
    """
    return float(1 / np.sqrt(m * m + rho * (1 - m * m)) - 1)


# ---------------------------------------------------------------- de-correlation

STRENGTHS, NOISE = np.geomspace(4.0, 0.1, 24), 0.5
"""s of the modes of images, and n of their augmentation."""


@functools.cache
def whitening() -> tuple[np.ndarray, np.ndarray]:
    """r_e's share along each mode, E[(Z_b − P_b)_j Z_bj]/E[Z_bj²], sampled and in closed form; (modes,) each.

    P is the direction of the least-squares prediction, which shrinks mode j by s/(s + n). Closed: 1 less the shrinkage
    over its root mean square.
    """
    random = np.random.default_rng(11)
    image, *noise = random.standard_normal((3, 4000, len(STRENGTHS)))
    one, other = (np.sqrt(STRENGTHS) * image + np.sqrt(NOISE) * v for v in noise)
    weights = np.linalg.lstsq(one, other, rcond=None)[0]
    Z, P = directions(other), directions(other @ weights)
    shrinkage, energy = STRENGTHS / (STRENGTHS + NOISE), STRENGTHS + NOISE
    size = np.sqrt(np.sum(shrinkage**2 * energy) / np.sum(energy))
    return np.mean((Z - P) * Z, 0) / np.mean(Z * Z, 0), 1 - shrinkage / size


@functools.cache
def whitening_agreement() -> tuple[float, float]:
    """(largest deviation of `whitening`'s two, least pull the right way on the three strongest and three weakest)."""
    sampled, closed = whitening()
    return float(np.max(np.abs(sampled - closed))), float(min((-sampled[:3]).min(), sampled[-3:].min()))

"""Statistics of Zhang et al. 2022 on gradients: of small random networks and of free embeddings, by autograd.

They are the gradients of the parts that train (`deep.method.objectives`), in float64, and each function makes one
number of them; the closed forms are what it is held against. A moment each.
"""

import functools
from collections.abc import Callable

import numpy as np

from stopgrad.deep.method.objectives.decorrelation import Decorrelation
from stopgrad.deep.method.objectives.direction import Direction
from stopgrad.deep.method.objectives.infonce import infonce_loss
from stopgrad.deep.method.objectives.predictive import cosine_loss
from stopgrad.experiments.claims.theory_claims import digits
from stopgrad.linear_theory.exact import centre, contrast
from stopgrad.linear_theory.tools.lengths import directions

SPREADS = (0.1, 0.03, 0.01)
"""Lengths of residuals beside a centre of length 1: collapsed clouds."""
SMALL = (20.0, 200.0)
"""Temperatures between which orders in 1/τ are told apart."""
TAUS = (0.03, 0.1, 0.5, 2.0, 30.0)


def gradients(loss: Callable, *arrays: np.ndarray) -> list[np.ndarray]:
    """The gradient of loss(*tensors) by each of them, 0 where it does not reach."""
    import torch

    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    found = torch.autograd.grad(loss(*tensors), tensors, materialize_grads=True)
    return [gradient.numpy() for gradient in found]


def objective(part, z):
    """The loss of a part that acts on embeddings alone, of both views (2, B, d) or of one for both (B, d)."""
    from stopgrad.deep.method.outputs import Outputs

    z = z.expand(2, *z.shape[-2:])
    return part(Outputs(z=z, p=z))


def cloud(spread: float, n: int = 64, d: int = 16, seed: int = 1) -> np.ndarray:
    """n embeddings (n, d): a centre of length 1 and correlated residuals of this length, from a normal distribution."""
    random = np.random.default_rng(seed)
    mixed = random.standard_normal((n, d)) @ random.standard_normal((d, d)) / d
    return np.eye(d)[0] + spread * mixed


def m_r(z) -> float:
    """Root mean square length of the residuals of directions, √(1 − m_o²); exact where they are short."""
    Z = directions(z)
    return float(np.sqrt(np.mean(np.sum((Z - Z.mean(0)) ** 2, -1))))


# ---------------------------------------------------------------- Conjecture 1


def _network(seed: int) -> tuple[np.ndarray, list[np.ndarray]]:
    random = np.random.default_rng(seed)
    shapes = ((8, 20), (20,), (20, 6), (6,))
    return random.standard_normal((2, 30, 8)), [random.standard_normal(shape) for shape in shapes]


def _embed(x, W1, b1, W2, b2):
    return (x @ W1 + b1).tanh() @ W2 + b2


@functools.cache
def opposite_digits() -> float:
    """Digits to which the gradients of L_o and L_r by a network's weights are opposite: the worst of 5 networks."""
    import torch

    errors = []
    for seed in range(5):
        x, weights = _network(seed)
        pulls = [
            gradients(lambda *w, part=Direction(toward): objective(part, _embed(torch.tensor(x), *w)), *weights)  # noqa: B023
            for toward in ("centre", "residual")
        ]
        errors += [np.linalg.norm(a + b) / np.linalg.norm(a) for a, b in zip(*pulls, strict=True)]
    return digits(errors)


@functools.cache
def drawn_to_centre() -> tuple[float, float]:
    """Of free embeddings that are drawn to their centre: (least rate at which ‖o‖² rises, digits to its formula).

    The formula is 2(‖o‖² − mean (Z·o)²)/N, by time of the loss's gradient on unit vectors; rates are over 2‖o‖²/N.
    """
    rates, errors = [], []
    for seed in range(20):
        Z = directions(np.random.default_rng(seed).standard_normal((12, 3)) + 0.1 * seed)
        [slope] = gradients(lambda z: objective(Direction("centre"), z), Z)
        o, n = Z.mean(0), len(Z)
        rate = -2 * o @ slope.mean(0) * n / (2 * o @ o)
        formula = 1 - np.mean((Z @ o) ** 2) / (o @ o)
        rates.append(rate)
        errors.append(abs(rate - formula) / formula)
    return float(min(rates)), digits(errors)


# ---------------------------------------------------------------- the gradient at a prediction


def _cosine(target) -> Callable:
    import torch

    return lambda p: cosine_loss(p, torch.tensor(target))


@functools.cache
def radial_digits() -> float:
    """Digits to which p·∂L/∂p is 0 beside ‖p‖‖∂L/∂p‖: the worst of 40 predictions of lengths from 1/100 to 100."""
    random = np.random.default_rng(2)
    p = random.standard_normal((40, 7)) * np.geomspace(0.01, 100, 40)[:, None]
    [slope] = gradients(_cosine(random.standard_normal((40, 7))), p)
    return digits(np.abs(np.sum(p * slope, -1)) / np.linalg.norm(p, axis=-1) / np.linalg.norm(slope, axis=-1))


@functools.cache
def free_prediction(lr: float = 0.3, steps: int = 60) -> tuple[float, float]:
    """Of a free prediction under SGD: (digits to which ‖p′‖² = ‖p‖² + lr² sin²/‖p‖² at each step, growth of ‖p‖).

    The target is drawn anew at each step; the growth is over all of them.
    """
    random = np.random.default_rng(3)
    p = start = random.standard_normal((1, 5))
    errors = []
    for _ in range(steps):
        target = random.standard_normal((1, 5))
        [slope] = gradients(_cosine(target), p)
        square, sine = np.sum(p * p), 1 - np.sum(directions(p) * directions(target)) ** 2
        p = p - lr * slope
        expected = square + lr**2 * sine / square
        errors.append(abs(np.sum(p * p) - expected) / expected)
    return digits(errors), float(np.linalg.norm(p) / np.linalg.norm(start))


# ---------------------------------------------------------------- InfoNCE


def _keys() -> np.ndarray:
    """30 unit vectors (30, 6) with a centre, each the positive of one anchor."""
    return directions(np.random.default_rng(4).standard_normal((30, 6)) + 0.4)


def _anchors() -> np.ndarray:
    """The other views of these."""
    Z_b = _keys()
    return directions(Z_b + 0.3 * np.random.default_rng(5).standard_normal(Z_b.shape))


def extra_gradients(tau: float) -> np.ndarray:
    """G_e = −τ ∂L/∂Z_a − Z_b of InfoNCE at each anchor, (N, d), by autograd of the loss that trains."""
    import torch

    Z_b = _keys()
    keys = torch.tensor(Z_b)
    [slope] = gradients(lambda z: infonce_loss(z, keys, keys, tau), _anchors())
    return -tau * len(Z_b) * slope - Z_b


@functools.cache
def infonce_centre_digits() -> float:
    """Digits to which G_e less −Σ λ_i r_i is −o_z, at temperatures from 0.03 to 30."""
    Z_a, Z_b, errors = _anchors(), _keys(), []
    o = Z_b.mean(0)
    for tau in TAUS:
        left = extra_gradients(tau) - contrast.infonce_residuals(Z_a, Z_b, tau, centre="keys")
        errors.append(np.linalg.norm(left + o, axis=-1) / np.linalg.norm(o))
    return digits(errors)


def _first_order(tau: float) -> tuple[np.ndarray, np.ndarray]:
    """r_e at every anchor, exact and to first order in 1/τ."""
    Z_b = _keys()
    r = Z_b - Z_b.mean(0)
    return extra_gradients(tau) + Z_b.mean(0), centre.infonce_residual(_anchors(), r.T @ r / len(r), tau)


@functools.cache
def infonce_order() -> tuple[float, float]:
    """(the power of 1/τ with which −C Z_a/τ misses r_e, the cosine of the two at the highest τ)."""
    errors = [np.linalg.norm(np.subtract(*_first_order(tau))) for tau in SMALL]
    exact, first = (v.ravel() for v in _first_order(SMALL[-1]))
    return _power(1 / np.array(SMALL), errors), float(directions(exact) @ directions(first))


def infonce_mean(tau: float) -> float:
    """cos of G_e's mean over anchors and −o_z: the o_e of a batch, the anchors being averaged too."""
    return float(directions(extra_gradients(tau).mean(0)) @ directions(-_keys().mean(0)))


def _power(x, y) -> float:
    """The slope of ln y over ln x from the first to the last."""
    return float(np.log(y[-1] / y[0]) / np.log(x[-1] / x[0]))


def figure5c(tau, centred: contrast.Centre, modes: int = 512, batch: int = 256) -> np.ndarray:
    """cos(r_e, the de-correlation gradient) of Gaussian embeddings with a flat spectrum, two views, at each τ."""
    return _figure5c(tuple(np.ravel(tau).tolist()), centred, modes, batch)


@functools.cache
def _figure5c(tau, centred, modes, batch) -> np.ndarray:
    random = np.random.default_rng(6)
    image = random.standard_normal((batch, modes))
    views = (np.sqrt(0.6) * image + np.sqrt(0.4) * random.standard_normal((batch, modes)) for _ in range(2))
    return contrast.measured_alignment(*views, np.array(tau), centre=centred)


# ---------------------------------------------------------------- the de-correlation loss (Fig. 5b, Alg. 6)

FORMS = ("covariance", "correlation")


def _penalty(form: str, embeddings: str = "normalised") -> Callable:
    return lambda z: objective(Decorrelation(form, embeddings), z)


@functools.cache
def scale_power(form: str) -> float:
    """The power of the deviations with which the loss on raw embeddings goes: 0 is what a correlation has."""
    import torch

    clouds = (torch.tensor(cloud(spread)) for spread in SPREADS)
    return _power(SPREADS, [float(_penalty(form, "raw")(z)) for z in clouds])


@functools.cache
def gradient_power(form: str) -> float:
    """The power of m_r with which the gradient on normalised embeddings goes as they collapse."""
    clouds = [cloud(spread) for spread in SPREADS]
    sizes = [np.linalg.norm(gradients(_penalty(form), z)[0]) for z in clouds]
    return _power([m_r(z) for z in clouds], sizes)


@functools.cache
def spreading() -> tuple[float, float]:
    """What the gradient on raw free embeddings does to them: (covariance, correlation).

    Covariance: digits to which d‖r‖²/dt is −8 L, whatever the cloud. Correlation: digits to which each channel's
    variance stays as it is.
    """
    shrinks, stays = [], []
    for seed in range(10):
        z = cloud(0.3, seed=seed)
        r = z - z.mean(0)
        loss, slope = _value(_penalty("covariance", "raw"), z), gradients(_penalty("covariance", "raw"), z)[0]
        shrinks.append(abs(-2 * np.sum(r * slope) + 8 * loss) / (8 * loss))
        slope = gradients(_penalty("correlation", "raw"), z)[0]
        stays += list(np.abs(np.sum(r * slope, 0)) / np.linalg.norm(r, axis=0) / np.linalg.norm(slope, axis=0))
    return digits(shrinks), digits(stays)


def _value(loss: Callable, z: np.ndarray) -> float:
    import torch

    return float(loss(torch.tensor(z)))


@functools.cache
def undoing(form: str, lr: float = 0.05, momentum: float = 0.9, steps: int = 40) -> float:
    """ln of m_r after over before: SGD on collapsed free embeddings, with the regulariser alone.

    `lr` is for each embedding, so that it is multiplied by their number.
    """
    z, velocity = cloud(SPREADS[0]), 0.0
    before = m_r(z)
    for _ in range(steps):
        velocity = momentum * velocity + gradients(_penalty(form), z)[0]
        z = z - lr * len(z) * velocity
    return float(np.log(m_r(z) / before))


# ---------------------------------------------------------------- Algorithm 5

WEIGHTS = {"corrected": (0.5, 0.5), "printed": (0.5, 1.0)}
"""Of the two terms of the encoder's loss: as printed the second lacks its ½."""


@functools.cache
def swapping_digits(form: str) -> float:
    """Digits to which the encoder's gradient in Algorithm 5 stays as it is if the two views are swapped.

    form: one of `WEIGHTS`. Predictor and inverse are random matrices.
    """
    import torch

    first, second = WEIGHTS[form]
    x, weights = _network(7)
    h, inverse = (torch.tensor(m) for m in np.random.default_rng(8).standard_normal((2, 6, 6)))

    def loss(views, *w):
        p_a, p_b = (_embed(torch.tensor(view), *w) @ h for view in views)
        one, other = cosine_loss(p_a, (p_b @ inverse).detach()), cosine_loss(p_b, (p_a @ inverse).detach())
        return first * one + second * other

    one, other = (gradients(functools.partial(loss, views), *weights) for views in (x, x[::-1].copy()))
    return digits([np.linalg.norm(a - b) / np.linalg.norm(a) for a, b in zip(one, other, strict=True)])

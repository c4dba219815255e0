"""The centre's closed forms against brute force: optima found numerically, and averages over random embeddings."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar
from scipy.stats import chi

from stopgrad.linear_theory.exact.centre import (
    chance_m_o_squared,
    decentring,
    infonce_residual,
    initial_m_o,
    largest_m_o,
    optimal_bias,
    subspace_std,
    unbiased_m_o_squared,
)

SHARES = st.floats(0.05, 1)


def unit(v):
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def uniform(random, n, d):
    return unit(random.standard_normal((n, d)))


def views(m_o, rho, n=4000, d=400, seed=1000):
    """Two views (n, d) of length about 1, with centre m_o e₁ and isotropic residuals of correlation ρ."""
    random = np.random.default_rng(seed)
    common, *own = random.standard_normal((3, n, d)) * np.sqrt((1 - m_o**2) / d)
    centre = m_o * np.eye(d)[0]
    return [centre + np.sqrt(rho) * common + np.sqrt(1 - rho) * noise for noise in own]


# ---------------------------------------------------------------- G13


@pytest.mark.parametrize(("m_o", "rho"), [(0.25, 0.4), (0.5, 0.7), (0.8, 0.3), (0.7, 0.9)])
def test_the_best_bias_and_the_best_linear_predictor(m_o, rho):
    """Found by a search over biases along o, and over a o + b r: both make P that of o + ρ r, and o_e = −η o_p."""
    one, other = views(m_o, rho)
    other, o = unit(other), m_o * np.eye(one.shape[1])[0]
    loss = lambda p: -(unit(p) * other).sum(-1).mean()  # noqa: E731
    bias = minimize_scalar(lambda c: loss(one + c * o), (0, 1)).x
    slope = minimize_scalar(lambda b: loss(o + b * (one - o)), (0.1, 1)).x
    assert bias == pytest.approx(optimal_bias(rho), abs=0.05 * (1 + bias))
    assert slope == pytest.approx(rho, rel=0.03)
    for p in (one + bias * o, o + slope * (one - o)):
        o_z, o_p = other.mean(0), unit(p).mean(0)
        assert (o_p - o_z) @ o_p / (o_p @ o_p) == pytest.approx(decentring(m_o, rho), abs=0.01)


def test_the_best_bias_is_along_the_centre():
    """A search over all directions finds nothing better."""
    one, other = views(0.5, 0.5, n=20_000, d=6)
    found = minimize(lambda b: -(unit(one + b) * unit(other)).sum(-1).mean(), np.zeros(6), method="BFGS").x
    assert unit(found)[0] > 0.999 and found[0] > 0


@given(SHARES, SHARES)
def test_what_a_predictor_removes(m_o, rho):
    eta = decentring(m_o, rho)
    assert 0 <= eta <= 1 - rho + 1e-12
    assert eta == pytest.approx(1 - np.hypot(m_o, rho * np.sqrt(max(0, 1 - m_o**2))), abs=1e-12)
    assert decentring(m_o, 1.0) == pytest.approx(0, abs=1e-15) and decentring(1.0, rho) == 0
    assert optimal_bias(rho) >= 0 and optimal_bias(1.0) == 0
    assert 1 / (1 + optimal_bias(rho)) == pytest.approx(rho)  # the residual's share of Z + b, by the centre's


# ---------------------------------------------------------------- G4, G6, G8, G9


@pytest.mark.parametrize(("n", "d"), [(4, 2), (50, 7), (20, 300)])
def test_chance(n, d):
    """E m_o² = 1/N in any dimension, and nothing is left when it is taken off."""
    random = np.random.default_rng(1001)
    squares = np.array([(uniform(random, n, d).mean(0) ** 2).sum() for _ in range(4000)])
    error = 4 * squares.std() / np.sqrt(len(squares))
    assert squares.mean() == pytest.approx(chance_m_o_squared(n), abs=error)
    assert unbiased_m_o_squared(squares, n).mean() == pytest.approx(0, abs=2 * error)


@given(st.integers(0, 10_000), st.integers(2, 8), st.integers(1, 4), st.integers(2, 6))
def test_the_mean_cosine_of_two_different_images(seed, images, each, d):
    """One pair after the other, for any number of views."""
    Z = uniform(np.random.default_rng(seed), images * each, d).reshape(each, images, d) + 0.0
    apart = [
        Z[v, i] @ Z[w, j] for v in range(each) for w in range(each) for i in range(images) for j in range(images)
        if i != j
    ]  # fmt: skip
    alike = np.mean([(Z[:, i] @ Z[:, i].T).mean() for i in range(images)])
    m_o_squared = (Z.mean((0, 1)) ** 2).sum()
    assert unbiased_m_o_squared(m_o_squared, images, alike) == pytest.approx(np.mean(apart), abs=1e-12)


def test_counting_views_as_images_is_biased():
    """Of images without a centre, two views that agree to c: (2B m_o² − 1)/(2B − 1) finds c/(2B − 1) of one."""
    random = np.random.default_rng(1002)
    naive, right = [], []
    for _ in range(2000):
        one = uniform(random, 10, 30)
        other = unit(one + 0.05 * random.standard_normal((10, 30)))
        m_o_squared, alike = (((one + other).mean(0) / 2) ** 2).sum(), (1 + (one * other).sum(-1).mean()) / 2
        naive.append(unbiased_m_o_squared(m_o_squared, 20))
        right.append(unbiased_m_o_squared(m_o_squared, 10, alike))
    assert np.mean(right) == pytest.approx(0, abs=0.003) and np.mean(naive) > 0.04


@pytest.mark.parametrize("c", [-0.5, 0.0, 0.3, 0.95])
def test_the_start_behind_a_relu(c):
    random = np.random.default_rng(1003)
    u, v = random.standard_normal((2, 400_000))
    a, b = np.maximum(u, 0), np.maximum(c * u + np.sqrt(1 - c * c) * v, 0)
    assert initial_m_o(c) ** 2 == pytest.approx((a * b).mean() / (a * a).mean(), abs=0.005)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=20))
def test_related_inputs_start_closer(cosines):
    """Convexity: with cosines of mean c, m_o² is at least that of all alike."""
    assert np.mean(initial_m_o(cosines) ** 2) >= initial_m_o(np.mean(cosines)) ** 2 - 1e-12
    assert initial_m_o(0.0) == pytest.approx(np.pi**-0.5, abs=1e-15) and initial_m_o(-1.0) == 0


@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(1, 6))
def test_centred_channels_keep_the_centre_below_one(seed, n, d):
    z = np.random.default_rng(seed).standard_normal((n, d)) ** 3
    assert np.linalg.norm(unit(z - z.mean(0)).mean(0)) <= largest_m_o(n) + 1e-12
    outlier = np.append(np.ones(n - 1), 1 - n)[:, None]
    assert abs(unit(outlier).mean()) == pytest.approx(largest_m_o(n), abs=1e-12)


# ---------------------------------------------------------------- G7


@pytest.mark.parametrize(("k", "d"), [(1, 3), (3, 8), (5, 40), (8, 8)])
def test_channel_std_in_a_random_subspace(k, d):
    """Exact at any d: the channels' stds are the lengths of the subspace's rows, over √k."""
    random = np.random.default_rng(1004)
    bases = np.linalg.qr(random.standard_normal((20_000, d, k)))[0]
    stds = np.linalg.norm(bases, axis=-1).mean(-1) * np.sqrt(d / k)
    assert subspace_std(k, d) == pytest.approx(stds.mean(), abs=4 * stds.std() / np.sqrt(len(stds)) + 1e-9)


def test_channel_std_in_many_dimensions():
    k = np.array([1, 2, 8, 64, 10_000])
    np.testing.assert_allclose(subspace_std(k), chi.mean(k) / np.sqrt(k), rtol=1e-9)
    np.testing.assert_allclose(subspace_std(k, 1e8), subspace_std(k), rtol=1e-4)
    assert subspace_std(k, k).tolist() == [1.0] * 5
    np.testing.assert_allclose(subspace_std(1, [1, 2, 3]), [1, np.sqrt(8) / np.pi, np.sqrt(3) / 2], rtol=1e-12)


# ---------------------------------------------------------------- InfoNCE


def residual(Z, anchor, tau):
    """r_e = −Σ λ_i r_i, one vector after the other."""
    weights = [np.exp(anchor @ one / tau) for one in Z]
    found = sum(-w / sum(weights) * (one - Z.mean(0)) for w, one in zip(weights, Z))
    extra = sum(-w / sum(weights) * one for w, one in zip(weights, Z))
    np.testing.assert_allclose(extra - found, -Z.mean(0), atol=1e-12)  # o_e = −o whatever τ
    return found


def test_infonce_to_first_order():
    """The relative error falls as 1/τ; the size as 1/τ."""
    random = np.random.default_rng(1005)
    Z = unit(random.standard_normal((40, 5)) + 0.7)
    r, errors = Z - Z.mean(0), []
    for tau in (5.0, 50.0):
        exact = np.array([residual(Z, one, tau) for one in Z])
        found = infonce_residual(Z, r.T @ r / len(Z), tau)
        errors.append(np.linalg.norm(found - exact) / np.linalg.norm(exact))
    assert errors[0] < 0.05 and errors[0] / errors[1] == pytest.approx(10, rel=0.1)


# ---------------------------------------------------------------- arrays


def test_tensors_and_arrays_alike():
    m_o, rho = np.array([[0.2], [0.7]]), np.array([0.3, 0.6, 0.9])
    C, Z = np.diag([0.3, 0.1, 0.2]), np.eye(3)[:2]
    cases = [
        (optimal_bias, rho), (decentring, m_o, rho), (chance_m_o_squared, 10 * rho), (largest_m_o, 10 * rho),
        (unbiased_m_o_squared, m_o, 10 * rho, rho), (initial_m_o, rho), (subspace_std, 10 * m_o, 20 + rho),
        (infonce_residual, Z, C, m_o),
    ]  # fmt: skip
    for function, *arrays in cases:
        found = function(*map(torch.from_numpy, arrays))
        expected = function(*arrays)
        assert found.dtype == torch.float64 and found.shape == expected.shape, function
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert decentring(torch.tensor(0.2), 0.5).dtype == torch.float32
    assert subspace_std(torch.tensor([2.0])).dtype == torch.float32

"""InfoNCE's residual against de-correlation: closed form against sampled batches, and these against plain loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stopgrad.linear_theory.exact.contrast import (
    contrast_alignment,
    decorrelation_gradient,
    grip,
    infonce_residuals,
    measured_alignment,
    positive_weight,
)

TAU = np.array([0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0])
WAYS = [("other", "keys"), ("other", "both"), ("both", "both")]


def unit(Z):
    return Z / np.linalg.norm(Z, axis=1, keepdims=True)


def power_law(modes, exponent, m_o=0.1):
    spectrum = np.arange(1, modes + 1.0) ** -exponent
    return spectrum / spectrum.sum() * (1 - m_o**2)


def batch_of(spectrum, batch, rho, seed, m_o=0.1):
    """Two views of Gaussian embeddings whose eigenvectors lie askew to the channels."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(spectrum.size, spectrum.size)))[0] * np.sqrt(spectrum)
    one, other = rng.normal(size=(2, batch, spectrum.size))
    o = m_o * unit(rng.normal(size=(1, spectrum.size)))
    return unit(o + one @ axes.T), unit(o + (rho * one + math.sqrt(1 - rho**2) * other) @ axes.T)


@pytest.mark.parametrize(("keys", "centre"), WAYS)
@pytest.mark.parametrize(
    ("modes", "exponent", "rho", "batch"), [(192, 0.3, 0.75, 192), (96, 0.4, 0.5, 384), (320, 0.4, 0.6, 128)]
)
def test_the_closed_form_is_what_batches_give(modes, exponent, rho, batch, keys, centre):
    """To 0.05, of cosines that go from −0.4 to 0.95: effective ranks of 60 to 240, above and below a batch."""
    spectrum = power_law(modes, exponent)
    measured = np.mean(
        [measured_alignment(*batch_of(spectrum, batch, rho, seed), TAU, keys, centre) for seed in range(2)], axis=0
    )
    np.testing.assert_allclose(contrast_alignment(spectrum, TAU, batch, rho, keys, centre), measured, atol=0.05)
    assert np.ptp(measured) > 0.15


def plain(Z_a, Z_b, tau, keys, centre):
    """One image after the other."""
    N = len(Z_a)
    o_keys, o_both = sum(Z_b) / N, (sum(Z_a) + sum(Z_b)) / (2 * N)
    rows = []
    for i in range(N):
        among = [*Z_b, *(Z_a[j] for j in range(N) if j != i)] if keys == "both" else list(Z_b)
        weights = [math.exp(float(Z_a[i] @ z) / tau) for z in among]
        drawn = sum(w * z for w, z in zip(weights, among)) / sum(weights)
        rows.append((o_keys if (keys, centre) == ("other", "keys") else o_both) - drawn)
    return np.array(rows)


@given(st.integers(0, 10**6), st.floats(0.1, 5), st.sampled_from(WAYS))
@settings(max_examples=30, deadline=None)
def test_residuals_and_gradient_equal_plain_readings(seed, tau, way):
    rng = np.random.default_rng(seed)
    Z_a, Z_b = unit(rng.normal(size=(6, 3))), unit(rng.normal(size=(6, 3)))
    np.testing.assert_allclose(infonce_residuals(5 * Z_a, Z_b, tau, *way), plain(Z_a, Z_b, tau, *way), atol=1e-12)
    Z = torch.tensor(Z_a, requires_grad=True)
    C = torch.cov(Z.T)
    loss = (C * C).sum() - (C.diagonal() ** 2).sum()
    (slope,) = torch.autograd.grad(loss, Z)
    np.testing.assert_allclose(4 / 5 * decorrelation_gradient(Z_a), -slope.numpy(), atol=1e-12)


def test_g12_to_first_order_the_residual_is_a_de_correlation_force():
    """G12: r_e = −(1/τ) C Z_a + O(1/τ²), C of the keys, where what is taken off is the keys' own centre."""
    Z_a, Z_b = batch_of(power_law(8, 0.5), 40, 0.7, 5)
    r = Z_b - Z_b.mean(axis=0)
    errors = [
        np.abs(infonce_residuals(Z_a, Z_b, tau, "other", "keys") + Z_a @ (r.T @ r) / len(r) / tau).max() * tau
        for tau in (10.0, 100.0)
    ]
    assert errors[1] < 0.11 * errors[0] < 1e-3


# ---------------------------------------------------------------- what the curve says


def test_the_positive_holds_the_softmax_below_its_grip_and_has_its_share_above():
    spectrum = power_law(400, 0.2)
    weights = positive_weight(spectrum, [0.3 * grip(0.7), 3 * grip(0.7), 1e4], 256, 0.7)
    assert weights[0] > 0.99 and 1 / 256 < weights[1] < 0.1
    assert weights[2] == pytest.approx(1 / 256, rel=1e-3)
    assert grip(0.7, 256, keys="both") < grip(0.7, 256) == pytest.approx(0.7 / math.log(255))


def test_where_the_positive_holds_it_the_cosine_is_that_of_the_other_view():
    """A plateau at small τ that grows with ρ: r_e = o − Z_b."""
    spectrum = power_law(256, 0.5)
    low = [contrast_alignment(spectrum, [0.02, 0.03], 256, rho) for rho in (0.3, 0.6, 0.9)]
    assert all(abs(a - b) < 0.03 for a, b in low) and low[0][0] < low[1][0] < low[2][0]
    Z_a, Z_b = batch_of(spectrum, 256, 0.6, 0)
    gradient, pull = decorrelation_gradient(Z_a), Z_b.mean(axis=0) - Z_b
    cosine = np.sum(gradient * pull) / np.linalg.norm(gradient) / np.linalg.norm(pull)
    assert low[1][0] == pytest.approx(cosine, abs=0.03)


def test_the_peak_lies_between_the_grip_and_the_mismatch_of_centres():
    """At N = 256 and ρ = 0.4 at 0.15 to 0.2, for effective ranks of a batch's order, as in the paper's Figure 5c."""
    fine = np.linspace(0.03, 1.5, 295)
    for modes, exponent in ((256, 0.5), (256, 0.2), (384, 0.5)):
        curve = contrast_alignment(power_law(modes, exponent), fine, 256, 0.4)
        peak = fine[curve.argmax()]
        assert 0.13 < peak < 0.22 and grip(0.4) < peak
        assert curve[0] < 0.7 * curve.max() and curve[-1] < 0.35 * curve.max()


def test_the_fall_is_of_the_centre_that_is_taken_off():
    """With the keys' own centre there is none; with that of both views the tangent of the angle grows as τ; with few
    modes the signal outlasts it."""
    spectrum, tau = power_law(256, 0.3), np.array([2.0, 4.0, 8.0])
    own = contrast_alignment(spectrum, [0.5, *tau], 256, 0.5, centre="keys")
    assert (np.diff(own) > -0.01).all()
    both = contrast_alignment(spectrum, tau, 256, 0.5)
    np.testing.assert_allclose(both * tau, both[0] * tau[0], rtol=0.05)
    few = contrast_alignment(power_law(256, 1.2), [1.0], 256, 0.5)
    assert few > 0.9 > 0.4 > contrast_alignment(spectrum, [1.0], 256, 0.5)
    assert contrast_alignment(spectrum, [20.0], 256, 0.5, keys="both") < 0  # the own image, which is no key


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([], 1.0), "spectrum"),
        (([1.0, -0.1], 1.0), "spectrum"),
        (([0.0, 0.0], 1.0), "spectrum"),
        (([1.0], 0.0), "tau"),
        (([1.0], np.nan), "tau"),
        (([1.0], 1.0, 2), "batch is 2"),
        (([1.0], 1.0, 9, 1.1), "rho is 1.1"),
        (([1.0], 1.0, 9, 0.5, "none"), "keys is 'none'"),
        (([1.0], 1.0, 9, 0.5, "both", "none"), "centre is 'none'"),
    ],
)
def test_bad_input_is_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        contrast_alignment(*arguments)

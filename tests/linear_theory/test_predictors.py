"""Predictors set from a correlation matrix: NumPy and torch, any spectrum, against written-out formulas and SciPy."""

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stopgrad.linear_theory.predictors.matrices import (
    correlation,
    directcopy,
    directpred,
    directpred_spectrum,
    directset,
    directset_spectrum,
    inverse_spectrum,
    optimal_regression,
    spectral_function,
    update_correlation,
)

NORMALISATIONS = ["none", "spectral", "frobenius"]


def rotation(n, seed):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]


def with_spectrum(s, seed=0):
    U = rotation(len(s), seed)
    return U @ np.diag(s) @ U.T, U


spectra = st.integers(1, 6).flatmap(lambda n: arrays(float, n, elements=st.floats(0, 1e3, allow_subnormal=False)))
set_predictors = {
    "directpred": lambda F, **k: directpred(F, eps=0.1, **k),
    "cutoff": lambda F, **k: directpred(F, eps=0.0, cutoff=0.05, **k),
    "released": lambda F, **k: directpred(F, eps=0.1, normalisation="spectral", floor=1e-4, **k),
    "directset": lambda F, **k: directset(F, alpha=0.5, eps=0.2, **k),
    "directcopy": lambda F, **k: directcopy(F, eps=0.3, normalisation="frobenius", **k),
    "regression": lambda F, **k: optimal_regression(F, 0.7 * F, **k),
}


@pytest.mark.parametrize(
    ("build", "eigenvalues"),
    [
        (lambda F: directpred(F, eps=0.1), lambda s: np.sqrt(s) + 0.1 * s.max()),
        (lambda F: directpred(F, eps=0.0, cutoff=0.3), lambda s: np.sqrt(np.maximum(s - 0.3, 0))),
        (lambda F: directpred(F, eps=0.0, cutoff=-0.05), lambda s: np.sqrt(s + 0.05)),
        (
            lambda F: directpred(F, eps=0.0, normalisation="spectral", floor=1e-4),
            lambda s: np.maximum(np.sqrt(s / s.max()), 1e-4),
        ),
        (lambda F: directpred(F, eps=0.5, normalisation="spectral"), lambda s: np.sqrt(s / s.max()) + 0.5),
        (lambda F: directset(F, alpha=0.5), np.sqrt),
        (lambda F: directset(F, alpha=2, eps=0.1), lambda s: s**2 + 0.1),
        (lambda F: directset(F, alpha=2, normalisation="frobenius"), lambda s: s**2 / np.linalg.norm(s**2)),
        (lambda F: directcopy(F, eps=0.3), lambda s: s + 0.3),
        (lambda F: directcopy(F, eps=0.3, normalisation="frobenius"), lambda s: s / np.linalg.norm(s) + 0.3),
        (lambda F: directcopy(F, eps=0.3, normalisation="spectral"), lambda s: s / s.max() + 0.3),
    ],
)
@pytest.mark.parametrize("s", [[2.0, 1.0, 0.25, 0.1], [3.0, 3.0, 3.0], [1.0, 1.0, 0.0, 0.0], [0.7]])
def test_eigenvalues_are_the_formula_on_f_s_eigenvectors(build, eigenvalues, s):
    s = np.array(s)
    F, U = with_spectrum(s)
    expected = U @ np.diag(eigenvalues(s)) @ U.T
    np.testing.assert_allclose(build(F), expected, atol=3e-8 if 0.0 in s else 1e-13)  # √ of a rounded zero


def test_matches_scipy_matrix_functions():
    G = np.random.default_rng(1).normal(size=(7, 5))
    F = G.T @ G
    np.testing.assert_allclose(directpred(F, eps=0.0), scipy.linalg.sqrtm(F), atol=1e-12)
    for alpha in (0.3, 1.0, 1.7):
        np.testing.assert_allclose(
            directset(F, alpha=alpha), scipy.linalg.fractional_matrix_power(F, alpha), rtol=1e-10, atol=1e-10
        )
    np.testing.assert_allclose(spectral_function(F, np.exp), scipy.linalg.expm(F), rtol=1e-11)


@pytest.mark.parametrize("name", set_predictors)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numpy_and_torch_agree_batched_and_keep_the_dtype(name, dtype):
    G = np.random.default_rng(2).normal(size=(2, 3, 9, 4))
    F = (G.mT @ G / 9).astype(dtype)
    W = set_predictors[name](F)
    T = set_predictors[name](torch.as_tensor(F))
    assert W.dtype == dtype and T.dtype == torch.as_tensor(F).dtype
    assert W.shape == F.shape == tuple(T.shape)
    np.testing.assert_allclose(T, W, atol=200 * np.finfo(dtype).eps)
    np.testing.assert_allclose(W[1, 2], set_predictors[name](F[1, 2]), atol=200 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", set_predictors)
def test_numpy_scalars_do_not_widen_float32(name):
    F = np.eye(3, dtype=np.float32)
    assert directpred(F, eps=np.float64(0.1)).dtype == np.float32
    assert directcopy(F, eps=np.float64(0.1)).dtype == np.float32
    assert set_predictors[name](F).dtype == np.float32


@given(spectra, st.integers(0, 5), st.sampled_from(sorted(set_predictors.keys() - {"regression"})))
def test_any_spectrum_gives_a_finite_symmetric_predictor_that_commutes_with_f(s, seed, name):
    F, _ = with_spectrum(s, seed)
    W = set_predictors[name](F)
    assert np.all(np.isfinite(W))
    scale = max(np.abs(W).max(), 1e-300)
    assert np.array_equal(W, W.T)
    assert np.linalg.eigvalsh(W).min() >= -1e-12 * scale
    size = max(s.max(), 1e-300)
    np.testing.assert_allclose(F / size @ (W / scale), W / scale @ (F / size), atol=1e-7)


@given(spectra, st.floats(0.25, 3), st.sampled_from(NORMALISATIONS))
def test_directset_of_one_is_directcopy(s, eps, normalisation):
    F, _ = with_spectrum(s, 3)
    np.testing.assert_allclose(
        directset(F, 1.0, eps, normalisation), directcopy(F, eps, normalisation), rtol=1e-12, atol=1e-12 * (1 + s.max())
    )


@given(spectra, st.floats(0, 1), st.floats(0.1, 3), st.sampled_from(NORMALISATIONS))
def test_spectral_twins_are_the_predictors_of_a_diagonal_matrix(s, eps, alpha, normalisation):
    np.testing.assert_allclose(
        np.diag(directpred(np.diag(s), eps, 0.0, normalisation)), directpred_spectrum(s, eps, 0.0, normalisation)
    )
    np.testing.assert_allclose(
        np.diag(directset(np.diag(s), alpha, eps, normalisation)), directset_spectrum(s, alpha, eps, normalisation)
    )


@given(arrays(float, 4, elements=st.floats(0.01, 10)), st.floats(0, 1))
def test_released_form_is_eq_18_after_dividing_by_the_largest_eigenvalue(s, eps):
    np.testing.assert_allclose(
        directpred_spectrum(s, eps, normalisation="spectral", floor=1e-4), directpred_spectrum(s / s.max(), eps)
    )


@pytest.mark.parametrize("name", set_predictors)
def test_a_zero_matrix_and_degenerate_spectra_are_fine(name):
    assert np.all(np.isfinite(set_predictors[name](np.zeros((2, 3, 3)))))
    same = set_predictors[name](np.broadcast_to(2.0 * np.eye(4), (3, 4, 4)))
    np.testing.assert_allclose(same, same[..., :1, :1] * np.eye(4), atol=1e-14)


def test_zero_matrix_values():
    zero = np.zeros((3, 3))
    np.testing.assert_array_equal(directpred(zero, eps=0.1), zero)
    np.testing.assert_array_equal(directpred(zero, normalisation="spectral", floor=1e-4), 1e-4 * np.eye(3))
    np.testing.assert_array_equal(directcopy(zero, eps=0.3, normalisation="frobenius"), 0.3 * np.eye(3))
    np.testing.assert_array_equal(optimal_regression(zero, zero), zero)


@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize("scale", [1e-200, 1e-9, 1.0, 1e200])
def test_normalised_predictors_ignore_the_scale_of_f(convert, scale):
    F, _ = with_spectrum(np.array([1.0, 0.4, 0.1]))
    for normalisation in ("spectral", "frobenius"):
        for build in (directpred, directcopy, lambda M, **k: directset(M, alpha=1.0, **k)):
            np.testing.assert_allclose(
                build(convert(scale * F), eps=0.1, normalisation=normalisation),
                build(convert(F), eps=0.1, normalisation=normalisation),
                atol=1e-12,
            )


@pytest.mark.parametrize("build", [directpred, directset, directcopy])
@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor])
def test_parameters_vary_over_the_batch(build, convert):
    F, _ = with_spectrum(np.array([1.0, 0.4, 0.1]))
    eps = np.array([[0.0], [0.1], [0.5]])
    many = build(convert(F), eps=convert(eps))
    for one, value in zip(many, eps[:, 0], strict=True):
        np.testing.assert_allclose(one, build(F, eps=value), atol=1e-14)


@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize("build", [directpred, directset, directcopy, lambda F: optimal_regression(F, F)])
def test_bad_matrices_are_refused_in_one_sentence(convert, build):
    indefinite, _ = with_spectrum(np.array([1.0, 0.5, -0.01]))
    for bad, words in [
        (indefinite, "eigenvalue of -0.0"),
        (-np.eye(2), "eigenvalue of -1 "),
        (np.array([[0.0, 1.0], [1.0, 0.0]]), "eigenvalue of -1 "),
        (np.array([[1.0, 0.3], [0.0, 1.0]]), "not symmetric"),
        (np.array([[1.0, np.nan], [np.nan, 1.0]]), "NaN"),
        (np.diag([np.inf, 1.0]), "infinite"),
        (np.ones((2, 3)), "square"),
        (np.ones(3), "square"),
        (np.zeros((0, 0)), "square"),
        (np.eye(2, dtype=np.float16), "float16"),
    ]:
        with pytest.raises(ValueError, match=words):
            build(convert(bad))
    with pytest.raises(ValueError, match="eigenvalue"):
        build(convert(np.stack([np.eye(3), indefinite])))  # one bad matrix in a batch


def test_bad_parameters_are_refused():
    for bad in (-0.1, np.nan, np.inf):
        for build in (directpred, directset, directcopy):
            with pytest.raises(ValueError, match="eps is"):
                build(np.eye(2), eps=bad)
    with pytest.raises(ValueError, match=r"cutoff\| is nan"):
        directpred(np.eye(2), cutoff=np.nan)
    with pytest.raises(ValueError, match="alpha is -1"):
        directset(np.eye(2), alpha=-1)
    with pytest.raises(ValueError, match="normalisation is 'trace'"):
        directpred(np.eye(2), normalisation="trace")
    with pytest.raises(ValueError, match="must agree"):
        optimal_regression(np.eye(2), np.eye(3))
    with pytest.raises(ValueError, match="bfloat16"):
        directpred(torch.eye(2, dtype=torch.bfloat16))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounding_is_not_mistaken_for_an_indefinite_matrix(dtype):
    G = np.random.default_rng(4).normal(size=(3, 40)).astype(dtype)  # rank 3 of 40
    F = G.T @ G
    assert np.linalg.eigvalsh(F).min() < 0
    W = directpred(F + np.triu(F, 1) * np.finfo(dtype).eps, eps=0.0)
    np.testing.assert_allclose(W @ W, F, atol=100 * np.finfo(dtype).eps * np.abs(F).max())
    assert np.array_equal(W, W.T)


def test_without_check_nothing_is_refused_and_negative_eigenvalues_count_as_zero():
    F, U = with_spectrum(np.array([1.0, 0.5, -0.3]))
    np.testing.assert_allclose(directpred(F, eps=0.0, check=False), U @ np.diag([1, 0.5**0.5, 0]) @ U.T, atol=1e-8)


def test_input_is_left_alone():
    F = np.array([[1.0, 0.2], [0.2 + 1e-12, 1.0]])
    for kept in (F, torch.as_tensor(F.copy())):
        before = np.asarray(kept).copy()
        for build in set_predictors.values():
            build(kept)
        np.testing.assert_array_equal(before, kept)


@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor])
def test_optimal_regression_solves_its_equation(convert):
    rng = np.random.default_rng(5)
    f, fa = rng.normal(size=(2, 50, 4))
    F, cross = f.T @ f / 50, fa.T @ f / 50
    W = np.asarray(optimal_regression(convert(F), convert(cross)))
    np.testing.assert_allclose(W @ F, (cross + cross.T) / 2, atol=1e-13)
    ridge = np.asarray(optimal_regression(convert(F), convert(cross), ridge=0.3))
    np.testing.assert_allclose(ridge, (cross + cross.T) / 2 @ np.linalg.inv(F + 0.3 * np.eye(4)), atol=1e-13)


def test_optimal_regression_is_the_least_norm_solution_on_a_rank_deficient_f():
    rng = np.random.default_rng(6)
    f = rng.normal(size=(50, 2)) @ rng.normal(size=(2, 5))
    F, cross = f.T @ f / 50, 0.6 * f.T @ f / 50
    W = optimal_regression(F, cross)
    np.testing.assert_allclose(W, cross @ np.linalg.pinv(F, rcond=1e-10), atol=1e-12)
    np.testing.assert_allclose(W @ W, 0.6 * W, atol=1e-12)  # 0.6 times the projector on the features' span


@given(arrays(float, 5, elements=st.just(0.0) | st.floats(1e-3, 1e3)), st.integers(0, 5))
def test_regression_on_its_own_correlation_is_the_projector_on_the_span(s, seed):
    F, U = with_spectrum(s, seed)
    np.testing.assert_allclose(optimal_regression(F, F), U @ np.diag(s > 0) @ U.T, atol=1e-8)


@given(arrays(float, 5, elements=st.floats(1e-3, 1e3)))
def test_inverse_spectrum(s):
    np.testing.assert_allclose(inverse_spectrum(s) * s, 1)
    assert inverse_spectrum(np.append(s, 0.0))[-1] == 0
    np.testing.assert_allclose(inverse_spectrum(s, cutoff=0.5), np.where(s > s.max() / 2, 1 / s, 0))


@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor])
def test_correlation_and_its_moving_average(convert):
    features = np.random.default_rng(7).normal(loc=0.5, size=(3, 20, 4))
    F = correlation(convert(features))
    np.testing.assert_allclose(F, np.mean([f[:, :, None] * f[:, None, :] for f in features], axis=1), atol=1e-14)
    centred = correlation(convert(features), centred=True)
    np.testing.assert_allclose(centred[1], np.cov(features[1].T, bias=True), atol=1e-14)
    batches = [convert(f) for f in features]
    averaged = None
    for batch in batches:
        averaged = update_correlation(averaged, correlation(batch), 0.3)
    np.testing.assert_allclose(averaged, 0.09 * F[0] + 0.21 * F[1] + 0.7 * F[2], atol=1e-14)


def test_half_precision_features_are_promoted_before_the_product():
    half = torch.full((4, 2), 300.0, dtype=torch.float16)  # 300² overflows float16
    F = correlation(half)
    assert F.dtype == torch.float32
    np.testing.assert_allclose(F, np.full((2, 2), 9e4), rtol=1e-6)
    assert correlation(torch.ones(2, 2, dtype=torch.bfloat16)).dtype == torch.float32


def test_autocast_does_not_reach_the_correlation_or_the_predictor():
    features = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
    expected = correlation(features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        F = correlation(features)
        W = directpred(F)
        R = optimal_regression(F, F)
        assert (F @ F).dtype == torch.bfloat16  # autocast is on
    assert F.dtype == W.dtype == R.dtype == torch.float32
    torch.testing.assert_close(F, expected, rtol=0, atol=0)
    torch.testing.assert_close(W, directpred(expected), rtol=0, atol=0)


def test_correlation_refuses_bad_input():
    with pytest.raises(ValueError, match="at least one sample"):
        correlation(np.ones((0, 3)))
    with pytest.raises(ValueError, match="batch, n"):
        correlation(np.ones(3))
    with pytest.raises(ValueError, match="finite"):
        correlation(torch.tensor([[1.0, float("nan")]]))
    for rho in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="rho is"):
            update_correlation(None, np.eye(2), rho)
    with pytest.raises(ValueError, match="shapes must agree"):
        update_correlation(np.eye(2), np.eye(3), 0.5)

"""Spectra of features that stream by, what white noise of the same size scores, and the record of a measurement."""

import json
from functools import reduce

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stopgrad.linear_theory.spectra.spectrum import (
    CONVENTIONS,
    GARRIDO2023,
    LI2022,
    LI2022_NORMALISED,
    Convention,
    Metrics,
    collapse_auc,
    measure,
    merge,
    moments,
    numerical_rank,
    participation_ratio,
    rankme,
    report,
    singular_values,
    stable_rank,
    unit_rows,
    variance_effective_rank,
    white_noise,
    white_noise_spectrum,
)


def features(seed, n, d, mean=0.0, decay=1.0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, d)) * np.arange(1, d + 1.0) ** (-decay / 2)
    return z @ np.linalg.qr(rng.normal(size=(d, d)))[0] + mean


def svd(z, centred):
    return np.linalg.svd(z - z.mean(0) if centred else z, compute_uv=False)


def close(value, expected, rtol=1e-10, atol=0.0):
    np.testing.assert_allclose(value, expected, rtol=rtol, atol=atol)


# ---------------------------------------------------------------- streaming covariance


@given(
    st.integers(1, 60),
    st.integers(1, 20),
    st.lists(st.integers(1, 59), max_size=5),
    st.booleans(),
    st.sampled_from([np.float32, np.float64]),
    st.booleans(),
)
def test_streamed_spectrum_is_that_of_the_svd(n, d, cuts, centred, dtype, as_torch):
    whole = features(n * 100 + d, n, d, mean=3.0).astype(dtype)
    parts = [part for part in np.split(whole, sorted(c for c in cuts if c < n)) if len(part)]
    total = reduce(merge, [moments(torch.from_numpy(p) if as_torch else p) for p in parts])
    sigma = np.asarray(singular_values(total, centred))
    expected = np.zeros(d)
    expected[: min(n, d)] = svd(whole.astype(float), centred)
    assert total.count == n and sigma.shape == (d,) and sigma.dtype == np.float64
    close(sigma, expected, rtol=1e-9, atol=1e-6 * max(expected[0], 1e-6))
    assert (sigma > 0).sum() <= max(min(n - centred, d), 0)
    assert (np.diff(sigma) <= 0).all()


@given(st.integers(0, 10**6), st.permutations(range(5)))
def test_merging_needs_no_order(seed, order):
    parts = [moments(features(seed + k, 2 + 7 * k, 6, mean=k)) for k in range(5)]
    left = reduce(merge, parts)
    a, b, c, d, e = (parts[k] for k in order)
    tree = merge(merge(a, merge(b, c)), merge(d, e))
    for x, y in zip(left[1:3], tree[1:3], strict=True):
        close(x, y, rtol=1e-9, atol=1e-10)
    assert left.count == tree.count == 80


def test_half_of_the_dimensions_dead():
    """Dead channels count as dimensions, in a stream as in the SVD."""
    z = features(0, 500, 8)
    z = np.concatenate([z, np.full_like(z, 0.25)], axis=1)
    sigma = singular_values(moments(z))
    assert numerical_rank(sigma) == 8 and (sigma[8:] == 0).all()
    close(collapse_auc(sigma), 1 - 8 / 16 * (1 - collapse_auc(sigma[:8])))


def test_a_distant_mean_costs_no_digits():
    z = features(1, 400, 5)
    for merged in (moments(z + 1e6), reduce(merge, map(moments, np.split(z + 1e6, 40)))):
        close(singular_values(merged), svd(z, True), rtol=1e-9)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("n", [1, 2, 5, 16, 17, 18])
def test_fewer_samples_than_dimensions(n, centred):
    sigma = singular_values(moments(features(n, n, 17, mean=1.0)), centred)
    assert sigma.shape == (17,)
    assert (sigma > 0).sum() == min(n - centred, 17)


def test_the_mean_rounded_adds_no_rank():
    assert [int((singular_values(moments(features(n, n, 17, mean=1e10))) > 0).sum()) for n in range(2, 17)] == [
        *range(1, 16)
    ]


@pytest.mark.parametrize("noise", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_features_that_agree_up_to_rounding_have_no_spectrum(dtype, noise):
    """Else a network that has collapsed completely would score as white noise."""
    point = torch.randn(64, generator=torch.Generator().manual_seed(0)).double() + 2
    z = (point * (1 + noise * torch.finfo(dtype).eps / 2 * torch.rand(256, 1))).to(dtype)
    total = reduce(merge, map(moments, z.split(100)))
    assert total.rounding == torch.finfo(dtype).eps
    assert not singular_values(total).any()
    assert (singular_values(total, centred=False) > 0).sum() == 1 or noise


def test_a_small_but_real_spread_is_measured():
    z = features(3, 300, 10) * 1e-4 + 1
    sigma = singular_values(moments(z.astype(np.float32)))
    close(rankme(sigma), rankme(svd(z, True)), rtol=1e-3)


def test_moments_stay_in_float64_under_autocast_and_off_the_graph():
    z = torch.from_numpy(features(4, 50, 12)).float().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sigma = singular_values(merge(moments(z[:20]), moments(z[20:])))
    assert sigma.dtype == torch.float64 and not sigma.requires_grad
    close(sigma, svd(z.detach().double().numpy(), True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_moments_on_cuda():
    z = torch.from_numpy(features(5, 200, 30))
    sigma = singular_values(merge(moments(z[:50].cuda()), moments(z[50:].cuda())))
    assert sigma.is_cuda
    close(sigma.cpu(), svd(z.numpy(), True))
    assert measure(z.cuda()).row().keys() == measure(z).row().keys()


def test_unit_rows_first_then_the_mean():
    z = features(6, 100, 7, mean=1.0)
    rows = z / (np.linalg.norm(z, axis=1, keepdims=True) + 1e-6)
    for rows_of in (z, torch.from_numpy(z)):
        close(unit_rows(rows_of), rows)
        close(measure(rows_of, LI2022_NORMALISED).metrics[:5], measure(rows).metrics[:5])


@pytest.mark.parametrize("shape", [(5,), (0, 4), (4, 0), (2, 3, 4)])
def test_features_of_a_wrong_shape(shape):
    with pytest.raises(ValueError, match="samples, dimensions"):
        moments(np.ones(shape))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
@pytest.mark.parametrize("centred", [True, False])
def test_features_that_are_no_numbers(bad, centred):
    z = features(7, 20, 3)
    z[4, 1] = bad
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="NaN or infinity"):
        singular_values(moments(torch.from_numpy(z)), centred)


def test_batches_that_do_not_fit_or_are_none():
    with pytest.raises(ValueError, match="of 3 and of 4"):
        merge(moments(np.ones((2, 3))), moments(np.ones((2, 4))))
    with pytest.raises(ValueError, match="no batches"):
        measure([])


# ---------------------------------------------------------------- white noise


@pytest.mark.parametrize(
    ("samples", "dim", "golden"),  # AUC, RankMe, effective rank of variances, participation ratio; partly simulated
    [
        (25600, 512, (0.52142, 510.71, 506.9, 501.94)),
        (2048, 512, (0.57634, 494.6, 451.6, 409.4)),
        (1024, 768, (0.64484, 672.6, 527.5, 438.4)),
    ],
)
def test_white_noise_of_known_sizes(samples, dim, golden):
    noise = white_noise(samples, dim)
    assert abs(noise.collapse_auc - golden[0]) < (1e-5 if samples == 25600 else 4e-4)
    close(noise[1:4], golden[1:], rtol=5e-4)
    close(noise.participation_ratio, (samples - 1) * dim / (samples + dim), rtol=1e-5)


@pytest.mark.parametrize(("samples", "dim"), [(400, 40), (41, 40), (40, 80), (30, 200), (6, 9)])
@pytest.mark.parametrize("centred", [True, False])
def test_white_noise_drawn(samples, dim, centred):
    rng = np.random.default_rng(samples)
    draws = [singular_values(moments(rng.normal(size=(samples, dim))), centred) for _ in range(60)]
    calls = (lambda s: collapse_auc(s, dim), rankme, variance_effective_rank, participation_ratio, stable_rank)
    drawn = np.array([[call(sigma) for call in calls] for sigma in draws])
    noise = white_noise(samples, dim, centred)
    error = 4 * drawn.std(0) / np.sqrt(len(draws))
    allowed = np.array([0.02, 0.02, 0.025, 0.0, 0.02]) * (1 if samples > 6 else 2)  # of the law, exact as N, d → ∞
    assert (np.abs(drawn.mean(0) - noise[:5]) <= error + allowed * drawn.mean(0)).all()


@pytest.mark.parametrize("ratio", [0.02, 0.25, 0.9, 1.1, 4.0])
def test_quantiles_of_the_marchenko_pastur_law(ratio):
    """Against the distribution function in closed form, with λ = 1 + r² − 2r cos θ."""
    dim = 300
    n = round(dim / ratio)
    r = np.sqrt(dim / n)
    lam = white_noise_spectrum(n + 1, dim)[: min(n, dim)] ** 2 / n
    theta = np.arccos(np.clip((1 + r * r - lam) / (2 * r), -1, 1))
    arc = np.arctan((1 + r) / abs(1 - r) * np.tan(theta / 2))
    mass = ((1 + r * r) * theta - 2 * abs(1 - r * r) * arc) / (4 * r * r) + np.sin(theta) / (2 * r)
    rank = len(lam)
    close(mass / (np.pi / 2 / max(1, r * r)), (np.arange(rank, 0, -1) - 0.5) / rank, rtol=0, atol=1e-6)
    close(lam.sum() / dim, 1, rtol=2e-3)


def test_white_noise_of_few_samples():
    sigma = white_noise_spectrum(32, 64)
    assert sigma.shape == (64,) and (sigma > 0).sum() == 31
    assert (white_noise_spectrum(32, 64, centred=False) > 0).sum() == 32
    close(white_noise(32, 64).collapse_auc, 1 - 31 / 64 * (1 - collapse_auc(sigma[:31])))
    close(white_noise(2, 7)[1:5], [1, 1, 1, 1])
    for samples, dim in ((1, 5), (0, 5), (9, 0)):
        with pytest.raises(ValueError, match="give two samples"):
            white_noise(samples, dim)


def test_white_noise_of_many_samples_is_flat():
    noise = white_noise(10**9, 64, window=(12, 64))
    close(noise[:5], [65 / 128, 64, 64, 64, 64], rtol=1e-3)
    assert abs(noise.alpha_req) < 1e-3


@given(st.integers(3, 300), st.integers(1, 300))
def test_white_noise_keeps_to_the_order_of_ranks(samples, dim):
    noise = white_noise(samples, dim)
    assert 1 <= noise.stable_rank <= noise.participation_ratio <= min(samples - 1, dim)
    assert noise.variance_effective_rank <= noise.rankme * (1 + 1e-12) <= min(samples - 1, dim) * (1 + 1e-9)


# ---------------------------------------------------------------- reports


def test_a_report_says_where_its_numbers_come_from():
    z = features(8, 900, 128, mean=2.0)
    found = measure(iter(np.split(z, 9)))
    sigma = svd(z, True)
    assert (found.space, found.convention, found.centred, found.normalised) == ("representation", "li2022", True, False)
    assert (found.samples, found.dim, found.rankme_eps, found.alpha_window) == (900, 128, 0, (12, 100))
    close(found.metrics[:4], [c(sigma) for c in (collapse_auc, rankme, variance_effective_rank, participation_ratio)])
    close(found.rms, np.sqrt(((z - z.mean(0)) ** 2).sum(1).mean()))
    assert found.white_noise == white_noise(900, 128, window=(12, 100))
    assert found.metrics.collapse_auc > found.white_noise.collapse_auc + 0.05
    row = found.row()
    assert row["rankme"] == found.metrics.rankme and row["rankme_white_noise"] == found.white_noise.rankme
    assert (row["alpha_first"], row["alpha_last"]) == (12, 100)
    assert json.loads(json.dumps(row)) == row
    close(report(sigma[::-1].copy(), 900, 128).metrics, found.metrics)
    close(report(torch.from_numpy(sigma).float(), 900, 128).metrics, found.metrics, rtol=1e-5)


def test_rankme_as_its_paper_takes_it():
    z = features(9, 800, 64, mean=0.5)
    found = measure(torch.from_numpy(z), GARRIDO2023)
    close(found.metrics.rankme, rankme(svd(z, False), 1e-7))
    assert (found.space, found.centred, found.rankme_eps) == ("embedding", False, 1e-7)
    assert found.white_noise == white_noise(800, 64, False, 1e-7, (12, 64))
    assert measure(z, GARRIDO2023, space="prediction").space == "prediction"


@pytest.mark.parametrize(("n", "d"), [(64, 2048), (2048, 64), (64, 64)])
def test_rankme_counts_the_values_of_an_svd(n, d):
    """Garrido et al. 2023: eps is added to each of min(N, d) values, of which here all are 1."""
    wanted = -64 * (1 / 64 + 1e-7) * np.log(1 / 64 + 1e-7)
    for features in (np.eye(n, d), torch.eye(n, d)):
        close(measure(features, GARRIDO2023).metrics.rankme, np.exp(wanted))
    close(report(np.ones(64), n, d, GARRIDO2023).metrics.rankme, np.exp(wanted))
    short = report(np.ones(40), n, d, GARRIDO2023).metrics.rankme  # 24 values of the 64 are not told, and so are 0
    close(short, rankme(np.append(np.ones(40), np.zeros(24)), 1e-7))
    noise = white_noise(n, d, False, 1e-7).rankme
    close(noise, rankme(white_noise_spectrum(n, d, False)[:64], 1e-7))


def test_the_highest_rankme_there_is():
    close(measure(np.eye(64, 2048), GARRIDO2023).metrics.rankme, 64.00129389, rtol=1e-10)


def test_conventions_by_name():
    assert CONVENTIONS["li2022"] is LI2022 and LI2022.centred and not LI2022.normalised and LI2022.rankme_eps == 0
    assert all(name == convention.name for name, convention in CONVENTIONS.items())


@pytest.mark.parametrize(
    ("n", "d", "window"), [(100, 40, (12, 40)), (30, 40, (12, 29)), (100, 12, None), (9, 40, None)]
)
def test_the_fit_is_cut_to_what_varies(n, d, window):
    found = measure(features(10, n, d))
    assert found.alpha_window == window
    assert (found.metrics.alpha_req is None) == (found.white_noise.alpha_req is None) == (window is None)
    own = measure(features(10, n, d), Convention("own", "embedding", alpha_window=(2, 5)))
    assert own.alpha_window == (2, 5) and own.metrics.alpha_req > 0


def test_complete_collapse_is_a_result():
    found = measure(torch.full((50, 16), 0.1))
    assert found.metrics is None and found.rms == 0 and found.white_noise.rankme > 10
    assert found.row()["rankme"] is None and found.row()["rankme_white_noise"] == found.white_noise.rankme
    close(measure(torch.full((50, 16), 0.1), GARRIDO2023).metrics.participation_ratio, 1)


@pytest.mark.parametrize("convention", [LI2022, LI2022_NORMALISED])
def test_collapse_up_to_the_features_own_rounding(convention):
    z = 1 + 2.0**-23 * torch.rand(20, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert measure(z, convention).metrics.rankme > 10
    found = measure([z[:5].float() * 3, z[5:].float() * 3], convention)
    assert found.metrics is None and found.alpha_window == (12, 19)
    assert merge(moments(z), moments(z.float())).rounding == merge(moments(z.float()), moments(z)).rounding == 2.0**-23


def test_spectra_that_a_report_refuses():
    sigma = svd(features(11, 20, 30), False)
    assert measure(features(11, 20, 30), Convention("own", "embedding", centred=False)).metrics.rankme > 5
    with pytest.raises(ValueError, match="20 centred samples of 30 dimensions span 19"):
        report(sigma, 20, 30)
    centred = svd(features(11, 20, 30), True).astype(np.float32)  # its twentieth value is rounding
    assert report(centred, 20, 30).metrics.collapse_auc == collapse_auc(np.append(centred[:19], 0), 30)
    with pytest.raises(ValueError, match="dim is 10"):
        report(sigma, 200, 10)
    with pytest.raises(ValueError, match="about one spectrum"):
        report(np.ones((2, 3)), 200, 10)
    for bad, says in (([1, np.nan], "NaN"), ([1, -1], "negative"), ([], "at least one")):
        with pytest.raises(ValueError, match=says):
            report(np.array(bad), 200, 10)


@pytest.mark.parametrize("k", [1, 2, 8, 64])
def test_rank_sees_what_the_channels_std_does_not(k):
    """Unit vectors that fill k of 64 dimensions: √d · std is E χ_k/√k, near 1 from k = 8 on."""
    rng = np.random.default_rng(k)
    z = rng.normal(size=(20_000, k)) @ np.linalg.qr(rng.normal(size=(64, 64)))[0][:k]
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    found = measure(z).metrics
    assert isinstance(found, Metrics)
    assert 8 * z.std(0).mean() > 0.65
    close(found[1:4], [k, k, k], rtol=0.01)

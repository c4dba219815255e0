"""Collapse metrics against closed forms, their order and invariances, and the spectra that Li et al. 2022 released."""

import math
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stopgrad.linear_theory.spectra.spectrum import (
    alpha_req,
    collapse_auc,
    cumulative_spectrum,
    numerical_rank,
    participation_ratio,
    rankme,
    stable_rank,
    variance_effective_rank,
)

DATA = Path(os.environ.get("STOPGRAD_DATA", Path(__file__).parents[3] / "shared" / "data"))
RELEASED = DATA / "li2022_imagenet_singular_values.npz"
METRICS = (collapse_auc, rankme, variance_effective_rank, participation_ratio, stable_rank)
SPECTRA = hnp.arrays(
    float,
    st.integers(1, 40).map(lambda n: (n,)),
    elements=st.one_of(st.just(0.0), st.floats(1e-6, 1e6), st.floats(0.5, 2)),
).filter(lambda s: s.any())


def close(value, expected, rtol=1e-10):
    np.testing.assert_allclose(value, expected, rtol=rtol)


def harmonic(d, a):
    return (np.arange(1, d + 1.0) ** -a).sum()


def power_law(d, alpha):
    return np.arange(1, d + 1.0) ** (-alpha / 2)


# ---------------------------------------------------------------- closed forms


@pytest.mark.parametrize(
    ("d", "auc"), [(2, 0.75), (8, 0.5625), (128, 0.50390625), (512, 0.5009765625), (2048, 0.500244140625)]
)
def test_flat_spectrum(d, auc):
    sigma = np.full(d, 0.3)
    close(collapse_auc(sigma), auc)
    for metric in METRICS[1:]:
        close(metric(sigma), d)
    assert abs(alpha_req(sigma, 1, d)) < 1e-12


@pytest.mark.parametrize(
    ("d", "k", "auc"), [(512, 1, 1), (512, 64, 0.9384765625), (512, 256, 0.7509765625), (2048, 512, 0.875244140625)]
)
def test_flat_spectrum_of_rank_k(d, k, auc):
    sigma = np.repeat([0.0, 7.0], [d - k, k])
    close(collapse_auc(sigma), auc)
    close(collapse_auc(sigma[-k:], dim=d), auc)
    for metric in METRICS[1:]:
        close(metric(sigma), k)
    assert numerical_rank(sigma) == k


@pytest.mark.parametrize(
    ("alpha", "golden"),
    [
        (0.5, (0.5705219873, 491.729546, 281.652961, 43.816573)),
        (1, (0.6571831374, 409.554525, 28.280817, 6.816517)),
        (1.5, (0.7576094274, 260.585055, 5.299864, 2.524030)),
        (2, (0.8552506275, 117.231182, 2.494073, 1.642983)),
    ],
)
def test_power_law(alpha, golden):
    sigma = power_law(512, alpha)
    for metric, value in zip((collapse_auc, rankme, participation_ratio, stable_rank), golden, strict=True):
        close(metric(sigma), value, rtol=5e-7 if metric is not collapse_auc else 1e-10)


@pytest.mark.parametrize("d", [2, 17, 512])
@pytest.mark.parametrize("alpha", [0.3, 1, 1.7, 4])
def test_power_law_in_closed_form(d, alpha):
    sigma, a, i = power_law(d, alpha), alpha / 2, np.arange(1, d + 1)
    h = harmonic(d, a)
    close(collapse_auc(sigma), ((d + 1) * h - harmonic(d, a - 1)) / (d * h))
    close(rankme(sigma), h * math.exp(a * (i**-a * np.log(i)).sum() / h))
    close(participation_ratio(sigma), harmonic(d, alpha) ** 2 / harmonic(d, 2 * alpha))
    close(stable_rank(sigma), harmonic(d, alpha))
    if alpha == 2:
        close(collapse_auc(sigma), (d + 1) / d - 1 / harmonic(d, 1))


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1])
def test_power_law_of_many_modes(alpha):
    """Both limits are approached like d^−(1−a)."""
    a = alpha / 2
    errors = []
    for d in (10_000, 1_000_000):
        sigma = power_law(d, alpha)
        auc, rank = 1 / (2 - a), math.exp(-a / (1 - a)) / (1 - a)
        errors.append([abs(collapse_auc(sigma) / auc - 1), abs(rankme(sigma) / d / rank - 1)])
    assert max(errors[1]) < 5e-3
    assert (np.array(errors[0]) > 6 * np.array(errors[1])).all()


@pytest.mark.parametrize("r", [0.1, 0.5, 0.8])
def test_geometric_spectrum(r):
    d = 400
    sigma = r ** np.arange(d)
    close(collapse_auc(sigma), 1 + 1 / d - 1 / (1 - r) / d)
    for metric, q in ((rankme, r), (variance_effective_rank, r * r)):
        close(metric(sigma), q ** (-q / (1 - q)) / (1 - q))
    close(participation_ratio(sigma), (1 + r * r) / (1 - r * r))
    close(stable_rank(sigma), 1 / (1 - r * r))


def test_geometric_spectrum_of_ratio_one_half():
    sigma = 0.5 ** np.arange(64)
    close(collapse_auc(sigma), 1 - 1 / 64)
    close(rankme(sigma), 4)
    close([participation_ratio(sigma), stable_rank(sigma)], [5 / 3, 4 / 3])
    close(variance_effective_rank(sigma), 2.116535, rtol=5e-7)


@pytest.mark.parametrize("d", [1, 8, 512])
def test_linear_spectrum(d):
    close(collapse_auc(np.arange(1, d + 1)), (2 * d + 1) / (3 * d))


@pytest.mark.parametrize(
    ("sigma", "golden"),
    [
        ((3, 1), (0.875, 4 / 3**0.75, 1.38414549, 100 / 82, 10 / 9)),
        ((2, 1, 1), (0.75, 2**1.5, 1.5 ** (2 / 3) * 6 ** (1 / 3), 2, 1.5)),
        ((4, 2, 1, 1), (0.78125, 2**1.75, None, 1.76642336, 1.375)),
    ],
)
def test_spectra_done_by_hand(sigma, golden):
    for metric, value in zip(METRICS, golden, strict=True):
        if value is not None:
            close(metric(np.array(sigma)), value, rtol=5e-9)


@pytest.mark.parametrize(("d", "k", "golden"), [(512, 64, 64.047525), (512, 1, 1.000824), (512, 512, 512.137337)])
def test_bias_of_rankme_by_its_eps(d, k, golden):
    eps = 1e-7
    sigma = np.repeat([1.0, 0.0], [k, d - k])
    p = 1 / k + eps
    close(rankme(sigma, eps), math.exp(-k * p * math.log(p) - (d - k) * eps * math.log(eps)))
    close(rankme(sigma, eps), golden, rtol=5e-7)


def test_eps_lets_rankme_exceed_the_dimension():
    close(rankme(np.ones(2048), 1e-7), 2050.780409, rtol=5e-10)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("window", [(1, 2), (4, 50), (6, 50), (4, 100), (12, 100), (1, 512)])
def test_alpha_of_a_power_law_whatever_is_fitted(window, weighted):
    for alpha in (0.4, 1, 2.5):
        sigma = 3 * power_law(512, alpha)
        close(alpha_req(sigma, *window, weighted), alpha)
        close(alpha_req(np.sqrt(sigma), *window, weighted), alpha / 2)  # variances fed as if they were their squares


@pytest.mark.parametrize("weighted", [True, False])
def test_alpha_is_the_least_squares_slope(weighted):
    sigma = np.sort(np.random.default_rng(0).lognormal(size=60))[::-1]
    rank = np.arange(5, 41)
    weight = 1 / np.sqrt(rank) if weighted else np.ones(rank.size)  # polyfit's weights multiply residuals
    slope = np.polyfit(np.log(rank), np.log(sigma[4:40] ** 2), 1, w=weight)[0]
    close(alpha_req(sigma, 5, 40, weighted), -slope)


# ---------------------------------------------------------------- properties


@given(SPECTRA)
def test_renyi_chain(sigma):
    positive = int((sigma > 0).sum())
    chain = [stable_rank(sigma), participation_ratio(sigma), variance_effective_rank(sigma), rankme(sigma), positive]
    of_sigma = [sigma.sum() / sigma.max(), sigma.sum() ** 2 / (sigma**2).sum(), rankme(sigma), positive]
    for values in (chain, of_sigma):
        assert values[0] >= 1 - 1e-9
        assert all(a <= b * (1 + 1e-9) for a, b in pairwise(values)), values
    d = len(sigma)
    assert (d + 1) / (2 * d) - 1e-9 <= collapse_auc(sigma) <= collapse_auc(sigma**2) + 1e-9 <= 1 + 2e-9


@given(SPECTRA, st.floats(1e-3, 1e3), st.integers(0, 1000), st.randoms())
def test_scale_order_and_padding(sigma, scale, zeros, random):
    shuffled = scale * np.array(random.sample(list(sigma), len(sigma)))
    padded = np.append(shuffled, np.zeros(zeros))
    d, wider = len(sigma), len(padded)
    close(collapse_auc(shuffled), collapse_auc(sigma))
    close(collapse_auc(padded), 1 - d / wider * (1 - collapse_auc(sigma)))
    close(collapse_auc(sigma, dim=wider), collapse_auc(padded))
    for metric in METRICS[1:]:
        close(metric(padded), metric(sigma))


@given(SPECTRA)
def test_auc_is_the_mean_index(sigma):
    p, d = np.sort(sigma)[::-1] / sigma.sum(), len(sigma)
    close(collapse_auc(sigma), (d + 1 - (np.arange(1, d + 1) * p).sum()) / d)
    close(cumulative_spectrum(sigma), p.cumsum())


@given(SPECTRA)
def test_ties_and_duplicates(sigma):
    """Every mode twice: ranks double, and so does every count of dimensions."""
    for metric in METRICS[1:]:
        close(metric(np.tile(sigma, 2)), 2 * metric(sigma))


def test_rotation_and_repetition_of_the_features():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(90, 20)) * power_law(20, 1.2)
    rotation = np.linalg.qr(rng.normal(size=(20, 20)))[0]
    for other in (features @ rotation, np.tile(features, (3, 1)), rng.permutation(features)):
        for metric in METRICS:
            close(*(metric(np.linalg.svd(z, compute_uv=False)) for z in (other, features)))


def test_linear_spectrum_padded():
    close(collapse_auc(np.arange(1, 11), dim=25), 0.88)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_torch_equals_numpy_batched(dtype):
    sigma = torch.randint(1, 50, (3, 4, 30), generator=torch.Generator().manual_seed(0)).to(dtype)
    calls = [*METRICS, lambda s: alpha_req(s, 2, 20), lambda s: rankme(s, 1e-7), lambda s: collapse_auc(s, 77)]
    for call in calls:
        value = call(sigma)
        assert value.dtype == torch.float64 and value.shape == (3, 4)
        close(value.numpy(), call(sigma.numpy()), rtol=1e-14)
        close(value[1, 2], call(sigma[1, 2].tolist()), rtol=1e-14)
    assert torch.equal(numerical_rank(sigma), torch.from_numpy(numerical_rank(sigma.numpy())))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_equals_cpu():
    sigma = torch.rand(5, 300)
    for call in (*METRICS, alpha_req):
        value = call(sigma.cuda())
        assert value.is_cuda
        close(value.cpu(), call(sigma))


@given(SPECTRA, st.sampled_from([1e-300, 1e300]))
def test_extreme_scales_neither_overflow_nor_vanish(sigma, scale):
    assume(sigma.max() < 1e6)
    for metric in METRICS:
        close(metric(scale * sigma), metric(sigma), rtol=1e-6)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("sigma", "says"),
    [
        ([], "at least one"),
        (np.ones((3, 0)), "at least one"),
        (np.float64(1), "at least one"),
        ([1, math.nan], "NaN"),
        ([1, math.inf], "infinity"),
        ([1, -1e-9], "negative"),
        ([0, 0], "complete collapse"),
        ([[1, 2], [0, 0]], "complete collapse"),
        ([1j], "real"),
        (["1"], "real"),
        (np.ones(3, np.float16), "float16"),
    ],
)
@pytest.mark.parametrize("call", [*METRICS, cumulative_spectrum, numerical_rank, alpha_req])
def test_a_spectrum_that_is_none(call, sigma, says):
    with pytest.raises(ValueError, match=says):
        call(sigma)
    if np.asarray(sigma).dtype.kind != "U":
        with pytest.raises(ValueError, match=says):
            call(torch.as_tensor(sigma))


def test_bad_arguments():
    sigma = np.array([3.0, 2, 1, 0])
    with pytest.raises(ValueError, match="dim is 3, but there are 4"):
        collapse_auc(sigma, dim=3)
    for eps in (-1e-9, math.nan, math.inf):
        with pytest.raises(ValueError, match="eps"):
            rankme(sigma, eps)
    for first, last in ((12, 100), (0, 3), (3, 3), (1, 5)):
        with pytest.raises(ValueError, match=f"ranks {first} to {last} cannot be fitted to 4 values"):
            alpha_req(sigma, first, last)
    with pytest.raises(ValueError, match="is 0; fit fewer"):
        alpha_req(sigma, 1, 4)
    with pytest.raises(ValueError, match="bfloat16"):
        stable_rank(torch.ones(3, dtype=torch.bfloat16))


# ---------------------------------------------------------------- Li et al.'s released spectra

# Shares of ImageNet that the six models were trained on, and what their spectra give.
SHARES = (1, 5, 10, 20, 50, 100)
AUC = (0.60976205, 0.74803216, 0.84492205, 0.87871503, 0.87141941, 0.85775466)
TABLE = [
    (lambda s: collapse_auc(s**2), (0.73817534, 0.88157834, 0.97036435, 0.98334732, 0.97191786, 0.97932370)),
    (lambda s: cumulative_spectrum(s)[9], (0.06625133, 0.11189918, 0.25564077, 0.31660768, 0.26578733, 0.27642289)),
    (lambda s: cumulative_spectrum(s)[99], (0.34186391, 0.51194578, 0.71310455, 0.77687402, 0.76191074, 0.73768971)),
    (lambda s: 513 - 512 * collapse_auc(s), (200.801832, 130.007536, 80.399910, 63.097904, 66.833260, 73.829614)),
    (rankme, (465.207992, 323.491266, 186.493391, 140.028815, 161.346233, 165.558589)),
    (lambda s: rankme(s, 1e-7), (465.335942, 323.604459, 186.562113, 140.082956, 161.408606, 165.621312)),
    (variance_effective_rank, (309.672611, 140.71425, 30.095747, 14.195693, 32.071859, 14.516557)),
    (participation_ratio, (160.531192, 66.933501, 12.795929, 5.2009901, 14.920808, 4.1940600)),
    (stable_rank, (31.356822, 18.755401, 4.7860336, 2.5049178, 5.2865434, 2.1032608)),
    (alpha_req, (0.722131, 1.04087, 1.86754, 1.94860, 1.91534, 1.84309)),
]


@pytest.fixture(scope="module")
def released():
    if not RELEASED.exists():
        pytest.skip(f"{RELEASED.name} is not in the folder that STOPGRAD_DATA names; it is Li et al.'s, not ours")
    with np.load(RELEASED) as spectra:
        return [spectra[f"resnet18_{share:03}percent"] for share in SHARES]


def test_released_auc(released):
    for sigma, auc in zip(released, AUC, strict=True):
        assert sigma.dtype == np.float32 and sigma.shape == (512,)
        assert abs(collapse_auc(sigma) - auc) < 1e-6
        assert abs(collapse_auc(torch.from_numpy(sigma)) - auc) < 1e-6


@pytest.mark.parametrize(("call", "values"), TABLE)
def test_released_table(released, call, values):
    for sigma, value in zip(released, values, strict=True):
        close(call(sigma.astype(float)), value, rtol=3e-6 if call is alpha_req else 1e-7)


def test_released_ranks(released):
    assert [numerical_rank(sigma) for sigma in released] == [509, 450, 449, 442, 441, 436]
    million = 1_281_167 * 2**-23  # torch.linalg.matrix_rank's default for all of ImageNet in float32
    assert [numerical_rank(sigma, million) for sigma in released] == [421, 137, 28, 14, 31, 13]


def test_metrics_disagree_on_the_most_collapsed(released):
    def order(call, sign):
        return [SHARES[k] for k in np.argsort([sign * call(sigma) for sigma in released])]

    assert order(collapse_auc, -1) == order(rankme, 1) == [20, 50, 100, 10, 5, 1]
    assert order(participation_ratio, 1) == order(stable_rank, 1) == [100, 20, 10, 50, 5, 1]
    assert order(alpha_req, -1) == [20, 50, 10, 100, 5, 1]

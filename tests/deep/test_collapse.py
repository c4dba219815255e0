"""Collapse of features in parts against slow readings in one piece, closed forms, and what a verdict rests on."""

import math
import os
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import fractional_matrix_power
from scipy.spatial.distance import pdist

from stopgrad.deep.measuring import diagnosis
from stopgrad.deep.measuring.collapse import features as parts_of_features
from stopgrad.deep.measuring.collapse import views
from stopgrad.deep.measuring.collapse.features import of_array
from stopgrad.deep.measuring.collapse.measurement import measure_collapse, measure_spectrum
from stopgrad.deep.measuring.collapse.presets import PRESETS, convention_of
from stopgrad.deep.measuring.collapse.verdict import WORDS, verdict
from stopgrad.linear_theory.spectra.spectrum import collapse_auc, rankme, variance_effective_rank
from stopgrad.linear_theory.tools.errors import BadInput

DATA = Path(os.environ.get("STOPGRAD_DATA", Path(__file__).parents[3] / "shared" / "data"))
RELEASED = DATA / "li2022_imagenet_singular_values.npz"
METRICS = ("collapse_auc", "rankme", "variance_effective_rank", "participation_ratio", "stable_rank")


def draw(seed, n, d, decay=1.0, mean=0.5):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) * np.arange(1, d + 1.0) ** (-decay / 2) + mean


def views_of(seed, q, n, d, noise=0.3):
    return draw(seed, n, d) + noise * np.random.default_rng(seed + 1).normal(size=(q, n, d))


def with_spectrum(sigma, n=200, seed=0):
    """Centred features (n, d) of exactly these singular values."""
    rng, d = np.random.default_rng(seed), len(sigma)
    left = rng.normal(size=(n, d))
    left = np.linalg.qr(left - left.mean(0))[0]
    return left * sigma @ np.linalg.qr(rng.normal(size=(d, d)))[0]


def close(value, expected, rtol=1e-9, atol=0.0):
    np.testing.assert_allclose(value, expected, rtol=rtol, atol=atol)


@pytest.fixture
def few_rows(monkeypatch):
    """Many parts of a few samples each."""
    monkeypatch.setattr(parts_of_features, "ENTRIES", 150)


# ---------------------------------------------------------------- in parts and in one piece


@pytest.mark.parametrize("preset", PRESETS)
def test_parts_give_what_an_svd_of_the_whole_gives(preset, few_rows):
    z, how = draw(0, 301, 12), convention_of(preset)
    found = measure_collapse(z, preset)
    assert len(of_array(lambda: z, "z").spans()) > 20
    rows = z / (np.linalg.norm(z, axis=1, keepdims=True) + 1e-6) if how.normalised else z
    sigma = np.linalg.svd(rows - rows.mean(0) if how.centred else rows, compute_uv=False)
    close(found.sigma, sigma)
    metrics = found.spectrum.metrics
    close(metrics.collapse_auc, collapse_auc(sigma))
    close(metrics.rankme, rankme(sigma, how.rankme_eps))
    close(metrics.variance_effective_rank, variance_effective_rank(sigma))
    row = found.row()
    assert (row["samples"], row["dim"], row["space"], row["centred"]) == (301, 12, how.space, how.centred)
    assert row["numerical_rank"] == 12 and row["constant_channels"] == 0


@pytest.mark.parametrize("kind", [np.float64, np.float32, torch.float64, torch.float32])
def test_views_in_parts_are_views_in_one_piece(kind, monkeypatch):
    z = views_of(3, 3, 97, 5)
    z = torch.from_numpy(z).to(kind) if isinstance(kind, torch.dtype) else z.astype(kind)
    whole = measure_collapse(z)
    monkeypatch.setattr(parts_of_features, "ENTRIES", 40)
    parts = measure_collapse(z)
    for name in ("channel_std", "uniformity", "alignment", "lidar"):
        close(getattr(parts, name), getattr(whole, name))
        call = getattr(views, name)
        close(call(z if name in ("alignment", "lidar") else z[0]), getattr(whole, name))
    assert whole.views == 3


def test_progress_wraps_the_parts(few_rows):
    seen = []
    measure_collapse(draw(0, 40, 10), each=lambda spans: (seen.append(span) or span for span in spans))
    assert seen == [(0, 15), (15, 30), (30, 40)]


# ---------------------------------------------------------------- closed forms


@pytest.mark.parametrize(
    ("sigma", "auc", "rank"),
    [
        (np.ones(16), 17 / 32, 16),
        (np.repeat([2.0, 0.0], [4, 12]), 1 - 3 / 32, 4),
        (0.5 ** np.arange(20), 1 - 1 / 20 + 0.5**20 / (1 - 0.5**20), None),
        (np.arange(8, 0, -1.0), 17 / 24, None),
        (np.arange(1, 17) ** -1.0, 17 / 16 - 1 / (1 / np.arange(1, 17)).sum(), None),
    ],
)
def test_closed_forms_from_features(sigma, auc, rank):
    """Flat, flat of rank k, geometric, linear, and λ ~ 1/i², all exact for d modes."""
    found = measure_collapse(with_spectrum(sigma))
    close(found.spectrum.metrics.collapse_auc, auc, rtol=1e-6)
    if rank:
        close([getattr(found.spectrum.metrics, name) for name in METRICS[1:]], rank, rtol=1e-6)
        assert found.numerical_rank == rank
    close(measure_spectrum(sigma).spectrum.metrics.collapse_auc, auc, rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 99), st.integers(2, 8), st.integers(1, 6), st.floats(0.1, 4), st.floats(1e-3, 1e3))
def test_chain_padding_and_invariances(seed, d, zeros, decay, scale):
    """Stable rank ≤ participation ratio ≤ rank of σ² ≤ RankMe ≤ rank, whatever is turned, scaled or padded."""
    z = draw(seed, 60, d, decay)
    found = measure_collapse(z)
    metrics = found.spectrum.metrics
    chain = [metrics.stable_rank, metrics.participation_ratio, metrics.variance_effective_rank, metrics.rankme]
    assert all(a <= b * (1 + 1e-9) for a, b in zip(chain, [*chain[1:], found.numerical_rank]))
    rng = np.random.default_rng(seed)
    turned = measure_collapse(scale * rng.permutation(z @ np.linalg.qr(rng.normal(size=(d, d)))[0])).spectrum.metrics
    close([getattr(turned, name) for name in METRICS], [getattr(metrics, name) for name in METRICS], rtol=1e-6)
    padded = measure_collapse(np.hstack([z, np.full((60, zeros), 0.7)]))
    close(padded.spectrum.metrics.collapse_auc, 1 - d / (d + zeros) * (1 - metrics.collapse_auc), rtol=1e-6)
    close([getattr(padded.spectrum.metrics, name) for name in METRICS[1:]], chain[::-1], rtol=1e-6)
    assert padded.constant_channels == zeros and padded.numerical_rank == found.numerical_rank


def test_a_spectrum_of_unknown_size_is_held_against_a_flat_one():
    found, known = (measure_spectrum([3.0, 1.0, 0.5], n) for n in (None, 50))
    assert found.spectrum.metrics == known.spectrum.metrics
    noise = found.spectrum.white_noise
    close([getattr(noise, name) for name in METRICS], [2 / 3, 3, 3, 3, 3])
    assert found.spectrum.samples is None and math.isnan(found.spectrum.rms)
    assert known.spectrum.white_noise.rankme < 3
    assert found.row()["channel_std"] is found.row()["lidar_white_noise"] is None


def test_released_spectra():
    if not RELEASED.exists():
        pytest.skip(f"{RELEASED.name} is not in the folder that STOPGRAD_DATA names; it is Li et al.'s, not ours")
    golden = {1: 0.60976205, 5: 0.74803216, 10: 0.84492205, 20: 0.87871503, 50: 0.87141941, 100: 0.85775466}
    with np.load(RELEASED) as spectra:
        found = {n: measure_spectrum(spectra[f"resnet18_{n:03}percent"], 1_281_167) for n in golden}
    for n, auc in golden.items():
        assert abs(found[n].spectrum.metrics.collapse_auc - auc) < 1e-6
    assert [one.numerical_rank for one in found.values()] == [509, 450, 449, 442, 441, 436]
    words = [verdict(one).word for one in found.values()]
    assert words == ["healthy"] * 2 + ["partial dimensional collapse"] * 4


# ---------------------------------------------------------------- metrics on vectors


@pytest.mark.parametrize("k", [1, 4, 7])
def test_lidar_counts_the_directions_that_tell_images_apart(k):
    d = 8
    means = 3 * np.vstack([np.eye(d)[:k], -np.eye(d)[:k]])
    about = 0.5 * np.vstack([np.eye(d), -np.eye(d)])
    close(views.lidar(means + about[:, None], eps=0), k, rtol=1e-6)


def test_lidar_step_by_step():
    z = views_of(5, 4, 60, 6)
    mean = z.mean(0)
    between, within = np.cov(mean.T, bias=True), np.zeros((6, 6))
    for q in range(4):
        for i in range(60):
            within += np.outer(z[q, i] - mean[i], z[q, i] - mean[i]) / 240
    root = fractional_matrix_power(within + 0.01 * np.eye(6), -0.5)
    share = np.linalg.eigvalsh(root @ between @ root) + 1e-8
    share /= share.sum()
    close(views.lidar(z, delta=0.01), math.exp(-(share * np.log(share)).sum()))


@pytest.mark.parametrize(("n", "q", "d"), [(400, 2, 40), (120, 5, 80), (60, 6, 90)])
def test_lidar_of_white_noise(n, q, d):
    """Within what one draw may be off; the size of the images' own part does not matter."""
    rng = np.random.default_rng(0)
    expected = views.lidar_white_noise(n, q, d)
    for signal in (0.0, 3.0):
        z = signal * rng.normal(size=(n, d)) + rng.normal(size=(q, n, d))
        close(views.lidar(z, delta=0, eps=0), expected, rtol=0.02)
    assert views.lidar_white_noise(40, 2, 40) is None


def test_alignment_and_uniformity_pair_by_pair():
    z = views_of(2, 3, 30, 4)
    u = z / np.linalg.norm(z, axis=-1, keepdims=True)
    close(views.alignment(z), np.mean([((a - b) ** 2).sum(-1).mean() for a, b in combinations(u, 2)]))
    for t in (0.5, 2.0):
        close(views.uniformity(z[0], t), np.log(np.exp(-t * pdist(u[0]) ** 2).mean()))
    close(views.channel_std(z[0]), u[0].std(0).mean())


def test_white_noise_is_what_noise_scores():
    rng = np.random.default_rng(1)
    for d in (3, 40):
        z = rng.normal(size=(2, 3000, d))
        assert abs(views.uniformity(z[0]) - views.uniformity_white_noise(d)) < 0.01
        row = measure_collapse(z).row()
        for name in ("channel_std", "uniformity", "alignment", "lidar", *METRICS):
            close(row[name], row[f"{name}_white_noise"], rtol=0.03)


def test_uniformity_takes_an_even_sample_of_many():
    z = draw(0, 10_000, 3, mean=0)
    chosen = views.evenly(10_000)
    assert len(chosen) == views.SAMPLED and chosen[0] == 0 and chosen[-1] == 9999
    assert set(np.diff(chosen)) == {2, 3}
    close(views.uniformity(z), views.uniformity(z[chosen]))


# ---------------------------------------------------------------- rounding


@pytest.mark.parametrize(("dtype", "rank"), [(np.float32, 12), (np.float16, 12)])
def test_what_rounding_makes_is_below_the_floor(dtype, rank):
    z = with_spectrum(np.repeat([30.0, 0.0], [rank, 20]), n=2000) + 0.3
    found = measure_collapse(z.astype(dtype))
    assert found.numerical_rank == rank
    assert found.sigma[rank:].max(initial=0) < found.noise_floor < 3 * found.sigma[rank] + 1e-3 * found.sigma[0]


def test_a_mean_far_away_costs_no_digits():
    z = draw(0, 500, 6, mean=0)
    close(measure_collapse(z + 1e6).sigma, measure_collapse(z).sigma, rtol=1e-7)


# ---------------------------------------------------------------- verdict


def of_rank(k, d=100):
    return measure_spectrum(np.repeat([1.0, 0.0], [k, d - k]))


def test_words_follow_rankme_beside_white_noise():
    assert set(WORDS) - {"partial dimensional collapse"} < set(diagnosis.WORDS)
    assert [verdict(of_rank(k)).word for k in (1, 11, 13, 41, 43, 100)] == [
        *["dimensional collapse"] * 2,
        *["partial dimensional collapse"] * 2,
        *["healthy"] * 2,
    ]
    embeddings = [measure_spectrum(np.repeat([1.0, 0.0], [k, 100 - k]), space="embedding") for k in (11, 13, 29, 31)]
    assert [verdict(one).word.split()[0] for one in embeddings] == ["dimensional", "partial", "partial", "healthy"]
    assert "RankMe 13 where white noise of the same size has 100 (13%)" in verdict(of_rank(13)).sentence


def test_one_direction_is_a_complete_collapse_whatever_its_rounding_looks_like():
    z = 1 + 1e-3 * draw(0, 500, 20, decay=0, mean=0)
    assert verdict(measure_collapse(z)).word == "complete collapse (direction)"
    spread_about_a_mean = 1 + 0.1 * draw(0, 500, 20, decay=0, mean=0)
    assert verdict(measure_collapse(spread_about_a_mean)).word == "healthy"
    assert verdict(measure_collapse(spread_about_a_mean, space="embedding")).word == "complete collapse (direction)"


def test_notes_say_what_limits_the_numbers():
    few = measure_collapse(draw(0, 10, 20))
    [note] = verdict(few).notes
    assert note.startswith("Too few samples: 10 of 20 dimensions span 9 at most")
    dead = draw(0, 300, 8)
    dead[:, 2] = 1.5
    dead[:, 3] = dead[:, 4]
    assert [note.split()[0] for note in verdict(measure_collapse(dead)).notes] == ["1", "Only"]
    assert any(note.startswith("Not centred") for note in verdict(measure_collapse(dead, "garrido2023")).notes)
    steep = measure_spectrum(np.append(100.0, np.ones(99)))
    assert any(note.startswith("Few directions hold most") for note in verdict(steep).notes)


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("z", "says"),
    [
        (np.ones((20, 4)), "do not vary, which is complete collapse"),
        (np.full((20, 4), 1e8) + np.eye(20, 4) * 1e-9, "do not vary"),
        (np.ones(20), r"shape \(20,\).*--spectrum"),
        (np.ones((2, 3, 4, 5)), r"shape \(2, 3, 4, 5\)"),
        (np.ones((0, 4)), "none of them 0"),
        (np.ones((20, 2, 4)), "20 views of 2 images.*--views-axis 1"),
        (np.where(np.arange(20)[:, None] == 7, np.nan, np.ones((20, 4))), "sample 7 holds NaN"),
        (np.where(np.arange(20)[:, None] == 19, np.inf, np.ones((20, 4))), "sample 19 holds NaN or infinity"),
    ],
)
def test_features_that_have_no_spectrum(z, says, few_rows):
    with pytest.raises(BadInput, match=says):
        measure_collapse(z)


def test_other_bad_input():
    for call, says in [
        (lambda: measure_collapse(draw(0, 9, 3), "li2023"), "there is no preset li2023; there are li2022"),
        (lambda: measure_spectrum(np.ones((2, 2))), "one row of numbers"),
        (lambda: measure_spectrum([0.0, 0.0]), "complete collapse"),
        (lambda: measure_spectrum([1.0, -1.0]), "negative"),
        (lambda: measure_spectrum([1.0, 1.0, 1.0], samples=3), "check samples"),
        (lambda: views.alignment(np.ones((1, 4, 2))), "two views at least"),
        (lambda: views.lidar(np.ones((2, 4, 2))), "nothing tells them apart"),
        (lambda: views.uniformity(np.ones((1, 2))), "at least two"),
        (lambda: views.channel_std([[math.nan, 1.0]]), "NaN"),
    ]:
        with pytest.raises(BadInput, match=says):
            call()

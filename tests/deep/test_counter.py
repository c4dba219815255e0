"""Numbers by counting: the published splitmix64, whatever the order and the batch, and as random as they should be."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from stopgrad.deep.data import counter
from stopgrad.deep.data.fold import fold

MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15
N = 100_000
int64 = st.integers(-(2**63), 2**63 - 1)


def mix(z):
    """splitmix64's output function in Python's unbounded integers."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


def splitmix64(seed, draws):
    return [mix((seed + k * GOLDEN) & MASK) for k in range(1, draws + 1)]


@pytest.fixture(scope="module")
def rows():
    return counter.uniform(fold(0, 1, 2), torch.arange(N), 6)


def test_the_reference_is_splitmix64():
    """The generator's first values for seed 1234567, as its implementations quote them."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert splitmix64(1234567, 4) == published


@given(key=st.integers(0, 2**63 - 1), index=int64)
def test_a_row_is_splitmix64_seeded_by_key_and_index(key, index):
    seed = mix((key + index) & MASK)
    expected = [(v >> 11) * 2.0**-53 for v in splitmix64(seed, 5)]
    assert counter.uniform(key, torch.tensor([index]), 5)[0].tolist() == expected


@given(st.lists(int64, min_size=1, max_size=4))
def test_fold_chains_splitmix64(key):
    state = 0
    for part in key:
        state = mix((state + GOLDEN + part) & MASK)
    assert fold(*key) == state & (2**63 - 1)


def test_fold_tells_keys_apart():
    keys = [key for n in (1, 2, 3) for key in itertools.product(range(-3, 12), repeat=n)]
    folded = {fold(*key) for key in keys}
    assert len(folded) == len(keys)
    assert all(0 <= v < 2**63 for v in folded)


@pytest.mark.parametrize("function", [counter.uniform, counter.normal])
def test_order_and_batch_do_not_matter(function):
    index = torch.arange(37) * 1_000_003
    whole, order = function(7, index, 9), counter.permutation(1, len(index))
    assert torch.equal(function(7, index[order], 9), whole[order])
    assert torch.equal(torch.cat([function(7, part, 9) for part in index.split(5)]), whole)
    assert torch.equal(function(7, index[3:4], 9), whole[3:4])


def test_fewer_draws_are_the_first_of_more():
    index = torch.arange(10)
    assert torch.equal(counter.uniform(3, index, 4), counter.uniform(3, index, 11)[:, :4])


def test_uniform_numbers_fill_the_interval(rows):
    assert rows.dtype == torch.float64
    assert 0 <= rows.min() < 1e-4 and 1 - 1e-4 < rows.max() < 1
    for column in rows.T.numpy():
        assert stats.kstest(column, "uniform").pvalue > 1e-3


def test_neighbouring_draws_indices_and_keys_are_uncorrelated(rows):
    other = counter.uniform(fold(0, 1, 3), torch.arange(N), 6)
    neighbours = torch.cat([rows[:-1], rows[1:], other[:-1]], dim=1)
    correlation = np.corrcoef(neighbours.numpy(), rowvar=False)
    assert np.abs(correlation - np.eye(18)).max() < 5 / N**0.5


def test_pairs_fill_the_square(rows):
    """Chi-square over a 20 × 20 grid for each pair of columns."""
    for a, b in itertools.combinations(rows.T.numpy(), 2):
        counts, _, _ = np.histogram2d(a, b, bins=20, range=[[0, 1], [0, 1]])
        assert stats.chisquare(counts.ravel()).pvalue > 1e-3


def test_normal_numbers_are_normal():
    x = counter.normal(5, torch.arange(N), 3).numpy()
    assert np.isfinite(x).all()
    for column in x.T:
        assert stats.kstest(column, "norm").pvalue > 1e-3
    assert np.abs(np.cov(x, rowvar=False) - np.eye(3)).max() < 6 / N**0.5


def test_permutations_are_permutations_and_uniform():
    assert torch.equal(counter.permutation(3, 1000).sort().values, torch.arange(1000))
    assert torch.equal(counter.permutation(3, 1000), counter.permutation(3, 1000))
    assert not torch.equal(counter.permutation(3, 1000), counter.permutation(4, 1000))
    seen = [tuple(counter.permutation(fold(9, k), 3).tolist()) for k in range(3000)]
    counts = [seen.count(order) for order in itertools.permutations(range(3))]
    assert stats.chisquare(counts).pvalue > 1e-3

"""Eigenvalues of matrices of any size: equal to LAPACK's, and there where LAPACK gives up."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from linear_theory.eigen import eigh, eigvalsh


def correlation(seed, n=12, rank=5, dtype=torch.float32):
    features = torch.randn(40, rank, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    mixed = features @ torch.randn(rank, n, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    return (mixed.mT @ mixed / 40).to(dtype)


@given(st.integers(0, 100), st.integers(-120, 100))
def test_scaling_by_a_power_of_two_scales_the_spectrum_exactly(seed, exponent):
    F = correlation(seed)
    factor = 2.0**exponent
    scaled = F * factor
    if bool((scaled == 0).any() | (scaled.abs() < 2.0**-126).any()):
        return  # entries that the dtype has rounded
    torch.testing.assert_close(eigvalsh(scaled), eigvalsh(F) * factor, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_agrees_with_lapack_and_numpy_on_ordinary_matrices(dtype):
    F = torch.stack([correlation(k, dtype=dtype) for k in range(4)])
    values, vectors = eigh(F)
    torch.testing.assert_close(values, torch.linalg.eigvalsh(F), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(vectors @ torch.diag_embed(values) @ vectors.mT, F, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.from_numpy(eigh(F.numpy())[0]), values, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(eigvalsh(F.numpy()), eigh(F.numpy())[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("entry", [0.0, 1e-45, 1e-38, 2.0**-52, 1e-15, 3e38])
def test_a_matrix_of_any_size_has_a_spectrum(entry):
    F = torch.full((64, 64), entry)
    values = eigvalsh(F)
    assert torch.isfinite(values[:-1]).all()
    if entry not in (1e-45, 3e38):  # below or above what float32 holds with all its digits
        torch.testing.assert_close(values[-1], torch.tensor(64 * entry), rtol=1e-5, atol=0)


def test_the_correlation_of_embeddings_that_collapsed_to_one_point():
    """Entries of unit roundoff times small integers, most of them 0: float32 LAPACK was seen to give up on these."""
    rows = torch.zeros(64, 64)
    rows[:8, :8] = correlation(0, n=8) / correlation(0, n=8).max()
    F = (rows * 9).round() * 2.0**-52
    torch.testing.assert_close(
        eigvalsh(F), (torch.linalg.eigvalsh(F.double() * 2.0**52) * 2.0**-52).float(), rtol=1e-4, atol=1e-20
    )

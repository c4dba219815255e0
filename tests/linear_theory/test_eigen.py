"""Eigenvalues of matrices of any size: there where LAPACK gives up in float32, in the dtype that was given."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stopgrad.linear_theory.tools.eigen import eigh, eigvalsh


def correlation(seed, n=12, rank=5, dtype=torch.float32):
    features = torch.randn(40, rank, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    mixed = features @ torch.randn(rank, n, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    return (mixed.mT @ mixed / 40).to(dtype)


@given(st.integers(0, 200), st.integers(-120, 100))
def test_scaling_by_a_power_of_two_scales_the_spectrum(seed, exponent):
    F, factor = correlation(seed), 2.0**exponent
    torch.testing.assert_close(eigvalsh(F * factor), eigvalsh(F) * factor, rtol=1e-5, atol=factor * 1e-5)


@pytest.mark.parametrize("seed", range(60))
def test_a_graded_correlation_has_a_spectrum(seed):
    """Features of sizes over 40 decades: float32 LAPACK fails on most of these, by exception or NaN."""
    draw = torch.Generator().manual_seed(seed)
    features = torch.randn(200, 64, generator=draw).double() * 10.0 ** (-40 * torch.rand(64, generator=draw)).double()
    F = (features.mT @ features).float() * float(10 ** (-20 * torch.rand(1, generator=draw)))
    values, vectors = eigh(F)
    assert values.isfinite().all() and vectors.isfinite().all()
    torch.testing.assert_close(
        values, torch.linalg.eigvalsh(F.double()).float(), rtol=1e-6, atol=float(F.max()) * 1e-12
    )
    assert eigvalsh(F).isfinite().all()


def test_numpy_and_torch_agree_and_keep_the_dtype():
    for dtype in (torch.float32, torch.float64):
        F = torch.stack([correlation(k, dtype=dtype) for k in range(4)])
        values, vectors = eigh(F)
        assert values.dtype == vectors.dtype == dtype
        torch.testing.assert_close(vectors @ torch.diag_embed(values) @ vectors.mT, F, rtol=1e-4, atol=1e-5)
        theirs = eigh(F.numpy())
        assert theirs[0].dtype == theirs[1].dtype == F.numpy().dtype
        np.testing.assert_allclose(theirs[0], values, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(eigvalsh(F.numpy()), theirs[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("entry", [0.0, 1e-38, 2.0**-52, 1e-15, 1e30])
def test_a_matrix_of_any_size_has_a_spectrum(entry):
    values = eigvalsh(torch.full((64, 64), entry))
    torch.testing.assert_close(values[-1], torch.tensor(64 * entry), rtol=1e-5, atol=0)

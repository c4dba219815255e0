"""Lengths and directions at every size the dtype holds, and each measure that claims not to feel a size."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from methods import objective
from torch.nn.functional import cosine_similarity, normalize

from stopgrad.deep.config import Method
from stopgrad.deep.data import counter
from stopgrad.deep.measuring.evaluation import knn_accuracy
from stopgrad.deep.measuring.monitor import measure, to_host
from stopgrad.deep.measuring.probe import logistic_probe
from stopgrad.deep.measuring.weights import follow_target
from stopgrad.deep.method.networks import BiasLayer
from stopgrad.deep.method.objectives.predictive import cosine_loss
from stopgrad.linear_theory.exact.nonisotropic import shared_modes
from stopgrad.linear_theory.flows.matrices import Correlations
from stopgrad.linear_theory.predictors.matrices import correlation
from stopgrad.linear_theory.samples.views import exact_views
from stopgrad.linear_theory.spectra import spectrum
from stopgrad.linear_theory.spectra.alignment import asymmetry, eigenvector_alignment, misalignment
from stopgrad.linear_theory.tools.lengths import MATRIX, directions, length, magnitude

DOUBLE, SINGLE = st.floats(-300, 300), st.floats(-37, 37)
"""Powers of ten of all normal numbers of float64 and float32, with room for a few decades within the data."""
NARROW = st.sampled_from([torch.float32, torch.bfloat16])


def normal(seed, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def close(found, wanted, rtol=1e-12, atol=0.0):
    np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=rtol, atol=atol)


# ---------------------------------------------------------------- the functions themselves


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=6))
def test_length_is_that_of_the_standard_library(entries):
    """`math.hypot` scales with care; subnormal numbers and the largest ones too."""
    wanted = math.hypot(*entries)
    with np.errstate(over="ignore"):
        for v in (np.array(entries), torch.tensor(entries, dtype=torch.float64)):
            assert float(length(v)) == pytest.approx(wanted, rel=1e-14, abs=5e-324)


@given(st.integers(0, 10**6), DOUBLE, st.integers(1, 8))
def test_directions_have_length_one_and_feel_no_size(seed, power, d):
    v = normal(seed, 5, d).numpy()
    unit = directions(v * 10**power)
    close(np.linalg.norm(unit, axis=1), 1)
    close(unit, v / np.linalg.norm(v, axis=1, keepdims=True))
    close(directions(torch.from_numpy(v * 10**power)), unit)


@given(st.integers(0, 10**6), st.integers(-120, 120))
def test_ordinary_sizes_keep_every_bit(seed, power):
    """Of torch's own functions; at other sizes by a power of two the direction stays what it was, bit by bit."""
    v, t = normal(seed, 2, 9, 7, dtype=torch.float32)
    assert torch.equal(directions(v), normalize(v, dim=1))
    assert torch.equal(directions(v * 2.0**power), directions(v))
    v.requires_grad_()
    theirs, ours = -cosine_similarity(v, t, dim=-1).mean(), cosine_loss(v, t)
    assert ours.item() == theirs.item()
    assert torch.equal(*(torch.autograd.grad(loss, v)[0] for loss in (ours, theirs)))


def test_zero_has_no_direction_and_what_is_not_finite_none_either():
    for dtype in (torch.float32, torch.float64):
        v = torch.tensor([[0, 0], [torch.finfo(dtype).smallest_normal / 8, 0]], dtype=dtype)
        assert directions(v).tolist() == [[0, 0], [1, 0]]
    bad = torch.tensor([[math.nan, 1], [math.inf, 1]])
    assert directions(bad).isnan().all()
    with np.errstate(invalid="ignore"):
        assert np.isnan(directions(bad.numpy())).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64])
def test_dtypes(dtype):
    v = (4 * normal(0, 3, 5)).to(dtype)
    wide = torch.float64 if dtype in (torch.int64, torch.float64) else torch.float32
    assert directions(v).dtype == length(v).dtype == wide
    close(directions(v), normalize(v.double(), dim=1), rtol=1e-6)
    assert directions(np.array([3, 4])).tolist() == [0.6, 0.8] and directions([3.0, 4.0]).tolist() == [0.6, 0.8]


def test_magnitude_is_the_power_of_two_below():
    v = np.array([[[3.0, -5.0], [1.0, 2.0]], [[0.0, 0.0], [0.0, 0.0]], [[2.0**-1074, 0.0], [0.0, 0.0]]])
    assert magnitude(v, MATRIX).ravel().tolist() == [4, 1, 2.0**-1074]
    assert magnitude(torch.tensor([[8.0, 1.0], [0.9, 0.0]])).tolist() == [[8], [0.5]]


# ---------------------------------------------------------------- the loss


@given(st.integers(0, 10**6), st.floats(-37, 30), st.floats(-37, 30), NARROW)
def test_the_loss_is_of_directions_and_its_gradient_the_exact_one(seed, power, other, dtype):
    """−(T − P cos)/‖p‖ over the batch, against autograd of the plain expression in float64 on the same numbers."""
    p, t = (normal(seed + k, 6, 5).mul(10.0**e).to(dtype) for k, e in enumerate((power, other)))
    exact, theirs = p.double().requires_grad_(), t.double()
    dots = (exact * theirs).sum(-1) / (exact.square().sum(-1).sqrt() * theirs.square().sum(-1).sqrt())
    (wanted,) = torch.autograd.grad(-dots.mean(), exact)
    p.requires_grad_()
    loss = cosine_loss(p, t)
    (found,) = torch.autograd.grad(loss, p)
    assert loss.item() == pytest.approx(-dots.mean().item(), abs=1e-6)
    precision = torch.finfo(dtype).eps
    close(found.double(), wanted, rtol=4 * precision, atol=4 * precision * float(wanted.abs().max()))


@pytest.mark.parametrize("size", [1.0, 1e-7, 1e-10, 1e-20, 1e-30])
def test_the_monitor_and_the_loss_agree_at_any_length(size):
    z, p = (size * normal(k, 2, 8, 5, dtype=torch.float32) + size for k in range(2))
    loss = objective(Method.of(loss="cosine"))(z, p, z).item()
    assert loss == pytest.approx(-to_host(measure(z, p, z))[0]["cosine_prediction"], rel=1e-6)
    plain = [v.double() / size for v in (p, z.flip(0))]
    assert loss == pytest.approx(-float(cosine_similarity(*plain, dim=-1).mean()), rel=1e-5) and loss < -0.1


def test_a_zero_vector_adds_nothing_to_the_loss_and_gets_no_gradient():
    p, t = normal(3, 4, 5, dtype=torch.float32), normal(4, 4, 5, dtype=torch.float32)
    p[0], t[1] = 0, 0
    p.requires_grad_()
    loss = cosine_loss(p, t)
    loss.backward()
    assert loss.item() == pytest.approx(-cosine_similarity(p[2:], t[2:], dim=-1).sum().item() / 4)
    assert not p.grad[:2].any() and p.grad[2:].abs().min() > 0


@given(st.integers(0, 10**6), SINGLE)
def test_the_bias_predictor_feels_no_size(seed, power):
    layer, z = BiasLayer(5), normal(seed, 6, 5, dtype=torch.float32)
    close(layer((z.double() * 10**power).float()).detach(), layer(z).detach(), rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------- what representations are worth


def four_decades(n=400, m=200, d=6, classes=4):
    """Overlapping classes, apart in direction; lengths over four decades."""
    labels = torch.arange(n + m) % classes
    x = counter.normal(0, torch.arange(n + m), d) + 2.5 * torch.eye(classes, d)[labels]
    x = x * 10 ** (4 * counter.uniform(1, torch.arange(n + m), 1) - 2)
    return x[:n], labels[:n], x[n:], labels[n:]


@given(st.floats(-200, 200))
def test_knn_feels_no_size_in_float64(power):
    x, y, test, truth = four_decades()
    plain = knn_accuracy(x, y, test, truth, 10)
    assert 0.8 < plain < 1
    assert knn_accuracy(x * 10**power, y, test, truth, 10) == plain
    assert knn_accuracy(x, y, test * 10**power, truth, 10) == plain


@given(st.floats(-34, 34), NARROW)
def test_knn_feels_no_size_in_float32(power, dtype):
    """Half precision rounds the scaled numbers, and with them the neighbours: by a power of two it does not."""
    x, y, test, truth = four_decades()
    c = 10**power if dtype == torch.float32 else 2.0 ** round(3 * power)
    plain = knn_accuracy(x.to(dtype), y, test.to(dtype), truth, 10)
    found = knn_accuracy((x.to(dtype).double() * c).to(dtype), y, test.to(dtype), truth, 10)
    assert found == pytest.approx(plain, abs=0.006 if dtype == torch.float32 else 0)


@given(st.floats(-290, 130))
def test_the_spectrum_of_features_feels_no_size(power):
    """Below the squares of float64, where they once were complete collapse; above 1e150 they are refused aloud."""
    z = normal(0, 60, 7).numpy() * np.arange(1, 8) + 1
    for convention in (spectrum.LI2022, spectrum.GARRIDO2023):
        plain, found = (spectrum.measure(v, convention) for v in (z, z * 10**power))
        close(found.metrics[:5], plain.metrics[:5], rtol=1e-9)
        assert found.rms == pytest.approx(plain.rms * 10**power, rel=1e-9)
        parts = spectrum.measure(iter(torch.from_numpy(z * 10**power).split(13)), convention)
        close(parts.metrics[:5], plain.metrics[:5], rtol=1e-9)
    own = {"eps": 0.0}
    close(spectrum.unit_rows(z * 10**power, **own), spectrum.unit_rows(z, **own), rtol=1e-9)


def test_features_of_very_different_sizes_are_merged():
    z = normal(1, 40, 5).numpy()
    small, large = spectrum.moments(z * 1e-250), spectrum.moments(z)
    for both in (spectrum.merge(small, large), spectrum.merge(large, small)):
        whole = spectrum.moments(np.concatenate([0 * z, z]))
        close(spectrum.singular_values(both), spectrum.singular_values(whole))


@given(st.floats(-290, 290))
def test_the_logistic_probe_feels_no_size_in_float64(power):
    x, y, test, truth = four_decades(120, 60)
    x, test = (v / v.norm(dim=1, keepdim=True) for v in (x, test))
    plain, found = (logistic_probe(x * c, y, test * c, truth, C=0.1) for c in (1.0, 10**power))
    assert found.accuracy == plain.accuracy > 0.8


@pytest.mark.parametrize(("dtype", "apart"), [(torch.float64, 3e-7), (torch.float64, 1e-13), (torch.float32, 3e-5)])
def test_what_varies_beyond_its_dtypes_rounding_is_read(dtype, apart):
    """scikit-learn's pipeline scores 1.0 on these columns."""
    labels = torch.arange(200) % 2
    x = (1 + apart * (2.0 * labels[:, None].double() - 1) * torch.ones(1, 3)).to(dtype)
    assert logistic_probe(x, labels, x, labels).accuracy == 1


def test_what_varies_by_rounding_is_not_enlarged():
    labels = torch.arange(200) % 2
    told = 1 + torch.finfo(torch.float32).eps * labels[:, None].float() * torch.ones(1, 3)
    assert logistic_probe(told, labels, told, labels, C=1.0).accuracy == 0.5
    assert logistic_probe(told.double(), labels, told.double(), labels, C=1.0).accuracy == 1


# ---------------------------------------------------------------- measures of matrices


@given(st.integers(0, 10**6), st.floats(-250, 250), st.floats(-140, 140))
def test_alignment_feels_no_size(seed, power, other):
    W, G = normal(seed, 2, 4, 4).numpy()
    F = G @ G.T + np.diag(np.arange(4.0))
    for kind in (np.asarray, torch.from_numpy):
        Wp, Fp = kind(W * 10**power), kind(F * 10**other)
        close(misalignment(Wp, Fp), misalignment(W, F), rtol=1e-9)
        for how in ("frobenius", "absolute"):
            close(asymmetry(Wp, how), asymmetry(W, how), rtol=1e-9)
        close(eigenvector_alignment(Wp, Fp).cosine, eigenvector_alignment(W, F).cosine, rtol=1e-6, atol=1e-9)


@given(st.integers(0, 10**6), st.floats(-36, 17), SINGLE)
def test_what_the_monitor_says_of_directions_and_alignment_feels_no_size(seed, power, other):
    """In float32, where the square of 1e-23 is 0: all but trace, eigenvalues of F and commutator, which are sizes."""
    z, W = normal(seed, 2, 12, 4), normal(seed + 1, 4, 4)
    plain, found = (
        to_host(measure(*3 * ((z * a).float(),), (W * b).float())) for a, b in ((1.0, 1.0), (10**power, 10**other))
    )
    for name in set(plain[0]) - {"trace_z", "trace_p", "commutator"}:
        assert found[0][name] == pytest.approx(plain[0][name], rel=1e-3, abs=1e-5), name
    for name in ("alignment", "spectrum_z"):
        close(found[1][name], plain[1][name], rtol=0, atol=2e-3)


def test_f_is_reported_in_its_own_size():
    z = normal(5, 2, 12, 4)
    for size in (1.0, 1e-18, 1e-170):
        found = to_host(measure(z * size, z, z, torch.eye(4)))[1]["eigenvalues"]
        wanted = torch.linalg.eigvalsh(correlation(z.flatten(0, 1))).flip(0) * size * size
        close(found, wanted, rtol=1e-9)


@given(st.integers(0, 10**6), SINGLE, st.floats(-37, 20))
def test_how_a_target_follows_feels_no_size(seed, power, other):
    W, Wa = normal(seed, 2, 4, 6)
    plain = follow_target(W, None, Wa, None)["target_correlation"]
    found = follow_target((W * 10**power).float(), None, (Wa * 10**other).float(), None)["target_correlation"]
    assert float(found) == pytest.approx(float(plain), abs=1e-5)


@given(st.floats(-300, 300))
def test_modes_of_data_scale_with_them(power):
    basis = np.linalg.qr(normal(6, 3, 3).numpy())[0]
    x, xp = np.array([3.0, 2.0, 1.0]), np.array([0.1, 0.4, 0.2])
    c = 10**power
    found = shared_modes(Correlations(*(basis * v * c @ basis.T for v in (x, xp))))
    close(found.x, x * c, rtol=1e-9)
    close(found.xp, xp * c, rtol=1e-9)
    with pytest.raises(ValueError, match="do not commute"):
        shared_modes(Correlations(c * np.diag(x), basis * xp * c @ basis.T))


@pytest.mark.parametrize("c", [1e-20, 1.0, 1e6])
def test_what_is_symmetric_does_not_depend_on_the_size(c):
    X = c * np.array([[2.0, 1.0], [1.0, 3.0]])
    exact_views(Correlations(X + 1e-14 * c * np.array([[0, 1.0], [0, 0]]), X))
    with pytest.raises(ValueError, match="not symmetric"):
        exact_views(Correlations(X + 1e-3 * c * np.array([[0, 1.0], [0, 0]]), X))

"""Centre, residual and extra gradient as measured: against a loop over images, and the golden facts of Zhang et al."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from stopgrad.deep.measuring.monitor import measure, to_host
from stopgrad.deep.measuring.quantities.extra_gradient import ETA
from stopgrad.deep.measuring.quantities.quantities import QUANTITIES
from stopgrad.deep.measuring.quantities.seen import Seen
from stopgrad.linear_theory.exact.centre import decentring, subspace_std

EXTRA = ("o_e", "r_e", "eta_p", "eta_z", "centre_ratio", "centre_cosine")
ETAS = np.array(ETA)


def normal(seed, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def found(z, p=None, target=None):
    """Every number and row of numbers of a batch."""
    scalars, arrays = to_host(measure(z, z if p is None else p, z if target is None else target))
    return scalars | arrays


def alone(name, z):
    """One quantity."""
    return together(z, name)[0]


def together(z, *names):
    """Some quantities of the same batch."""
    seen = Seen(z, z, z)
    return [float(QUANTITIES[name].of(seen)) for name in names]


def cosine(a, b):
    size = math.sqrt(sum(a * a) * sum(b * b))
    return sum(a * b) / size if size else 0.0


def slowly(v):
    """Of (2, B, d): the numbers of one side, pair after pair and channel after channel."""
    Z = [[one / math.sqrt(sum(one * one)) for one in view] for view in v.tolist() for view in [map(np.array, view)]]
    both, (B, d) = Z[0] + Z[1], v.shape[1:]
    o = sum(both) / len(both)
    r = [one - o for one in both]
    between = [cosine(Z[v][i], Z[w][j]) for v in (0, 1) for w in (0, 1) for i in range(B) for j in range(B) if i != j]
    shared = sum(sum(a * b) for a, b in zip(r[:B], r[B:])) / B
    channels = np.array(r).T
    off = [cosine(channels[j], channels[k]) ** 2 for j in range(d) for k in range(d) if j != k]
    deviations = [math.sqrt(sum(c * c) / len(c)) for c in channels]
    spread = 1 - sum(o * o)
    return Z, o, {
        "m_o_squared": sum(between) / len(between),
        "rho": shared / (sum(sum(one * one) for one in r) / len(r)),
        "std_of_bound": sum(deviations) / d / (math.sqrt(spread) / math.sqrt(d)),
        "correlation": sum(off) / len(off),
    }  # fmt: skip


@given(st.integers(0, 10_000), st.integers(2, 9), st.integers(2, 7), st.floats(0, 3))
def test_against_a_loop_over_images(seed, batch, d, offset):
    z, p, target = normal(seed, 3, 2, batch, d) + offset * normal(seed + 1, 3, 1, 1, d)
    seen = found(z, p, target)
    for side, v in (("z", z), ("p", p)):
        for name, value in slowly(v)[2].items():
            assert seen[f"{name}_{side}"] == pytest.approx(value, rel=1e-7, abs=1e-10), name
    (T, o_t, _), (P, o_p, _) = slowly(target), slowly(p)
    extra = [t - q for v in (0, 1) for t, q in zip(T[v], P[v])]
    o_e = sum(extra) / len(extra)
    assert seen["o_e"] == pytest.approx(math.sqrt(sum(o_e * o_e)), rel=1e-9)
    assert seen["r_e"] == pytest.approx(sum(math.sqrt(sum((e - o_e) ** 2)) for e in extra) / len(extra), rel=1e-9)
    assert seen["centre_ratio"] == pytest.approx(math.sqrt(sum(o_p * o_p) / sum(o_t * o_t)), rel=1e-9)
    assert seen["centre_cosine"] == pytest.approx(cosine(o_p, o_t), abs=1e-12)
    np.testing.assert_allclose(seen["centre_curve_p"], [cosine(o_e - k * o_p, o_p) for k in ETAS], atol=1e-10)
    np.testing.assert_allclose(seen["centre_curve_z"], [cosine(-o_e - k * o_t, o_t) for k in ETAS], atol=1e-10)
    assert cosine(o_e - seen["eta_p"] * o_p, o_p) == pytest.approx(0, abs=1e-8)
    assert cosine(-o_e - seen["eta_z"] * o_t, o_t) == pytest.approx(0, abs=1e-8)


@given(st.integers(0, 10_000), st.integers(2, 9), st.integers(2, 7), st.floats(0.1, 3))
def test_what_the_numbers_have_to_do_with_each_other(seed, batch, d, offset):
    z, p = normal(seed, 2, 2, batch, d) + offset * normal(seed + 1, 2, 1, 1, d)
    seen = found(z, p)
    assert (1 + seen["eta_p"]) * (1 + seen["eta_z"]) == pytest.approx(seen["centre_cosine"] ** 2, abs=1e-9)
    assert (1 + seen["eta_p"]) * seen["centre_ratio"] == pytest.approx(seen["centre_cosine"], abs=1e-9)
    spread = 1 - seen["m_o_z"] ** 2
    assert seen["rho_z"] == pytest.approx((seen["cosine_views"] - seen["m_o_z"] ** 2) / spread, abs=1e-9)
    assert seen["std_of_bound_z"] * math.sqrt(spread) == pytest.approx(seen["std_z"], rel=1e-9)  # G5
    assert seen["std_of_bound_z"] <= 1 + 1e-12 and 0 <= seen["correlation_z"] <= 1 + 1e-9
    assert -1 - 1e-9 <= seen["rho_z"] <= 1 + 1e-9
    curve = np.sign(seen["centre_curve_p"][np.abs(ETAS - seen["eta_p"]) > 1e-6])
    assert (np.diff(curve) <= 0).all()  # it falls through 0 once


@given(st.integers(0, 10_000), st.integers(2, 6))
def test_neither_order_nor_rotation_nor_length_matters(seed, batch):
    z, p, target = normal(seed, 3, 2, batch, 4) + 0.5
    turn, order = torch.linalg.qr(normal(seed + 1, 4, 4))[0], torch.randperm(batch)
    lengths = normal(seed + 2, 3, 2, batch, 1).exp()
    one = found(z, p, target)
    other = found(*(v[:, order] @ turn * size for v, size in zip((z, p, target), lengths)))
    for name in (*EXTRA, "m_o_squared_z", "rho_z", "m_o_squared_p", "rho_p", "centre_curve_p", "centre_curve_z"):
        np.testing.assert_allclose(other[name], one[name], rtol=1e-6, atol=1e-9, err_msg=name)


# ---------------------------------------------------------------- golden facts


@pytest.mark.parametrize(("spread", "centre"), [(0.0, 0.0), (0.7, 0.0), (0.7, 0.4)])
def test_m_o_squared_is_unbiased_however_much_the_views_agree(spread, centre):
    """G6: without a centre nothing is left; with one, what a large batch has."""
    d = 12
    batch = lambda seed, n: (  # noqa: E731
        normal(seed, 1, n, d) + spread * normal(seed + 10**6, 2, n, d) + centre * torch.eye(d, dtype=torch.float64)[0]
    )
    small, m_o = np.array([together(batch(k, 6), "m_o_squared_z", "m_o_z") for k in range(1000)]).T
    large = alone("m_o_z", batch(7, 60_000)) ** 2
    assert np.mean(small) == pytest.approx(large, abs=4 * np.std(small) / 1000**0.5)
    assert np.mean(m_o**2) > large + 0.05


def test_std_beside_its_bound():
    """G5, G7: 1 for all channels alike, √(k/d) for k of d, and for a random subspace as the theory has it."""
    assert found(normal(0, 2, 4096, 8))["std_of_bound_z"] == pytest.approx(1, abs=1e-3)
    few = functional.pad(normal(1, 2, 4096, 3), (0, 9)) + 0.0
    assert found(few)["std_of_bound_z"] == pytest.approx(math.sqrt(3 / 12), abs=1e-3)
    turns = [torch.linalg.qr(normal(s, 12, 12))[0][:3] for s in range(100)]
    inside = [alone("std_of_bound_z", normal(s + 1, 2, 300, 3) @ turn) for s, turn in enumerate(turns)]
    assert np.mean(inside) == pytest.approx(float(subspace_std(3, 12)), abs=0.01)


def test_a_collapse_hides_the_covariance_and_not_the_correlation():
    """G16: on the way to one point the covariance between channels goes as the fourth power, correlation stays."""
    centre, mixed = normal(2, 1, 1, 6), normal(3, 2, 200, 6) @ normal(4, 6, 6)
    wide, narrow = (found(centre + size * mixed) for size in (1e-2, 1e-4))
    assert narrow["covariance_z"] / wide["covariance_z"] == pytest.approx(1e-8, rel=0.5)
    assert narrow["correlation_z"] == pytest.approx(wide["correlation_z"], rel=0.1) and wide["correlation_z"] > 0.1
    line = torch.linspace(-1, 1, 50, dtype=torch.float64)[:, None] * 1e-3 * normal(5, 1, 1, 6) + normal(6, 1, 1, 6)
    assert found(line.expand(2, 50, 6))["correlation_z"] == pytest.approx(1, abs=1e-3)
    assert found(normal(7, 2, 3000, 6))["correlation_z"] == pytest.approx(1 / 6000, rel=0.9)


@pytest.mark.parametrize(("m_o", "rho"), [(0.3, 0.4), (0.65, 0.5), (0.5, 0.8)])
def test_the_optimal_predictor_takes_the_centre_away(m_o, rho):
    """G13: of P along o + ρ r the zero crossing is −η, with the ρ and m_o that are measured beside it."""
    d = 600  # more than are decomposed
    r = math.sqrt(rho) * normal(8, 1, 1000, d) + math.sqrt(1 - rho) * normal(9, 2, 1000, d)
    o, r = m_o * torch.eye(d, dtype=torch.float64)[0], r * math.sqrt((1 - m_o**2) / d)
    seen = found(o + r, o + rho * r)
    assert seen["rho_z"] == pytest.approx(rho, abs=0.01) and seen["m_o_z"] == pytest.approx(m_o, abs=0.01)
    assert seen["eta_p"] == pytest.approx(-decentring(seen["m_o_z"], seen["rho_z"]), abs=0.01)
    assert seen["eta_p"] < 0 < seen["eta_z"] and seen["centre_cosine"] == pytest.approx(1, abs=0.01)
    biased = found(o + r, o + r + (1 / rho - 1) * o)
    assert biased["eta_p"] == pytest.approx(seen["eta_p"], abs=1e-9)  # a bias along o does the same


def test_at_the_start():
    """G8: of a centre o_p of its own, o_e = −o_p behind an output BatchNorm, else cos(o_e, o_p) = −1/√2."""
    here = int(np.argmin(np.abs(ETAS)))
    p = functional.pad(normal(10, 2, 4000, 60), (0, 4)) * 0.2 + torch.eye(64, dtype=torch.float64)[0]
    centred, z = normal(11, 2, 4000, 64), functional.pad(normal(10, 2, 4000, 60), (4, 0)) * 0.2
    z = z + torch.eye(64, dtype=torch.float64)[63]
    assert found(centred, p)["eta_p"] == pytest.approx(-1, abs=0.03)
    assert found(centred, p)["centre_curve_p"][here] == pytest.approx(-1, abs=0.01)
    assert found(z, p)["centre_curve_p"][here] == pytest.approx(-math.sqrt(0.5), abs=0.02)


# ---------------------------------------------------------------- what has no extra gradient, or no number


def test_the_gradient_comes_by_the_target():
    z, p, other = normal(12, 3, 2, 8, 4)
    assert found(z, p)["o_e"] != found(z, p, other)["o_e"]
    assert found(z, other, other) | {} != found(z, other)
    assert found(z, p, p)["o_e"] == found(z, p, p)["r_e"] == 0  # the predictor on both sides


def test_without_a_predictor_there_is_no_extra_gradient():
    seen = found(normal(13, 2, 8, 4) + 1)
    assert {seen[name] for name in ("o_e", "r_e", "eta_p", "eta_z")} == {0.0}
    assert seen["centre_ratio"] == pytest.approx(1) and seen["centre_cosine"] == pytest.approx(1)
    np.testing.assert_allclose(seen["centre_curve_p"], -np.sign(ETAS), atol=1e-12)  # and 0 where all is 0


def test_one_image_says_nothing_of_others():
    one = found(normal(14, 2, 1, 4))
    assert not {"m_o_squared_z", "rho_z", "m_o_squared_p", "rho_p"} & one.keys()
    assert all(np.isfinite(value).all() for value in one.values())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_makes_nan(bad):
    z = normal(15, 2, 8, 4)
    z[0, 0, 0] = bad
    broken, sound = found(z), found(normal(15, 2, 8, 4))
    names = (*EXTRA, *(f"{name}_z" for name in ("m_o_squared", "rho", "std_of_bound", "correlation")))
    assert all(math.isnan(broken[name]) and math.isfinite(sound[name]) for name in names)
    assert np.isnan(broken["centre_curve_p"]).all()


def test_dead_channels_count_for_nothing():
    alive = normal(16, 2, 30, 3)
    padded = functional.pad(alive, (0, 5))
    assert found(padded)["correlation_z"] == pytest.approx(found(alive)["correlation_z"], rel=1e-12)
    assert found(functional.pad(alive[..., :1], (0, 5)))["correlation_z"] < 1e-14  # has no other

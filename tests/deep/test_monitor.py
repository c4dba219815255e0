"""The monitor's statistics against NumPy, closed forms and the golden facts of Zhang et al.; Theorem 1 in training."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from stopgrad.deep.config import Config, change
from stopgrad.deep.measuring.monitor import measure, to_host
from stopgrad.deep.measuring.quantities import seen
from stopgrad.deep.measuring.weights import BalanceResidual, balance_applies
from stopgrad.linear_theory.predictors.matrices import directpred
from stopgrad.linear_theory.tools.lengths import directions


def normal(seed, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def rotation(d, seed=0):
    return torch.linalg.qr(normal(seed, d, d))[0]


def numbers(z, *args, **kwargs):
    """Scalars of the measurement with z for prediction and target too, as floats."""
    return to_host(measure(z, z, z, *args, **kwargs))[0]


def spectra(z, *args, **kwargs):
    return to_host(measure(z, z, z, *args, **kwargs))[1]


# ---------------------------------------------------------------- collapse


@given(st.integers(0, 10_000), st.integers(2, 20), st.integers(2, 12), st.floats(0, 5))
def test_norms_of_centre_and_residual(seed, batch, d, offset):
    """G3: ‖o‖² + E‖r‖² = 1 = ‖o‖² + Σ_j Var_j. G4: ‖o‖² is the mean cosine. G5: √d·std ≤ √(1 − m_o²)."""
    z = normal(seed, 2, batch, d) + offset
    found, arrays = to_host(measure(z, z, z))
    Z = functional.normalize(z.flatten(0, 1), dim=-1).numpy()
    o = Z.mean(0)
    assert found["m_o_z"] == pytest.approx(np.linalg.norm(o), abs=1e-12)
    assert found["m_r_z"] == pytest.approx(np.linalg.norm(Z - o, axis=1).mean(), abs=1e-12)
    assert found["m_o_z"] ** 2 + np.square(Z - o).sum(1).mean() == pytest.approx(1, abs=1e-12)  # G3
    assert found["m_o_z"] ** 2 + arrays["spectrum_z"].sum() == pytest.approx(1, abs=1e-12)  # G3
    assert found["m_o_z"] ** 2 == pytest.approx((Z @ Z.T).mean(), abs=1e-12)  # G4
    off = (Z @ Z.T)[~np.eye(2 * batch, dtype=bool)].mean()
    assert off == pytest.approx((2 * batch * found["m_o_z"] ** 2 - 1) / (2 * batch - 1), abs=1e-12)  # G4
    assert found["std_z"] == pytest.approx(np.sqrt(d) * Z.std(0).mean(), abs=1e-7)
    assert found["std_z"] <= np.sqrt(max(0, 1 - found["m_o_z"] ** 2)) + 1e-9  # G5
    assert found["m_o_z"] ** 2 + found["m_r_z"] ** 2 <= 1 + 1e-12  # G5


@given(st.integers(0, 10_000), st.integers(2, 20), st.integers(2, 12))
def test_statistics_against_numpy(seed, batch, d):
    z, p, target = normal(seed, 3, 2, batch, d) + 0.3
    found, arrays = to_host(measure(z, p, target))
    for name, v in (("z", z), ("p", p)):
        flat = v.flatten(0, 1).numpy()
        C = np.cov(flat / np.linalg.norm(flat, axis=1, keepdims=True), rowvar=False, bias=True)
        s = np.linalg.eigvalsh(C)[::-1].clip(0)
        share = s[s > 0] / s.sum()
        np.testing.assert_allclose(arrays[f"spectrum_{name}"], s, atol=1e-12)
        assert found[f"rank_{name}"] == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-6)
        assert found[f"participation_{name}"] == pytest.approx(s.sum() ** 2 / (s**2).sum(), rel=1e-9)
        assert found[f"participation_{name}"] <= found[f"rank_{name}"] * (1 + 1e-9)  # Rényi
        assert found[f"covariance_{name}"] == pytest.approx((C**2).sum() / d - (np.diag(C) ** 2).sum() / d, abs=1e-12)
        assert found[f"trace_{name}"] == pytest.approx((flat**2).sum(1).mean(), rel=1e-12)
    cosine = functional.cosine_similarity
    assert found["cosine_views"] == pytest.approx(float(cosine(z[0], z[1], dim=-1).mean()), abs=1e-12)
    crossed = (cosine(p[0], target[1], dim=-1).mean() + cosine(p[1], target[0], dim=-1).mean()) / 2
    assert found["cosine_prediction"] == pytest.approx(float(crossed), abs=1e-12)
    uncentred = np.linalg.eigvalsh(z.flatten(0, 1).mT @ z.flatten(0, 1) / (2 * batch))[::-1]
    np.testing.assert_allclose(arrays["eigenvalues"], uncentred, atol=1e-12)
    assert arrays["eigenvalues"].sum() == pytest.approx(found["trace_z"], rel=1e-12)


def test_uniform_directions():
    """G6: E m_o² = 1/N exactly, and Var_j = 1/d, so that std × √d is near 1."""
    square = np.mean([numbers(normal(k, 2, 32, 64))["m_o_z"] ** 2 for k in range(100)])
    assert square == pytest.approx(1 / 64, rel=0.06)
    assert numbers(normal(0, 2, 2048, 64))["std_z"] == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("k", [1, 2, 8])
def test_std_is_blind_to_a_lost_dimension_and_the_rank_is_not(k):
    """G7: directions uniform in k random dimensions have std × √d = E χ_k/√k, from 0.80; the rank is k."""
    chi = np.sqrt(2) * np.exp(torch.lgamma(torch.tensor([(k + 1) / 2, k / 2])).diff().neg().item())
    found = [numbers(normal(s, 2, 512, k) @ rotation(64, s)[:k]) for s in range(20)]
    assert np.mean([f["std_z"] for f in found]) == pytest.approx(chi / np.sqrt(k), abs=0.03)
    assert np.mean([f["rank_z"] for f in found]) == pytest.approx(k, rel=0.02)
    axes = numbers(functional.pad(normal(1, 2, 4096, k), (0, 64 - k)))
    assert axes["std_z"] == pytest.approx(np.sqrt(k / 64), abs=0.01)


def test_centre_of_a_network_at_its_start():
    """G8: Linear-BN-ReLU-Linear on independent samples starts at m_o = 1/√π, m_r = √(1 − 1/π); BN last: near 0."""
    torch.manual_seed(1000)
    body = nn.Sequential(nn.Linear(256, 4096), nn.BatchNorm1d(4096), nn.ReLU(), nn.Linear(4096, 512, bias=False))
    z = body(torch.randn(1024, 256)).reshape(2, 512, 512)
    found = numbers(z)
    assert found["m_o_z"] == pytest.approx(np.pi**-0.5, abs=0.02)
    assert found["m_r_z"] == pytest.approx(np.sqrt(1 - 1 / np.pi), abs=0.02)
    assert numbers(nn.BatchNorm1d(512, affine=False)(z.flatten(0, 1)).reshape(2, 512, 512))["m_o_z"] < 0.02


@given(st.integers(0, 10_000), st.integers(2, 8), st.integers(2, 6))
def test_output_batchnorm_keeps_the_centre_away_from_one(seed, batch, d):
    """G9: centred channels give m_o ≤ 1 − 2/N, reached by one sample opposite to all others."""
    z = normal(seed, 2 * batch, d) ** 3
    z = ((z - z.mean(0)) / z.std(0, correction=0)).reshape(2, batch, d)
    assert numbers(z)["m_o_z"] <= 1 - 1 / batch + 1e-12
    outlier = torch.ones(2, batch, d, dtype=z.dtype)
    outlier[0, 0] = -(2 * batch - 1)
    assert numbers(outlier)["m_o_z"] == pytest.approx(1 - 1 / batch, abs=1e-12)


def test_all_alike_and_all_zero():
    same = normal(1, 1, 1, 8).expand(2, 16, 8)
    found = numbers(same)
    assert found["m_o_z"] == pytest.approx(1) and found["std_z"] == pytest.approx(0, abs=1e-7)
    nothing = numbers(0 * same, torch.eye(8))
    assert {value for name, value in nothing.items() if name != "rank_ceiling"} == {0.0}


@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e15])
def test_directions_do_not_feel_the_norm(scale):
    z = normal(2, 2, 16, 8, dtype=torch.float32)
    one, other = numbers(z), numbers(z * scale)
    for name in set(one) - {"trace_z", "trace_p"}:
        assert other[name] == pytest.approx(one[name], rel=1e-4), name
    np.testing.assert_allclose(directions(z * scale).norm(dim=-1), 1, rtol=1e-5)


# ---------------------------------------------------------------- alignment


def test_alignment_and_spectrum_of_a_predictor_on_the_eigenvectors():
    d, U = 6, rotation(6)
    z = normal(3, 2, 4000, d) * torch.tensor([3.0, 2.5, 2.0, 1.5, 1.0, 0.5]) @ U.mT
    flat = z.flatten(0, 1)
    F = flat.mT @ flat / len(flat)
    s, V = torch.linalg.eigh(F)
    p = torch.tensor([-0.3, 0.2, 0.4, 0.6, 0.8, 1.0], dtype=s.dtype)
    found, arrays = to_host(measure(z, z, z, V @ torch.diag(p) @ V.mT))
    np.testing.assert_allclose(arrays["alignment"], [1, 1, 1, 1, 1, -1], atol=1e-12)
    np.testing.assert_allclose(arrays["predictor_spectrum"], p.flip(0), atol=1e-12)
    np.testing.assert_allclose(arrays["eigenvalues"], s.flip(0), atol=1e-12)
    assert max(found["misalignment"], found["commutator"], found["asymmetry"]) < 1e-12
    assert found["predictor_negative"] == pytest.approx(0.3 / 3.3, rel=1e-12)
    np.testing.assert_allclose(spectra(z, directpred(F), F)["alignment"], 1, atol=1e-12)


@given(st.integers(0, 10_000))
def test_commutators_against_numpy(seed):
    z, W, G = normal(seed, 2, 9, 5), normal(seed + 1, 5, 5), normal(seed + 2, 5, 5)
    for F in (None, G @ G.mT):
        found, arrays = to_host(measure(z, z, z, W, F))
        X = (z.flatten(0, 1).mT @ z.flatten(0, 1) / 18 if F is None else F).numpy()
        L = X @ W.numpy() - W.numpy() @ X
        assert found["commutator"] == pytest.approx(np.linalg.norm(L), rel=1e-9)
        assert found["misalignment"] == pytest.approx(np.linalg.norm(L) / np.linalg.norm(X) / np.linalg.norm(W))
        assert found["asymmetry"] == pytest.approx(np.linalg.norm(W - W.mT) / 2 / np.linalg.norm(W))
        v = np.linalg.eigvals((W.numpy() + W.numpy().T) / 2).real
        assert found["predictor_negative"] == pytest.approx((abs(v).sum() - v.sum()) / 2 / abs(v).sum(), abs=1e-12)
        u = np.linalg.eigh(X)[1][:, ::-1]
        image = W.numpy() @ u
        np.testing.assert_allclose(arrays["predictor_spectrum"], (u * image).sum(0), atol=1e-9)
        np.testing.assert_allclose(arrays["alignment"], (u * image).sum(0) / np.linalg.norm(image, axis=0), atol=1e-9)


def test_the_negative_share_of_a_predictor():
    """0 for a positive semi-definite, a skew and a zero matrix, 1 for a negative one; blind to the scale."""
    z, G = normal(20, 2, 9, 5), normal(21, 5, 3)
    cases = [(G @ G.mT, 0), (normal(22, 5, 5).triu(1), None), (torch.zeros(5, 5), 0), (-torch.eye(5), 1)]
    for W, share in cases:
        W = W - W.mT if share is None else W
        assert numbers(z, W)["predictor_negative"] == pytest.approx(share or 0, abs=1e-14)
    W = normal(23, 5, 5)
    assert 0.1 < numbers(z, W)["predictor_negative"] < 0.9
    assert numbers(z, 1e-9 * W)["predictor_negative"] == pytest.approx(numbers(z, W)["predictor_negative"])


# ---------------------------------------------------------------- what is there, and in which dtype


def test_without_a_linear_predictor_nothing_is_said_of_alignment():
    found, arrays = to_host(measure(*normal(4, 3, 2, 8, 4)))
    assert not {"commutator", "misalignment", "asymmetry", "predictor_negative"} & set(found)
    assert set(arrays) == {"eigenvalues", "spectrum_z", "spectrum_p", "centre_curve_z", "centre_curve_p"}


def test_large_embeddings_are_decomposed_on_request_only(monkeypatch):
    z, W = normal(5, 2, 8, 6), normal(6, 6, 6)
    whole, arrays = to_host(measure(z, z, z, W))
    monkeypatch.setattr(seen, "DECOMPOSED_UP_TO", 5)
    quick, none = to_host(measure(z, z, z, W))
    assert none == {} and set(whole) - set(quick) == {"rank_z", "rank_p", "predictor_negative"}
    assert quick == {name: whole[name] for name in quick}
    again = to_host(measure(z, z, z, W, full=True))
    assert again[0] == whole and set(again[1]) == set(arrays)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_dtypes_and_autocast(dtype):
    z, W = normal(7, 2, 8, 4).to(dtype), normal(8, 4, 4, dtype=torch.float32).requires_grad_()
    plain = measure(z, z, z, W)
    kind = torch.float64 if dtype == torch.float64 else torch.float32
    assert {v.dtype for part in plain for v in part.values()} == {kind}
    assert not any(v.requires_grad for part in plain for v in part.values())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        other = measure(z, z, z, W)
    for one, two in zip(plain, other):
        assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e38])
def test_numbers_that_are_not_finite_are_measured_as_such(bad):
    z = normal(9, 2, 8, 4, dtype=torch.float32)
    z[0, 0, 0] = bad
    found, arrays = to_host(measure(z, z, z, torch.eye(4)))
    assert not np.isfinite(found["trace_z"]) and np.isnan(arrays["eigenvalues"]).all()
    assert np.isnan(arrays["alignment"]).all()
    broken = numbers(z.nan_to_num(0, 0).clamp(max=1), torch.full((4, 4), np.nan))
    assert np.isnan(broken["misalignment"]) and np.isnan(broken["predictor_negative"])


def test_shapes_that_do_not_match():
    with pytest.raises(ValueError, match=r"\(2, 8, 4\), \(2, 7, 4\)"):
        measure(torch.ones(2, 8, 4), torch.ones(2, 7, 4), torch.ones(2, 8, 4))
    with pytest.raises(ValueError, match="one shape"):
        measure(*torch.ones(3, 8, 4))


# ---------------------------------------------------------------- Theorem 1


def config(**changes):
    """The default config with options replaced."""
    return change(Config(), **changes)


@functools.cache
def largest_residual(
    lr, steps, loss, decay=0.02, ratio=1.0, decay_p=None, bias=True, scale=1.0, momentum=0.0, stop=True
):
    """Train z = Wφ + b, p = W_p z + c on fixed φ by SGD along a falling schedule; the largest residual on the way."""
    settings = {"predictor_bias": True, "projector_bias": bias, "loss": loss, "loss_scale": scale, "lr": lr}
    decays = {"weight_decay": decay, "predictor_weight_decay": decay / ratio}
    run = config(**settings, **decays, momentum=momentum, predictor_lr=ratio * lr, lr_scaling="none")
    torch.manual_seed(1000)
    encoder, predictor = nn.Linear(6, 4, bias, dtype=torch.float64), nn.Linear(4, 4, dtype=torch.float64)
    first, second = normal(11, 1, 32, 6) + 0.5 * normal(12, 2, 32, 6)
    balance = BalanceResidual.start(run, encoder.weight, encoder.bias, predictor.weight)
    groups = [
        {"params": list(encoder.parameters()), "weight_decay": decay},
        {"params": list(predictor.parameters()), "weight_decay": decay / ratio if decay_p is None else decay_p},
    ]
    optimiser, time, largest = torch.optim.SGD(groups, lr=lr, momentum=momentum), 0.0, 0.0
    for step in range(steps):
        rate = lr * (1 - 0.9 * step / steps)
        for group, factor in zip(optimiser.param_groups, (1, ratio)):
            group["lr"] = factor * rate
        p, target = predictor(encoder(first)), encoder(second)
        target = target.detach() if stop else target
        value = -functional.cosine_similarity(p, target).mean()
        value = (p - target).square().sum(-1).mean() / 2 if loss == "squared" else value
        optimiser.zero_grad()
        (scale * value).backward()
        optimiser.step()
        time += scale * rate / (1 - momentum)
        largest = max(largest, float(balance.at(time, encoder.weight, encoder.bias, predictor.weight)))
    return largest


@pytest.mark.parametrize(
    "setting",
    [
        {"loss": "squared"},
        {"loss": "cosine"},
        {"loss": "cosine", "bias": False, "ratio": 5.0},
        {"loss": "squared", "ratio": 3.0, "scale": 4.0},
        {"loss": "cosine", "scale": 2.0, "momentum": 0.5},
    ],
)
def test_balance_holds_to_first_order_in_the_learning_rate(setting):
    """Theorem 1 on [W b], for both losses, α_p ≠ 1, loss scale, momentum and a schedule: the error halves with lr."""
    coarse, fine = (largest_residual(lr, int(8 / lr), **setting) for lr in (0.04, 0.02))
    assert fine < 0.02
    assert coarse / fine == pytest.approx(2, rel=0.2)


@pytest.mark.parametrize("broken", [{"decay_p": 0.3}, {"decay_p": 0.0, "decay": 0.2}, {"stop": False}])
def test_balance_fails_with_unequal_decay_or_without_stop_gradient(broken):
    exact, wrong = (largest_residual(0.02, 400, "squared", **case) for case in ({}, broken))
    assert wrong > 0.05 and wrong > 10 * exact


def test_balance_is_zero_at_the_start_and_forgets_its_start_at_twice_eta():
    run = config(weight_decay=0.1)
    W, b, Wp = normal(13, 4, 6), normal(14, 4), normal(15, 4, 4)
    balance = BalanceResidual.start(run, W, b, Wp)
    assert float(balance.at(0.0, W, b, Wp)) == pytest.approx(0, abs=1e-15)
    kept = float(np.exp(-0.1 * 3.0))
    assert float(balance.at(3.0, kept * W, kept * b, kept * Wp)) == pytest.approx(0, abs=1e-15)
    W.zero_()  # the record keeps its own copy
    assert float(balance.initial.W.abs().max()) > 0 and float(balance.at(0.0, W, b, Wp)) > 0.1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"projector_output_bn": "affine"}, "BatchNorm"),
        ({"predictor": "mlp"}, "mlp"),
        ({"predictor": "symmetric"}, "symmetric"),
        ({"predictor": "directpred"}, "directpred"),
        ({"isoloss": True}, "IsoLoss"),
        ({"stop_gradient": "none"}, "--stop-gradient"),
        ({"stop_gradient": "mirrored"}, "--stop-gradient"),
        ({"predictor_schedule": "constant"}, "--predictor-schedule"),
        ({"predictor_lr": 0.5}, "--predictor-weight-decay"),
        ({"predictor_weight_decay": 0.0}, "--predictor-weight-decay"),
    ],
)
def test_where_theorem_1_does_not_apply(changes, words):
    assert words in balance_applies(config(**changes))
    with pytest.raises(ValueError, match=words):
        BalanceResidual.start(config(**changes), torch.eye(2), None, torch.eye(2))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loss": "squared", "target": "ema", "symmetric_loss": False, "predictor_bias": True, "projector_bias": True},
        {"predictor_lr": 0.5, "predictor_weight_decay": 5e-5},
        {"predictor_schedule": "constant", "schedule": "constant"},
    ],
)
def test_where_theorem_1_applies(changes):
    assert balance_applies(config(**changes)) is None

"""How an EMA target's last layer stands to the network's: against NumPy, where A1 holds, and in a run's table."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from stopgrad.deep.config import Config, Data, Method, Monitor, Optimisation, change
from stopgrad.deep.measuring.weights import follow_target
from stopgrad.deep.processes.distributed import World
from stopgrad.deep.storage import table
from stopgrad.deep.training.runs import Place, execute


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(0, 10_000), st.booleans(), st.sampled_from([1.0, 1e-25, 1e15]))
def test_a_target_against_numpy(seed, bias, scale):
    """Frobenius products of [W b] and [W_a b_a], in float32 whose squares would vanish or overflow."""
    layers = [scale * normal(seed + k, *shape) for k, shape in enumerate([(4, 6), (4,), (4, 6), (4,)])]
    W, b, Wa, ba = (v.float() for v in layers)
    found = follow_target(W, b if bias else None, Wa, ba if bias else None)
    W, b, Wa, ba = (v.numpy().astype(float) for v in (W, b, Wa, ba))
    W, Wa = (np.column_stack([W, b]), np.column_stack([Wa, ba])) if bias else (W, Wa)
    product = np.trace(Wa.T @ W)
    expected = product / np.linalg.norm(W) / np.linalg.norm(Wa)
    assert float(found["target_correlation"]) == pytest.approx(expected, abs=1e-6)
    assert float(found["target_ratio"]) == pytest.approx(product / np.trace(W.T @ W), rel=1e-5, abs=1e-6)
    assert all(v.shape == () and v.dtype == torch.float32 and not v.requires_grad for v in found.values())


@pytest.mark.parametrize("tau", [0.0, 0.4, 1.0, -0.5])
def test_a_proportional_target_has_the_ratio_tau(tau):
    W, b = nn.Parameter(normal(24, 3, 5)), nn.Parameter(normal(25, 3))
    found = follow_target(W, b, (tau * W).detach(), (tau * b).detach())
    assert float(found["target_ratio"]) == pytest.approx(tau, abs=1e-15)
    assert float(found["target_correlation"]) == pytest.approx(np.sign(tau), abs=1e-15)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = follow_target(W, b, (tau * W).detach(), (tau * b).detach())
    assert all(torch.equal(again[name], found[name]) for name in found)


def test_a_target_of_a_dead_or_broken_layer():
    W = normal(26, 3, 5)
    assert {float(v) for v in follow_target(0 * W, None, W, None).values()} == {0.0}
    assert all(v.isnan() for v in follow_target(W / 0, None, W, None).values())


# ---------------------------------------------------------------- in a run

TINY = Config(
    Data(dataset="gaussian", gaussian_dim=6, gaussian_samples=64),
    Method.of(backbone="identity", projector_layers=1, embedding_dim=4, projector_bias=True, loss="squared"),
    Optimisation(epochs=3, batch_size=32, lr=0.2),
    Monitor(monitor_every=1, probe="none"),
)


def scalars(folder, **method):
    config = change(TINY, **method)
    execute(config, Place(folder, quiet=True, picture=False), World(0, 1, torch.device("cpu"), None))
    return table.read(folder).scalars


def test_a_run_with_a_moving_target_records_both(tmp_path):
    """A target without memory is the network itself; one that never moves is the network's start."""
    for name, momentum in (("copy", 0.0), ("start", 1.0), ("between", 0.9)):
        found = scalars(tmp_path / name, target="ema", ema_momentum=momentum)
        correlation, ratio = found["target_correlation"], found["target_ratio"]
        assert correlation[0] == pytest.approx(1, abs=1e-6) and ratio[0] == pytest.approx(1, abs=1e-6)
        if name == "copy":
            np.testing.assert_allclose([correlation, ratio], 1, atol=1e-6)
        else:
            assert len(correlation) == 6 and (correlation[2:] < 1 - 1e-4).all()
            assert (abs(ratio[2:] - 1) > 1e-4).all()
    assert found["predictor_negative"][0] > 0


def test_a_run_whose_target_is_the_network_itself_records_neither(tmp_path):
    found = scalars(tmp_path / "run", predictor="identity")
    assert not {"target_correlation", "target_ratio", "predictor_negative"} & set(found)

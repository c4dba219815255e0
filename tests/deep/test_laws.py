"""`--laws-every`: what a run's last layer reads, and the laws that it is held against."""

import math

import numpy as np
import pytest
import torch

from stopgrad.deep.config import Config, Method, change, check, key_text
from stopgrad.deep.data.batch import Batch
from stopgrad.deep.method.siamese import Siamese
from stopgrad.deep.presets.theory import LINEAR_GAUSSIAN
from stopgrad.deep.storage.table import read
from stopgrad.deep.training.laws import LAWS, compare, look, switches_of
from stopgrad.deep.training.runs import Place, execute, joined
from stopgrad.deep.words.report import laws_text, text
from stopgrad.linear_theory.flows.matrices import Switches

SHORT = change(
    LINEAR_GAUSSIAN,
    **{"gaussian_samples": 1024, "gaussian_dim": 8, "gaussian_decay": 1.0, "embedding_dim": 4, "lr_scaling": "none"},
    **{"lr": 0.05, "weight_decay": 0.05, "epochs": 25, "batch_size": 64, "predictor_lr": 0.2, "laws_every": 1},
    **{"predictor_weight_decay": 0.0125, "probe": "none", "monitor_every": 100, "evaluate_every": 1000},
)


def batches(count=4, size=64, seed=1, dim=5):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        image = torch.randn(size, dim, generator=generator)
        yield Batch.of(*(image + 0.5 * torch.randn(size, dim, generator=generator) for _ in range(2)))


def carried_out(config, folder):
    with joined("cpu") as world:
        return execute(config, Place(folder, quiet=True, picture=False), world)


# ---------------------------------------------------------------- one look


@pytest.mark.parametrize("bias", [False, True])
def test_a_look_is_of_what_the_last_layer_reads(bias):
    torch.manual_seed(0)
    siamese = Siamese(Method.of(backbone="identity", projector_layers=1, embedding_dim=4, projector_bias=bias), 5)
    found = look(siamese, batches())
    first, second = (torch.cat([batch.views[v] for batch in batches()]).double().numpy() for v in (0, 1))
    last = siamese.online.projector.last
    W = last.weight.detach().numpy()
    if bias:
        first, second = (np.c_[v, np.ones(len(v))] for v in (first, second))
        W = np.c_[W, last.bias.detach().numpy()]
    n = first.shape[1]
    np.testing.assert_allclose(found["X"].reshape(n, n), (first.T @ second + second.T @ first) / 512, atol=2e-6)
    np.testing.assert_allclose(found["Xp"].reshape(n, n), (first - second).T @ (first - second) / 512, atol=2e-6)
    np.testing.assert_array_equal(found["W"].reshape(4, n), W)
    np.testing.assert_array_equal(found["Wp"].reshape(4, 4), siamese.predictor.matrix())


def test_a_look_leaves_the_network_as_it_was():
    siamese = Siamese(Method.of(backbone="mlp", width=6, projector_layers=2, projector_hidden=6, embedding_dim=4), 5)
    before = {name: v.clone() for name, v in siamese.state_dict().items()}
    look(siamese, batches())
    assert all(torch.equal(v, before[name]) for name, v in siamese.state_dict().items())
    assert not siamese.online.projector.last._forward_pre_hooks


def test_in_place_of_a_predictor_of_two_layers_stands_the_nearest_matrix():
    torch.manual_seed(0)
    method = Method.of(backbone="identity", projector_layers=1, embedding_dim=4, predictor="mlp", predictor_hidden=8)
    siamese = Siamese(method, 5)
    Wp = look(siamese, batches())["Wp"].reshape(4, 4)
    with torch.no_grad():
        z = torch.cat([siamese.online(torch.cat([batch.views[v] for batch in batches()])) for v in (0, 1)])
        left = siamese.train().predictor(z).double().numpy() - z.double().numpy() @ Wp.T
    assert np.abs(left.T @ z.double().numpy()).max() < 1e-4 * len(z)  # nothing of z is left to be learned
    absent = Siamese(Method.of(backbone="identity", projector_layers=1, embedding_dim=4, predictor="identity"), 5)
    np.testing.assert_allclose(look(absent, batches())["Wp"].reshape(4, 4), np.eye(4), atol=1e-5)


# ---------------------------------------------------------------- a run


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    folder = tmp_path_factory.mktemp("laws")
    return {
        name: (carried_out(change(SHORT, **more), folder / name), folder / name)
        for name, more in {
            "learned": {},
            "free": {"stop_gradient": "none", "epochs": 10},
            "absent": {
                "predictor": "identity",
                "predictor_lr": None,
                "predictor_weight_decay": None,
                "epochs": 10,
            },
        }.items()
    }


def test_a_linear_network_keeps_every_law(told):
    found = told["learned"][0]["laws"]
    assert found["eta"] == pytest.approx(0.05) and found["t_end"] == pytest.approx(25 * 16 * 0.05)
    assert found["forecast"] == {**found["tracking"]}  # nothing before the layer learns
    assert found["early"]["size"] == pytest.approx(found["measured"]["size"], abs=0.1)
    assert found["forecast"]["dies"] is None
    measured, forecast = found["measured"], found["forecast"]
    assert measured["balance"] < 0.02 and forecast["balance"] < 1e-6
    assert measured["modes"] == forecast["modes"]
    assert abs(math.log(measured["half_time"] / forecast["half_time"])) < 0.25
    assert abs(math.log(measured["settles"] / forecast["settles"])) < 0.1
    assert forecast["critical"] == pytest.approx(1 / (4 * 1.1), rel=0.1)  # 1024 points of a population with x₁ = 1


def test_the_summary_says_them_in_a_table(told):
    said = text(told["learned"][0])
    assert "Lemma 1 of the projector's last layer (η = 0.05, t = 20)" in said
    [line] = [line for line in said.splitlines() if "modes that live" in line]
    assert line.split()[-3:] == [
        f"{told['learned'][0]['laws'][r]['modes']}" for r in ("measured", "forecast", "tracking")
    ]
    assert "not yet" in text(told["absent"][0])
    assert laws_text(None) == laws_text({}) == []


@pytest.mark.parametrize("name", ["free", "absent"])
def test_a_collapse_goes_at_the_rate_of_theorem_2(told, name):
    found = told[name][0]["laws"]
    assert found["forecast"]["fall"] > 0.2 and found["measured"]["settles"] is not None
    assert abs(math.log(found["measured"]["fall"] / found["forecast"]["fall"])) < 0.1
    assert abs(math.log(found["measured"]["dies"] / found["early"]["dies"])) < 0.1
    assert found["measured"]["size"] > 2


def test_the_table_has_every_epoch_and_the_run_its_name(told):
    summary, folder = told["learned"]
    table = read(folder / LAWS)
    assert table.step.tolist() == [16 * epoch for epoch in range(26)]
    assert {name: series.values.shape for name, series in table.arrays.items()} == {
        **{"X": (26, 64), "Xp": (26, 64), "W": (26, 32), "Wp": (26, 16)}
    }
    assert len(summary["tables"]) == 3
    plain = change(SHORT, laws_every=None)
    assert "laws" not in key_text(plain) and "laws" in key_text(SHORT)
    silent = carried_out(change(plain, epochs=1), folder.with_name("silent"))
    assert "laws" not in silent and len(silent["tables"]) == 2


def test_what_learns_before_the_layer_is_tracked(tmp_path):
    deep = change(SHORT, backbone="linear", width=6, epochs=20)
    found = carried_out(deep, tmp_path / "run")["laws"]
    gap = {
        reading: abs(math.log(found["measured"]["leading"] / found[reading]["leading"]))
        for reading in ("forecast", "tracking")
    }
    assert gap["tracking"] < 0.1 < gap["forecast"] and math.isfinite(found["early"]["size"])


def test_of_what_has_died_nothing_is_told_but_that(tmp_path):
    """η = 12: weights underflow, and time of convergence or balance would be those of rounding."""
    beyond = change(SHORT, weight_decay=12.0, predictor_weight_decay=3.0, epochs=8)
    found = carried_out(beyond, tmp_path / "run")["laws"]
    assert found["measured"]["modes"] == found["forecast"]["modes"] == 0
    assert found["measured"]["settles"] is None and found["forecast"]["balance"] < 0.1


@pytest.mark.parametrize("loss", ["squared", "cosine"])
def test_all_readings_count_modes_alike(tmp_path, loss):
    config = change(SHORT, loss=loss, epochs=4)
    found = carried_out(config, tmp_path / loss)
    again = compare(config, read(tmp_path / loss / LAWS))
    assert again["forecast"]["modes"] == found["laws"]["forecast"]["modes"]
    assert abs(found["laws"]["measured"]["modes"] - found["laws"]["tracking"]["modes"]) <= 1


def test_switches_follow_the_method():
    assert switches_of(SHORT) == Switches()
    assert switches_of(change(SHORT, stop_gradient="none")) == Switches(stop_gradient="none")
    assert switches_of(change(SHORT, predictor="symmetric")) == Switches(predictor="symmetrised")
    assert switches_of(change(SHORT, target="ema")) == Switches(target="ema")
    absent = change(SHORT, predictor="identity", predictor_lr=None, predictor_weight_decay=None)
    assert switches_of(absent) == Switches(predictor="fixed")
    assert switches_of(change(SHORT, predictor="mlp")) == Switches()


def test_what_is_read_must_not_be_too_much():
    siamese = Siamese(Method.of(backbone="identity", projector_layers=1, embedding_dim=4), 513)
    with pytest.raises(ValueError, match="from 513 to 4 numbers; it is for 512 at most"):
        look(siamese, batches(dim=513))


def test_a_run_that_is_not_trained_has_laws_of_its_start(tmp_path):
    found = carried_out(change(SHORT, epochs=0), tmp_path / "run")["laws"]
    assert found["measured"]["modes"] == found["forecast"]["modes"] and found["t_end"] == 0


@pytest.mark.parametrize(
    "more",
    [
        *({"predictor": "directpred", "target": "ema"}, {"objective": "infonce"}, {"loss": "cross_entropy"}),
        *({"predictor": "bias"}, {"predictor": "fixed"}, {"target": "fresh_views"}, {"target": "inverse"}),
        *({"objective": "components"}, {"objective": "direction"}, {"predictor": "directset", "isoloss": True}),
    ],
)
def test_other_methods_are_refused_in_a_sentence(more):
    with pytest.raises(ValueError, match=r"which --laws-every is about, knows no --(objective|target|predictor) "):
        check(change(Config(), laws_every=1, **more))

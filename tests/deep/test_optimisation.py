"""Learning rates step by step, the optimiser's two groups, and the gradient of a batch computed in parts."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stopgrad.deep.config import Method, Optimisation
from stopgrad.deep.data.batch import Batch
from stopgrad.deep.method.optimisation import Rates, base_rates, make_optimiser, rates, set_rates
from stopgrad.deep.method.outputs import Outputs
from stopgrad.deep.method.siamese import Siamese
from stopgrad.deep.training.training import gradient

FLAT = Optimisation(lr=0.1, lr_scaling="none", schedule="constant", epochs=10)
COSINE = replace(FLAT, schedule="cosine")


def siamese(**fields):
    torch.manual_seed(0)
    heads = {"backbone": "identity", "projector_layers": 1, "embedding_dim": 5, "loss": "squared"}
    return Siamese(Method.of(**(heads | fields)), 7).double()


# ---------------------------------------------------------------- rates


@pytest.mark.parametrize(("batch", "scaling", "factor"), [(512, "linear", 2), (64, "linear", 0.25), (512, "none", 1)])
def test_rates_are_for_a_batch_of_256(batch, scaling, factor):
    o = Optimisation(lr=0.03, batch_size=batch, lr_scaling=scaling)
    assert base_rates(o) == pytest.approx((0.03 * factor, 0.03 * factor))
    assert base_rates(replace(o, predictor_lr=0.2)) == pytest.approx((0.03 * factor, 0.2 * factor))


def test_simsiams_rate_on_cifar10():
    assert base_rates(Optimisation(lr=0.03, batch_size=512)).trunk == pytest.approx(0.06)


def test_constant_rates():
    assert {rates(FLAT, step, 7) for step in range(70)} == {Rates(0.1, 0.1)}


@pytest.mark.parametrize("step", [0, 1, 17, 35, 69])
def test_cosine_against_torch(step):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=70)
    for _ in range(step):
        optimiser.step()
        schedule.step()
    assert rates(COSINE, step, 7).trunk == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-9)


def test_cosine_starts_high_halves_in_the_middle_and_ends_near_zero():
    values = [rates(COSINE, step, 100).trunk for step in range(1000)]
    assert values[0] == 0.1 and values[500] == pytest.approx(0.05) and 0 < values[-1] < 1e-6
    assert values == sorted(values, reverse=True) and rates(COSINE, 1000, 100).trunk == pytest.approx(0, abs=1e-12)
    assert sum(values) / 1000 == pytest.approx(0.05, rel=2e-3)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_warm_up_rises_linearly_to_the_full_rate(schedule):
    o = replace(FLAT, schedule=schedule, warmup_epochs=2.0)
    values = [rates(o, step, 5).trunk for step in range(50)]
    assert values[:10] == pytest.approx([0.1 * k / 10 for k in range(1, 11)])
    assert values[10] == pytest.approx(0.1) and (values[10:] == [0.1] * 40) == (schedule == "constant")
    assert rates(replace(o, warmup_epochs=0.5), 0, 5).trunk == pytest.approx(0.1 / 2.5)  # part of an epoch


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 7), st.sampled_from(["same", "constant"]))
def test_a_restarted_cosine_is_that_of_a_run_over_what_is_left(before, after, steps, predictor):
    o = replace(COSINE, epochs=before + after, predictor_schedule=predictor, warmup_epochs=before / 2)
    rest = replace(o, epochs=after, warmup_epochs=0.0)
    for step in range(o.epochs * steps):
        wanted = rates(o, step, steps) if step < before * steps else rates(rest, step - before * steps, steps)
        assert rates(o, step, steps, before) == pytest.approx(wanted, rel=1e-12)
        assert rates(o, step, steps, 0) == rates(o, step, steps)


def test_a_run_that_is_all_warm_up():
    values = [rates(replace(COSINE, warmup_epochs=10.0), step, 2).trunk for step in range(20)]
    assert values == pytest.approx([0.1 * k / 20 for k in range(1, 21)])


def test_a_constant_predictor_rate_stays_at_its_height():
    o = replace(COSINE, predictor_schedule="constant", predictor_lr=0.4, warmup_epochs=2.0)
    assert {rates(o, step, 5).predictor for step in range(50)} == {0.4}
    same = replace(o, predictor_schedule="same")
    assert all(r.predictor == pytest.approx(4 * r.trunk) for r in (rates(same, step, 5) for step in range(50)))


@given(
    st.integers(0, 8),
    st.integers(1, 9),
    st.floats(0, 1),
    st.sampled_from(["cosine", "constant"]),
    st.sampled_from(["same", "constant"]),
)
def test_rates_stay_between_zero_and_the_full_rate(epochs, steps, share, schedule, predictor):
    o = replace(FLAT, epochs=epochs, warmup_epochs=share * epochs, schedule=schedule, predictor_schedule=predictor)
    for step in range(epochs * steps + 1):
        now = rates(o, step, steps)
        assert all(math.isfinite(v) and 0 <= v <= 0.1 * (1 + 1e-12) for v in now)


# ---------------------------------------------------------------- the optimiser


def group_names(network, optimiser):
    names = {id(w): name for name, w in network.named_parameters()}
    return [{names[id(w)] for w in group["params"]} for group in optimiser.param_groups]


@pytest.mark.parametrize(("decay", "wanted"), [(None, 0.02), (0.0, 0.0), (0.3, 0.3)])
def test_trunk_and_predictor_have_their_own_decay(decay, wanted):
    network = siamese(projector_layers=2, predictor="mlp", target="ema")
    optimiser = make_optimiser(network, Optimisation(weight_decay=0.02, predictor_weight_decay=decay, momentum=0.8))
    trunk, predictor = optimiser.param_groups
    assert (trunk["weight_decay"], predictor["weight_decay"]) == (0.02, wanted)
    assert trunk["momentum"] == predictor["momentum"] == 0.8 and not trunk["nesterov"] and trunk["dampening"] == 0
    of_trunk, of_predictor = group_names(network, optimiser)
    assert of_trunk == {f"online.{name}" for name, _ in network.online.named_parameters()}  # BatchNorm's included
    assert of_predictor == {f"predictor.{name}" for name, _ in network.predictor.named_parameters()}


@pytest.mark.parametrize(
    ("fields", "learns"),
    [
        ({"predictor": "identity"}, False),
        ({"predictor": "fixed"}, False),
        ({"predictor": "directpred"}, False),
        ({"predictor": "directpred", "predictor_freq": 2}, True),
        ({"predictor": "bias"}, True),
    ],
)
def test_what_does_not_learn_is_not_in_a_group(fields, learns):
    assert bool(make_optimiser(siamese(**fields), Optimisation()).param_groups[1]["params"]) == learns


def test_a_step_moves_each_group_at_its_own_rate():
    network = siamese()
    optimiser = make_optimiser(network, Optimisation(weight_decay=0.02, predictor_weight_decay=0.3))
    set_rates(optimiser, Rates(0.5, 0.25))
    W, Wp = network.online.projector.last.weight, network.predictor.network.weight
    W.grad, Wp.grad = torch.ones_like(W), torch.ones_like(Wp)
    wanted = [w.detach() - lr * (1 + decay * w.detach()) for w, lr, decay in ((W, 0.5, 0.02), (Wp, 0.25, 0.3))]
    optimiser.step()
    assert torch.allclose(W, wanted[0]) and torch.allclose(Wp, wanted[1])
    set_rates(optimiser, Rates(0.0, 0.0))
    optimiser.step()
    assert torch.allclose(W, wanted[0]) and torch.allclose(Wp, wanted[1])


# ---------------------------------------------------------------- a batch in parts


@pytest.mark.parametrize("fields", [{}, {"loss": "cosine"}, {"target": "ema"}, {"stop_gradient": "none"}])
@pytest.mark.parametrize("parts", [2, 3])
def test_a_batch_in_parts_has_the_gradient_of_one(fields, parts):
    whole, parted = siamese(**fields), siamese(**fields)
    views = torch.randn(2, 12, 7, dtype=torch.float64)
    out = gradient(whole, [Batch.of(*views)])
    joined = gradient(parted, [Batch.of(*part) for part in views.split(12 // parts, dim=1)])
    pairs = [(a.grad, b.grad) for a, b in zip(whole.parameters(), parted.parameters()) if a.requires_grad]
    assert all(torch.allclose(a, b, rtol=1e-12, atol=1e-14) and a.any() for a, b in pairs)
    for a, b in ((getattr(out, name), getattr(joined, name)) for name in ("loss", "z", "p", "target")):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-14) and a.shape == b.shape and not b.requires_grad


def test_outputs_are_joined_along_the_batch():
    def part(k):
        z, p, target = (torch.full((2, 3, 5), 10.0 * f + k) for f in range(3))
        number = torch.tensor(float(k))
        return Outputs(z, p, torch.tensor([k, k, 0]), target, number, {"own": 2 * number}, {"seen": 4 * number})

    parts = [part(1), part(2)]
    joined = Outputs.joined(parts)
    assert joined.loss == 1.5 and joined.terms == {"own": 3} and joined.scalars == {"seen": 6} and joined.total == 4.5
    assert joined.z.shape == (2, 6, 5) and joined.index.tolist() == [1, 1, 0, 2, 2, 0]
    for f, v in enumerate((joined.z, joined.p, joined.target)):
        assert v[:, :3].eq(10.0 * f + 1).all() and v[:, 3:].eq(10.0 * f + 2).all()
    assert Outputs.joined(parts[:1]) is parts[0]

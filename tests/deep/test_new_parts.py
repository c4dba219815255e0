"""New parts, as a user would write them: one file of at most 40 lines and a line in a table, and everything follows."""

import json
import os
import runpy
import shlex
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from new_parts import NEW, enter
from processes import PROCESSES
from small_runs import undrawn
from torch.nn.functional import normalize

from stopgrad.deep import seats
from stopgrad.deep.__main__ import door
from stopgrad.deep.config import (
    Config,
    Method,
    Optimisation,
    change,
    check,
    from_json,
    key_text,
    to_json,
    views_wanted,
)
from stopgrad.deep.data.batch import Batch
from stopgrad.deep.measuring.units import Noise
from stopgrad.deep.method.optimisation import make_optimiser
from stopgrad.deep.method.siamese import Siamese
from stopgrad.deep.parts import flag
from stopgrad.deep.processes.distributed import join, leave, synchronise
from stopgrad.deep.storage import table
from stopgrad.deep.training.training import gradient
from stopgrad.deep.words.expectation import expectation
from stopgrad.experiments.claims.regime import describe
from stopgrad.experiments.suites.grid import Arm

ROOT = Path(__file__).parents[2]
TINY = shlex.split(
    "train --backbone linear --projector-hidden 16 --embedding-dim 8 --fraction .1 --image-size 8 --batch-size 32 "
    "--epochs 2 --evaluate-every 2 --probe none --device cpu --quiet --json --out run"
)


@pytest.fixture
def part(monkeypatch, tmp_path):
    """A function that enters a new part for as long as a test lasts."""
    monkeypatch.chdir(tmp_path)
    before = [dict(seat.table) for seat in seats.SEATS]
    yield lambda name: enter(name, tmp_path)
    for seat, table_before in zip(seats.SEATS, before):
        seat.table.clear()
        seat.table.update(table_before)


def siamese(**fields):
    torch.manual_seed(0)
    small = {"backbone": "linear", "width": 6, "embedding_dim": 5, "projector_layers": 1}
    return Siamese(Method.of(**small | fields), 7).double().train()


def batch(views=2, images=12):
    draw = torch.Generator().manual_seed(1)
    return Batch.of(*torch.randn(views, images, 7, generator=draw, dtype=torch.float64))


def slopes(network, loss):
    """The gradient of `loss` at all weights, 0 where it does not arrive."""
    found = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True, materialize_grads=True)
    return torch.cat([v.flatten() for v in found])


def close(a, b, tolerance=1e-12):
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance)


# ---------------------------------------------------------------- what follows for each


@pytest.mark.parametrize("name", NEW)
def test_a_new_part_is_one_short_file(name):
    assert len(NEW[name][1].strip().splitlines()) <= 40


@pytest.mark.parametrize("name", NEW)
def test_a_new_part_trains_from_the_command_line(part, capsys, monkeypatch, name):
    """It is in the help with its options, its run is finished, measured and described, and its record is read back."""
    undrawn(monkeypatch)
    kind, seat = part(name), NEW[name][0]
    choice, option = [f"--{seat.name}", name], flag(next(iter(seat.options_of(kind))))
    for argv, words in (([], name), (choice, option)):
        assert door(["train", *argv, "--help"]) == 0
        assert words in capsys.readouterr().out
    assert door(["train", option, "1"]) == 2
    assert f"{option} goes with --{seat.name} {name}" in capsys.readouterr().err
    assert door([*TINY, *choice]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["state"] == "finished" and summary["diagnosis"] and np.isfinite(summary["last"]["loss"])
    config = from_json(json.dumps(summary["config"]))
    assert type(getattr(config.method, seat.name)) is kind and from_json(to_json(config)) == from_json(key_text(config))
    assert all(sentence.endswith(".") for sentence in expectation(config, Noise(0.1, 1.0), 10))
    loss = config.method.objective.theory or config.method.objective
    assert f"{loss} loss" in " ".join(describe(Arm("a", config, (0,))))
    assert door(["summary", "run"]) == 0 and "steps" in capsys.readouterr().out
    first = table.read(Path("run")).scalars
    if name == "uniformity":
        assert 0 <= first["found"][0] <= 1
    if name == "inverse":
        assert first["inverse"][-1] < first["inverse"][0]


# ---------------------------------------------------------------- images that push each other away


@pytest.mark.parametrize("sharpness", [0.5, 2.0])
def test_uniformity_is_of_distances(part, sharpness):
    part("uniformity")
    network = siamese(objective="uniformity", sharpness=sharpness, predictor="identity")
    found = network(batch())
    a, b = normalize(found.z, dim=-1)
    near = [(-sharpness * (x[:, None] - x).square().sum(-1)).exp().mean().log() for x in (a, b)]
    wanted = (a - b).square().sum(-1).mean() + sum(near) / 2
    assert close(found.loss, wanted) and close(slopes(network, found.loss), slopes(network, wanted))


def test_what_compares_images_refuses_batches_in_parts(part):
    part("uniformity")
    with pytest.raises(ValueError, match="--objective uniformity compares images of a batch, which --accumulation"):
        check(change(Config(), objective="uniformity", accumulation=2))
    assert check(change(Config(), objective="uniformity")).method.objective.whole_batch


def share(rank, folder, port):
    """What one of two processes finds on its half of a batch, in a file."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    world = join("cpu")
    enter("uniformity", folder / str(rank))
    network = synchronise(siamese(objective="uniformity", projector_layers=2), world)
    mine = Batch.of(*(view.chunk(2)[rank] for view in batch().views))
    outputs = gradient(network, [mine])
    torch.save([outputs.loss, *(w.grad for w in network.parameters())], folder / f"{rank}.pt")
    leave()


def test_two_processes_compare_the_images_of_both(part, tmp_path):
    part("uniformity")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for rank in (0, 1):
        (tmp_path / str(rank)).mkdir()
    processes = [PROCESSES.Process(target=share, args=(rank, tmp_path, port)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    one = siamese(objective="uniformity", projector_layers=2)
    wanted = gradient(one, [batch()])
    wanted = [wanted.loss, *(w.grad for w in one.parameters())]
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert len(found) == len(wanted) and all(close(a, b, 1e-10) for a, b in zip(found, wanted))


# ---------------------------------------------------------------- a composite target


def test_a_composite_target_is_not_normalised_again(part):
    part("composite")
    network = siamese(objective="composite", predictor="mlp", predictor_hidden=4)
    found = network(batch())
    P, Z = normalize(found.p, dim=-1), normalize(found.z, dim=-1).detach().flip(0)
    target = Z.mean(1, keepdim=True) + P.detach().flip(0) - P.detach().flip(0).mean(1, keepdim=True)
    assert not close(target.norm(dim=-1), torch.ones(2, 12, dtype=torch.float64), 1e-3)
    assert close(found.loss, -(P * target).sum(-1).mean())
    assert close(slopes(network, found.loss), slopes(network, -(P * target).sum(-1).mean()))


def test_the_components_add_up_to_simsiam(part):
    """Zhang et al. 2022: o_z + r_z is SimSiam's target; o_z + r_p and o_p + r_z share it with o_p + r_p."""
    part("composite")
    of = {}
    for centre, residual in ("zz", "zp", "pz", "pp"):
        network = siamese(objective="composite", centre=centre, residual=residual, predictor="mlp")
        of[centre + residual] = slopes(network, network(batch()).loss)
    plain = siamese(predictor="mlp")
    assert close(of["zz"], slopes(plain, plain(batch()).loss))
    assert close(of["zp"] + of["pz"], of["zz"] + of["pp"]) and not close(of["zp"], of["pz"], 1e-3)


# ---------------------------------------------------------------- a target that learns by itself


def test_a_targets_weights_learn_by_their_own_loss_alone(part):
    part("inverse")
    network = siamese(target="inverse", predictor="mlp", predictor_hidden=4)
    found = network(batch())
    inverse = list(network.target.parameters())
    assert not any(v.any() for v in torch.autograd.grad(found.loss, inverse, allow_unused=True, materialize_grads=True))
    assert all(v.any() for v in torch.autograd.grad(found.terms["inverse"], inverse, retain_graph=True))
    others = [*network.online.parameters(), *network.predictor.parameters()]
    reached = torch.autograd.grad(found.terms["inverse"], others, allow_unused=True)
    assert all(v is None for v in reached)
    assert close(found.total, found.loss + found.terms["inverse"])
    groups = network.groups()
    assert {id(w) for w in inverse} < {id(w) for w in groups["predictor"]}
    optimiser = make_optimiser(network, Optimisation(lr=0.1, lr_scaling="none", predictor_weight_decay=0.3))
    assert [group["weight_decay"] for group in optimiser.param_groups] == [5e-4, 0.3]
    before = [w.clone() for w in inverse]
    gradient(network, [batch()])
    optimiser.step()
    assert not any(map(torch.equal, before, inverse))


def test_weights_of_nobody_and_of_two_are_refused(part, monkeypatch):
    part("inverse")
    from part_inverse import InverseNetwork

    own = InverseNetwork.__init__

    def twice(self, network):
        own(self, network)
        self.again = network[0]

    monkeypatch.setattr(InverseNetwork, "__init__", twice)
    siamese(target="inverse")  # one weight under two names is still one

    network = siamese(target="inverse")
    network.hidden = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"hidden.weight would be trained 0 times a step"):
        network.groups()
    network = siamese(target="inverse")
    network.target.borrowed = network.online.projector
    with pytest.raises(ValueError, match=r"online.projector.0.weight would be trained 2 times a step"):
        network.groups()


# ---------------------------------------------------------------- fresh views, layers


def test_fresh_views_are_the_targets_alone(part):
    part("fresh")
    network = siamese(target="fresh", fresh_views=4, predictor="identity")
    config = change(Config(), target="fresh", fresh_views=4)
    assert views_wanted(check(config)) == 6 and views_wanted(Config()) == 2
    given = batch(views=6)
    found = network(given)
    assert found.z.shape == found.target.shape == (2, 12, 5) and not found.target.requires_grad
    mean = sum(network.online(x) for x in given.views[2:]) / 4
    assert close(found.target[0], mean) and close(found.target[1], mean)
    with pytest.raises(ValueError, match="needs a target that learns"):
        check(change(config, stop_gradient="none"))


def test_layers_take_points_and_images(part):
    part("layers")
    network = siamese(backbone="layers", layers=3, width=9)
    assert network.online.backbone.out_features == 9 and network(batch()).loss.isfinite()
    assert check(change(Config(), backbone="layers", dataset="gaussian")).method.backbone.vectors
    check(change(Config(), backbone="layers"))


# ---------------------------------------------------------------- the example


def test_the_example_of_uniformity_reads_and_runs(capsys):
    before = dict(seats.OBJECTIVES)
    try:
        example = runpy.run_path(str(ROOT / "examples" / "uniformity.py"))
        seen = example["main"](16)
        assert capsys.readouterr().out.startswith("step 0: loss -1.") and seen["loss"] < -1.5
        assert len((ROOT / "examples" / "uniformity.py").read_text().splitlines()) <= 76
    finally:
        seats.OBJECTIVES.clear()
        seats.OBJECTIVES.update(before)

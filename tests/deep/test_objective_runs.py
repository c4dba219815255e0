"""Every objective with its options: what is said of it and refused, in two processes, and on the command line."""

import json
import multiprocessing
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import undrawn
from variants import VARIANTS, B, batch, close, draw, network

from stopgrad.deep.__main__ import door
from stopgrad.deep.commands import Train
from stopgrad.deep.config import Config, change, check, from_json, to_json, views_wanted
from stopgrad.deep.data.batch import Batch
from stopgrad.deep.measuring.units import Noise
from stopgrad.deep.method.optimisation import make_optimiser
from stopgrad.deep.presets import DEFAULT
from stopgrad.deep.processes.distributed import join, leave, synchronise
from stopgrad.deep.storage import checkpoint, table
from stopgrad.deep.training.recorder import Recorder
from stopgrad.deep.training.training import gradient
from stopgrad.deep.words.expectation import expectation

# ---------------------------------------------------------------- what is said, and refused


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"objective": "components", "keep": "none", "predictor": "identity"}, "--keep none is a part of what a pred"),
        ({"objective": "infonce", "stopped_keys": "negatives", "target": "ema"}, "--stopped-keys negatives needs a"),
        ({"objective": "infonce", "temperature": 0.0}, "--temperature is 0.0; it must be above 0"),
        ({"objective": "triplet", "keep": "none"}, "--keep is 'none'; it must be one of both, centre, residual"),
        ({"objective": "triplet", "accumulation": 2}, "--objective triplet compares images of a batch"),
        ({"objective": "direction", "toward": "residual", "accumulation": 2}, "--objective direction compares images"),
        ({"loss": "cross_entropy", "stop_gradient": "none", "target": "ema"}, "--stop-gradient none needs a target"),
    ],
)
def test_what_makes_no_sense_is_refused(fields, said):
    with pytest.raises(ValueError, match=said) as refused:
        check(change(Config(), **fields))
    assert "\n" not in str(refused.value)
    check(change(Config(), objective="direction", toward="random", accumulation=2))  # of one image at a time


@pytest.mark.parametrize("predictor", ["linear", "mlp", "identity"])
@pytest.mark.parametrize("name", VARIANTS)
def test_what_is_expected_is_said(name, predictor):
    config = change(Config(), predictor=predictor, **VARIANTS[name])
    said = expectation(config, Noise(0.1, 1.0), 10)
    assert len(said) >= 2 and all(sentence.endswith(".") for sentence in said)
    if name in ("direction centre", "direction view", "triplet residual"):
        assert any("collapse" in sentence for sentence in said)
    if config.method.objective.theory is None and "schedule" not in name:
        assert not any("cosine loss" in sentence for sentence in said)
    acts_on_z = name.startswith(("direction", "decorrelation"))
    assert any("predictor gets no gradient" in s for s in said) == (
        (acts_on_z or name == "schedule") and predictor != "identity"
    )


def test_only_what_acts_on_z_leaves_the_predictor_alone():
    for name, fields in VARIANTS.items():
        siamese = network(**fields)
        loss = siamese(batch()).loss
        weights = list(siamese.predictor.parameters())
        arrives = torch.autograd.grad(loss, weights, materialize_grads=True, allow_unused=True)
        idle = name.startswith(("direction", "decorrelation", "schedule"))
        assert any(map(torch.any, arrives)) != idle, name
        balanced = siamese.objective.unbalanced() is None
        assert balanced == (name.startswith(("cross", "components", "triplet")) or name == "infonce all"), name


# ---------------------------------------------------------------- a target that nothing reads

SPARED = {
    "ema": {"target": "ema", "ema_momentum": 0.5},
    "alternating": {"target": "alternating", "alternation": 2},
    "fresh views": {"target": "fresh_views", "target_views": 2},
    "moving average": {"target": "moving_average"},
}
READS_NONE = ("direction view", "direction random", "decorrelation correlation raw", "components none")


def after(steps, fields, monkeypatch):
    """Weights and buffers of online network and predictor after some steps, and the steps that asked the target."""
    config, asked = check(change(Config(), **fields)), []
    kind = type(config.method.target)
    siamese = network(**fields)
    learner = make_optimiser(siamese, config.optimisation)
    told = type(siamese.target) if isinstance(siamese.target, torch.nn.Module) else kind
    call = "forward" if told is not kind else "__call__"
    original = getattr(told, call)
    with monkeypatch.context() as watched:
        watched.setattr(told, call, lambda self, batch, *rest: asked.append(batch.step) or original(self, batch, *rest))
        for step in range(steps):
            views = tuple(draw(views_wanted(config), B, 7, seed=step))
            outputs = gradient(siamese, [Batch(views, torch.arange(B), torch.zeros(B, dtype=torch.int64), step)])
            learner.step()
            learner.zero_grad(set_to_none=True)
            siamese.after_step(outputs, learner)
    return {k: v for k, v in siamese.state_dict().items() if not k.startswith("target")}, asked, outputs


@pytest.mark.parametrize("objective", READS_NONE)
@pytest.mark.parametrize("target", SPARED)
def test_a_target_that_nothing_reads_is_not_computed_and_leaves_no_trace(target, objective, monkeypatch):
    fields = VARIANTS[objective] | {"predictor": "mlp"}
    mine, asked, outputs = after(3, fields | SPARED[target], monkeypatch)
    theirs, shared, _ = after(3, fields, monkeypatch)
    assert asked == [] and shared == [0, 1, 2]
    assert torch.equal(outputs.target, outputs.z)
    assert mine.keys() == theirs.keys() and any("running_var" in name for name in mine)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    config = change(Config(), **fields | SPARED[target])
    assert views_wanted(config) == 2 and views_wanted(change(config, objective="predictive")) >= 2
    assert any("so it is not computed" in said for said in expectation(config, Noise(0.1, 1.0), 10))


@pytest.mark.parametrize("target", SPARED)
def test_a_schedule_asks_for_a_target_in_the_phases_that_read_it(target, monkeypatch):
    phases = ("predictive@2", "direction toward=view@2", "decorrelation@1", "components keep=none@1", "predictive")
    fields = {"objective": "schedule", "phases": phases, "predictor": "mlp"} | SPARED[target]
    assert after(8, fields, monkeypatch)[1] == [0, 1, 6, 7]


@pytest.mark.parametrize(
    "fields",
    [
        {"target": "inverse", "predictor": "mlp"},  # its own losses train the predictor
        {"target": "ema", "predictor": "optimal"},  # which is set from E[f_a fᵀ]
        {"target": "ema", "predictor": "mlp", "objective": "infonce"},
    ],
    ids=lambda fields: " ".join(fields.values()),
)
def test_a_target_that_something_reads_is_computed(fields, monkeypatch):
    fields = {"objective": "decorrelation"} | fields
    assert after(2, fields, monkeypatch)[1] == [0, 1]
    assert not any("not computed" in said for said in expectation(change(Config(), **fields), Noise(0.1, 1.0), 10))


# ---------------------------------------------------------------- processes


SPREAD = ("components centre", "direction residual", "direction random", "infonce none", "triplet both", "schedule")


def share(rank, folder, port):
    """What one of two processes finds on its half of a batch under each objective, in a file."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    world, found = join("cpu"), {}
    for name in SPREAD:
        siamese, whole = synchronise(network(**VARIANTS[name]), world), batch(step=1)
        mine = Batch(tuple(v.chunk(2)[rank] for v in whole.views), whole.index.chunk(2)[rank], whole.visit, 1)
        loss = gradient(siamese, [mine]).loss
        found[name] = [loss, *(w.grad for w in siamese.parameters() if w.grad is not None)]
    torch.save(found, folder / f"{rank}.pt")
    leave()


def test_two_processes_compute_what_one_does(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    processes = [context.Process(target=share, args=(rank, tmp_path, port)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    for name in SPREAD:
        one = network(**VARIANTS[name])
        loss = gradient(one, [batch(step=1)]).loss
        wanted = [w.grad for w in one.parameters() if w.grad is not None]
        for mine in found:
            assert len(mine[name]) == 1 + len(wanted)
            assert all(close(a, b, 1e-10) for a, b in zip(mine[name][1:], wanted)), name
        assert close((found[0][name][0] + found[1][name][0]) / 2, loss, 1e-10), name


# ---------------------------------------------------------------- the command line


def argv_of(fields):
    """Options as flags."""
    for option, value in fields.items():
        yield f"--{option.replace('_', '-')}"
        yield from [] if value is True else [value] if isinstance(value, str) else value


@pytest.mark.parametrize("name", VARIANTS)
def test_each_variant_is_a_matter_of_flags(name, monkeypatch, capsys):
    monkeypatch.setattr(Train, "run", lambda self: {"state": "finished", "config": to_json(self.configs()[0])})
    assert door(["train", *argv_of(VARIANTS[name]), "--json"]) == 0
    assert from_json(json.loads(capsys.readouterr().out)["config"]) == check(change(DEFAULT, **VARIANTS[name]))


def phase(fields):
    """A variant as a phase of two steps."""
    options = [f"{name}={value}" for name, value in fields.items() if name != "objective"]
    return " ".join([fields.get("objective", "predictive"), *options]) + "@2"


def left_by(folder):
    """Bits of the table of a run and of its last checkpoint."""
    payload = checkpoint.load_latest(folder).payload
    weights = {name: value.numpy().tobytes() for name, value in payload["siamese"].items()}
    moving = [s["momentum_buffer"].numpy().tobytes() for s in payload["optimiser"]["state"].values()]
    return table.fingerprint(folder), weights, moving


def test_each_variant_trains_for_two_steps_and_goes_on_from_within_them(tmp_path, monkeypatch, capsys):
    """One run with every variant as a phase, against one that is stopped within phases of each kind and resumed."""
    undrawn(monkeypatch)
    names = [name for name in VARIANTS if name != "schedule"]
    phases = [phase(VARIANTS[name]) for name in names]
    small = shlex.split(
        "--dataset gaussian --gaussian-dim 8 --gaussian-samples 64 --backbone linear --width 6 --projector-hidden 8 "
        "--embedding-dim 6 --batch-size 32 --monitor-every 1 --evaluate-every 1000 --probe none --device cpu --quiet"
    )
    argv = ["train", *small, "--epochs", str(len(phases)), "--objective", "schedule", "--phases", *phases, "--json"]
    assert door([*argv, "--out", str(tmp_path / "unbroken")]) == 0
    summary = json.loads(capsys.readouterr().out)
    rows = table.read(tmp_path / "unbroken").scalars
    assert summary["state"] == "finished" and np.isfinite(rows["loss"]).all()
    assert rows["phase"].tolist() == [1 + step // 2 for step in range(2 * len(phases))]
    assert summary["config"]["method"]["phases"] == phases
    for step in sorted(2 * names.index(name) for name in SPREAD if name in names):
        with monkeypatch.context() as disturbed:
            now = []
            disturbed.setattr(Recorder, "wants", lambda self, step, now=now: now.append(step) or True)
            disturbed.setattr(Recorder, "must_stop", lambda self, step=step, now=now: now[-1] == step)
            door([*argv, "--out", str(tmp_path / "broken"), "--resume"])
        assert checkpoint.load_latest(tmp_path / "broken").step == step + 1
    assert door([*argv, "--out", str(tmp_path / "broken"), "--resume"]) == 0
    assert left_by(tmp_path / "broken") == left_by(tmp_path / "unbroken")


def test_the_command_line_explains_and_refuses(capsys):
    assert door(["train", "--objective", "infonce", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "--temperature" in said and "--stopped-keys" in said and "--isoloss" not in said
    assert door(["train", "--toward", "random"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_importing_objectives_loads_no_torch():
    root = Path(__file__).parents[2]
    names = ("components", "decorrelation", "direction", "infonce", "schedule", "triplet", "vectors")
    code = "".join(f"import stopgrad.deep.method.objectives.{name}\n" for name in names)
    code += "import sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)

"""The training loop: batches in, steps out, and nothing in it that knows a method."""

import ast
import inspect
import re
import subprocess
import sys
from itertools import islice

import pytest
import torch

import stopgrad.deep.training.training
from stopgrad.deep.config import Method, Optimisation
from stopgrad.deep.data.batch import Batch
from stopgrad.deep.method.optimisation import make_optimiser
from stopgrad.deep.method.outputs import Outputs
from stopgrad.deep.method.siamese import Siamese
from stopgrad.deep.parts import known, seats_of
from stopgrad.deep.training.training import Clock, Plan, Run, gradient, train

DIM = 6
METHOD = Method.of(
    backbone="linear", projector_layers=1, embedding_dim=4, predictor="directpred", predictor_freq=2, target="ema"
)
OPTIMISATION = Optimisation(epochs=3, batch_size=8, lr=0.5, accumulation=2, warmup_epochs=1)
PLAN = Plan(OPTIMISATION, steps_per_epoch=5, loss_scale=2.0)


class Observer:
    """Writes down what it is told, and says stop or no more where it is asked to."""

    def __init__(self, lost_at=None, lost_after=None, stop_at=None):
        self.lost_at, self.lost_after, self.stop_at = lost_at, lost_after, stop_at
        self.told, self.asked = [], 0

    def wants(self, step):
        return step % 2 == 0

    def measure(self, clock, outputs):
        self.told.append(("measure", clock.step, outputs.z.shape[1]))
        return clock.step != self.lost_at

    def after_epoch(self, epoch, clock):
        self.told.append(("epoch", epoch, clock.step))
        self.step = clock.step
        return epoch != self.lost_after

    def must_stop(self):
        self.asked += 1
        return self.asked == self.stop_at


def batches(first_step):
    """The parts of the run's steps, a function of (step, part)."""
    for step in range(first_step, PLAN.steps):
        for part in range(OPTIMISATION.accumulation):
            draw = torch.Generator().manual_seed(10 * step + part)
            centre = torch.randn(4, DIM, generator=draw, dtype=torch.float64)
            yield Batch.of(*(centre + 0.3 * torch.randn(4, DIM, generator=draw, dtype=torch.float64) for _ in range(2)))


def fresh(plan=PLAN):
    torch.manual_seed(0)
    siamese = Siamese(METHOD, DIM).double()
    return Run(siamese, make_optimiser(siamese, plan.optimisation), batches, plan)


def weights(run):
    return [v.clone() for v in run.siamese.state_dict().values()]


def test_the_order_of_things():
    run, observer = fresh(), Observer()
    assert train(run, observer) == "finished"
    measured = [told for told in observer.told if told[0] == "measure"]
    assert measured == [("measure", step, 8) for step in range(0, 15, 2)]  # whole batches, both parts joined
    epochs = [told for told in observer.told if told[0] == "epoch"]
    assert epochs == [("epoch", k, 5 * k) for k in range(4)]
    assert observer.told[0] == ("epoch", 0, 0)
    assert observer.asked == 15
    assert run.clock.step == PLAN.steps == 15
    total = sum(2.0 * PLAN.rates(step).trunk / (1 - 0.9) for step in range(15))
    assert run.clock.time == pytest.approx(total, rel=1e-12)
    assert run.siamese.predictor.steps == 15


def test_it_is_the_textbook_loop():
    """Against a loop written out: SGD on the mean gradient of the parts, rates by step, then what follows a step."""
    run, twin = fresh(), fresh()
    train(run, Observer())
    siamese, optimiser = twin.siamese.train(), twin.optimiser
    for step in range(15):
        parts = list(islice(batches(step), 2))
        for group, rate in zip(optimiser.param_groups, PLAN.rates(step)):
            group["lr"] = rate
        optimiser.zero_grad()
        outputs = [siamese(part) for part in parts]
        ((outputs[0].loss + outputs[1].loss) / 2).backward()
        optimiser.step()
        siamese.after_step(Outputs.joined([o.detached() for o in outputs]), optimiser)
    for found, expected in zip(weights(run), weights(twin)):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    start = weights(fresh())
    assert any((found - before).abs().max() > 0.01 for found, before in zip(weights(run), start))


@pytest.mark.parametrize("stop_at", [1, 5, 7, 10, 15])
def test_stopped_anywhere_it_goes_on_to_the_same_bits(stop_at):
    whole = fresh()
    train(whole, Observer())
    first = fresh()
    observer = Observer(stop_at=stop_at)
    assert train(first, observer) == "stopped"
    assert first.clock.step == stop_at
    if stop_at % 5 == 0:
        assert observer.told[-1] == ("epoch", stop_at // 5, stop_at)  # evaluated and kept before it leaves
    second = fresh()
    second.siamese.load_state_dict(first.siamese.state_dict())
    second.optimiser.load_state_dict(first.optimiser.state_dict())
    again = Observer()
    resumed = Run(second.siamese, second.optimiser, batches, PLAN, Clock(first.clock.step, first.clock.time))
    assert train(resumed, again) == "finished"
    assert ("epoch", 0, 0) not in again.told
    assert resumed.clock == whole.clock
    assert all(torch.equal(found, expected) for found, expected in zip(weights(second), weights(whole)))


def test_a_step_that_is_lost_changes_no_weight():
    run, before = fresh(), fresh()
    assert train(run, Observer(lost_at=0)) == "diverged"
    assert run.clock.step == 0
    assert all(torch.equal(found, start) for found, start in zip(weights(run), weights(before)))


@pytest.mark.parametrize(("epoch", "step"), [(0, 0), (2, 10), (3, 15)])
def test_an_epoch_may_end_the_run(epoch, step):
    run = fresh()
    assert train(run, Observer(lost_after=epoch)) == "diverged"
    assert run.clock.step == step


def test_no_epochs():
    plan = Plan(Optimisation(epochs=0), 5)
    run, observer = fresh(plan), Observer()
    assert train(run, observer) == "finished"
    assert observer.told == [("epoch", 0, 0)]


def test_parts_without_a_gradient_are_outputs_all_the_same():
    """A method that learns nothing (its loss has no graph) is no error."""
    siamese = Siamese(METHOD, DIM).double().requires_grad_(False)
    outputs = gradient(siamese, list(batches(14)))
    assert outputs.z.shape == (2, 8, 4)
    assert all(w.grad is None for w in siamese.parameters())


# ---------------------------------------------------------------- the house's rule


def test_the_loop_is_short():
    for function in (train, gradient):
        assert len(inspect.getsource(function).splitlines()) < 60


def test_the_loop_names_no_method():
    """No value of any switch of the method, nor any switch, stands in the module's code."""
    tree = ast.parse(inspect.getsource(stopgrad.deep.training.training))
    for node in ast.walk(tree):  # docstrings may say what they like
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = ""
    code = ast.unparse(tree)
    names = known(Method) | {name for seat in seats_of(Method) for name in seat.choices} | {"simsiam", "byol"}
    names |= {"mirrored", "cosine", "squared"}
    names -= {"loss_scale", "loss"}  # a loss there is in any method
    assert {"stop_gradient", "isoloss", "symmetric_loss", "mlp", "ema", "directpred"} <= names
    found = {word.lower() for word in re.findall(r"\w+", code)}
    assert not names & found - {"linear", "predictor"}
    assert not re.search(r"\bif\b.*\b(method|predictor|target)\b", code)


def test_auto_takes_bfloat16_only_where_convolutions_may_use_it():
    """What the processor could do and oneDNN may not is not fast: such convolutions fall back to plain loops."""
    code = """
import os, torch
from stopgrad.deep.config import Config
from stopgrad.deep.training.build import half_precision
for allowed in ("AVX2", "DEFAULT"):  # read once a process, at the first use
    if not os.fork():
        os.environ["ONEDNN_MAX_CPU_ISA"] = allowed
        supported = torch.ops.mkldnn._is_mkldnn_bf16_supported()
        print(allowed, half_precision(Config(), torch.device("cpu")), supported, flush=True)
        os._exit(0)
    os.wait()
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in said.splitlines()] == ["AVX2", "DEFAULT"], said
    for allowed, chosen, supported in map(str.split, said.splitlines()):
        assert allowed != "AVX2" or supported == "False"
        assert chosen in ({"None", "torch.bfloat16"} if supported == "True" else {"None"})

"""Checkpoints: whole or recognised as damaged, whatever happens to the file or the process."""

import dataclasses
import os
import random
import time
import zipfile

import numpy as np
import pytest
import torch
from processes import process

from stopgrad.deep.config import Config, Optimisation, to_json
from stopgrad.deep.storage.checkpoint import first_difference, load_latest, save

CONFIG = to_json(Config())


def state(step):
    """A payload whose every part tells the step."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)).double()
    torch.nn.init.constant_(model[0].weight, step)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(4, 3, dtype=torch.float64)).sum().backward()
    optimiser.step()
    counters = {"epoch": step, "betas": (0.5, None), "names": ["a", "σ"], "share": 0.1, "done": False}
    return {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "F": torch.eye(2), "counters": counters}


def save_steps(folder, *steps):
    return [save(folder, step, state(step), CONFIG) for step in steps]


def assert_equal(a, b):
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for name in a:
            assert_equal(a[name], b[name])
    else:
        assert a == b


def refuse_to_warn(sentence):
    raise AssertionError(sentence)


def test_what_was_saved_comes_back_bit_by_bit(tmp_path):
    payload = state(7)
    save(tmp_path / "run", 7, payload, CONFIG)
    found = load_latest(tmp_path / "run", CONFIG, refuse_to_warn)
    assert (found.step, found.config_json) == (7, CONFIG)
    assert_equal(found.payload, payload)


def test_there_may_be_none(tmp_path):
    assert load_latest(tmp_path) is None
    assert load_latest(tmp_path / "absent") is None


def test_the_last_two_stay_and_nothing_else(tmp_path):
    save_steps(tmp_path, 1, 5, 9)
    (tmp_path / ".99999-checkpoint-000000003.pt").write_bytes(b"left by a killed process")
    (tmp_path / "notes.pt").touch()
    paths = save_steps(tmp_path, 12, 1_000_000_000)
    assert {path.name for path in tmp_path.iterdir()} == {paths[0].name, paths[1].name, "notes.pt"}
    assert load_latest(tmp_path).step == 1_000_000_000


def test_a_continuation_given_up_does_not_come_back(tmp_path):
    """Resumed from step 5 because 9 is damaged: after saving 7 the fallback must be 5, not 9."""
    late = save_steps(tmp_path, 5, 9)[1]
    late.write_bytes(late.read_bytes()[:-1])
    seventh = save_steps(tmp_path, 7)[0]
    assert not late.exists()
    seventh.write_bytes(b"")
    assert load_latest(tmp_path, warn=lambda _: None).step == 5


def test_the_file_opens_anywhere_with_torch_alone(tmp_path):
    path = save_steps(tmp_path, 3)[0]
    record = torch.load(path, weights_only=True)
    assert (record["step"], record["config"]) == (3, CONFIG)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert len(archive.comment) == 32


@pytest.mark.parametrize("kept", [0, 1, 31, 32, 33, 0.01, 0.3, 0.5, 0.9, -33, -32, -1])
def test_a_truncated_file_falls_back_with_a_warning(tmp_path, kept):
    path = save_steps(tmp_path, 1, 2)[1]
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.warns(UserWarning, match=r"checkpoint-000000002\.pt is damaged"):
        found = load_latest(tmp_path)
    assert found.step == 1


def test_a_flipped_bit_anywhere_is_recognised(tmp_path):
    path = save_steps(tmp_path, 1, 2)[1]
    content = path.read_bytes()
    positions = {0, 1, len(content) - 1, len(content) - 32, len(content) - 33}
    positions |= set(random.Random(0).sample(range(len(content)), 60))
    for position in positions:
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        warnings = []
        assert load_latest(tmp_path, CONFIG, warnings.append).step == 1
        assert len(warnings) == 1


def test_none_is_whole(tmp_path):
    for path in save_steps(tmp_path, 1, 2):
        path.write_bytes(path.read_bytes()[::-1])
    warnings = []
    assert load_latest(tmp_path, CONFIG, warnings.append) is None
    assert len(warnings) == 2


def test_another_config_is_refused_by_its_first_different_field(tmp_path):
    save_steps(tmp_path, 1)
    other = dataclasses.replace(Config(), optimisation=Optimisation(batch_size=64, lr=0.1))
    with pytest.raises(ValueError, match=r"--batch-size was 128 and is now 64") as refusal:
        load_latest(tmp_path, to_json(other))
    assert "\n" not in str(refusal.value)
    assert load_latest(tmp_path).step == 1  # without a config, whatever is there


def test_the_first_difference_of_two_configs():
    assert first_difference(CONFIG, CONFIG) is None
    assert first_difference('{"a":{"flip_it":[1,2]}}', '{"a":{"flip_it":[1,3]}}') == "--flip-it was 1 2 and is now 1 3"
    assert first_difference('{"a":{}}', '{"a":{"new":1}}') == "--new did not exist when it was written"
    assert first_difference('{"a":{"old":1}}', '{"a":{}}') == "--old exists no more"
    shared, moving = '{"a":{"target":"shared"}}', '{"a":{"ema_momentum":0.9,"target":"ema"}}'
    assert first_difference(shared, moving) == "--target was shared and is now ema"
    assert first_difference(moving, shared) == "--target was ema and is now shared"


@pytest.mark.parametrize("foreign", [np.ones(2), np.float64(1), {1, 2}, {"a": [torch.nn.Linear(1, 1)]}, Config()])
def test_what_could_not_be_loaded_is_not_saved(tmp_path, foreign):
    with pytest.raises(TypeError, match=r"payload\['x'\]"):
        save(tmp_path, 1, {"x": foreign}, CONFIG)
    assert not list(tmp_path.iterdir())


def test_a_save_that_fails_leaves_the_one_before(tmp_path, monkeypatch):
    save_steps(tmp_path, 1)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_steps(tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-000000001.pt"]


# ---------------------------------------------------------------- other processes


@pytest.mark.parametrize("delay", [0.0, 0.003, 0.007, 0.012, 0.02, 0.031, 0.05, 0.08])
def test_killed_while_saving_there_is_always_one_to_load(tmp_path, delay):
    def save_for_ever(say):
        for step in range(1, 10**6):
            save(tmp_path, step, {"w": torch.full((20_000,), float(step))}, CONFIG)
            say(step)

    with process(save_for_ever) as (_, said):
        acknowledged = int(said.readline())
        time.sleep(delay)
    found = load_latest(tmp_path, CONFIG, refuse_to_warn)
    assert found.step >= acknowledged
    assert (found.payload["w"] == found.step).all()
    save_steps(tmp_path, found.step + 1, found.step + 2)
    assert len(list(tmp_path.iterdir())) == 2

"""Runs that start from another run's final weights."""

import json
import shutil

import pytest
import torch
from small_runs import TINY, run

from stopgrad.deep.__main__ import door
from stopgrad.deep.config import change, key_text
from stopgrad.deep.storage import checkpoint, table
from stopgrad.deep.training import recorder, start
from stopgrad.deep.words import live

BASE = change(TINY, backbone="mlp", width=6, projector_hidden=5, predictor="mlp", predictor_hidden=4, monitor_every=1)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A finished run, which no test changes."""
    folder = tmp_path_factory.mktemp("source") / "run"
    run(folder, BASE)
    return folder


@pytest.fixture
def said(monkeypatch):
    """What is said of a run, sentence by sentence."""
    sentences = []
    monkeypatch.setattr(live.View, "say", lambda self, sentence: sentences.append(sentence))
    return sentences


def weights(folder):
    return checkpoint.load_latest(folder).payload["siamese"]


def untrained(folder, config, source):
    """The weights of a run of no epoch that starts from `source`."""
    run(folder, change(config, start_from=str(source), epochs=0))
    return weights(folder)


def test_it_starts_where_the_other_ended(source, tmp_path, said):
    before = weights(source)
    assert all(torch.equal(value, before[name]) for name, value in untrained(tmp_path / "a", BASE, source).items())
    assert f"the weights are the final ones of {source}" in said
    config = change(BASE, start_from=str(source), lr=0.01)
    summary = run(tmp_path / "b", config)
    assert summary["provenance"]["started_from"] == {"run": str(source), "weights": start._digest(before)}
    assert summary["first"]["loss"] < table.read(source).scalars["loss"][0]
    assert key_text(config) != key_text(change(config, start_from=None)) == key_text(change(BASE, lr=0.01))
    assert "started_from" not in json.loads((source / "summary.json").read_text())["provenance"]


@pytest.mark.parametrize(
    ("fields", "kept", "words"),
    [
        ({"predictor": "identity"}, (), ""),
        ({"predictor": "linear"}, (), "; its predictor of another build, this starts anew"),
        ({"predictor_hidden": 3}, (), "; its predictor of another build, this starts anew"),
        ({"target": "ema"}, ("predictor",), "; its target of another build, this starts anew"),
        ({"target": "inverse", "predictor_hidden": 3}, (), "; its predictor and target of another build, these start"),
    ],
)
def test_what_does_not_fit_starts_anew(source, tmp_path, said, fields, kept, words):
    before = weights(source)
    after = untrained(tmp_path / "run", change(BASE, **fields), source)
    for name, value in before.items():
        if name.startswith(("online.", *kept)):
            assert torch.equal(after[name], value), name
    sentence = next(one for one in said if one.startswith("the weights are the final ones"))
    assert words in sentence if words else sentence.endswith(str(source))
    if fields.get("target") == "ema":  # a copy of what was loaded, not of what was drawn
        assert all(
            torch.equal(after[f"target.network.{name[7:]}"], v) for name, v in before.items() if name[:7] == "online."
        )


def test_a_target_with_a_state_of_the_same_build_is_loaded(tmp_path):
    config = change(BASE, target="ema", ema_momentum=0.9)
    run(tmp_path / "ema", config)
    before = weights(tmp_path / "ema")
    after = untrained(tmp_path / "run", config, tmp_path / "ema")
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not torch.equal(before["target.network.projector.0.weight"], before["online.projector.0.weight"])


def test_float64_goes_on_in_float64(tmp_path):
    config = change(BASE, precision="float64", target="moving_average")
    run(tmp_path / "a", config)
    after = untrained(tmp_path / "b", config, tmp_path / "a")
    for name, value in weights(tmp_path / "a").items():
        assert name == "target.means" or (torch.equal(after[name], value) and after[name].dtype == value.dtype)
    assert len(after["target.means"]) == 0 and after["target.means"].dtype == torch.float64


def test_what_cannot_serve_is_refused_in_a_sentence(source, tmp_path, capsys):
    nothing, unfinished, diverged, bare = (tmp_path / name for name in ("nothing", "unfinished", "diverged", "bare"))
    for folder in (unfinished, diverged, bare):
        shutil.copytree(source, folder)
    (unfinished / "summary.json").unlink()
    summary = json.loads((source / "summary.json").read_text())
    (diverged / "summary.json").write_text(json.dumps(summary | {"state": "diverged"}))
    for file in bare.glob("checkpoint-*"):
        file.unlink()
    argv = (
        "train --backbone mlp --width 6 --projector-hidden 5 --embedding-dim 8 --fraction .1 --image-size 8 --epochs 0"
    )
    cases = [
        (nothing, [], "holds no run"),
        (unfinished, [], "holds an unfinished run"),
        (diverged, [], "diverged; there are no final weights"),
        (bare, [], "holds no checkpoint"),
        (source, ["--width", "7"], "another backbone or projector: backbone.1.weight is (6, 192) in it and (7, 192)"),
        (source, ["--projector-output-bn", "affine"], "is not there in it and"),
    ]
    for folder, more, words in cases:
        out = tmp_path / "out"
        assert door([*argv.split(), "--quiet", "--out", str(out), "--start-from", str(folder), *more]) == 2
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1, error
        assert not (out / "config.json").exists()


def test_it_is_resumed_without_the_run_that_it_started_from(source, tmp_path, monkeypatch):
    """From the checkpoint before its first step, and from one later: to the last bit."""
    copied = tmp_path / "copied"
    shutil.copytree(source, copied)
    config = change(BASE, start_from=str(copied))
    whole = run(tmp_path / "whole", config)
    for at in (0, 3):
        folder = tmp_path / f"stopped at {at}"
        with monkeypatch.context() as patch:
            asked = iter(range(1, 9))
            patch.setattr(recorder.Recorder, "must_stop", lambda self, asked=asked, at=at: next(asked) == max(at, 1))
            patch.setattr("stopgrad.deep.training.runs._stopped", lambda folder, step, *_: step)
            run(folder, config)
        if at == 0:
            (folder / "checkpoint-000000001.pt").unlink()
        shutil.rmtree(copied)
        again = run(folder, config, resume=True)
        assert again["provenance"]["started_from"] == whole["provenance"]["started_from"]
        for name, value in weights(tmp_path / "whole").items():
            assert value.numpy().tobytes() == weights(folder)[name].numpy().tobytes(), name
        shutil.copytree(source, copied)


def test_a_finished_run_is_not_read_for_another_start(source, tmp_path):
    copied = tmp_path / "copied"
    shutil.copytree(source, copied)
    config = change(BASE, start_from=str(copied), epochs=0)
    summary = run(tmp_path / "run", config)
    assert run(tmp_path / "run", config) == summary
    shutil.rmtree(copied)
    assert run(tmp_path / "run", config) == summary
    run(copied, change(BASE, lr=0.1))
    with pytest.raises(ValueError, match=r"was started from other weights than .* holds now"):
        run(tmp_path / "run", config)

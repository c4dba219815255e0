"""The folder of a run: what names it, what is read again, and what is refused."""

import contextlib
import json
import re
import shutil
from dataclasses import replace

import pytest
from small_runs import TINY, run

from stopgrad.deep.config import Config, Optimisation, change
from stopgrad.deep.storage import table
from stopgrad.deep.storage.provenance import code, fingerprint
from stopgrad.deep.storage.run_folder import default_folder, key, read_summary, whole_summary
from stopgrad.deep.training.runs import joined
from stopgrad.deep.words.report import text


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    return folder, run(folder, picture=True)


@pytest.fixture
def untrainable(monkeypatch):
    """Fail where training begins: what is to be refused must be by then."""
    monkeypatch.setattr("stopgrad.deep.training.runs.train", lambda *_: pytest.fail("training began"))


def test_a_finished_run_is_read_and_not_repeated(finished, untrainable):
    folder, summary = finished
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert run(folder) == run(folder, resume=True) == summary == read_summary(folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_the_summary_carries_its_origin(finished):
    folder, summary = finished
    assert summary["config"] == json.loads((folder / "config.json").read_text())
    origin = summary["provenance"]
    assert origin["fingerprint"] == fingerprint(TINY)
    assert origin["code"] == code(TINY)
    assert origin["device"] == "cpu"
    assert origin["hardware"]
    assert origin["processes"] == 1
    assert (summary["state"], summary["steps"]) == ("finished", 8)
    assert len(summary["alignment"]) == len(summary["spectrum"]) == 8


def test_another_setting_does_not_pass_for_it(finished, untrainable):
    folder, _ = finished
    for resume in (False, True):
        with pytest.raises(ValueError, match=r"holds another, finished run: --lr was 0\.05 and is now 0\.1"):
            run(folder, change(TINY, lr=0.1), resume)


def test_other_code_does_not_pass_for_it(finished, untrainable, monkeypatch):
    monkeypatch.setattr("stopgrad.deep.storage.run_folder.fingerprint", lambda *_: "other")
    with pytest.raises(ValueError, match="computed by other code or versions"):
        run(finished[0])


def test_the_default_folder_follows_from_all_that_decides_the_numbers(monkeypatch):
    folders = {default_folder(change(TINY, seed=seed, lr=lr)) for seed in (0, 1) for lr in (0.1, 0.1 + 1e-12)}
    assert len(folders) == 4
    assert all(re.fullmatch("runs/[0-9a-f]{16}", str(folder)) for folder in folders)
    assert default_folder(TINY).name == key(TINY)
    assert default_folder(TINY) == default_folder(change(TINY))
    before = default_folder(TINY)
    monkeypatch.setattr("stopgrad.deep.storage.run_folder.code", lambda *_: {"a": "other"})
    assert default_folder(TINY) != before


def test_a_new_default_is_a_new_key(monkeypatch):
    before = key(Config(optimisation=Optimisation()))
    defaults = [0.07 if value == 0.05 else value for value in Optimisation.__init__.__defaults__]
    monkeypatch.setattr(Optimisation.__init__, "__defaults__", tuple(defaults))
    assert key(Config(optimisation=Optimisation())) != before
    assert key(Config(optimisation=Optimisation(lr=0.05))) == before


@pytest.mark.parametrize("content", ["", '{"state": "finis', "[]", "{}", "\xff", '{"state": "finished", "first": 3}'])
def test_a_summary_that_is_not_whole_is_none(tmp_path, finished, content):
    shutil.copytree(finished[0], tmp_path / "run")
    (tmp_path / "run" / "summary.json").write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match="unfinished run"):
        read_summary(tmp_path / "run")
    with pytest.raises(ValueError, match="unfinished run; go on with --resume"):
        run(tmp_path / "run")
    summary = run(tmp_path / "run", resume=True)
    assert summary["spectrum"] == finished[1]["spectrum"]
    assert read_summary(tmp_path / "run") == summary


def test_a_run_that_another_process_has_just_finished_is_read(tmp_path, finished, untrainable, monkeypatch):
    @contextlib.contextmanager
    def waited_for(folder):
        shutil.copytree(finished[0], folder)
        yield

    monkeypatch.setattr("stopgrad.deep.storage.lock.hold", waited_for)
    assert run(tmp_path / "run") == finished[1]


def test_without_a_picture_the_numbers_are_the_same(tmp_path, finished):
    summary = run(tmp_path / "run")
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert not files & {"run.png", "measurements.npz", "backbone.pt"}
    assert {path.name for path in finished[0].iterdir()} - files == {"run.png", "measurements.npz", "backbone.pt"}
    for name in ("spectrum", "alignment", "knn", "diagnosis"):
        assert summary[name] == finished[1][name]
    assert "picture" in text(finished[1])
    assert "picture" not in text(summary)


@pytest.fixture
def unfinished(tmp_path, monkeypatch):
    """The folder of a run that lost its process as it was to be summed up."""
    with monkeypatch.context() as broken:
        broken.setattr("stopgrad.deep.training.runs.conclude", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(tmp_path / "run")
    return tmp_path / "run"


def test_an_unfinished_run_is_gone_on_with_only_if_asked(unfinished, finished):
    with pytest.raises(ValueError, match="unfinished run; go on with --resume"):
        run(unfinished)
    with pytest.raises(ValueError, match="holds an unfinished run; the command that began it goes on with --out"):
        read_summary(unfinished)
    with pytest.raises(ValueError, match="another, unfinished run: --seed was 0 and is now 1"):
        run(unfinished, replace(TINY, seed=1), resume=True)
    assert run(unfinished, resume=True)["spectrum"] == finished[1]["spectrum"]


def test_an_unfinished_run_is_not_gone_on_with_by_other_code(unfinished, monkeypatch, untrainable):
    monkeypatch.setattr("stopgrad.deep.training.recorder.fingerprint", lambda *_: "other")
    with pytest.raises(ValueError, match="begun by other code or versions; name another --out"):
        run(unfinished, resume=True)


def test_a_folder_that_is_no_runs_is_left_alone(tmp_path, untrainable):
    (tmp_path / "embeddings.f32").write_bytes(b"precious")
    with pytest.raises(ValueError, match="holds files that are no run's"):
        run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["embeddings.f32"]
    with pytest.raises(ValueError, match="cannot write into"):
        run(tmp_path / "embeddings.f32" / "run")
    with pytest.raises(ValueError, match="holds no run"):
        read_summary(tmp_path)


@pytest.mark.parametrize("target", ["gone", "run"])
def test_a_broken_link_is_no_folder(tmp_path, untrainable, target):
    (tmp_path / "run").symlink_to(target)
    with pytest.raises(ValueError, match="run is a broken link"):
        run(tmp_path / "run")


def test_what_a_system_leaves_in_a_folder_does_not_take_it(tmp_path, finished):
    (tmp_path / "desktop.ini").touch()
    (tmp_path / "@eaDir").mkdir()
    assert run(tmp_path)["last"]["loss"] == finished[1]["last"]["loss"]


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xe9"])
def test_a_config_that_cannot_be_read_is_named(tmp_path, untrainable, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"config\.json is damaged; name another --out"):
        run(tmp_path, resume=True)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"batch_size": 200}, "--batch-size 200 exceeds the 144 training images"),
        ({"batch_size": 33, "accumulation": 2}, "--accumulation 2 does not divide --batch-size 33"),
        ({"dataset": "imagefolder", "data_folder": "/nowhere"}, "/nowhere"),
        ({"dataset": "cifar10", "data_folder": "/nowhere"}, "--download"),
        ({"fraction": 0.0001}, "at least 2"),
        ({"predictor": "directpred", "predictor_bias": True}, "--predictor-bias"),
        ({"storage": "stream"}, "--storage stream"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path, untrainable, fields, sentence):
    with pytest.raises(ValueError, match=sentence) as refused:
        run(tmp_path / "run", change(TINY, **fields))
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------- tables that were touched after the run's end


def _cut_last_line(folder):
    path = folder / "metrics.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def _cut_an_array(folder):
    path = folder / "eigenvalues.f32"
    path.write_bytes(path.read_bytes()[:-4])


def _garbage(folder):
    path = folder / "metrics.jsonl"
    text = path.read_bytes()
    path.write_bytes(text[:200] + b"#" + text[201:])


def _no_evaluations(folder):
    (folder / "evaluations" / "metrics.jsonl").unlink()


@pytest.mark.parametrize("damage", [_cut_last_line, _cut_an_array, _garbage, _no_evaluations])
def test_a_finished_run_with_a_damaged_table_is_no_finished_run_and_is_computed_again(tmp_path, damage):
    folder = tmp_path / "run"
    with joined("cpu") as world:
        first = run(folder, world=world)
        whole = table.fingerprint(folder), table.fingerprint(folder / "evaluations")
        damage(folder)
        assert whole_summary(folder) is None
        with pytest.raises(ValueError, match="--resume"):
            run(folder, world=world)
        again = run(folder, resume=True, world=world)
    assert (table.fingerprint(folder), table.fingerprint(folder / "evaluations")) == whole
    assert again["last"]["loss"] == first["last"]["loss"] and whole_summary(folder)

"""The store of runs: what counts as finished, what an edit makes stale, what a damaged folder costs, and the lock."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_runs import TINY

from stopgrad.deep.config import change, to_json
from stopgrad.deep.storage import lock
from stopgrad.deep.storage.provenance import code
from stopgrad.deep.storage.run_folder import default_folder
from stopgrad.deep.training.distributed import World
from stopgrad.deep.training.runs import Place, execute
from stopgrad.experiments.store.store import Store, key


def carry_out(store, config):
    place = Place(store.folder(config), resume=True, quiet=True, picture=False)
    return execute(config, place, World(0, 1, torch.device("cpu"), None))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A store of one finished run."""
    store = Store(tmp_path_factory.mktemp("kept") / "runs")
    return store, carry_out(store, TINY)


@pytest.fixture
def store(kept, tmp_path):
    """A copy of it that a test may spoil."""
    shutil.copytree(kept[0].root, tmp_path / "runs")
    return Store(tmp_path / "runs")


def by_other_code(store, **parts):
    """Make the run one that other code has computed, in a folder of another name; returns the folder."""
    folder = store.folder(TINY).rename(store.root / "fedcba9876543210")
    summary = json.loads((folder / "summary.json").read_text())
    summary["provenance"] |= {"fingerprint": "other", "code": code(TINY) | parts}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


# ---------------------------------------------------------------- found


def test_a_run_is_where_its_key_says(kept):
    store, summary = kept
    assert store.folder(TINY) == store.root / key(TINY)
    assert default_folder(TINY).name == key(TINY)
    assert summary["run"] == str(store.folder(TINY))
    assert len({key(replace(TINY, seed=seed)) for seed in range(3)}) == 3


def test_a_finished_run_is_found_with_its_numbers(kept):
    store, summary = kept
    record = store.find(TINY)
    assert (record.key, record.folder, record.config) == (key(TINY), store.folder(TINY), TINY)
    assert record.summary == summary
    assert record.last("loss") == summary["last"]["loss"] == record.columns.scalars["loss"][-1]
    assert record.first("loss") == summary["first"]["loss"] == record.columns.scalars["loss"][0]
    assert math.isnan(record.last("no such scalar")) and math.isnan(record.first("no such scalar"))
    assert record.columns.arrays["eigenvalues"].values.shape == (len(record.columns.step), 8)
    np.testing.assert_array_equal(record.columns.arrays["eigenvalues"].values[-1], np.float32(summary["spectrum"]))
    assert record.evaluations.scalars["knn"][-1] == summary["knn"]["after"]
    assert record.current and record.why() is None
    assert [r.key for r in store.records()] == [key(TINY)]


def test_what_was_not_run_is_absent(kept):
    store, _ = kept
    other = replace(TINY, seed=1)
    assert store.find(other) is None
    assert store.states([TINY, other]) == ["finished", "absent"]
    assert store.why(TINY) is store.why(other) is None


def test_a_root_that_is_not_there_is_an_empty_store(tmp_path):
    store = Store(tmp_path / "none")
    assert list(store.records()) == list(store.entries()) == []
    assert store.find(TINY) is None and store.state(TINY) == "absent"
    assert not store.root.exists()


def test_a_root_that_cannot_be_read_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file")
    for act in (store.find, store.state, store.why, lambda _: list(store.records())):
        with pytest.raises(ValueError, match="file"):
            act(TINY)


def test_a_broken_link_is_neither_an_empty_store_nor_no_run(tmp_path):
    (tmp_path / "store").symlink_to("gone")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "0123456789abcdef").symlink_to("gone")
    for root, name in (("store", "store"), ("runs", "runs/0123456789abcdef")):
        with pytest.raises(ValueError, match=f"^{tmp_path / name} is a broken link"):
            list(Store(tmp_path / root).entries())


def test_two_roots_are_two_stores(kept, tmp_path):
    other = Store(tmp_path / "other")
    assert other.state(TINY) == "absent"
    carry_out(other, TINY)
    assert other.find(TINY).summary["spectrum"] == kept[1]["spectrum"]
    other.remove(key(TINY))
    assert (other.state(TINY), kept[0].state(TINY)) == ("absent", "finished")


def test_a_diverged_run_is_a_result(tmp_path):
    store, config = Store(tmp_path), change(TINY, loss="squared", loss_scale=1e39)
    assert carry_out(store, config)["state"] == "diverged"
    assert store.state(config) == "finished"
    assert store.find(config).summary["diagnosis"] == "diverged"
    assert [entry.state for entry in store.entries()] == ["diverged"]


# ---------------------------------------------------------------- not whole


@pytest.mark.parametrize(
    "content", [b"", b'{"state": "finis', b"null", b"[1]", b"{}", b"\xff\xfe\x00", b'{"state": "finished"}']
)
def test_a_summary_that_is_not_whole_is_unfinished(store, content):
    (store.folder(TINY) / "summary.json").write_bytes(content)
    assert store.find(TINY) is None
    assert store.state(TINY) == "unfinished"
    assert list(store.records()) == []
    carry_out(store, TINY)
    assert store.state(TINY) == "finished"


def test_no_half_of_a_summary_passes_for_a_whole_one(store, kept):
    path = store.folder(TINY) / "summary.json"
    whole = path.read_bytes()
    for length in np.linspace(0, len(whole) - 1, 60).astype(int):
        path.write_bytes(whole[:length])
        assert store.state(TINY) == "unfinished"
    path.write_bytes(whole)
    assert store.find(TINY).summary == kept[1]


def test_a_run_without_its_summary_is_unfinished(store):
    (store.folder(TINY) / "summary.json").unlink()
    (store.folder(TINY) / ".9-summary.json").write_text("{}")  # a draft of a killed process
    assert store.state(TINY) == "unfinished"
    [entry] = store.entries()
    assert (entry.key, entry.state, entry.config, entry.summary, entry.stale) == (
        key(TINY), "unfinished", TINY, None, None,
    )  # fmt: skip


def test_folders_that_are_no_runs_are_passed_over(store):
    (store.root / "toy_images").mkdir()
    (store.root / "notes.txt").write_text("mine")
    (store.root / ".hidden").mkdir()
    shutil.copytree(store.folder(TINY), store.root / "unknown-field")
    path = store.root / "unknown-field" / "summary.json"
    path.write_text(path.read_text().replace('"embedding_dim"', '"embedding_width"'))
    (store.root / "empty-config").mkdir()
    (store.root / "empty-config" / "config.json").write_bytes(b"\xff")
    assert [record.key for record in store.records()] == [key(TINY)]
    found = {entry.key: (entry.state, entry.config is None) for entry in store.entries()}
    assert found == {
        key(TINY): ("finished", False), "unknown-field": ("finished", True), "empty-config": ("unfinished", True),
    }  # fmt: skip
    store.remove("unknown-field")
    store.remove("empty-config")
    assert len(list(store.entries())) == 1


def test_another_run_under_its_name_does_not_pass_for_it(store):
    other = replace(TINY, seed=1)
    store.folder(TINY).rename(store.folder(other))
    assert store.find(other) is None


# ---------------------------------------------------------------- other code


def test_a_run_by_other_code_is_stale_and_says_why(store):
    by_other_code(store, **{"stopgrad.deep.method.siamese": "old", "torch": "1.0"})
    assert store.find(TINY) is None
    assert store.states([TINY, replace(TINY, seed=1)]) == ["stale", "absent"]
    assert store.why(TINY) == "stopgrad.deep.method.siamese, torch changed"
    [record] = store.records()
    assert not record.current and record.why() == "stopgrad.deep.method.siamese, torch changed"


def test_what_was_begun_anew_is_no_longer_stale(store):
    by_other_code(store)
    store.folder(TINY).mkdir()
    (store.folder(TINY) / "config.json").write_text(to_json(TINY))
    assert store.state(TINY) == "unfinished"


def test_a_result_that_other_code_left_under_this_name_is_not_found(store):
    folder = by_other_code(store).rename(store.folder(TINY))
    assert folder == store.folder(TINY)
    assert store.find(TINY) is None


def test_a_run_from_under_another_default_is_not_found(store):
    """A key leaves out what is by default; the record of the run does not."""
    path = store.folder(TINY) / "summary.json"
    summary = json.loads(path.read_text())
    summary["config"]["data"]["flip"] = 0.25
    path.write_text(json.dumps(summary))
    assert store.find(TINY) is None


def test_edited_code_makes_a_new_key_and_the_old_run_stale(store, monkeypatch):
    before = key(TINY)
    monkeypatch.setattr("stopgrad.deep.storage.run_folder.code", lambda *_: {"a": "edited"})
    monkeypatch.setattr("stopgrad.experiments.store.store.fingerprint", lambda *_: "edited")
    assert key(TINY) != before
    assert store.state(TINY) == "stale"


def test_a_run_from_before_a_field_existed_has_its_default(store):
    folder = by_other_code(store)
    path = folder / "summary.json"
    summary = json.loads(path.read_text())
    del summary["config"]["data"]["flip"]
    path.write_text(json.dumps(summary))
    assert store.state(TINY) == "stale"
    assert [record.config for record in store.records()] == [TINY]


# ---------------------------------------------------------------- removal and the lock


def test_a_removed_run_is_gone(store):
    store.remove(key(TINY))
    assert store.state(TINY) == "absent"
    assert list(store.root.iterdir()) == []


def test_what_a_killed_removal_left_goes_with_the_next(store):
    (store.root / f".removed-{key(TINY)}-1").mkdir()
    assert len(list(store.entries())) == 1
    store.remove(key(TINY))
    assert list(store.root.iterdir()) == []


@pytest.mark.parametrize("name", ["0123456789abcdef", "..", ".", "", "a/b", "../runs"])
def test_only_a_run_can_be_removed(store, name):
    with pytest.raises(ValueError, match="there is no run"):
        store.remove(name)
    assert store.find(TINY)


def test_a_run_that_is_being_written_is_not_removed(store):
    folder = store.folder(TINY)
    (folder / "summary.json").unlink()
    with lock.hold(folder):
        [entry] = store.entries()
        assert entry.state == "running" and entry.writer.startswith("process ")
        with pytest.raises(lock.Busy, match="is being written by process"):
            store.remove(key(TINY))
        assert store.state(TINY) == "unfinished"
    [entry] = store.entries()
    assert (entry.state, entry.writer) == ("unfinished", None)
    store.remove(key(TINY))


def test_a_killed_writer_holds_nothing(store):
    folder = store.folder(TINY)
    (folder / ".lock").write_text("process 1 on elsewhere")  # what a killed process leaves
    assert lock.writer(folder) is None
    assert lock.writer(folder / "none") is None


def test_a_lock_whose_file_was_removed_keeps_nobody_out_and_lets_nobody_share(tmp_path):
    with lock.hold(tmp_path / "run"):
        shutil.rmtree(tmp_path / "run")
        with lock.hold(tmp_path / "run"):
            with pytest.raises(lock.Busy), lock.hold(tmp_path / "run"):
                pass
            assert lock.writer(tmp_path / "run").startswith("process ")

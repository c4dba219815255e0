"""Units of work: what their key follows from, what is said of the old ones, and several workers."""

import os
from functools import partial

import numpy as np
import pytest

from stopgrad.experiments.linear_digits import study as linear_digits
from stopgrad.experiments.store.run_store import RunStore, Unit
from stopgrad.linear_theory.tools.files import replace_file


def unit(config, value=1.0):
    return Unit("unit", config, lambda advance: {"value": np.asarray(value)})


def test_store_keys_on_every_setting_exactly(tmp_path):
    store = RunStore(tmp_path / "s", (linear_digits,))
    close = [{"lr": 0.1}, {"lr": np.nextafter(0.1, 1)}, {"lr": 0.1, "seed": 0}]
    results, computed = store.finish([unit(c, i) for i, c in enumerate(close)], "test")
    assert computed == 3
    results, computed = store.finish([unit(c, 99) for c in close], "test")
    assert computed == 0 and [float(r["value"]) for r in results] == [0, 1, 2]


def times_two(value, advance):
    advance(0.5)
    return {"value": np.asarray([2 * value, os.getpid()])}


def test_units_are_computed_by_several_workers_and_kept_in_order(tmp_path):
    store = RunStore(tmp_path, (linear_digits,))
    units = [Unit("unit", {"k": k}, partial(times_two, k)) for k in range(4)]
    for computed in (4, 0):
        results, found = store.finish(units, "test", workers=2)
        assert found == computed and [r["value"][0] for r in results] == [0, 2, 4, 6]
        assert os.getpid() not in {r["value"][1] for r in results}


def test_store_says_what_changed(tmp_path, monkeypatch, capsys):
    import stopgrad.experiments.store.run_store as module

    one = unit({"lr": 0.1, "batch": 2})
    RunStore(tmp_path, (linear_digits,)).finish([one], "test")
    assert RunStore(tmp_path, (linear_digits,)).kept(one) == ({"value": 1.0}, None)
    found = module.code
    monkeypatch.setattr(module, "code", lambda *_: found(*_) | {"stopgrad.experiments.linear_digits.study": "edited"})
    edited = RunStore(tmp_path, (linear_digits,))
    assert edited.kept(one)[1] == "stopgrad.experiments.linear_digits.study changed"
    assert edited.finish([one], "test")[1] == 1
    assert "computed again; stopgrad.experiments.linear_digits.study changed" in " ".join(
        capsys.readouterr().err.split()
    )
    assert edited.kept(one)[1] is None


def test_a_damaged_unit_is_computed_again(tmp_path):
    store, one = RunStore(tmp_path, (linear_digits,)), unit({"lr": 0.1})
    store.finish([one], "test")
    [path] = tmp_path.glob("*.npz")
    path.write_bytes(path.read_bytes()[:-30])
    assert store.finish([one], "test")[1] == 1
    assert store.finish([one], "test")[1] == 0


def test_a_failing_write_leaves_the_old_file_and_no_draft(tmp_path):
    path = tmp_path / "a.txt"
    replace_file(path, lambda draft: draft.write_text("old"))

    def fail(draft):
        draft.write_text("ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_file(path, fail)
    assert os.listdir(tmp_path) == ["a.txt"] and path.read_text() == "old"

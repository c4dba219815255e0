"""The run's table: what is read is what was written, whole rows survive any cut of the files, and a resumed run's
files are those of the unbroken one."""

import json
import math
import struct
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stopgrad.deep.storage import table
from stopgrad.deep.storage.table import ROWS, Table, export_npz, fingerprint, read

WIDTH = {"spectrum": 3, "alignment": 2}
numbers = st.one_of(st.floats(width=64), st.integers(-(2**40), 2**40))
scalars = st.dictionaries(st.sampled_from(["loss", "trace", "σ²", "rank_m_o"]), numbers, max_size=4)


def vector(n):
    return st.lists(st.floats(width=32), min_size=n, max_size=n).map(lambda v: np.array(v, dtype=np.float32))


arrays = st.fixed_dictionaries({}, optional={name: vector(n) for name, n in WIDTH.items()})
row_values = st.lists(st.tuples(st.integers(0, 2), scalars, arrays), min_size=1, max_size=8)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


def rising(values):
    """(step, scalars, arrays) with steps that never fall."""
    steps = np.cumsum([gap for gap, _, _ in values])
    return [(int(step), s, a) for step, (_, s, a) in zip(steps, values)]


def write(folder, rows):
    with Table(folder) as table:
        for row in rows:
            table.append(*row)


def write_torn(folder, rows, left):
    """Append `rows`, the last of them killed after `left` bytes."""
    with Table(folder) as table:
        for row in rows[:-1]:
            table.append(*row)
        whole_write = table._write

        def dying_write(name, content):
            nonlocal left
            whole_write(name, content[:left])
            left = max(left - len(content), 0)

        table._write = dying_write
        table.append(*rows[-1])


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@given(row_values)
def test_columns_are_what_was_appended(values):
    rows = rising(values)
    with tempfile.TemporaryDirectory() as folder:
        write(folder, rows)
        columns = read(folder)
    assert columns.step.tolist() == [step for step, _, _ in rows]
    for name in columns.scalars:
        expected = [float(s.get(name, math.nan)) for _, s, _ in rows]
        expected = [v if math.isfinite(v) else math.nan for v in expected]
        np.testing.assert_array_equal(columns.scalars[name], expected)  # exact: equal, or NaN in both
    assert set(columns.arrays) == {name for _, _, a in rows for name in a}
    for name, series in columns.arrays.items():
        having = [(step, a[name]) for step, _, a in rows if name in a]
        assert series.step.tolist() == [step for step, _ in having]
        assert series.values.dtype == np.float32
        assert series.values.tobytes() == np.stack([v for _, v in having]).tobytes()


@given(row_values, st.data())
def test_a_killed_and_resumed_run_leaves_the_unbroken_runs_bytes(values, data):
    """Killed at any byte of any row, cut to any checkpoint up to there, and continued."""
    rows = rising(values)
    killed_in = data.draw(st.integers(0, len(rows) - 1), label="row being written")
    with tempfile.TemporaryDirectory() as root:
        whole, broken = Path(root) / "whole", Path(root) / "broken"
        write(whole, rows)
        write_torn(broken, rows[: killed_in + 1], data.draw(st.integers(0, 120), label="bytes written"))
        checkpoint = data.draw(st.integers(-1, rows[killed_in][0] - 1), label="checkpoint")
        seen = read(broken).step.tolist()
        assert seen in ([r[0] for r in rows[:killed_in]], [r[0] for r in rows[: killed_in + 1]])
        with Table(broken) as table:
            table.cut(checkpoint)
            assert read(broken).step.tolist() == [step for step, _, _ in rows if step <= checkpoint]
            for row in rows:
                if row[0] > checkpoint:
                    table.append(*row)
        assert contents(broken) == contents(whole)


@given(row_values, st.integers(-1, 20))
def test_a_cut_keeps_exactly_the_rows_up_to_its_step(values, step):
    rows = rising(values)
    with tempfile.TemporaryDirectory() as root:
        cut, short = Path(root) / "cut", Path(root) / "short"
        write(cut, rows)
        with Table(cut) as table:
            table.cut(step)
        write(short, [row for row in rows if row[0] <= step])
        assert contents(cut) == contents(short)
        assert fingerprint(cut) == fingerprint(short)


def test_the_files_are_as_documented(folder):
    write(folder, [(0, {"loss": -0.5, "n": 3}, {"s": [1, 2]}), (5, {"loss": math.nan}, {"e": np.array([0.1])})])
    lines = (folder / ROWS).read_text().splitlines()
    assert lines[0] == '{"step": 0, "loss": -0.5, "n": 3, "arrays": {"s.f32": 2}}'
    assert json.loads(lines[1]) == {"step": 5, "loss": None, "arrays": {"e.f64": 1}}
    assert (folder / "s.f32").read_bytes() == struct.pack("<2f", 1, 2)
    assert (folder / "e.f64").read_bytes() == struct.pack("<d", 0.1)


def test_numbers_of_other_libraries_are_kept_exactly(folder):
    third = np.float32(1) / np.float32(3)
    row = {"a": third, "b": torch.tensor(third), "c": np.int64(2**53), "d": torch.tensor(7), "e": True}
    write(folder, [(np.int64(1), row, {"s": torch.tensor([third])})])
    columns = read(folder)
    assert {name: column[0] for name, column in columns.scalars.items()} == {
        "a": float(third), "b": float(third), "c": 2.0**53, "d": 7.0, "e": 1.0
    }  # fmt: skip
    assert columns.arrays["s"].values.item() == third


def test_a_table_that_nobody_touched_is_read_once(folder, monkeypatch):
    rows = rising([(1, {"loss": 0.5}, {"spectrum": np.ones(3, np.float32)})] * 3)
    write(folder, rows)
    asked, whole = [], table._rows
    monkeypatch.setattr(table, "_rows", lambda path: asked.append(path) or whole(path))
    first = [fingerprint(folder) for _ in range(2)]
    assert len(asked) == 2  # so fresh a file may change within a tick of its clock
    monkeypatch.setattr(table, "_FRESH", 0.0)
    assert [fingerprint(folder) for _ in range(3)] == [first[0]] * 3 and len(asked) == 3
    time.sleep(0.02)  # a tick of any file system's clock
    with (folder / "spectrum.f32").open("r+b") as file:
        file.write(b"\1")  # in place, as long as it was
    assert fingerprint(folder) != first[0] and len(asked) == 4


def test_only_wall_clock_times_are_left_out_of_the_fingerprint(folder, tmp_path):
    one, two, three = tmp_path / "1", tmp_path / "2", tmp_path / "3"
    array = np.ones(3, dtype=np.float32)
    write(one, [(1, {"loss": 0.1, "seconds": 3.0, "seconds_step": 0.5}, {"s": array})])
    write(two, [(1, {"loss": 0.1, "seconds": 4.0, "seconds_step": 0.7}, {"s": array})])
    write(three, [(1, {"loss": 0.1, "seconds": 3.0, "seconds_step": 0.5}, {"s": np.nextafter(array, 2)})])
    assert fingerprint(one) == fingerprint(two) != fingerprint(three)
    write(two, [(2, {"loss": math.nextafter(0.1, 1)})])
    write(one, [(2, {"loss": 0.1})])
    assert fingerprint(one) != fingerprint(two)


def test_a_damaged_line_ends_the_table_with_a_warning(folder):
    write(folder, [(k, {"loss": k}, {"s": [k]}) for k in range(4)])
    lines = (folder / ROWS).read_bytes().splitlines(keepends=True)
    (folder / ROWS).write_bytes(b"".join([*lines[:2], b"\0" + lines[2][1:], lines[3]]))
    with pytest.warns(UserWarning, match="line 3, is damaged"):
        assert read(folder).step.tolist() == [0, 1]
    with pytest.warns(UserWarning, match="line 3"), Table(folder) as table:
        table.append(7, {"loss": 7}, {"s": [7]})
    assert read(folder).arrays["s"].values.ravel().tolist() == [0, 1, 7]


def test_a_line_without_its_array_is_damaged(folder):
    write(folder, [(k, {}, {"s": [k, k]}) for k in range(3)])
    (folder / "s.f32").write_bytes((folder / "s.f32").read_bytes()[:-4])
    with pytest.warns(UserWarning, match="line 3"):
        assert read(folder).arrays["s"].step.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ((4, {}), "cannot follow one of step 5"),
        ((5, {"step": 1}), "'step'"),
        ((5, {"arrays": 1}), "'arrays'"),
        ((5, {"s": 1.0}), "'s'"),
        ((5, {}, {"s": [1]}), r"now s.f32 of length 1 and was s.f32 of length 2"),
        ((5, {}, {"s": np.ones(2)}), r"now s.f64 of length 2 and was s.f32 of length 2"),
        ((5, {}, {"t": np.ones((2, 2))}), r"shape \(2, 2\)"),
        ((5, {}, {"t": []}), "not empty"),
        ((5, {}, {"../t": [1.0]}), "cannot name an array"),
    ],
)
def test_a_row_that_cannot_be_is_refused_and_nothing_written(folder, row, sentence):
    write(folder, [(5, {"loss": 1.0}, {"s": [1, 2]})])
    before = contents(folder)
    with Table(folder) as table:
        with pytest.raises(ValueError, match=sentence):
            table.append(*row)
        assert contents(folder) == before
        table.append(6, {"loss": 1.0}, {"s": [3, 4]})
    assert read(folder).step.tolist() == [5, 6]


def test_a_table_can_be_read_while_it_grows(folder):
    assert read(folder).step.size == 0
    with Table(folder) as table:
        for k in range(3):
            table.append(k, {"loss": k}, {"s": [k]})
            table.sync()
            assert read(folder).step.tolist() == list(range(k + 1))


def test_export(folder, tmp_path):
    write(folder, [(0, {"loss": 1.0}, {"s": [1, 2]}), (3, {"rank": 2}), (9, {"loss": 0.5}, {"s": [3, 4]})])
    export_npz(folder, tmp_path / "table.npz")
    with np.load(tmp_path / "table.npz") as table:
        assert table["step"].tolist() == [0, 3, 9]
        np.testing.assert_array_equal(table["loss"], [1.0, math.nan, 0.5])
        assert table["s"].tolist() == [[1, 2], [3, 4]]
        assert table["s.step"].tolist() == [0, 9]
    with pytest.raises(ValueError, match=r"\.npz"):
        export_npz(folder, tmp_path / "table.csv")

"""The benchmark of `collapse` writes what it says, and its engines agree; no test asserts a speed."""

import json

import numpy as np
import pytest

from stopgrad.experiments.benchmarks import collapse


def test_engines_agree_and_memory_is_told(capsys, tmp_path):
    argv = ["--samples", "9000", "--dim", "8", "--folder", str(tmp_path), "--json"]
    assert collapse.door(argv) == 0
    rows = json.loads(capsys.readouterr().out)
    assert list(rows) == list(collapse.PROGRAMS) and not list(tmp_path.iterdir())
    own, peer = rows.values()
    assert own["collapse_auc"] == pytest.approx(peer["collapse_auc"], rel=1e-5)
    for row in rows.values():
        assert row["seconds"] > 0 and (row["bytes"] is None or 2e7 < row["bytes"] < 1e9)
        assert "bar" not in row and row["machine"]["threads"] == 1


def test_features_are_written_whole(tmp_path):
    path = tmp_path / "z.npy"
    collapse.write_features(path, 20_000, 3)
    z = np.load(path)
    assert z.shape == (20_000, 3) and z.dtype == np.float32
    np.testing.assert_allclose(z.mean(0), 1, atol=0.03)
    np.testing.assert_allclose(z.var(0), [1, 1 / 2, 1 / 3], rtol=0.05)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--engines", "scipy"], "there is no engine 'scipy'"),
        (["--samples", "1"], "two samples"),
    ],
)
def test_bad_input_is_one_sentence(capsys, argv, says):
    assert collapse.door(argv) == 2
    out, err = capsys.readouterr()
    assert out == "" and says in err and err.count("\n") == 1

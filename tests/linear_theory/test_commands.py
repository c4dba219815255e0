"""The theory wing's commands as a user calls them: golden values, nulls, refusals, files."""

import json

import numpy as np
import pytest
import xarray as xr

from stopgrad.linear_theory.__main__ import COMMANDS
from stopgrad.linear_theory.exact.basin import critical_s0
from stopgrad.linear_theory.exact.fixed_points import rest_points
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.tools.door import main


def call(capsys, *argv):
    """Exit status, standard output, standard error."""
    status = main("linear_theory", "test", COMMANDS, [str(v) for v in argv])
    return status, *capsys.readouterr()


def answer(capsys, *argv):
    status, out, err = call(capsys, *argv, "--json")
    assert status == 0, err
    assert out.count("\n") == 1
    return json.loads(out)


@pytest.mark.parametrize(
    ("flags", "p_plus", "p_minus", "critical"),
    [
        (["--sigma2", 0, "--eta", 0.04], 0.958257569496, 0.041742430504, 1 / 4),
        (["--sigma2", 0, "--eta", 0.01], 0.989897948557, 0.010102051443, 1 / 4),
        (["--sigma2", 0.5, "--eta", 0.05], 0.612220008845, 0.054446657822, 1 / 6),
        (["--sigma2", 0, "--eta", 0.04, "--tau", 0.5], 0.4, 0.1, 0.0625),
    ],
)
def test_golden_fixed_points(capsys, flags, p_plus, p_minus, critical):
    """G1, G2."""
    for alpha_p in (1.0, 3.0):
        found = answer(capsys, "fixed-points", *flags, "--alpha-p", alpha_p)
        assert found["p_plus"] == pytest.approx(p_plus, abs=1e-11)
        assert found["p_minus"] == pytest.approx(p_minus, abs=1e-11)
        assert found["s_plus"] == pytest.approx(p_plus**2 / alpha_p, abs=1e-11)
        assert found["critical_eta"] == pytest.approx(critical, rel=1e-14)
        assert found["regime"] == "bistable"
        given = dict(zip(flags[::2], flags[1::2]))
        eta, tau = given["--eta"], given.get("--tau", 1)
        for name, p in (("plus", p_plus), ("minus", p_minus)):
            expected = sorted([-2 * eta, 2 * eta - tau * p])
            assert sorted(found[f"jacobian_eigenvalues_{name}"]) == pytest.approx(expected, abs=1e-10)
        assert sorted(found["jacobian_eigenvalues_zero"]) == pytest.approx([-2 * eta, -eta])


def test_regimes_and_what_does_not_exist(capsys):
    beyond = answer(capsys, "fixed-points", "--eta", 0.3)
    assert beyond["regime"] == "collapse_only"
    assert all(beyond[k] is None for k in ("p_plus", "p_minus", "s_plus", "s_minus", "jacobian_eigenvalues_plus"))
    assert answer(capsys, "fixed-points", "--sigma2", 0, "--eta", 0.25)["regime"] == "critical"
    free = answer(capsys, "fixed-points", "--eta", 0)
    assert free["regime"] == "no_weight_decay" and free["p_minus"] == 0


def test_golden_times(capsys):
    """G8."""
    for eta, expected in ((0, 20.944438979), (0.04, 48.194858536)):
        ends = ["--p-start", 0.05, "--p-end", 0.5]
        found = answer(capsys, "time", "--sigma2", 0, "--eta", eta, *ends)
        assert found["time"] == pytest.approx(expected, abs=2e-9) and found["status"] == "reached"
        there = answer(capsys, "trajectory", "--sigma2", 0, "--eta", eta, "--p0", 0.05, "--t", found["time"])
        assert there["p"] == pytest.approx(0.5, abs=1e-8) and there["s"] == pytest.approx(0.25, abs=1e-8)
        assert there["resolved"] is True


def test_a_path_ends_where_the_trajectory_does(capsys):
    flags = ["trajectory", "--p0", -0.3, "--s0", 0.7, "--t", 12]
    one, path = answer(capsys, *flags), answer(capsys, *flags, "--points", 4)
    assert path["times"] == [3, 6, 9, 12] and len(path["path_s"]) == 4
    assert path["path_p"][-1] == path["p"] == pytest.approx(one["p"], abs=1e-9)


PHASE = ["phase", "--x", "eta=0:0.3:5", "--y", "p0=0.06:1:4"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["fixed-points", "--eta", -0.1], "eta is -0.1; it must be finite and at least 0"),
        (["fixed-points", "--sigma2", -1], "sigma2 is -1"),
        (["fixed-points", "--tau", 0], "tau is 0; it must be in (0, 1]"),
        (["fixed-points", "--tau", 1.1], "tau is 1.1"),
        (["fixed-points", "--eta", "nan"], "eta is NaN"),
        (["trajectory", "--s0", -0.1], "initial s is -0.1"),
        (["trajectory", "--t", -1], "t is -1"),
        (["trajectory", "--points", 0], "points is 0"),
        (["trajectory", "--tolerance", 0], "tolerance is 0"),
        (["trajectory", "--p0", "nan"], "p0 is NaN"),
        (["time", "--p-start", 0.2, "--p-end", 0.95], "it tends to 0.867156"),
        (["time", "--eta", 0.3], "it tends to 0"),
        (["time", "--p-end", 0], "never reaches 0"),
        (["branches", "--along", "p0=0:1:3"], "p0 is no parameter of the flow"),
        (["basin-fraction", "--along", "s0=0:1:3"], "s0 is no parameter of the flow"),
        (["basin-fraction", "--s-low", 0], "0 < s-low < s-high"),
        (["boundary", "--exact", "--beta", 0.2], "leave --exact out"),
        (["boundary", "--spectrum", 1, 0.5, "--top", 3], "top is 3"),
        (["phase", "--x", "zeta=0:1:3"], "unknown"),
        (["phase", "--x", "p0=0:1:3", "--y", "p0=0:1:3"], "both axes are p0"),
        (["phase", "--x", "eta=0:0.3:1"], "at least 2"),
        (["derive", "--name", "nothing"], "nothing"),
        (["translate", "--momentum", 1], "momentum"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(capsys, tmp_path, monkeypatch, argv, said):
    monkeypatch.chdir(tmp_path)
    status, out, err = call(capsys, *argv, "--json")
    assert status == 2 and out == ""
    assert said in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_point_at_infinity_is_refused_by_name(capsys):
    p_plus = rest_points(Hyperparameters(0.0, 0.0)).p_plus
    status, out, err = call(capsys, "time", "--sigma2", 0, "--eta", 0, "--p-end", p_plus)
    assert status == 2 and not out and "reaches it only as" in err


def test_files_that_cannot_be_written_are_refused_before_any_computing(capsys, tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("here")
    for out, said in [
        (blocker / "phase.nc", "cannot write into"),
        (tmp_path / "phase.png", "does not end in .nc"),
        (tmp_path, "does not end in .nc"),
    ]:
        status, stdout, err = call(capsys, *PHASE, "--out", out)
        assert status == 2 and not stdout and said in err and err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["file"] and blocker.read_text() == "here"


def test_phase_writes_a_file_and_says_how_long_it_took(capsys, tmp_path):
    path = tmp_path / "new" / "phase.nc"
    said = answer(capsys, *PHASE, "--out", path)
    assert said["points"] == 20 and 0 < said["seconds"] <= said["first_call_seconds"] + 1e-9
    assert said["worst_error"] < 1e-5
    with xr.open_dataset(path, engine="h5netcdf") as data:
        assert data.fate.dims == ("p0", "eta") and data.sizes["p0"] == 4
        assert data.fate.attrs["flag_meanings"].split() == ["alive", "collapsed", "undecided", "diverged"]
        assert said["alive"] == int((data.fate == 0).sum()) and said["collapsed"] == int((data.fate == 1).sum())
    assert [p.name for p in path.parent.iterdir()] == ["phase.nc"]


def test_branches_are_the_fixed_points(capsys):
    found = answer(capsys, "branches", "--along", "eta=0.01:0.3:4", "--sigma2", 0)
    values = np.array(found.pop("eta"))
    p_plus = rest_points(Hyperparameters(0.0, values)).p_plus
    stable = [b for b in found.values() if np.allclose([v or np.nan for v in b["p"]], p_plus, equal_nan=True)]
    assert len(stable) == 1 and stable[0]["stability"][0] == "stable"
    status, out, _ = call(capsys, "branches", "--along", "eta=0.01:0.3:4")
    assert status == 0 and len(out.splitlines()) == 5


@pytest.mark.parametrize("exact", [["--exact"], []])
def test_a_border_is_bisected_to_its_width_about_p_minus(capsys, exact):
    width = 1e-5 if exact else 0.01
    flags = ["--x", "eta=0.02:0.1:2", "--y", "p0=0.01:0.4:5", "--width", width, *exact]
    found = answer(capsys, "boundary", *flags)
    assert found["along"] == "p0" and len(found["crossings"]) == 2
    for row in found["crossings"]:
        assert row["status"] == "found" and 0 < row["upper"] - row["lower"] <= width
        assert row["lower"] <= rest_points(Hyperparameters(eta=row["eta"])).p_minus <= row["upper"]


def test_basin_fraction_counts_what_the_separatrix_says(capsys):
    flags = ["--along", "eta=0.02:0.3:2", "--n", 60, "--seed", 3]
    found = answer(capsys, "basin-fraction", *flags)
    rng = np.random.default_rng(3).spawn(1)[0]
    p0, s0 = rng.uniform(-0.5, 1.0, 60), np.exp(rng.uniform(np.log(1e-4), 0.0, 60))
    for k, eta in enumerate(found["eta"]):
        share = np.mean(s0 > critical_s0(p0, Hyperparameters(eta=eta)))
        assert abs(found["alive"]["fraction"][k] - share) <= found["undecided"]["fraction"][k]
        for fate in ("alive", "collapsed", "undecided"):
            one = {name: found[fate][name][k] for name in ("lower", "fraction", "upper")}
            assert 0 <= one["lower"] <= one["fraction"] <= one["upper"] <= 1 and one["lower"] < one["upper"]


def test_translate_and_derive(capsys):
    found = answer(capsys, "translate", "--lr", 0.05, "--momentum", 0.9, "--weight-decay", 1e-4)
    assert found["time_per_step"] == pytest.approx(0.5) and found["eta"] == pytest.approx(1e-4)
    assert found["sentences"]
    derived = answer(capsys, "derive", "--name", "parabola")
    assert derived["parabola"]["holds"] is True and derived["parabola"]["latex"]

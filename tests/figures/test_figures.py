"""Pictures on the disk: files, captions, the cache, and the door."""

import functools
import json
import os
import pickle
import shlex
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from figure_examples import SMALL, from_made_up, phase_data, small

import stopgrad.figures.__main__ as door
from stopgrad.experiments import ledger
from stopgrad.figures import commands
from stopgrad.figures.machinery import data, made, style
from stopgrad.figures.machinery.picture import FromRuns, Picture, Recorded, Released
from stopgrad.figures.machinery.registry import FIGURES
from stopgrad.figures.tian2021 import theory as tian2021
from stopgrad.linear_theory.tools import origin
from stopgrad.linear_theory.tools.door import main


def test_save_writes_picture_and_caption_or_nothing(tmp_path):
    figure, axes = style.new_figure()
    axes[0, 0].plot([0, 1])
    path = tmp_path / "deep" / "one.png"
    written = style.save(figure, path, "what it shows", pdf=True)
    assert (
        sorted(p.name for p in path.parent.iterdir())
        == ["one.pdf", "one.png", "one.txt"]
        == sorted(p.name for p in written)
    )
    assert path.read_bytes()[:4] == b"\x89PNG" and path.with_suffix(".txt").read_text() == "what it shows"
    before = path.read_bytes()
    assert style.save(figure, path, "what it shows") and path.read_bytes() == before
    with pytest.raises(ValueError, match=r"NAME\.png"):
        style.save(figure, tmp_path / "one.jpg", "")

    def torn(draft):
        draft.write_bytes(b"half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        style.replace_file(path, torn)
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 3


def test_caption_names_source_parameters_and_command():
    text = style.caption(
        "a: b",
        "One. " * 50,
        source="Paper, Figure 1",
        parameters={
            "eta": 0.04,
            "t": np.linspace(0, 9, 30),
            "rule": "s0",
            "arm": np.array([*"abcdefghi"]),
        },
        reproduce="python -m figures make a",
    )
    for part in (
        "Source: Paper, Figure 1",
        "eta = 0.04",
        "t = 0 to 9 (30 values)",
        "rule = s0",
        "arm = a, b, c, d, e, f, g, h, i",
        "python -m figures make a",
    ):
        assert part in text
    assert max(map(len, text.splitlines())) <= 100


def _answer(value=1.0):
    _answer.calls += 1
    return xr.Dataset({"v": ("x", [value, np.nan])}, attrs={"value": value})


def test_cache_computes_once_and_says_why_again(tmp_path, monkeypatch):
    _answer.calls, path = 0, tmp_path / "data" / "a.nc"
    new, why = data.cached(path, _answer)
    assert why == "there are no data yet" and "origin" not in new.attrs
    again, why = data.cached(path, _answer)
    assert why is None and _answer.calls == 1
    xr.testing.assert_identical(again, new)
    assert data.cached(path, functools.partial(_answer, value=2.0))[1] == "parameters changed"
    assert data.cached(path, functools.partial(_answer, value=2.0))[1] is None
    path.write_bytes(path.read_bytes()[:100])
    assert data.cached(path, _answer)[1] == "the data file is damaged"
    kept = xr.load_dataset(path, engine="h5netcdf")
    for edited in (kept.assign(v=kept.v / 2), kept.assign_attrs(value=2.0), kept.assign_attrs(origin="[1]")):
        data.write(edited, path)
        assert data.cached(path, _answer)[1] == "the data file is damaged"
        xr.testing.assert_identical(data.cached(path, _answer)[0], new)
    monkeypatch.setattr(origin, "version", lambda name: "0")
    assert data.cached(path, _answer)[1] == "numpy, scipy, torch changed"
    assert _answer.calls == 7


@pytest.mark.parametrize("name", ["tian-fig2", "tian-fig6", "tian-table3"])
def test_a_digest_of_values_survives_a_file_and_changes_with_a_value_or_a_name(name, tmp_path):
    dataset = from_made_up(name)
    data.write(dataset, tmp_path / "a.nc")
    assert data.digest(data.read(tmp_path / "a.nc")) == data.digest(dataset)
    one = next(variable for variable in dataset.data_vars if dataset[variable].dtype.kind == "f")
    other = dataset.copy(deep=True)
    other[one].values.flat[0] += 1
    if np.isfinite(dataset[one].values.flat[0]):
        assert data.digest(other) != data.digest(dataset)
    assert data.digest(dataset.rename({one: "else"})) != data.digest(dataset)


def test_cache_key_follows_the_code_that_computes_and_no_other(tmp_path):
    files = {
        "figures/mine.py": "from stopgrad.figures.machinery import style\nfrom stopgrad.linear_theory.low import f\n"
        "def compute():\n    return f()\ndef draw_it(d):\n    return 1\n",
        "figures/machinery/style.py": "COLOUR = 1\n",
        "linear_theory/low.py": "from stopgrad.linear_theory.lower import g\nf = g\n",
        "linear_theory/lower.py": "def g():\n    'old words'\n    return 1\n",
        "linear_theory/other.py": "x = 1\n",
    }

    def key(**changes):
        root = tmp_path / "-".join(["first", *map(origin.digest, changes.values())])  # a file is read once
        for path, text in (files | {k.replace("__", "/") + ".py": v for k, v in changes.items()}).items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)

        def compute():
            return None

        compute.__module__ = "stopgrad.figures.mine"
        return data.origin(compute, root=root)

    first = key()
    assert set(first) == {
        "parameters",
        "stopgrad.figures.mine",
        "stopgrad.linear_theory.low",
        "stopgrad.linear_theory.lower",
        "numpy",
        "scipy",
        "torch",
    }
    mine = files["figures/mine.py"]
    assert key(figures__machinery__style="COLOUR = 2\n", linear_theory__other="x = 2\n") == first
    assert key(figures__mine=mine.replace("return 1", "return 2") + "# a remark\n") == first
    assert key(linear_theory__lower="def g():\n    'new words'\n    return 1\n") == first
    assert key(figures__mine=mine.replace("f()", "f() + 1")) != first
    changed = key(linear_theory__lower="def g():\n    return 2\n")
    assert [name for name in first if first[name] != changed[name]] == ["stopgrad.linear_theory.lower"]


def test_every_figure_reaches_the_theory_it_draws():
    for name, one in FIGURES.items():
        if not isinstance(one.compute, Recorded | Released | FromRuns):
            assert "stopgrad.linear_theory.flows.hyperparameters" in data.origin(one.compute), name
            assert "stopgrad.figures.machinery.style" not in data.origin(one.compute)
        assert one.title and one.source and len(one.text) > 80 and one.text.isascii()


# --------------------------------------------------------------------------------------------------- the door


@pytest.fixture
def run(capsys):
    def command(*argv):
        status = main("figures", door.__doc__, door.COMMANDS, list(map(str, argv)))
        out, err = capsys.readouterr()
        return status, out, err

    return command


@pytest.fixture
def two_figures(monkeypatch):
    """A registry of one computed figure and one whose experiment may not have run."""
    computed = Picture(SMALL["tian-fig4"], tian2021.draw_fig4, "computed", "a paper", "tian2021")
    recorded = Picture(Recorded("run/d.nc", "make it"), tian2021.draw_fig4, "recorded", "a run", "tian2021")
    monkeypatch.setattr(commands, "FIGURES", {"computed": computed, "recorded": recorded})
    return small("tian-fig4")


def test_list(run):
    status, out, _ = run("list", "--json")
    assert status == 0 and set(SMALL) <= set(json.loads(out))
    assert "tian-fig3" in run("list")[1]


def test_make_all_and_what_is_missing(run, two_figures, tmp_path):
    out, results = tmp_path / "out", tmp_path / "results"
    where = ("--out", out, "--results", results)
    every = ("all", *where, "--workers", 1)
    status, printed, _ = run(*every, "--json")
    assert status == 0 and json.loads(printed) == {"computed": str(out / "computed.png"), "recorded": None}
    assert "make it" in run(*every)[1]
    status, printed, err = run("make", "recorded", *where)
    assert (status, printed) == (2, "") and err.count("\n") == 1 and "make it" in err

    stamps = {p: p.stat().st_mtime_ns for p in out.rglob("*.*")}
    assert {p.name for p in stamps} == {"computed.png", "computed.txt", "computed.json", "computed.nc"}
    data.write(two_figures, results / "run" / "d.nc")
    assert json.loads(run(*every, "--json")[1])["recorded"] == str(out / "recorded.png")
    assert all(p.stat().st_mtime_ns == stamp for p, stamp in stamps.items())  # finished work is not done twice

    (out / "computed.png").unlink()
    status, printed, err = run("make", "computed", *where, "--pdf", "--json")
    assert json.loads(printed) == {"computed": str(out / "computed.png")} and err == ""
    assert (out / "computed.pdf").is_file() and (out / "data" / "computed.nc").stat().st_mtime_ns in stamps.values()
    assert "python -m figures make computed" in (out / "computed.txt").read_text()


def test_two_processes_make_the_same_bytes_as_one_and_say_the_same(run, two_figures, tmp_path):
    said = {}
    for workers in (1, 2):
        out, results = tmp_path / f"{workers}", tmp_path / "results"
        data.write(two_figures, results / "run" / "d.nc")
        where = ("--out", out, "--results", results)
        status, printed, err = run("all", *where, "--workers", workers)
        assert status == 0 and "computed: computed, because there are no data yet" in " ".join(err.split())
        said[workers] = printed.replace(str(out), "OUT")
        status, printed, _ = run("check", *where, "--json")
        assert status == 0 and json.loads(printed)["count"]["current"] == 2
    assert said[1] == said[2]
    one, two = (
        {p.relative_to(tmp_path / f"{workers}"): p.read_bytes() for p in (tmp_path / f"{workers}").rglob("*.*")}
        for workers in (1, 2)
    )
    assert one == two and len(one) == 7


def test_a_scale_that_there_is_not_is_refused_before_anything_is_drawn(run, tmp_path):
    for command in ("all", "check"):
        status, out, err = run(command, "--out", tmp_path / "out", "--scale", "nope")
        assert (status, out) == (2, "") and "'nope'" in err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_picture_whose_code_fails_takes_no_other_with_it(run, two_figures, tmp_path, monkeypatch, workers):
    data.write(two_figures, tmp_path / "run" / "d.nc")
    broken = functools.partial(np.linalg.inv, np.zeros((2, 2)))
    monkeypatch.setitem(commands.FIGURES, "computed", replace(commands.FIGURES["computed"], compute=broken))
    with pytest.raises(RuntimeError, match="computed: LinAlgError: Singular matrix"):
        run("all", "--out", tmp_path / "out", "--results", tmp_path, "--workers", workers)
    assert [path.stem for path in (tmp_path / "out").glob("*.png")] == ["recorded"]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_wrong_with_one_picture_is_one_sentence(run, two_figures, tmp_path, workers):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "d.nc").write_text("no NetCDF")
    status, out, err = run("all", "--out", tmp_path / "out", "--results", tmp_path, "--workers", workers)
    assert (status, out) == (2, "") and "d.nc cannot be read as a NetCDF file" in err
    assert [line for line in err.splitlines() if line.startswith("error: ")] == err.splitlines()[-1:]


def test_every_picture_can_be_given_to_another_process():
    for name, one in FIGURES.items():
        other = pickle.loads(pickle.dumps(one))
        assert made.drawing(other.draw) == made.drawing(one.draw), name
        if not isinstance(one.compute, Recorded | Released | FromRuns):
            assert data.origin(other.compute) == data.origin(one.compute), name


def test_phase_command(run, tmp_path):
    data.write(phase_data(), tmp_path / "d.nc")
    status, printed, _ = run("phase", tmp_path / "d.nc", "--out", tmp_path / "x.png", "--variable", "p", "--json")
    assert status == 0 and json.loads(printed) == {"d": str(tmp_path / "x.png")}
    assert "sigma2 = 0.1" in (tmp_path / "x.txt").read_text()


def test_phase_command_on_names_that_are_no_utf8_and_need_quotes(run, tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9 [$x]")
    file, picture = folder / os.fsdecode(b"d\xe9.nc"), folder / "x.png"
    data.write(phase_data(), file)
    status, printed, _ = run("phase", file, "--out", picture, "--json")
    assert status == 0 and json.loads(printed) == {file.stem: str(picture)}
    text = (folder / "x.txt").read_bytes().decode()
    assert text.startswith("Phase diagram of d\\udce9.nc\n")
    command = shlex.split(text.splitlines()[-1].replace("\\udce9", "\udce9"))
    assert command == ["Reproduce:", "python", "-m", "figures", "phase", str(file), "--out", str(picture)]


def test_the_report_shows_a_picture_whose_name_is_no_utf8(run, tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "rows", lambda *_: [])
    name, out = os.fsdecode(b"caf\xe9"), tmp_path / "x.html"
    style.save(style.new_figure()[0], tmp_path / f"{name}.png", "")
    (tmp_path / f"{name}.txt").write_bytes(b"A caption in Latin-1: \xe9")
    status, printed, _ = run("report", "--figures", tmp_path, "--runs", tmp_path / "none", "--out", out, "--json")
    assert status == 0 and json.loads(printed)["figures"] == [name]
    assert json.loads(printed)["bytes"] == out.stat().st_size and "caf\\udce9" in out.read_bytes().decode()


@pytest.mark.parametrize(
    "argv, words",
    [
        (("make", "nonsense"), "the figures are"),
        (("phase", "{dir}/none.nc", "--out", "{dir}/x.png"), "no such file"),
        (("phase", "{dir}/text.nc", "--out", "{dir}/x.png"), "cannot be read"),
        (("phase", "{dir}/d.nc", "--out", "{dir}/x.png", "--variable", "q"), "no variable 'q'"),
        (("phase", "{dir}/d.nc", "--out", "{dir}/x.gif"), "NAME.png"),
        (("phase", "{dir}/d.nc", "--out", "{dir}/text.nc/x.png"), "text.nc"),
        (("make", "tian-fig4", "--out", "{dir}/text.nc"), "text.nc"),
        (("check", "--out", "{dir}/text.nc"), "--out: {dir}/text.nc is a file; name a folder"),
        (("check", "--out", "{dir}/text.nc/inside"), "--out: {dir}/text.nc is a file; name a folder"),
        (("check", "--runs", "{dir}/text.nc"), "--runs: {dir}/text.nc is a file; name a folder"),
        (("check", "--runs", "{dir}/gone/inside"), "{dir}/gone is a broken link"),
        (("make", "tian-fig4", "--out", "{dir}/gone"), "{dir}/gone is a broken link"),
        (("report", "--runs", "{dir}/gone"), "{dir}/gone is a broken link"),
        (("report", "--out", "{dir}/gone/r.html"), "{dir}/gone is a broken link"),
        (("all", "--workers", "0"), "--workers is 0; it must be at least 1"),
        (("all", "--results", "{dir}/text.nc"), "--results: {dir}/text.nc is a file; name a folder"),
    ],
)
def test_refusals_are_one_sentence(run, tmp_path, argv, words):
    data.write(phase_data(), tmp_path / "d.nc")
    (tmp_path / "text.nc").write_text("no NetCDF")
    (tmp_path / "gone").symlink_to("nowhere")
    before = sorted(tmp_path.iterdir())
    status, out, err = run(*(a.format(dir=tmp_path) for a in argv))
    assert (
        (status, out) == (2, "")
        and words.format(dir=tmp_path) in err
        and err.count("\n") == 1
        and err.startswith("error: ")
    )
    assert sorted(tmp_path.iterdir()) == before

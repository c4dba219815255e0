"""`python -m figures check`: what makes a picture stale, and what the command says."""

import functools
import json

import numpy as np
import pytest
import xarray as xr
from PIL import Image

import stopgrad.figures.__main__ as door
from stopgrad.figures import commands
from stopgrad.figures.machinery import data, made, style
from stopgrad.figures.machinery.made import Places
from stopgrad.figures.machinery.picture import Picture, Recorded
from stopgrad.linear_theory.tools import origin
from stopgrad.linear_theory.tools.door import main


def _line(slope=1.0) -> xr.Dataset:
    x = np.linspace(0, 1, 11)
    return xr.Dataset({"y": ("x", slope * x)}, {"x": x})


@style.styled
def _draw(dataset, colour="black"):
    figure, axes = style.new_figure(panel=(2, 1.5))
    axes[0, 0].plot(dataset.x, dataset.y, color=colour)
    axes[0, 0].set(xlabel="x", ylim=(0, 4))
    return figure


def picture(compute=_line, draw=_draw, title="a line"):
    return Picture(compute, draw, title, "a paper", "tian2021")


@pytest.fixture
def places(tmp_path):
    return Places(out=tmp_path / "out", results=tmp_path / "results", runs=tmp_path / "runs")


def bring(one, places):
    return made.bring("line", one, places, False, lambda _: None)


def test_a_picture_just_made_is_current(places):
    path = bring(picture(), places)
    assert made.examine("line", picture(), places) == ("current", None)
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["drawing"]["matplotlib"] and {
        "stopgrad.figures.machinery.style",
        "stopgrad.figures.machinery.data",
    } <= set(made.drawing(made.bring))
    assert record["scale"] is None


def test_check_writes_nothing(places):
    bring(picture(), places)
    before = {path: path.stat().st_mtime_ns for path in places.out.rglob("*")}
    made.examine("line", picture(title="another"), places)
    assert before == {path: path.stat().st_mtime_ns for path in places.out.rglob("*")}


def test_what_is_settled_is_what_bring_would_leave_alone(places):
    assert made.settled("line", picture(), places) is None
    path = bring(picture(), places)
    assert made.settled("line", picture(), places) == made.Brought(path, [])
    assert made.settled("line", picture(), places, pdf=True) is None
    assert made.settled("line", picture(functools.partial(_line, 2.0)), places) is None
    assert made.settled("line", picture(Recorded("nowhere.nc", "python -m nothing")), places) == made.Brought(None, [])


def test_a_file_that_cannot_be_read_takes_no_other_picture_with_it(places, monkeypatch):
    damaged = picture(Recorded("damaged.nc", "python -m nothing"))
    places.results.mkdir()
    (places.results / "damaged.nc").write_bytes(b"no data")
    monkeypatch.setattr(commands, "of_papers", lambda keys: {"damaged": damaged, "line": picture()})
    with pytest.raises(ValueError, match="damaged"):
        commands.All(places, workers=1).run()
    assert (places.out / "line.png").is_file()


def test_all_hands_only_what_is_not_settled_to_its_workers(places, monkeypatch):
    asked = []

    def each(compute, figures, workers):
        asked.append(list(figures))
        return ((name, compute(name, one), print) for name, one in figures.items())

    figures = {"one": picture(), "two": picture(functools.partial(_line, 2.0))}
    monkeypatch.setattr(commands, "of_papers", lambda keys: figures)
    monkeypatch.setattr(commands, "_each", each)
    command = commands.All(places)
    first = command.run()
    (places.out / "two.png").unlink()
    assert command.run() == first == {name: f"{places.out / name}.png" for name in figures}
    assert asked == [["one", "two"], ["two"]]


@pytest.mark.parametrize(
    "now, why",
    [
        (picture(functools.partial(_line, 2.0)), "parameters changed"),
        (picture(title="another"), "its caption changed"),
        (picture(draw=functools.partial(_draw, colour="red")), "drawing code: function changed"),
    ],
)
def test_what_has_changed_is_named_and_made_again(places, now, why):
    bring(picture(), places)
    assert made.examine("line", now, places) == ("stale", why)
    bring(now, places)
    assert made.examine("line", now, places).state == "current"


def test_never_made_lost_and_damaged(places):
    one = picture()
    assert made.examine("line", one, places) == ("stale", "it was never made")
    path = bring(one, places)
    path.with_suffix(".json").write_text("{")
    assert "does not say what it was made from" in made.examine("line", one, places).why
    bring(one, places)
    (places.out / "data" / "line.nc").write_bytes(b"no NetCDF")
    assert made.examine("line", one, places) == ("stale", "the data file is damaged")
    (places.out / "data" / "line.nc").unlink()
    assert made.examine("line", one, places) == ("stale", "there are no data yet")


@pytest.mark.parametrize("text", ["[1]", "3", '{"drawing": [1], "scale": null}', '{"drawing": {}, "scale": "huge"}'])
def test_a_record_that_is_something_else_counts_as_none(places, text):
    path = bring(picture(), places)
    whole = path.with_suffix(".json").read_text()
    path.with_suffix(".json").write_text(text)
    assert made.examine("line", picture(), places) == ("stale", "it does not say what it was made from")
    bring(picture(), places)
    assert path.with_suffix(".json").read_text() == whole


def test_a_caption_that_was_edited_or_deleted_is_seen_and_written_again(places):
    path = bring(picture(), places).with_suffix(".txt")
    text = path.read_text()
    path.write_text(text + "And more.\n")
    assert made.examine("line", picture(), places) == ("stale", "its caption changed")
    bring(picture(), places)
    assert path.read_text() == text
    path.unlink()
    assert made.examine("line", picture(), places) == ("stale", "its caption is not there")
    bring(picture(), places)
    assert path.read_text() == text and made.examine("line", picture(), places).state == "current"


def test_data_that_were_edited_are_computed_again_and_not_drawn(places):
    path, file = bring(picture(), places), places.out / "data" / "line.nc"
    before, kept = path.read_bytes(), xr.load_dataset(file, engine="h5netcdf")
    data.write(kept.assign(y=kept.y / 2), file)
    assert made.examine("line", picture(), places) == ("stale", "the data file is damaged")
    bring(picture(), places)
    assert path.read_bytes() == before and made.examine("line", picture(), places).state == "current"
    np.testing.assert_array_equal(data.read(file).y, _line().y)


def test_a_picture_that_is_no_picture_is_drawn_again(places):
    path = bring(picture(), places)
    path.write_bytes(path.read_bytes()[:200])
    assert made.examine("line", picture(), places) == ("stale", "the file itself changed")
    bring(picture(), places)
    assert made.examine("line", picture(), places).state == "current"


def test_data_of_an_experiment_that_are_missing_or_newer(places):
    one = picture(Recorded("run/d.nc", "make it"))
    assert made.examine("line", one, places) == ("no data", "its data are not there; make them with `make it`")
    data.write(_line(), places.results / "run" / "d.nc")
    bring(one, places)
    assert made.examine("line", one, places).state == "current"
    data.write(_line(3.0), places.results / "run" / "d.nc")
    assert made.examine("line", one, places) == ("stale", "it is older than its data")
    (places.results / "run" / "d.nc").unlink()
    assert made.examine("line", one, places) == ("stale", "its data are not there")


def test_changed_code_is_named(places, monkeypatch):
    path = bring(picture(), places)
    record = json.loads(path.with_suffix(".json").read_text())
    record["drawing"]["stopgrad.figures.machinery.style"] = "another"
    path.with_suffix(".json").write_text(json.dumps(record))
    assert "stopgrad.figures.machinery.style changed" in made.examine("line", picture(), places).why
    monkeypatch.setattr(origin, "version", lambda name: "0")
    assert "numpy, scipy, torch changed" in made.examine("line", picture(), places).why


def test_the_drawing_code_counts_with_what_it_reaches(tmp_path):
    mine = "from stopgrad.figures import style\ndef draw_it(d):\n    return style.RED\n"

    def drawn(mine, style):
        root = tmp_path / str(len(list(tmp_path.iterdir())))  # a file is read once in a process
        (root / "figures").mkdir(parents=True)
        (root / "figures" / "mine.py").write_text(mine)
        (root / "figures" / "style.py").write_text(style)
        return made.drawing(draw_it, root)

    def draw_it(_):
        return None

    draw_it.__module__ = "stopgrad.figures.mine"
    first = drawn(mine, "RED = 1\n")
    assert set(first) == {"function", "stopgrad.figures.mine", "stopgrad.figures.style"}
    assert drawn(f"# words\n{mine}", "RED = 1  # as before\n") == first
    assert origin.difference(first, drawn(mine, "RED = 2\n")) == "stopgrad.figures.style changed"
    assert origin.difference(first, drawn(f"{mine}    return 2\n", "RED = 1\n")) == "stopgrad.figures.mine changed"


def test_another_picture_in_its_place_is_seen(places):
    path = bring(picture(), places)
    Image.fromarray(255 - np.asarray(Image.open(path).convert("RGB"))).save(path)
    assert made.examine("line", picture(), places) == ("stale", "the file itself changed")


# ------------------------------------------------------------------------------------------------------- the door


@pytest.fixture
def check(capsys, monkeypatch, places):
    def command(figures, *flags):
        monkeypatch.setattr(commands, "FIGURES", figures)
        where = ("--out", str(places.out), "--results", str(places.results), "--runs", str(places.runs))
        status = main("figures", door.__doc__, door.COMMANDS, ["check", *where, *flags])
        return status, capsys.readouterr().out

    return command


def test_check_command_says_what_and_leaves_a_status(check, places):
    waiting = picture(Recorded("run/d.nc", "make it"))
    status, out = check({"line": picture(), "other": waiting})
    assert status == 1 and "never made" in out and "make it" in out and "1 stale, 1 no data" in out
    bring(picture(), places)
    status, out = check({"line": picture(), "other": waiting}, "--json")
    found = json.loads(out)
    assert status == 0 and found["figures"]["line"] == {"state": "current", "why": None}
    assert found["count"] == {"current": 1, "stale": 0, "no data": 1, "not in the suite": 0}
    status, out = check({"line": picture(draw=functools.partial(_draw, colour="red"))})
    assert status == 1 and "1 stale" in out
    assert max(map(len, out.splitlines())) <= 120

"""`python -m figures reproduce`: its steps, what it does with the status of each, and a second call."""

from dataclasses import dataclass

import pytest

from stopgrad.experiments.commands.suite_command import SOME_FAILED
from stopgrad.experiments.suites.grid import SCALES
from stopgrad.figures.reproduce import MINUTES, Reproduce
from stopgrad.linear_theory.tools.door import Command, main


@dataclass(frozen=True)
class Step(Command):
    name: str
    ends: int = 0
    json: bool = False

    def run(self):
        return {"name": self.name}

    def status(self, result):
        return self.ends


@pytest.mark.parametrize(
    ("status", "goes_on"),
    [(0, True), (SOME_FAILED, True), (1, False), (2, False), (130, False), (143, False)],
)
def test_it_goes_on_where_some_runs_failed_and_after_nothing_else(status, goes_on, monkeypatch, capsys):
    """1 is what Python leaves a traceback with: then nothing may be drawn as if the suite had been carried out."""
    steps = [("run", Step("run", status)), ("report", Step("report"))]
    monkeypatch.setattr(Reproduce, "steps", lambda self: iter(steps))
    ended = main("figures", "", {"reproduce": Reproduce}, ["reproduce"])
    out, err = capsys.readouterr()
    assert ended == (0 if goes_on else status)
    assert "name: run" in err and ("name: report" in err) == goes_on
    assert out.startswith("The report is" if goes_on else "ended at the step run")


@pytest.mark.parametrize("scale", SCALES)
def test_all_steps_are_of_one_scale_and_one_place(scale, tmp_path):
    steps = dict(Reproduce(scale=scale, workers=2, runs=tmp_path / "runs", out=tmp_path / "out").steps())
    names = ["estimate", "linear-digits", "run", "figures", "report"]
    assert list(steps) == (names if scale in MINUTES else names[1:])
    places = steps["figures"].places
    assert {places.scale, *(steps[name].scale for name in ("run", "report"))} == {scale}
    assert {places.runs, *(steps[name].runs for name in ("run", "report"))} == {tmp_path / "runs"}
    assert places.out == steps["report"].figures == tmp_path / "out" / "figures"
    assert steps["linear-digits"].out.parent == places.results == steps["report"].out.parent == tmp_path / "out"
    assert {steps[name].workers for name in ("linear-digits", "run", "figures", "report")} == {2}


@pytest.mark.parametrize("workers", [1, 2])
def test_the_server_of_processes_is_started_first_where_there_will_be_some(workers, tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr("stopgrad.figures.reproduce.start_server", lambda *preload: done.append("server"))
    monkeypatch.setattr(Reproduce, "steps", lambda self: done.append("steps") or iter([("report", Step("report"))]))
    assert Reproduce(workers=workers, runs=tmp_path / "runs", out=tmp_path / "out").run()["status"] == 0
    assert done == ["server"] * (workers > 1) + ["steps"]


def test_a_scale_that_there_is_not_is_refused_before_anything_is_done(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main("figures", "", {"reproduce": Reproduce}, ["reproduce", "--scale", "huge"]) == 2
    assert "there is no scale 'huge'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())

"""Progress over a suite: the time left, and that an error is not buried in it."""

import pytest

from stopgrad.experiments.launch import progress
from stopgrad.experiments.launch.one_run import Outcome
from stopgrad.experiments.launch.progress import Board, clock


@pytest.mark.parametrize("terminal", [False, True])
def test_an_error_before_any_run_ended_stands_alone(terminal, capsys, monkeypatch):
    monkeypatch.setattr("rich.console.Console.is_terminal", terminal)
    board = Board("suite", 3)
    assert bool(board.bar) == terminal
    with pytest.raises(ValueError), board:
        raise ValueError
    if terminal:
        assert board.bar.live.transient
    else:
        assert not capsys.readouterr().err
    with pytest.raises(ValueError), Board("suite", 3) as board:
        board.ended("a", Outcome("a", "failed", "why", 1.0, True))
        raise ValueError
    assert "failed: a: why" in capsys.readouterr().err


def test_time_left_is_at_the_pace_since_the_first_run_began(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    board = Board("suite", 10)
    board.found()
    board.found()
    now[0] = 1000.0  # nothing has begun yet: it took no time
    board.began("a", "a")
    board.began("b", "b")
    assert board.seconds_left() is None
    now[0] = 1060.0
    board.ended("a", Outcome("a", "finished", None, 60.0, True))
    board.began("c", "c")
    # one done and two half done in 60 seconds, so two in 60; six left beside these halves, of ten less three done
    assert board.seconds_left() == pytest.approx(60 * 6 / 2)
    assert board.line() == "suite: 3/10 finished, 2 running, about 3 min left"
    board.left_to_others("b")
    board.left_to_others("c")
    assert board.seconds_left() is None


def test_durations_read_well():
    assert [clock(s) for s in (4.4, 89, 91, 3600, 3600 * 2.5)] == ["4 s", "89 s", "2 min", "60 min", "2.5 h"]

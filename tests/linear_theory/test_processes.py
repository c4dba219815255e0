"""One function of many items by several processes: the same answers, one thread each, and nothing left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from stopgrad.linear_theory.tools.processes import cores, number_of_workers, parallel

ROOT = Path(__file__).parents[2]


def about(number):
    """The number, the process that computed it, its threads, and whether Ctrl-C is left to another."""
    return number, os.getpid(), torch.get_num_threads(), signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def refuse(number):
    if number == 3:
        raise FileNotFoundError(2, "no such file", "the third")
    time.sleep(0.05)
    return number


def die(number):
    os.kill(os.getpid(), signal.SIGKILL)


def test_every_item_is_computed_once_by_processes_of_one_thread():
    tensors = [(torch.arange(k + 1.0),) for k in range(6)]
    assert sorted((k, float(total)) for k, total in parallel(torch.sum, tensors, 2)) == [
        (k, k * (k + 1) / 2) for k in range(6)
    ]
    for number, process, threads, ignores in dict(parallel(about, [(k,) for k in range(4)], 2)).values():
        assert number in range(4) and process != os.getpid() and threads == 1 and ignores


def test_one_worker_or_one_item_stays_here_and_in_order():
    here = lambda number: (number, os.getpid())  # noqa: E731  # which no other process could be given
    assert list(parallel(here, [(k,) for k in range(3)], 1)) == [(k, (k, os.getpid())) for k in range(3)]
    assert list(parallel(here, [(7,)], 2)) == [(0, (7, os.getpid()))]
    assert not list(parallel(here, [], 2))


@pytest.mark.parametrize("workers", [1, 2])
def test_what_the_function_raises_is_raised_here(workers):
    with pytest.raises(FileNotFoundError, match="the third"):
        list(parallel(refuse, [(k,) for k in range(8)], workers))


def test_a_worker_that_is_killed_is_told_in_a_sentence():
    with pytest.raises(ValueError, match="fewer --workers"):
        list(parallel(die, [(0,), (1,)], 2))


def test_at_least_one_worker():
    assert number_of_workers(3) == 3 and number_of_workers(None) == cores()
    with pytest.raises(ValueError, match="--workers is 0"):
        number_of_workers(0)


SLEEPS = """
import os, sys, time
from pathlib import Path

from stopgrad.linear_theory.tools.files import replace_file
from stopgrad.linear_theory.tools.processes import parallel


def draft(path):
    path.write_text(str(os.getpid()))
    time.sleep(300)


def work(k):
    replace_file(Path(f"{k}.txt"), draft)


if __name__ == "__main__":
    list(parallel(work, [(k,) for k in range(5)], 2))
"""


TORCH = """
import time

time.sleep(2)


def set_num_threads(number):
    pass
"""


@pytest.fixture
def environment(tmp_path):
    """That of a program in `tmp_path`, whose server loads for two seconds what stands in for torch."""
    (tmp_path / "torch.py").write_text(TORCH)
    return os.environ | {"PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_and_no_draft_is_left_behind(number, environment, tmp_path):
    """Ctrl-C goes to every process of the group, as from a terminal; the other signals to the first alone."""
    (tmp_path / "sleeps.py").write_text(SLEEPS)
    first = subprocess.Popen(
        [sys.executable, "sleeps.py"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, start_new_session=True
    )
    wait_for(lambda: len(drafts := list(tmp_path.glob(".*.txt"))) == 2 and all(d.read_text() for d in drafts))
    workers = [int(path.read_text()) for path in tmp_path.glob(".*.txt")]
    (os.killpg if number == signal.SIGINT else os.kill)(first.pid, number)
    said = first.communicate(timeout=60)[1].decode()
    assert first.returncode != 0 and "ForkServerProcess" not in said
    wait_for(lambda: not any(map(lives, workers)))
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".txt"] == []


def lives(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("seconds", [0.3, 0.8, 1.5])
def test_ctrl_c_while_workers_are_being_started_is_heard_by_the_first_process_alone(seconds, environment, tmp_path):
    (tmp_path / "sleeps.py").write_text(SLEEPS.replace("list(par", "print(0, flush=True); list(par"))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "start_new_session": True}
    first = subprocess.Popen([sys.executable, "sleeps.py"], cwd=tmp_path, env=environment, **pipes)
    first.stdout.read(1)
    time.sleep(seconds)
    os.killpg(first.pid, signal.SIGINT)
    said = first.communicate(timeout=60)[1].decode()
    assert first.returncode != 0 and "forkserver import main" not in said and said.count("Traceback") <= 1, said


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)

"""The lock of a run's folder: whom it keeps out, and that the dead hold none."""

import os
import signal

import pytest
from processes import process, sleep

from stopgrad.deep.storage.lock import hold


def test_a_living_holder_keeps_the_lock_and_a_dead_one_does_not(tmp_path):
    def holding(say):
        with hold(tmp_path):
            say(1)
            sleep()

    with process(holding) as (pid, said):
        said.readline()
        with pytest.raises(ValueError, match=rf"is being written by process {pid} on ") as refusal, hold(tmp_path):
            pass
        assert "\n" not in str(refusal.value)
    with hold(tmp_path):
        pass


def test_a_worker_that_outlives_its_parent_does_not_hold_the_lock(tmp_path):
    def hold_with_worker(say):
        with hold(tmp_path), process(sleep) as (worker, _):
            say(worker)
            sleep()

    with process(hold_with_worker) as (_, said):
        worker = int(said.readline())
    try:
        os.kill(worker, 0)  # it lives
        with hold(tmp_path):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)


def test_the_lock_holds_in_one_process_too_and_ends_with_its_block(tmp_path):
    folder = tmp_path / "new" / "run"
    with hold(folder):
        with pytest.raises(ValueError, match=f"process {os.getpid()}"), hold(folder):
            pass
        with pytest.raises(ValueError, match="is being written"), hold(folder):
            pass
    with pytest.raises(KeyError), hold(folder):
        raise KeyError
    with hold(folder):
        pass


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cannot write into"), hold(tmp_path / "file" / "run"):
        pass

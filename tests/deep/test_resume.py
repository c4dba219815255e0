"""A run that is killed anywhere, or told to stop, and resumed is bit for bit the run that nobody disturbed."""

import contextlib
import json
import os
import shlex
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from processes import PROCESSES, hear_ctrl_c
from small_runs import title_alone, undrawn

from stopgrad.deep.processes.stopping import Stop
from stopgrad.deep.storage import checkpoint, table

TINY = shlex.split("--fraction .1 --image-size 8 --batch-size 32 --monitor-every 3 --evaluate-every 1 --probe none")
LINEAR = [*TINY, "--backbone", "linear", "--projector-hidden", "16", "--embedding-dim", "8", "--epochs", "3"]
SETTINGS = {
    # F, its counter, the predictor's momentum and a target that moves must all come back
    "set predictor, moving target": [
        *TINY, *shlex.split("--width 1 --predictor directpred --predictor-freq 3 --target ema --ema-momentum .9"),
        *shlex.split("--embedding-dim 16 --epochs 2 --warmup-epochs 1"),
    ],
    "balance residual, accumulation": [*LINEAR, *shlex.split("--accumulation 2 --loss squared --laws-every 1")],
    "two-layer predictor, supervised reference": [
        *LINEAR, *shlex.split("--predictor mlp --projector-output-bn affine_free --references supervised"),
    ],
    # epochs of four steps end within phases; the predictor's momentum waits meanwhile
    "objectives in turn": [
        *LINEAR, "--objective", "schedule", "--repeat", "--phases",
        "direction toward=random@3", "components keep=centre@3", "triplet@1",
    ],
}  # fmt: skip


# ---------------------------------------------------------------- processes


def start(folder, argv, disturb=None, *arguments):
    """`python -m deep train …` in a process of its own; `disturb(*arguments)` is called in it beforehand."""
    process = PROCESSES.Process(target=_train, args=(folder, argv, disturb, arguments))
    process.start()
    return process


def finish(process):
    """Its exit status, negative for the signal that killed it."""
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode


def train(folder, argv, disturb=None, *arguments):
    """Exit status, standard output, standard error."""
    status = finish(start(folder, argv, disturb, *arguments))
    return status, Path(f"{folder}.out").read_text(), Path(f"{folder}.err").read_text()


def _train(folder, argv, disturb, arguments):
    import stopgrad.deep.words.picture

    hear_ctrl_c()
    stopgrad.deep.words.picture.draw = title_alone  # its table is compared as it is
    torch.set_num_threads(1)
    sys.exit(_call(folder, argv, disturb, arguments))


def _call(folder, argv, disturb=None, arguments=()):
    """Exit status; what is said goes into files beside the folder."""
    from stopgrad.deep.__main__ import door

    with contextlib.ExitStack() as outputs:
        for name, redirect in (("out", contextlib.redirect_stdout), ("err", contextlib.redirect_stderr)):
            outputs.enter_context(redirect(outputs.enter_context(open(f"{folder}.{name}", "w"))))
        at_the_end = disturb(*arguments) if disturb else None
        status = door(["train", *argv, "--out", str(folder)])
        if at_the_end:
            at_the_end()
    return status


@pytest.fixture
def train_here(monkeypatch):
    """`train` in this process, for what nothing disturbs: another than that of which the folder is, and no new one."""
    undrawn(monkeypatch)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield lambda folder, argv: (_call(folder, argv), *(Path(f"{folder}.{name}").read_text() for name in ("out", "err")))
    torch.set_num_threads(threads)


def kill_after_calls(count):
    """SIGKILL at the count-th call of any function, Python's or C's: between any two of them, or inside none."""
    left = count

    def called(frame, event, argument):
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(called)


def strike(module, name, at, number, after=False):
    """Send this process `number` at the at-th call of a function, before or after its work."""
    import importlib

    *path, last = name.split(".")
    owner = importlib.import_module(module)
    for part in path:
        owner = getattr(owner, part)
    original, calls = getattr(owner, last), 0

    def struck(*arguments, **named):
        nonlocal calls
        calls += 1
        if calls == at and not after:
            os.kill(os.getpid(), number)
        result = original(*arguments, **named)
        if calls == at and after:
            os.kill(os.getpid(), number)
        return result

    setattr(owner, last, struck)


def count_calls(path):
    """Write into `path` how many functions are called before training and before the conclusion."""
    calls, marks = 0, {}

    def called(frame, event, argument):
        nonlocal calls
        calls += 1
        if event == "call" and frame.f_code.co_name in ("train", "conclude"):
            marks.setdefault(frame.f_code.co_name, calls)
            if len(marks) == 2:
                sys.setprofile(None)

    sys.setprofile(called)
    return lambda: Path(path).write_text(json.dumps(marks))


# ---------------------------------------------------------------- what a run leaves


def left_by(folder):
    """Everything that a run leaves behind, wall-clock times and its own place excepted."""
    last = checkpoint.load_latest(folder)
    payload = {name: value for name, value in last.payload.items() if name != "seconds"}
    summary = json.loads((folder / "summary.json").read_text())
    for part in (summary, summary["first"], summary["last"]):
        part.pop("seconds")
    summary.pop("run")
    return {
        "step": last.step,
        "payload": payload,
        "table": table.fingerprint(folder),
        "evaluations": table.fingerprint(folder / "evaluations"),
        "laws": table.fingerprint(folder / "laws"),
        "summary": summary,
        "backbone": torch.load(folder / "backbone.pt"),
        "picture": (folder / "run.png").read_bytes(),
    }


def assert_same(found, expected, where="run"):
    """Equal to the last bit, tensors and NaN included."""
    assert type(found) is type(expected), where
    if isinstance(expected, dict):
        assert list(found) == list(expected), where
        for name in expected:
            assert_same(found[name], expected[name], f"{where}[{name!r}]")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), where
        for k, value in enumerate(expected):
            assert_same(found[k], value, f"{where}[{k}]")
    elif isinstance(expected, torch.Tensor):
        assert found.dtype == expected.dtype, where
        assert found.shape == expected.shape, where
        assert found.contiguous().numpy().tobytes() == expected.contiguous().numpy().tobytes(), where
    else:
        assert found == expected, where


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """By name of a setting: what the undisturbed run left, and how many calls it took. Each is run once."""
    done = {}

    def run(name):
        if name not in done:
            folder = tmp_path_factory.mktemp("unbroken") / "run"
            status, _, err = train(folder, SETTINGS[name], count_calls, folder.with_suffix(".calls"))
            assert status == 0, err
            done[name] = left_by(folder), json.loads(folder.with_suffix(".calls").read_text())
        return done[name]

    return run


# ---------------------------------------------------------------- killed


@pytest.mark.parametrize("name", SETTINGS)
def test_killed_anywhere_and_resumed_it_is_the_same_run(tmp_path, unbroken, name):
    expected, calls = unbroken(name)
    folder, draw = tmp_path / "run", torch.Generator().manual_seed(len(name))
    reached = []
    for share in torch.rand(2, generator=draw).sort().values.tolist():
        point = round(calls["train"] + share * (calls["conclude"] - calls["train"]))
        status, _, err = train(folder, [*SETTINGS[name], "--resume"], kill_after_calls, point)
        assert status == -signal.SIGKILL, err
        last = checkpoint.load_latest(folder)
        reached.append(last.step if last else 0)
    assert train(folder, [*SETTINGS[name], "--resume"])[0] == 0
    assert_same(left_by(folder), expected)


POINTS = {
    "a checkpoint is written, not yet in place": ("stopgrad.linear_theory.tools.files", "os.replace", 3),
    "a checkpoint is in place, older ones are not yet gone": ("stopgrad.deep.storage.checkpoint", "_sync_folder", 3),
    "evaluated, and no checkpoint yet": ("stopgrad.deep.training.recorder", "checkpoint.save", 2),
    "arrays of a row are written, and not its line": ("stopgrad.deep.storage.table", "_ENCODE", 9),
    "trained, and not summed up": ("stopgrad.deep.words.picture", "draw", 1),
    "before the first checkpoint": ("stopgrad.deep.training.recorder", "Recorder.measure", 1),
}


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_the_worst_moments(tmp_path, unbroken, train_here, point):
    name = "balance residual, accumulation"
    folder = tmp_path / "run"
    status, _, err = train(folder, SETTINGS[name], strike, *POINTS[point], signal.SIGKILL)
    assert status == -signal.SIGKILL, err
    assert (folder / "config.json").is_file()
    status, _, err = train_here(folder, SETTINGS[name])
    assert status == 2
    assert "--resume" in err
    status, _, err = train_here(folder, [*SETTINGS[name], "--resume"])
    assert status == 0, err
    assert_same(left_by(folder), unbroken(name)[0])
    assert sorted(path.name for path in folder.glob(".*-checkpoint-*")) == []


def test_a_damaged_checkpoint_falls_back_with_a_warning(tmp_path, unbroken, train_here):
    name = "balance residual, accumulation"
    folder = tmp_path / "run"
    train(folder, SETTINGS[name], strike, "stopgrad.deep.words.picture", "draw", 1, signal.SIGKILL)
    newest = max(folder.glob("checkpoint-*.pt"))
    newest.write_bytes(newest.read_bytes()[:-1])
    status, _, err = train_here(folder, [*SETTINGS[name], "--resume"])
    assert status == 0, err
    assert f"{newest} is damaged" in err
    assert_same(left_by(folder), unbroken(name)[0])


# ---------------------------------------------------------------- told to stop


@pytest.mark.parametrize(
    ("number", "status", "call", "step"),
    [
        (
            signal.SIGTERM,
            143,
            ("stopgrad.deep.training.recorder", "Recorder.wants", 6),
            6,
        ),  # within an epoch of 4 steps
        (signal.SIGINT, 130, ("stopgrad.deep.training.recorder", "Recorder.wants", 2), 2),
        (signal.SIGTERM, 143, ("stopgrad.deep.training.recorder", "Recorder.after_epoch", 3), 8),  # as an epoch ends
        (
            signal.SIGINT,
            130,
            ("stopgrad.deep.training.recorder", "Recorder.after_epoch", 4),
            12,
        ),  # as the last one does
        (
            signal.SIGTERM,
            143,
            ("stopgrad.deep.training.recorder", "Recorder.after_epoch", 1),
            1,
        ),  # in the evaluation before training
        (signal.SIGUSR1, 138, ("stopgrad.deep.training.recorder", "Recorder.wants", 6), 6),  # Slurm's --signal=USR1@90
        (signal.SIGHUP, 129, ("stopgrad.deep.training.recorder", "Recorder.wants", 2), 2),  # a terminal that closes
        (signal.SIGUSR2, 140, ("stopgrad.deep.training.recorder", "Recorder.after_epoch", 3), 8),
        (signal.SIGXCPU, 152, ("stopgrad.deep.training.recorder", "Recorder.after_epoch", 1), 1),
    ],
)
def test_a_signal_keeps_the_state_says_how_to_go_on_and_leaves(
    tmp_path, unbroken, train_here, number, status, call, step
):
    name = "balance residual, accumulation"
    folder = tmp_path / "run"
    found, out, err = train(folder, SETTINGS[name], strike, *call, number)
    assert found == status, err
    assert out.splitlines() == [f"stopped at step {step}; the same command with --out {folder} --resume goes on"]
    assert checkpoint.load_latest(folder).step == step
    assert not (folder / "summary.json").exists()
    assert train_here(folder, [*SETTINGS[name], "--resume"])[0] == 0
    assert_same(left_by(folder), unbroken(name)[0])


def test_stopped_within_a_phase_it_goes_on_within_it(tmp_path, unbroken, train_here):
    folder, name = tmp_path / "run", "objectives in turn"
    wanted = ("stopgrad.deep.training.recorder", "Recorder.wants", 5)
    assert train(folder, SETTINGS[name], strike, *wanted, signal.SIGTERM)[0] == 143
    assert checkpoint.load_latest(folder).step == 5  # the second of three
    assert train_here(folder, [*SETTINGS[name], "--resume"])[0] == 0
    assert_same(left_by(folder), unbroken(name)[0])
    rows = table.read(folder)
    assert dict(zip(rows.step.tolist(), rows.scalars["phase"].tolist())) == {0: 1, 3: 2, 4: 2, 6: 3, 8: 1, 9: 1, 11: 2}


def test_stopped_it_still_prints_one_json_object(tmp_path):
    argv = [*LINEAR, "--json", "--quiet"]
    status, out, err = train(
        tmp_path / "run", argv, strike, "stopgrad.deep.training.recorder", "Recorder.wants", 6, signal.SIGTERM
    )
    found = json.loads(out)
    assert (status, err, found["state"], found["step"]) == (143, "", "stopped", 6)
    assert {"diagnosis", "warnings", "seconds", "alignment", "spectrum", "knn", "run"} <= found.keys()


def wait_in_evaluation(path):
    """Evaluate for ever, and say in a file that this has begun."""
    import stopgrad.deep.training.recorder

    def evaluation(self, *_):
        Path(path).touch()
        while True:
            time.sleep(0.01)

    stopgrad.deep.training.recorder.Recorder.after_epoch = evaluation


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_second_signal_is_obeyed_at_once(tmp_path, number, status):
    begun = tmp_path / "begun"
    process = start(tmp_path / "run", LINEAR, wait_in_evaluation, begun)
    while not begun.exists():
        assert process.is_alive()
        time.sleep(0.01)
    os.kill(process.pid, number)
    process.join(0.5)
    assert process.is_alive()
    os.kill(process.pid, number)
    assert finish(process) == status


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGHUP, signal.SIGTERM])
def test_schedulers_that_repeat_themselves_are_heard_once(number):
    """One order to every process, and torchrun's own to its children, are one; a hint may come any number of times."""
    with Stop() as stop:
        for _ in range(3):
            signal.raise_signal(number)
        assert stop.signal == number
        signal.raise_signal(signal.SIGTERM)  # the time limit itself, after the warning
        assert stop.signal == signal.SIGTERM


def test_nohup_keeps_a_closing_terminal_from_the_run():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stop() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert stop.signal == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_lock_goes_with_the_process(tmp_path, train_here):
    """A living process keeps others out of its folder; a killed one does not."""
    begun, folder = tmp_path / "begun", tmp_path / "run"
    (tmp_path / "other").mkdir()
    process = start(folder, LINEAR, wait_in_evaluation, begun)
    while not begun.exists():
        assert process.is_alive()
        time.sleep(0.01)
    status, _, err = train_here(tmp_path / "other" / ".." / "run", [*LINEAR, "--resume"])
    assert status == 2
    assert f"is being written by process {process.pid} on " in err
    assert err.count("\n") == 1
    process.kill()
    finish(process)
    assert train_here(folder, [*LINEAR, "--resume"])[0] == 0

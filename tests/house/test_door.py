"""The door of every wing: what it prints and where, its exit statuses, and what its refusals say."""

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
import tyro
from hypothesis import given
from hypothesis import strategies as st

from stopgrad.linear_theory.tools.door import Command, Group, dumps, main, plain, refuse_nan, sentences

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Decay:
    eta: float = 0.04
    """weight decay"""

    def __post_init__(self):
        if self.eta < 0:
            raise ValueError("eta is negative; it must be at least 0")


@dataclass(frozen=True)
class Echo(Command):
    """Say what was read."""

    p0: float = 0.1
    """start"""
    colour: Literal["red", "blue"] = "red"
    pair: tuple[float, float] | None = None
    spectrum: tuple[float, ...] = ()
    count: int = 3
    decay: Decay = field(default_factory=Decay)
    json: bool = False

    def run(self) -> dict:
        print("on the way")
        return {"p0": self.p0, "count": self.count, "eta": self.decay.eta, "missing": None, "spectrum": self.spectrum}


@dataclass(frozen=True)
class Store(Command):
    """Write to a file."""

    file: tyro.conf.Positional[Path]
    """The file."""
    p1: float
    """The end."""
    json: bool = False

    def run(self) -> dict:
        self.file.write_text("written\n")
        return {"file": str(self.file)}


@dataclass(frozen=True)
class Guarded(Command):
    """Check itself, and misbehave on request."""

    p0: float = 0.1
    fail: Literal["no", "interrupt", "shapes", "torch"] = "no"
    json: bool = False

    def __post_init__(self):
        if self.p0 < 0:
            raise ValueError("p0 is negative;\n   it must be at least 0")

    def run(self) -> dict:
        if self.fail == "interrupt":
            raise KeyboardInterrupt
        if self.fail == "shapes":
            return {"p0": np.zeros(2) + np.zeros(3)}
        if self.fail == "torch":
            raise OSError("no words of the system's")
        return {"p0": self.p0}

    def text(self, result: dict) -> str:
        return f"p starts at {result['p0']}"


COMMANDS = {"echo": Echo, "store": Store, "guarded": Guarded}


@pytest.fixture
def door(capsys):
    def run(*argv, commands=COMMANDS):
        status = main("wing", "A wing.", commands, [str(word) for word in argv])
        return status, *capsys.readouterr()

    return run


def test_the_answer_alone_is_on_standard_output(door):
    status, out, err = door("echo", "--p0", "-2.5e-1", "--spectrum", "1", "0.5", "--eta", "0", "--json")
    expected = {"p0": -0.25, "count": 3, "eta": 0.0, "missing": None, "spectrum": [1.0, 0.5]}
    assert status == 0 and json.loads(out) == expected and out.count("\n") == 1
    assert err == "on the way\n"


def test_without_json_the_answer_is_in_words(door):
    assert door("guarded") == (0, "p starts at 0.1\n", "")
    assert door("echo")[1].splitlines()[:3] == ["p0: 0.1", "count: 3", "eta: 0.04"]


@pytest.mark.parametrize("argv", [["--help"], ["echo", "--help"]])
def test_help_is_no_failure(door, argv):
    status, out, err = door(*argv)
    assert status == 0 and "python -m wing" in out and err == ""


@pytest.mark.parametrize("columns", ["40", "200"])
@pytest.mark.parametrize(
    "argv, words",
    [
        (["echo", "--p0", "x"], ["--p0", "FLOAT", "'x'"]),
        (["echo", "--count", "3.5"], ["--count", "INT", "'3.5'"]),
        (["echo", "--colour", "green"], ["--colour", "'green'", "red, blue"]),
        (["echo", "--pair", "1", "z"], ["--pair", "FLOAT FLOAT", "'z'"]),
        (["echo", "--p0"], ["--p0", "FLOAT"]),
        (["echo", "--zz", "3"], ["--zz 3"]),
        (["echo", "--colours", "red"], ["--colours red; perhaps --colour"]),
        (["echo", "--etas=3"], ["--etas=3; perhaps --eta"]),
        (["echo", "--eta", "-1"], ["eta is negative; it must be at least 0"]),
        (["guarded", "--p0", "-1"], ["p0 is negative; it must be at least 0"]),
        (["store"], ["file, --p1", "python -m wing store --help"]),
        (["store", "f", "--p1", "y"], ["--p1", "FLOAT", "'y'"]),
        (["ekko"], ["ekko", "echo, store, guarded"]),
        (["--p0", "1"], ["--p0", "echo, store, guarded"]),
        ([], ["echo, store, guarded"]),
        (["echo", "--p0", "nan"], ["p0 is NaN"]),
        (["store", "no/such/folder/f", "--p1", "1"], ["no/such/folder/f: No such file or directory"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_bad_input_is_one_sentence_and_status_2(door, monkeypatch, argv, words, columns):
    monkeypatch.setenv("COLUMNS", columns)
    status, out, err = door(*argv)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ") and all(word in err for word in words), err


@pytest.mark.parametrize("name", [[], ["echo"]])
def test_the_name_of_a_lone_command_may_be_given_or_left_out(door, name):
    lone = {"echo": Echo}
    status, out, _ = door(*name, "--p0", "0.5", "--json", commands=lone)
    assert status == 0 and json.loads(out)["p0"] == 0.5
    assert door(*name, "--eta", "-1", commands=lone)[::2] == (2, "error: eta is negative; it must be at least 0\n")
    assert door(*name, "--zz", commands=lone)[::2] == (2, "error: unknown: --zz\n")
    status, out, _ = door(*name, "--help", commands=lone)
    assert status == 0 and "--p0" in out and "A wing." in out


def test_a_lone_command_takes_no_other_name(door):
    assert door("ekko", commands={"echo": Echo}) == (2, "", "error: unknown: ekko\n")
    assert door("echo", "echo", commands={"echo": Echo}) == (2, "", "error: unknown: echo\n")


@pytest.mark.parametrize(
    "argv, name",
    [
        (["--p0", "NaN"], "p0"),
        (["--eta", "-nan"], "eta"),
        (["--pair", "1", "nan"], "pair"),
        (["--spectrum", "1", "2", "nan"], "spectrum"),
    ],
)
def test_nan_is_refused_wherever_a_number_is_read(door, argv, name):
    assert door("echo", *argv, "--json") == (2, "", f"error: {name} is NaN; give a number\n")


def test_a_group_holds_commands_under_one_name(door):
    grouped = {"echo": Echo, "files": Group("Work on files.", {"store": Store, "lone": Group("One.", {"echo": Echo})})}
    assert sentences(grouped) == {
        "echo": "Say what was read.", "files store": "Write to a file.", "files lone echo": "Say what was read.",
    }  # fmt: skip
    status, out, _ = door("--help", commands=grouped)
    assert status == 0 and "Work on files." in out and "--p1" not in out
    status, out, _ = door("files", "store", "--help", commands=grouped)
    assert status == 0 and "python -m wing files store" in out and "--p1" in out
    status, out, _ = door("files", "lone", "--p0", "0.5", "--json", commands=grouped)
    assert status == 0 and json.loads(out)["p0"] == 0.5
    status, _, err = door("files", commands=grouped)
    assert status == 2 and "store, lone" in err
    assert "file, --p1; see python -m wing files store --help" in door("files", "store", commands=grouped)[2]


@dataclass(frozen=True)
class Holder:
    start_value: object


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        np.float32("nan"),
        np.float64("nan"),
        complex(0, math.nan),
        (1.0, (2.0, math.nan)),
        [1.0, math.nan],
        {"a": (math.nan,)},
        np.array([[1.0, math.nan]]),
    ],
    ids=repr,
)
def test_nan_is_found_at_any_depth(value):
    with pytest.raises(ValueError, match=r"^start-value is NaN; give a number$"):
        refuse_nan(Holder(value))
    with pytest.raises(ValueError, match=r"^start-value is NaN"):
        refuse_nan(Holder((Holder(value), 1.0)))


@pytest.mark.parametrize(
    "value", [math.inf, (-math.inf, 1.0), "nan", None, 3, True, Path("nan"), np.arange(3), Holder(1)]
)
def test_what_is_not_nan_passes(value):
    refuse_nan(Holder(value))


@pytest.mark.parametrize("infinity", ["inf", "-inf"])
def test_infinity_is_read_and_is_null_in_json(door, infinity):
    status, out, _ = door("echo", "--p0", infinity, "--json")
    assert status == 0 and json.loads(out)["p0"] is None
    assert door("echo", "--p0", infinity)[1].startswith(f"p0: {infinity}\n")


def test_interruption_is_130(door):
    assert door("guarded", "--fail", "interrupt") == (130, "", "interrupted\n")


@pytest.mark.parametrize(("fail", "error"), [("shapes", ValueError), ("torch", OSError)])
def test_a_bug_is_not_taken_for_bad_input(door, fail, error):
    with pytest.raises(error):
        door("guarded", "--fail", fail)


def test_values_become_json():
    assert json.loads(
        dumps(
            {
                "array": np.array([[1.0, np.nan], [np.inf, 2.0]]),
                "complex": [1 - 2j, complex(math.nan, 1)],
                "spectrum": np.array([1j, 2.0]),
                "tensor": torch.tensor([0.5, math.inf], dtype=torch.float64),
                "scalars": (np.float32(0.5), np.int64(3), np.bool_(True), -math.inf, None, "nan"),
                "path": Path("a"),
                1: {"deep": np.float64("nan")},
            }
        )
    ) == {
        "array": [[1.0, None], [None, 2.0]],
        "complex": [{"re": 1.0, "im": -2.0}, {"re": None, "im": 1.0}],
        "spectrum": [{"re": 0.0, "im": 1.0}, {"re": 2.0, "im": 0.0}],
        "tensor": [0.5, None],
        "scalars": [0.5, 3, True, None, None, "nan"],
        "path": "a",
        "1": {"deep": None},
    }


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_survive_json_exactly(value):
    assert json.loads(dumps({"x": np.float64(value)}))["x"] == value
    assert plain(np.array([value])) == [value]


PROGRAM = """
    import sys, time
    from dataclasses import dataclass
    from stopgrad.linear_theory.tools.door import Command, main

    @dataclass(frozen=True)
    class Lines(Command):
        '''Print much, or wait.'''
        wait: bool = False
        json: bool = False

        def run(self):
            if self.wait:
                print("waiting", file=sys.stderr, flush=True)
                time.sleep(60)
            return {str(i): i for i in range(100_000)}

    @dataclass(frozen=True)
    class Letters(Command):
        '''Say what not every stream can write.'''
        json: bool = False

        def run(self):
            print("on the way: √", chr(0xdce9))  # as in a file's name that is no text
            return {"x": "√2 " + chr(0xdce9)}

    sys.exit(main("wing", "A wing.", {"lines": Lines, "letters": Letters}))
"""


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(PROGRAM), encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def start(*argv, stdout=subprocess.PIPE, **more):
        command = [sys.executable, str(path), *argv]
        return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=environment | more)

    return start


@pytest.mark.parametrize("argv", [["lines"], ["lines", "--json"], ["--help"]], ids=" ".join)
def test_a_reader_that_leaves_gets_no_traceback(program, argv):
    # The read end is closed before the program writes: `… | head` with the race taken out.
    read, write = os.pipe()
    os.close(read)
    process = program(*argv, stdout=write)
    os.close(write)
    assert process.communicate()[1] == ""
    assert process.returncode == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_output_that_cannot_be_written_is_one_sentence(program):
    with open("/dev/full", "w") as full:
        process = program("lines", "--json", stdout=full)
        assert process.communicate()[1] == "error: No space left on device\n"
    assert process.returncode == 2


def test_ctrl_c_is_130_without_traceback(program):
    process = program("lines", "--wait")
    assert process.stderr.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert (process.returncode, out, err) == (130, "", "interrupted\n")


@pytest.mark.parametrize(
    "encoding, root, told",
    [("ascii", "?", "\\u221a"), ("latin-1", "?", "\\u221a"), ("utf-8", "√", "√"), ("cp1252:strict", "?", "\\u221a")],
)
def test_letters_that_a_stream_cannot_write_are_replaced(program, encoding, root, told):
    process = program("letters", PYTHONIOENCODING=encoding)
    assert process.communicate() == (f"x: {root}2 ?\n", f"on the way: {told} \\udce9\n")
    assert process.returncode == 0
    assert program("letters", "--json", PYTHONIOENCODING=encoding).communicate()[0] == '{"x": "\\u221a2 \\udce9"}\n'


def test_a_terminal_without_utf8_gets_the_same_sentence(program):
    process = program("lines", "--zz", PYTHONIOENCODING="ascii")
    assert process.communicate() == ("", "error: unknown: --zz\n")
    assert process.returncode == 2

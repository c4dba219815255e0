"""Checkouts of one's own, changed as the texts say, and what a program of theirs answers."""

import os
import runpy
import shutil
import sys
import traceback
from pathlib import Path

from processes import PROCESSES

ROOT = Path(__file__).parents[2]
PACKAGES = ("stopgrad", "linear_theory", "deep", "experiments", "figures", "examples")


def checkout(folder, *packages):
    """A copy of these packages, which a test may change; `stopgrad` is always among them."""
    for name in ("stopgrad", *packages):
        shutil.copytree(ROOT / name, folder / name)
    return folder


def program(place, folder, *argv):
    """Status, output and complaints of `python -m MODULE …` or `python FILE …` in `folder`, on the code in `place`.

    The process has only what others wrote, torch first of all; every module of the project it reads anew.
    """
    said = [folder.parent / f"{folder.name}.{name}" for name in ("out", "err")]
    process = PROCESSES.Process(target=_program, args=(place, folder, said, list(map(str, argv))))
    process.start()
    process.join(300)
    process.kill()  # where it hangs; its status then says so
    process.join()
    out, err = (path.read_text(encoding="utf-8") for path in said)
    return process.exitcode, out, err


def _program(place, folder, said, argv):
    for number, path in enumerate(said, start=1):
        with path.open("wb") as file:
            os.dup2(file.fileno(), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
    for name in [name for name in sys.modules if name.partition(".")[0] in PACKAGES]:
        del sys.modules[name]
    os.chdir(folder)
    os.environ |= {"PYTHONPATH": str(place), "COLUMNS": "80"}
    sys.path[:] = [str(place), *(path for path in sys.path if path not in ("", str(ROOT)))]
    try:
        _run(argv)
    except SystemExit as left:
        if isinstance(left.code, str):
            print(left.code, file=sys.stderr)
        status = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    else:
        status = 0
    from stopgrad.linear_theory import __file__ as read

    assert Path(read).is_relative_to(place), read
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _run(argv):
    if argv[0] == "-m":
        sys.argv = argv[1:]
        runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = argv
        runpy.run_path(argv[0], run_name="__main__")

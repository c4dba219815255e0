"""The folder of a run: what names it, whether what it holds is a finished run, and who may write into it.

It holds `config.json`, the table of measurements (`metrics.jsonl` and raw arrays), `evaluations/`, checkpoints, and at
the end `run.png` and `backbone.pt`, if wanted, and last of all `summary.json`. Which folder that is, unless one is
named, follows from the config, the code that computes and the versions of the numerics: another result never comes out
of an old folder.
"""

import contextlib
import json
import shlex
from collections.abc import Iterator
from pathlib import Path

from stopgrad.deep.config import Config, key_text, to_json
from stopgrad.deep.storage import checkpoint, lock, table
from stopgrad.deep.storage.provenance import code, fingerprint
from stopgrad.deep.storage.table import RAW, ROWS
from stopgrad.linear_theory.tools import kept
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.files import is_litter, refuse_broken_link

CONFIG, SUMMARY = "config.json", "summary.json"
LAWS = "laws"
"""Folder of the table that `--laws-every` asks for."""
ERROR = "error.txt"
"""The traceback of a run that failed in a suite, until it is begun again."""


def key(config: Config) -> str:
    """What names a run: 16 hexadecimal digits that follow from its config, the code of its own parts, and versions."""
    return kept.key(key_text(config), code(config))[:16]


def default_folder(config: Config) -> Path:
    """runs/KEY."""
    return Path("runs") / key(config)


def tables(folder: Path) -> list[str]:
    """Fingerprints of the run's tables, by which it can be told that they still are as it left them."""
    some = [folder / LAWS] if (folder / LAWS).is_dir() else []
    return [table.fingerprint(path) for path in (folder, folder / "evaluations", *some)]


def whole_summary(folder: Path) -> dict | None:
    """The summary in `folder`; None where there is none, or one that is not whole, or whose tables are no longer as the
    run left them: then the run is not finished.

    Raises OSError where the folder cannot be read.
    """
    summary = _summary(folder)
    return summary if summary and summary.get("tables") in (None, tables(Path(folder))) else None


def _summary(folder: Path) -> dict | None:
    try:
        summary = json.loads((Path(folder) / SUMMARY).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
        return None
    whole = isinstance(summary, dict) and all(isinstance(summary.get(name), kind) for name, kind in _PARTS.items())
    return summary if whole and "fingerprint" in summary["provenance"] else None


_PARTS = {"state": str, "seconds": int | float, "first": dict, "last": dict, "config": dict, "provenance": dict}


def read_summary(folder: Path) -> dict:
    """The summary of a finished run. Raises ValueError where there is none."""
    summary = whole_summary(folder)
    if summary is None:
        unfinished = (Path(folder) / CONFIG).is_file()
        goes_on = f"the command that began it goes on with --out {shlex.quote(str(folder))} --resume"
        raise BadInput(f"{folder} holds an unfinished run; {goes_on}" if unfinished else f"{folder} holds no run")
    return summary


def claim(folder: Path, config: Config, resume: bool, held: contextlib.ExitStack) -> dict | None:
    """The summary of the run in `folder` if that has ended; else None, and the folder is this process's to write."""
    refuse_broken_link(folder)
    if not whole_summary(folder):
        held.enter_context(_locked(folder))
    if whole_summary(folder):  # perhaps by now: whoever held the lock may just have finished
        return _finished(folder, config)
    (folder / ERROR).unlink(missing_ok=True)
    if (folder / CONFIG).is_file():
        refuse_another(folder, config, "unfinished")
        if not resume:
            raise BadInput(f"{folder} holds an unfinished run; go on with --resume, or name another --out")
        if _summary(folder):
            _start_over(folder)
    elif not all(is_litter(path.name) for path in folder.iterdir()):
        raise BadInput(f"{folder} holds files that are no run's; name another --out")
    return None


def _start_over(folder: Path) -> None:
    """Remove what a finished run measured and kept, its tables having been damaged since: nothing tells by how much."""
    for path in [
        *folder.glob("checkpoint-*.pt"),
        *(p for p in folder.rglob("*.*") if p.name == ROWS or p.suffix in RAW),
    ]:
        path.unlink()
    (folder / SUMMARY).unlink()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; a folder in which no run was begun after all is left as it was."""
    was_there = folder.exists()
    with lock.hold(folder):
        try:
            yield
        finally:
            if not (folder / CONFIG).exists():
                with contextlib.suppress(OSError):
                    (folder / lock.FILE).unlink()
                    if not was_there:
                        folder.rmdir()


def refuse_another(folder: Path, config: Config, words: str) -> None:
    """Raise ValueError, naming the first field that differs, where `folder` holds a run of another config."""
    try:
        difference = checkpoint.first_difference((folder / CONFIG).read_text(encoding="utf-8"), to_json(config))
    except (ValueError, AttributeError):
        raise BadInput(f"{folder / CONFIG} is damaged; name another --out, or remove the run") from None
    if difference:
        raise BadInput(f"{folder} holds another, {words} run: {difference}; repeat its settings or name another --out")


def _finished(folder: Path, config: Config) -> dict:
    summary = read_summary(folder)
    refuse_another(folder, config, "finished")
    if summary["provenance"]["fingerprint"] != fingerprint(config):
        raise BadInput(f"{folder} was computed by other code or versions; name another --out, or remove it")
    return summary

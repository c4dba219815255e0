"""Checkpoints that are whole or not there.

A checkpoint is a file of `torch.save` and opens with `torch.load(…, weights_only=True)` anywhere. It ends with the
SHA-256 of everything before, kept as the comment that a zip archive may carry, so that a file cut short or changed by
a single bit is known as such. The last two stay; where the last is damaged, the one before serves.
"""

import hashlib
import io
import json
import os
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from stopgrad.linear_theory.tools.arrays import is_tensor
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.files import replace_file

FORMAT = 1
KEPT = 2


class Checkpoint(NamedTuple):
    """What `save` was given."""

    step: int
    payload: dict[str, Any]
    """Tensors on the CPU, numbers, text, and dicts, lists and tuples of these."""
    config_json: str


def save(folder: Path, step: int, payload: dict[str, Any], config_json: str) -> Path:
    """Write the state of a run after `step` steps, and keep this checkpoint and the one before it.

    Whatever kills the process or the machine, the folder holds the old or the new checkpoint, whole. Checkpoints of
    later steps go: they belong to a continuation that was given up. Raises TypeError, naming the entry, for a payload
    that could not be loaded without trusting code; OSError if the disk refuses.
    """
    _check_loadable(payload, "payload")
    path = _path(folder, step)
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"format": FORMAT, "step": step, "config": config_json, "payload": payload}
    replace_file(path, lambda draft: _write_through(draft, _sealed(record)))
    _sync_folder(path.parent)
    present = _present(folder)
    kept = [s for s in present if s <= step][-KEPT:]
    drafts_of_killed_processes = path.parent.glob(".*-checkpoint-*.pt")
    for other in (*(present[s] for s in present if s not in kept), *drafts_of_killed_processes):
        other.unlink()
    return path


def load_latest(
    folder: Path, config_json: str | None = None, warn: Callable[[str], None] = warnings.warn
) -> Checkpoint | None:
    """The newest whole checkpoint in `folder`, or None where there is none.

    `warn` is called with one sentence for each damaged file passed over. Raises ValueError with one sentence if
    `config_json` is given and the checkpoint's differs, naming the first field that does.
    """
    for path in reversed(_present(folder).values()):
        found = _read(path)
        if found is None:
            warn(f"{path} is damaged; going back to the checkpoint before it, if there is one")
            continue
        difference = None if config_json is None else first_difference(found.config_json, config_json)
        if difference:
            raise BadInput(f"{path} belongs to another run: {difference}; repeat its settings or name another folder")
        return found
    return None


def first_difference(saved: str, wanted: str) -> str | None:
    """The first field in which two configs, as JSON, differ: '--lr was 0.05 and is now 0.1'; None if they agree.

    One that both have goes before one that a part of one of them brought.
    """
    before, now = _leaves(json.loads(saved)), _leaves(json.loads(wanted))
    for name in sorted({**now, **before}, key=lambda name: (name in before) + (name in now), reverse=True):
        flag = "--" + name.replace("_", "-")
        if name not in before:
            return f"{flag} did not exist when it was written"
        if name not in now:
            return f"{flag} exists no more"
        if before[name] != now[name]:
            return f"{flag} was {_shown(before[name])} and is now {_shown(now[name])}"
    return None


# ---------------------------------------------------------------- files


def _path(folder: Path, step: int) -> Path:
    return Path(folder) / f"checkpoint-{step:09d}.pt"


def _present(folder: Path) -> dict[int, Path]:
    """The checkpoint files in `folder` by step, rising."""
    paths = {path.stem.removeprefix("checkpoint-"): path for path in Path(folder).glob("checkpoint-*.pt")}
    return dict(sorted((int(name), path) for name, path in paths.items() if name.isdecimal()))


def _sealed(record: dict) -> tuple[memoryview, bytes]:
    """The record as a zip archive, and its comment: the digest of all bytes before it."""
    import torch

    buffer = io.BytesIO()
    torch.save(record, buffer)
    archive = buffer.getbuffer()
    if archive[-2:] != b"\0\0":
        raise RuntimeError("torch.save did not end with an empty zip comment; this version of torch is not supported")
    archive[-2:] = hashlib.sha256().digest_size.to_bytes(2, "little")  # the comment's length, the archive's last field
    return archive, hashlib.sha256(archive).digest()


def _read(path: Path) -> Checkpoint | None:
    """The checkpoint in `path`, or None if the file is not as it was written. Raises ValueError for another format."""
    import torch

    whole = memoryview(path.read_bytes())
    size = hashlib.sha256().digest_size
    if hashlib.sha256(whole[:-size]).digest() != whole[-size:]:
        return None
    record = torch.load(io.BytesIO(whole), weights_only=True, map_location="cpu")
    if record["format"] != FORMAT:
        raise BadInput(
            f"{path} has format {record['format']} and this program reads {FORMAT}; use the one that wrote it"
        )
    return Checkpoint(record["step"], record["payload"], record["config"])


def _write_through(path: Path, parts) -> None:
    with path.open("wb") as file:
        file.writelines(parts)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a renaming in `folder` last through a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# ---------------------------------------------------------------- contents


def _check_loadable(value, name: str) -> None:
    """Refuse what `weights_only` loading would: better now than when the run is to be resumed."""
    if type(value) in (dict, OrderedDict):
        for key, entry in value.items():
            _check_loadable(key, f"a key of {name}")
            _check_loadable(entry, f"{name}[{key!r}]")
    elif type(value) in (list, tuple):
        for k, entry in enumerate(value):
            _check_loadable(entry, f"{name}[{k}]")
    elif not (is_tensor(value) or value is None or type(value) in (bool, int, float, str)):
        raise TypeError(
            f"{name} is a {type(value).__name__}; a checkpoint holds tensors, numbers, text and their dicts"
        )


def _leaves(config: dict) -> dict[str, Any]:
    """Fields of a nested record by name; a name is one flag, whichever group it stands in."""
    leaves = {}
    for name, value in config.items():
        leaves |= _leaves(value) if isinstance(value, dict) else {name: value}
    return leaves


def _shown(value) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)

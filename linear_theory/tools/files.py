"""Files are written whole or not at all, and whether they can be is known before anything is computed."""

import atexit
import functools
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from stopgrad.linear_theory.tools.errors import BadInput

ENGINE = "h5netcdf"
_LEFT_BY_SYSTEMS = frozenset(
    (
        *("__macosx", "icon\r", "network trash folder", "temporary items"),  # macOS, in archives too
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),  # Windows
        *("@eadir", "@tmp", "#recycle", "#snapshot", "@recycle", "@recently-snapshot"),  # Synology, QNAP
        *("lost+found", "__pycache__"),  # Linux, Python
    )
)


def is_litter(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or left behind by a system rather than put there by a person.

    A name that begins with a dot is hidden: .DS_Store, ._0.png, .ipynb_checkpoints, .nfs0001.
    """
    return name.startswith(".") or name.lower() in _LEFT_BY_SYSTEMS


def refuse_broken_link(path: Path) -> None:
    """Raise ValueError where `path` is a link that leads nowhere."""
    if path.is_symlink() and not path.exists():
        raise BadInput(f"{path} is a broken link; repair it or take it away")


def cache_folder() -> Path:
    """Where what can be made again is kept: $XDG_CACHE_HOME/stopgrad, or ~/.cache/stopgrad, be it there or not."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "stopgrad"
    except RuntimeError:  # no $HOME, and a user without a name
        return passing_folder()


@functools.cache
def passing_folder() -> Path:
    """A temporary folder, the same for the whole process and removed at its end."""
    folder = Path(tempfile.mkdtemp(prefix="stopgrad-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def room_for_sockets() -> None:
    """Let this process make its temporary files in /tmp where $TMPDIR, as on many clusters, is too long a name.

    Processes talk through sockets there, whose names have 107 bytes at most.
    """
    if len(os.fsencode(tempfile.gettempdir())) > 70:
        tempfile.tempdir = "/tmp"


def replace_file(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write(draft)` on a draft beside `path` with the same suffix, then put it in place: never half a file."""
    draft = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        write(draft)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def prepare_file(path: Path, suffix: str) -> Path:
    """Make the folder of a file to be written. Raises ValueError, naming it, if its name or its folder cannot serve."""
    if path.suffix != suffix:
        raise BadInput(f"{path} does not end in {suffix}")
    if path.is_dir():
        raise BadInput(f"{path} is a folder; name a file")
    try:
        for folder in path.parents:
            refuse_broken_link(folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        probe = path.with_name(f".{os.getpid()}-probe")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise BadInput(f"cannot write into {path.parent}: {error.strerror}") from None
    return path


def write_netcdf(dataset, path: Path) -> None:
    """Write an xarray Dataset, whole or not at all."""
    replace_file(path, lambda draft: dataset.to_netcdf(draft, engine=ENGINE))

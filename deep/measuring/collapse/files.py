"""Arrays in files, opened without running anybody's code and without holding them in memory.

`FILE` or `FILE:NAME` names an array. What is opened is a function that maps the array afresh: who reads a part and lets
go keeps nothing resident. NumPy's .npy and .npz, PyTorch's files (tensors only) and .safetensors.
"""

import pickle
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from stopgrad.linear_theory.tools.arrays import is_tensor
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.files import passing_folder

Load = Callable[[], Any]
"""Maps an array, NumPy or torch, each time it is called."""

_CODE = "which could run code of whoever wrote it: refused; save plain arrays or tensors"


def open_array(named: str) -> Load:
    """The array that `FILE` or `FILE:NAME` names.

    Raises BadInput for a file that is not there, of an unknown kind, damaged, or holding more than numbers, and for a
    name that is missing or unknown.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/z.npz", first=np.eye(2), second=np.ones(3))
    ...     open_array(f"{folder}/z.npz:second")().tolist()
    [1.0, 1.0, 1.0]
    """
    path, name = _parted(named)
    if path.suffix not in READERS:
        raise BadInput(f"{path} is no kind of file that is read here: {', '.join(READERS)}, or the folder of a run")
    arrays = READERS[path.suffix](path)
    if not arrays:
        raise BadInput(f"{path} holds no array")
    if name is None and len(arrays) > 1:
        weights = (
            "; of a checkpoint `python -m deep diagnose` tells the spectra" if READERS[path.suffix] is _torch else ""
        )
        one = f"name one, as {path}:{next(iter(arrays))}: {_listed(arrays)}"
        raise BadInput(f"{path} holds several arrays; {one}{weights}")
    if name is not None and name not in arrays:
        raise BadInput(f"{path} has no array {name}; it has {_listed(arrays)}")
    load = arrays[next(iter(arrays)) if name is None else name]
    _refuse_no_numbers(named, load())
    return load


def _parted(named: str) -> tuple[Path, str | None]:
    """The file, and the array's name where one is given."""
    if Path(named).exists():
        return Path(named), None
    file, colon, name = named.rpartition(":")
    if colon and Path(file).exists():
        return Path(file), name
    raise BadInput(f"there is no file {file if colon else named}")


def _listed(arrays) -> str:
    names = [name or "one without a name" for name in arrays]
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _refuse_no_numbers(named: str, array) -> None:
    if is_tensor(array):
        real, tiny = not array.is_complex(), array.is_floating_point() and array.itemsize < 2
    else:
        real, tiny = array.dtype.kind in "fiub", False
    if not real or tiny:
        raise BadInput(f"{named} holds {array.dtype}; it must hold real numbers{', not in 8 bits' * tiny}")


# ---------------------------------------------------------------- formats: {array's name: how it is mapped}


def _npy(path: Path) -> dict[str, Load]:
    def load():
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            if "pickle" in str(error) or "Python objects" in str(error):
                raise BadInput(f"{path} holds Python objects, {_CODE}") from None
            raise BadInput(f"{path} is damaged: {error}") from None

    load()
    return {"": load}


def _npz(path: Path) -> dict[str, Load]:
    """Each array is unpacked when it is asked for, into a temporary file: in the archive it may be compressed."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if name.endswith(".npy")]
    except zipfile.BadZipFile:
        raise BadInput(f"{path} is damaged, or no archive of numpy.savez") from None

    def unpacked(member: str) -> Load:
        kept: list[Load] = []

        def load():
            if not kept:
                with zipfile.ZipFile(path) as archive:
                    kept.append(_npy(Path(archive.extract(member, tempfile.mkdtemp(dir=passing_folder()))))[""])
            return kept[0]()

        return load

    return {member.removesuffix(".npy"): unpacked(member) for member in members}


def _torch(path: Path) -> dict[str, Load]:
    found = _tensors(path)
    return {name: lambda name=name: found()[name].detach() for name in found()}


def _tensors(path: Path) -> Callable[[], dict]:
    """Tensors at any depth of dictionaries and lists, named by the keys that lead there, with dots between."""
    import torch

    def read():
        mapped = zipfile.is_zipfile(path)  # what PyTorch wrote before 1.6 is no archive, and is read whole
        try:
            with warnings.catch_warnings(action="ignore"):  # of odd pickles, which are refused or not
                return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        except pickle.UnpicklingError:
            raise BadInput(f"{path} holds more than tensors, {_CODE}, as model.state_dict()") from None
        except (RuntimeError, EOFError, ValueError) as error:
            raise BadInput(f"{path} is damaged: {str(error).partition(chr(10))[0]}") from None

    whole = None if zipfile.is_zipfile(path) else read()
    return lambda: dict(tensors_in(read() if whole is None else whole))


def read_tensors(path: Path | str) -> dict[str, Any]:
    """All tensors in a checkpoint of PyTorch, whatever its suffix, or in a .safetensors file, by name.

    Raises BadInput for a file that is not there, damaged, or holding more than tensors and plain numbers.
    """
    path = Path(path)
    if path.is_dir():
        inside = sorted(one.name for one in path.glob("*.pt"))
        raise BadInput(f"{path} is a folder; name a file in it{', as ' + str(path / inside[-1]) if inside else ''}")
    if not path.is_file():
        raise BadInput(f"there is no file {path}")
    if path.suffix in (".npy", ".npz"):
        raise BadInput(f"{path} is no checkpoint; `python -m deep collapse` reads features")
    if path.suffix == ".safetensors":
        return {name: load() for name, load in _safetensors(path).items()}
    return _tensors(path)()


def tensors_in(value, name: str = ""):
    """(name, tensor) of all tensors in nested dictionaries, lists and tuples; names are the keys, dots between."""
    if is_tensor(value):
        yield name, value
    elif isinstance(value, dict | list | tuple):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from tensors_in(inner, f"{name}.{key}" if name else str(key))


def _safetensors(path: Path) -> dict[str, Load]:
    """Tensors are mapped by the format's own library, an optional one."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise BadInput(f"{path} needs the library safetensors: pip install safetensors") from None

    def read(of):
        try:
            with safe_open(path, framework="pt") as file:
                return of(file)
        except SafetensorError as error:
            raise BadInput(f"{path} is damaged: {error}") from None

    return {name: lambda name=name: read(lambda file: file.get_tensor(name)) for name in read(lambda f: list(f.keys()))}


READERS: dict[str, Callable[[Path], dict[str, Load]]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".pt": _torch,
    ".pth": _torch,
    ".ckpt": _torch,
    ".bin": _torch,
    ".safetensors": _safetensors,
}
"""By suffix. A format more is a function and a line more."""

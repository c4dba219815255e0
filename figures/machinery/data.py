"""The data behind a picture: how it is recorded, and kept in a file until something that computes it changes."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.tools import kept as keeping
from stopgrad.linear_theory.tools import origin as of_code
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.files import ENGINE, write_netcdf

if TYPE_CHECKING:
    import xarray as xr

SILENT = (
    *("stopgrad.figures.machinery.style", "stopgrad.figures.machinery.picture", "stopgrad.figures.shared.phase"),
    *("stopgrad.experiments.store.store", "stopgrad.experiments.store.evidence"),
)
"""What only draws; and the store of runs, since each run has a key of its own that follows from the code behind it."""


VALUES = "values"
"""What the digest of the values themselves is called, among those of what they were computed by."""


def record(variables: dict, coords: dict, h: Hyperparameters, **more) -> "xr.Dataset":
    """A dataset with every parameter in its attributes: `more`, and those fields of `h` that are one number."""
    import xarray as xr

    fixed = {name: value for name, value in vars(h).items() if value is not None and np.ndim(value) == 0}
    parameters = {name: value for name, value in {**fixed, **more}.items() if name not in coords}
    return xr.Dataset(variables, coords, attrs=parameters)


def read(path: Path) -> "xr.Dataset":
    """The dataset in a NetCDF file, in memory. Raises OSError where there is none, ValueError where it is not one."""
    import xarray as xr

    if not Path(path).is_file():
        raise FileNotFoundError(2, "no such file", str(path))
    try:
        return xr.load_dataset(path, engine=ENGINE)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} cannot be read as a NetCDF file") from error


def write(dataset: "xr.Dataset", path: Path) -> None:
    """Write a NetCDF file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_netcdf(dataset, path)


def cached(
    path: Path, compute: Callable[[], "xr.Dataset"], now: keeping.Origin | None = None
) -> tuple["xr.Dataset", str | None]:
    """The dataset in `path` if the same `compute` made it, else a new one, written there.

    Returns (dataset, why it was computed; None where it was not). `compute` may be a functools.partial: its arguments,
    the code of every module that it can reach and the versions of the numerical libraries decide what is the same;
    or `now` does, where it is given.
    """
    return keeping.keep(path, origin(compute) if now is None else now, compute, _read, _write, _difference)


def kept(path: Path, now: keeping.Origin) -> "tuple[xr.Dataset | None, str | None]":
    """(the dataset in `path`, why it is not what would be computed `now`); None for either where there is none.

    A file whose values are not those that were written with its origin is damaged, as one that cannot be read.
    """
    return keeping.kept(path, now, _read, _difference)


def _read(path: Path) -> "tuple[xr.Dataset, keeping.Origin]":
    old = read(path)
    origin = json.loads(old.attrs.pop("origin", ""))
    if origin.pop(VALUES, None) != digest(old):
        raise ValueError("the values are not those that were written")
    return old, origin


def _write(path: Path, new: "xr.Dataset", origin: keeping.Origin) -> None:
    write(new.assign_attrs(origin=json.dumps({VALUES: digest(new), **origin})), path)


def digest(dataset: "xr.Dataset") -> str:
    """16 hexadecimal digits that follow from every value, name and attribute; the same before a file and after it."""
    found = hashlib.sha256(_attributes(dataset.attrs))
    for name in sorted(dataset.variables):
        variable = dataset.variables[name]
        values = np.asarray(variable.values)
        numbers = values.dtype.kind in "biufc"  # text comes back from a file as another kind of text
        found.update(repr((name, variable.dims, values.shape, values.dtype.str if numbers else "text")).encode())
        found.update(_attributes(variable.attrs))
        found.update(values.tobytes() if numbers else json.dumps(values.tolist(), default=str).encode())
    return found.hexdigest()[:16]


def _attributes(attrs: dict) -> bytes:
    return json.dumps({name: np.ravel(attrs[name]).tolist() for name in sorted(attrs)}, default=str).encode()


def _difference(old: dict, now: dict) -> str | None:
    """What changed, came or went; runs of a suite are counted, not named."""
    runs = [{name: key for name, key in one.items() if name.startswith("run ")} for one in (old, now)]
    new, gone = (len(a.items() - b.items()) for a, b in (runs[::-1], runs))
    code = of_code.difference(
        *({name: v for name, v in one.items() if name not in runs[k]} for k, one in enumerate((old, now)))
    )
    return "; ".join(filter(None, (code, new and _runs(new, "new"), gone and _runs(gone, "gone")))) or None


def _runs(count: int, what: str) -> str:
    return f"{count} run{'s' * (count > 1)} {what}"


def origin(compute: Callable, root: Path = of_code.ROOT) -> dict[str, str]:
    """What decides the outcome of `compute`: {module, library or "parameters": digest or version}."""
    module, called = of_code.call(compute)
    return {"parameters": called, **of_code.code(module, SILENT, root=root)}

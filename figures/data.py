"""The data behind a picture: how it is recorded, and kept in a file until something that computes it changes."""

import ast
import functools
import hashlib
import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import xarray as xr

from linear_theory.files import ENGINE, write_netcdf
from linear_theory.hyperparameters import Hyperparameters

ROOT = Path(__file__).resolve().parents[1]
WINGS = ("linear_theory", "deep", "experiments", "figures")
ONLY_DRAW = ("figures.style", "figures.phase")
NUMERICS = ("numpy", "scipy", "torch")


def record(variables: dict, coords: dict, h: Hyperparameters, **more) -> xr.Dataset:
    """A dataset with every parameter in its attributes: `more`, and those fields of `h` that are one number."""
    fixed = {name: value for name, value in vars(h).items() if value is not None and np.ndim(value) == 0}
    parameters = {name: value for name, value in {**fixed, **more}.items() if name not in coords}
    return xr.Dataset(variables, coords, attrs=parameters)


def read(path: Path) -> xr.Dataset:
    """The dataset in a NetCDF file, in memory. Raises OSError where there is none, ValueError where it is not one."""
    if not Path(path).is_file():
        raise FileNotFoundError(2, "no such file", str(path))
    try:
        return xr.load_dataset(path, engine=ENGINE)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read as a NetCDF file") from error


def write(dataset: xr.Dataset, path: Path) -> None:
    """Write a NetCDF file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_netcdf(dataset, path)


def cached(path: Path, compute: Callable[[], xr.Dataset]) -> tuple[xr.Dataset, str | None]:
    """The dataset in `path` if the same `compute` made it, else a new one, written there.

    Returns (dataset, why it was computed; None where it was not). `compute` may be a functools.partial: its arguments,
    the text of every module that it can reach and the versions of the numerical libraries decide what is the same.
    """
    now = origin(compute)
    try:
        old = read(path)
        why = _difference(json.loads(old.attrs.pop("origin", "{}")), now)
    except FileNotFoundError:
        why = "there are no data yet"
    except ValueError:
        why = "the data file is damaged"
    if why is None:
        return old, None
    new = compute()
    write(new.assign_attrs(origin=json.dumps(now)), path)
    return new, why


def origin(compute: Callable, root: Path = ROOT) -> dict[str, str]:
    """What decides the outcome of `compute`: {module, library or "parameters": digest or version}."""
    bare, arguments = compute, []
    while isinstance(bare, functools.partial):
        arguments += [bare.args, sorted(bare.keywords.items())]
        bare = bare.func
    sources = _reachable(bare.__module__, root)
    call = _digest(f"{bare.__module__}.{bare.__qualname__} {arguments!r}")
    return {"parameters": call, **sources, **{name: version(name) for name in NUMERICS}}


def _difference(old: dict, now: dict) -> str | None:
    changed = sorted(name for name in {*old, *now} if old.get(name) != now.get(name))
    return f"{', '.join(changed)} changed" if changed else None


def _reachable(module: str, root: Path) -> dict[str, str]:
    """{name: digest} of `module` and of all the project's modules that it imports, directly or not."""
    digests, todo = {}, [module]
    while todo:
        name = todo.pop()
        path = root / Path(*name.split(".")).with_suffix(".py")
        if name not in digests and name not in ONLY_DRAW and name.split(".")[0] in WINGS and path.is_file():
            digests[name], imported = _parsed(path.read_text(encoding="utf-8"))
            todo += imported
    return digests


@functools.cache
def _parsed(text: str) -> tuple[str, list[str]]:
    """(digest of what computes, names that may be imported modules) of a module's text."""
    tree, imported = ast.parse(text), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return _digest(ast.dump(_Computing().visit(tree))), imported


class _Computing(ast.NodeTransformer):
    """Drops what cannot change a number: documentation strings, and functions named draw_… or _draw_…."""

    def visit_Expr(self, node):
        return None if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else node

    def visit_FunctionDef(self, node):
        return None if node.name.lstrip("_").startswith("draw_") else self.generic_visit(node)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]

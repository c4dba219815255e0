"""What figures draw of a run over its steps: as a dataset, and of recorded runs in one small file beside their rows."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stopgrad.deep.storage.table import Columns, Series
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.files import ENGINE, prepare_file, replace_file

if TYPE_CHECKING:
    import xarray as xr

RECORDED = (
    *("time", "loss", "trace_z", "m_o_z", "std_z", "rank_z", "rank_p", "asymmetry", "predictor_negative"),
    *("m_r_z", "covariance_z", "correlation_z"),
    *("eigenvalues", "predictor_spectrum", "alignment"),
)
"""Of which quantities the record of a suite keeps every measurement."""
EVALUATIONS = "evaluations"
"""What the file calls the series of evaluations, a group of its own: they have other steps."""
EVALUATED = (*("knn", "rms", "collapse_auc", "rankme", "variance_effective_rank"), "participation_ratio", "sigma")
"""Of which numbers of evaluations it keeps every one."""
BITS = 10
"""Of a number's mantissa that are kept, about three figures; what is zero in every number takes no room."""
FINER = {"m_o_z": 20}
"""More of them where a claim needs the difference from 1, which a collapse makes small."""


def over_steps(columns: Columns, names: Iterable[str]) -> "xr.Dataset":
    """Quantities of a run by name: a number over `step`, a row of numbers over `step` and `mode`, 1 … its length.

    `python -m deep quantities` lists them. NaN where a step lacks one; KeyError for what the run has not measured.
    """
    import xarray as xr

    def one(name):
        if name not in columns.arrays:
            return xr.DataArray(columns.scalars[name], {"step": columns.step}, ("step",))
        step, values = columns.arrays[name]
        modes = np.arange(1, values.shape[1] + 1)
        return xr.DataArray(values.astype(np.float32), {"step": step, "mode": modes}, ("step", "mode"))

    return xr.merge([one(name).drop_duplicates("step").rename(name) for name in names], join="outer")


def write(path: Path, runs: Mapping[str, Columns], evaluations: Mapping[str, Columns] | None = None) -> Path:
    """Write the series of runs, by key, as NetCDF with the dimensions run, step and mode; of their evaluations too.

    Raises ValueError where it cannot be written.
    """
    parts = {None: _dataset(runs, RECORDED)}
    parts |= {EVALUATIONS: _dataset(evaluations, EVALUATED)} if evaluations else {}

    def put(draft: Path) -> None:
        for mode, (group, dataset) in zip("wa", parts.items()):
            packed = {name: {"zlib": True, "complevel": 9, "shuffle": True} for name in dataset}
            dataset.to_netcdf(draft, mode, group=group, engine=ENGINE, encoding=packed)

    target = prepare_file(path, ".nc")
    replace_file(target, put)
    return target


def _dataset(runs: Mapping[str, Columns], names: Iterable[str]) -> "xr.Dataset":
    """Those of `names` that the runs have, rounded, over run, step and mode."""
    import xarray as xr

    def there(columns: Columns) -> list[str]:
        return [name for name in names if name in columns.scalars or name in columns.arrays]

    every = [over_steps(columns, there(columns)) for columns in runs.values()]
    dims = {name: one[name].dims for one in every for name in one}
    whole = [one.assign({name: _nothing(one, of) for name, of in dims.items() if name not in one}) for one in every]
    return xr.concat(whole, xr.Variable("run", list(runs)), join="outer").map(_rounded)


def read(path: Path, group: str | None = None) -> dict[str, Columns]:
    """The series of runs by key, or of a group of the file; none where there is no file, or no such group.

    Raises ValueError where it cannot be read.
    """
    import h5py  # xarray takes several times as long to read what is here

    if not path.is_file():
        return {}
    try:
        with h5py.File(path) as file:
            if group is not None and group not in file:
                return {}
            found = {name: v for name, v in file[group or "/"].items() if isinstance(v, h5py.Dataset)}
            keys, steps = found.pop("run").asstr()[...], found.pop("step")[...]
            values = {name: v[...] for name, v in found.items() if name != "mode"}
        if any(v.shape[:2] != (len(keys), len(steps)) for v in values.values()):
            raise ValueError("its quantities are not over run and step")
        return {key: _columns(steps, {name: v[k] for name, v in values.items()}) for k, key in enumerate(keys)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path} cannot be read as the series of runs ({error}); restore it, or remove it") from None


def _nothing(one: "xr.Dataset", dims: tuple[str, ...]) -> tuple[tuple[str, ...], np.ndarray]:
    return dims, np.full([one.sizes[dim] for dim in dims], np.nan)


def _rounded(values: "xr.DataArray") -> "xr.DataArray":
    mantissa, exponent = np.frexp(values.values.astype(np.float32))
    scale = np.float32(2 ** FINER.get(values.name, BITS))
    return values.copy(data=np.ldexp(np.round(mantissa * scale) / scale, exponent))


def _columns(step: np.ndarray, values: dict[str, np.ndarray]) -> Columns:
    """One run's: quantities over step, or over step and mode, without the steps and modes at which it has none."""
    there = {name: ~np.isnan(v) for name, v in values.items()}
    measured = np.any([has if has.ndim == 1 else has.any(1) for has in there.values()], axis=0)
    scalars = {name: v[measured].astype(float) for name, v in values.items() if v.ndim == 1 and there[name].any()}
    arrays = {
        name: Series(step[has.any(1)], values[name][has.any(1)][:, has.any(0)])
        for name, has in there.items()
        if has.ndim == 2 and has.any()
    }
    return Columns(step[measured], scalars, arrays)

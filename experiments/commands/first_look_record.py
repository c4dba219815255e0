"""The record of a first look: what the runs' folders hold, as one small JSON file of columns without a weight."""

import json
import os
import re
from pathlib import Path

import numpy as np
import torch

from stopgrad.deep.config import Config, to_json
from stopgrad.deep.data import data_order, datasets
from stopgrad.deep.data.image_files import image_paths
from stopgrad.deep.presets import SIMSIAM_CIFAR10, changes
from stopgrad.deep.storage.provenance import provenance
from stopgrad.deep.storage.run_folder import CONFIG, SUMMARY
from stopgrad.deep.storage.table import Columns, read
from stopgrad.deep.training.distributed import World
from stopgrad.linear_theory.tools.door import dumps
from stopgrad.linear_theory.tools.errors import BadInput

MODES = 8
"""Modes of F that are recorded. The first is mostly the mean direction, and its alignment proves nothing."""
SPECTRA = {"eigenvalues": ("eigenvalue", 1), "alignment": ("alignment", 2), "predictor_spectrum": ("predictor", 1)}
"""A run's arrays: what their columns are called here, and the first mode of which there is one."""
SPREAD = 50
"""Measurements that are recorded, evenly spread over a run; as many again lie closer the earlier they are."""
SCALARS = (
    *("loss", "lr", "cosine_prediction", "cosine_views", "rank_z", "rank_p", "participation_z", "std_z", "std_p"),
    *("m_o_z", "m_o_p", "trace_z", "misalignment", "asymmetry", "balance_residual", "time", "seconds"),
)
EVALUATED = ("epoch", "knn", "collapse_auc", "rankme", "stable_rank", "participation_ratio", "alpha_req")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def opening(configs: dict[str, Config], why: dict[str, str], dataset: datasets.Dataset, world: World) -> dict:
    """What is known of a record before anything is trained: all that its numbers depend on.

    `configs`, and why each is what it is, by name; all of them have the same data.
    """
    return {
        "title": "A first look: SimSiam's recipe with a linear predictor and with its own",
        "state": "unfinished",
        "scale": scale(next(iter(configs.values())).data.data_folder, dataset),
        "training_images": len(dataset.train.labels),
        "test_images": len(dataset.test.labels),
        "provenance": provenance(world, *configs.values())
        | {"cuda": torch.version.cuda if world.device.type == "cuda" else None},
        "recipes": {
            name: {
                "why": why[name],
                "differs_from_simsiam_cifar10": _without_folder(changes(config, SIMSIAM_CIFAR10)),
                "config": _public(config),
            }
            for name, config in configs.items()
        },
    }


def scale(folder: str, dataset: datasets.Dataset) -> str:
    """What the images are, in words that go with every number measured on them."""
    counts = len(dataset.train.labels), len(dataset.test.labels)
    if (dataset.classes, dataset.size, counts) != (CIFAR10, 32, (50_000, 10_000)):
        return f"{counts[0]} + {counts[1]} images of {dataset.size} pixels in {len(dataset.classes)} classes"
    first = image_paths(Path(os.path.expanduser(folder)) / "train")[0]
    return "CIFAR-10 (JPEG copy)" if first.lower().endswith((".jpg", ".jpeg")) else "CIFAR-10"


def recorded(folder: Path, config: Config, images: int) -> dict:
    """What the run in `folder` has come to so far, in numbers of about five digits."""
    table, evaluations = read(folder), read(folder / "evaluations")
    steps = data_order.steps_per_epoch(images, config.optimisation.batch_size)
    summary = json.loads((folder / SUMMARY).read_text()) if (folder / SUMMARY).is_file() else {}
    begun = (folder / CONFIG).is_file()
    done = summary.get("steps", int(table.step[-1]) if len(table.step) else 0)
    told = {name: summary.get(name) for name in ("diagnosis", "explanation", "warnings", "seconds")}
    found = {
        "state": summary.get("state", "unfinished" if begun else "not begun"),
        "epochs_done": done / steps,
        "steps_per_epoch": steps,
        **told,
        "knn_of_pixels": summary.get("knn", {}).get("pixels"),
        "probe": summary.get("probe"),
        "speed": speed(table, config, steps),
        "evaluations": columns(evaluations, EVALUATED, np.arange(len(evaluations.step))),
        "over_time": over_time(table, steps),
    }
    return _rounded(found)


def speed(table: Columns, config: Config, steps: int) -> dict:
    """Images a second (each gives two views) and seconds an epoch, the monitor's work included.

    The median over the stretches between measurements within an epoch leaves evaluation, checkpoints and compilation
    out; `seconds_per_epoch_all_told` has them in, from the first measurement to the last. Empty before there are two.
    """
    if len(table.step) < 2:
        return {}
    moved, took = np.diff(table.step), np.diff(table.scalars["seconds"])
    within = (np.diff(table.scalars["epoch"]) == 0) & (took > 0)
    if not within.any():
        return {}
    rate = float(np.median(moved[within] / took[within]))
    return {
        "images_per_second": rate * config.optimisation.batch_size,
        "seconds_per_epoch": steps / rate,
        "seconds_per_epoch_all_told": float(took.sum() / moved.sum() * steps),
    }


def over_time(table: Columns, steps: int) -> dict[str, list]:
    """Columns of a run's measurements, some of them: `SPREAD` evenly spread, others closer the earlier.

    Where spectra are not taken at every measurement, those that have them are chosen from in the same way. Modes are
    those of F, the largest first: alignment_2 … is cos(u_j, W_p u_j), predictor_1 … u_jᵀW_p u_j.
    """
    rows = _spread(np.arange(len(table.step)))
    if "rank_z" in table.scalars:
        rows = np.union1d(rows, _spread(np.flatnonzero(np.isfinite(table.scalars["rank_z"]))))
    found = columns(table, SCALARS, rows)
    found["epoch"] = (table.step[rows] / steps).tolist()
    for name, (label, first) in SPECTRA.items():
        if name in table.arrays:
            at, values = table.arrays[name]
            places = np.minimum(np.searchsorted(at, table.step[rows]), len(at) - 1)
            there = at[places] == table.step[rows]
            for mode in range(first, min(MODES, values.shape[1]) + 1):
                found[f"{label}_{mode}"] = np.where(there, values[places, mode - 1], np.nan).tolist()
    return found


def columns(table: Columns, names, rows: np.ndarray) -> dict[str, list]:
    """The table's `step` and those of its scalars that are there, at some rows."""
    return {"step": table.step[rows].tolist()} | {
        name: table.scalars[name][rows].tolist() for name in names if name in table.scalars
    }


def _spread(rows: np.ndarray) -> np.ndarray:
    if not len(rows):
        return rows.astype(int)
    last = len(rows) - 1
    places = np.concatenate([np.linspace(0, last, SPREAD), np.geomspace(1, last + 1, SPREAD) - 1])
    return rows[np.unique(np.rint(places).astype(int))]


def compact(record: dict) -> str:
    """The record as JSON that a person can read, one line a column; NaN is null."""

    def one_line(found: re.Match) -> str:
        return re.sub(r",\n\s*", ", ", found[0]).replace("\n", "").replace("[ ", "[").replace(" ]", "]")

    text = json.dumps(json.loads(dumps(record)), indent=0, ensure_ascii=False)
    return re.sub(r"\[\n[^\[\]{}]*\]", one_line, text) + "\n"


def _rounded(value):
    if isinstance(value, dict):
        return {name: _rounded(v) for name, v in value.items()}
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def refuse_another(path: Path, record: dict) -> None:
    """Raises ValueError where the record at `path` is of another first look: it is not to be lost, nor mixed with."""
    if not path.is_file():
        return
    try:
        before = _identity(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadInput(f"{path} is no record of a first look; name another --out, or remove it") from None
    now = _identity(json.loads(compact(record)))
    for name in now:
        if now[name] != before[name]:
            raise BadInput(f"{path} records a first look with another {name}; name another --out, or remove it")


def _identity(record: dict) -> dict:
    origin = record["provenance"]
    return {
        "scale": record["scale"],
        "hardware": origin["hardware"],
        "version of the code or of its numerics": origin["fingerprint"],
        "config": {name: recipe["config"] for name, recipe in record["recipes"].items()},
    }


def _public(config: Config) -> dict:
    """The config, but for the folder: where the images were is nobody's business, what they are is in the scale."""
    fields = json.loads(to_json(config))
    return fields | {"data": _without_folder(fields["data"])}


def _without_folder(fields: dict) -> dict:
    return {name: value for name, value in fields.items() if name != "data_folder"}

"""What forecasts are made of: a run's metrics and accuracies, read from folders, records and suites."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from stopgrad.deep.config import from_json, to_json
from stopgrad.deep.storage import run_folder
from stopgrad.experiments.forecasting.metrics import METRICS, TARGETS
from stopgrad.experiments.papers import suite
from stopgrad.experiments.store import evidence
from stopgrad.experiments.store.store import Record, Store
from stopgrad.experiments.suites.grid import SCALES
from stopgrad.linear_theory.tools.errors import BadInput


def find(names: Sequence[str], root: Path) -> list[Record]:
    """The finished runs that `names` stand for, each once.

    A name is the folder of a run, a record of a suite's runs (.json), or PAPER:SCALE, the runs of that suite in the
    store `root` and, behind it, in its record. Raises BadInput for what is none of these, and for runs that diverged.
    """
    found = {record.key: record for name in names for record in _of(name, root)}
    return list(found.values())


def _of(name: str, root: Path) -> list[Record]:
    paper, _, scale = name.rpartition(":")
    if paper and scale in SCALES and not Path(name).exists():
        whole = suite(paper, scale)
        kept = evidence.backed(Store(root), whole)
        runs = [run for *_, config in whole.configs() if (run := kept.find(config))]
        if not runs:
            raise BadInput(
                f"no run of {paper} at scale {scale} is finished or recorded; carry them out, or give folders"
            )
    elif name.endswith(".json"):
        if not (runs := evidence.read(Path(name))):
            raise BadInput(f"there is no record {name}")
    else:
        runs = [of_folder(Path(name))]
    return [run for run in runs if run.summary["state"] == "finished"]


def of_folder(folder: Path) -> Record:
    """The finished run in a folder. Raises BadInput where there is none, or its config cannot be read."""
    summary = run_folder.whole_summary(folder) if folder.is_dir() else None
    if summary is None:
        raise BadInput(
            f"there is no finished run in {folder}; name folders of runs, a record (.json), or PAPER:SCALE, "
            f"the scale being one of {', '.join(SCALES)}"
        )
    try:
        config = from_json(json.dumps(summary["config"]))
    except (ValueError, TypeError) as error:
        raise BadInput(f"the config of the run in {folder} cannot be read ({error})") from None
    return Record(folder.name, folder, config, summary)


def table(records: Sequence[Record], target: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """({metric: (n,)}, target (n,)), NaN where a run lacks one.

    Raises BadInput for another target and where no run has it.
    """
    if target not in TARGETS:
        raise BadInput(f"--targets is {target!r}; it must be one of {', '.join(TARGETS)}")
    values = np.array([TARGETS[target](record) for record in records], dtype=float)
    if records and np.isnan(values).all():
        raise BadInput(
            f"none of the {len(records)} runs has a {target} accuracy; train on a set with classes"
            + (", with --probe logistic, or give --targets knn" if target == "probe" else "")
        )
    return {name: np.array([read(record) for record in records]) for name, read in METRICS.items()}, values


def setting(record: Record) -> str:
    """What runs that differ in the seed alone have in common."""
    return to_json(replace(record.config, seed=0))


def in_words(record: Record) -> str:
    """The folder or key of a run, with its seed."""
    return f"{record.folder if record.recorded is None else record.key}, seed {record.config.seed}"

"""`python -m experiments fingerprints`: whether tiny runs and the theory come out as before, to the last bit.

For whoever moves code about: record before, compare after. Bits are those of one machine and one set of versions.
"""

import hashlib
import json
import platform
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.progress import track

from stopgrad.deep.config import Config, Data, Method, Monitor, Optimisation
from stopgrad.experiments import ledger
from stopgrad.experiments.papers import chosen
from stopgrad.experiments.store.store import Store
from stopgrad.experiments.suites.grid import change
from stopgrad.linear_theory.tools.door import Command, dumps
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.files import prepare_file, replace_file

TINY = Config(
    Data(fraction=0.05, image_size=8),
    Method.of(width=2, projector_hidden=16, embedding_dim=8),
    Optimisation(epochs=2, batch_size=16),
    Monitor(monitor_every=1, evaluate_every=1, knn_images=32, probe="none"),
)
CASES = {
    "linear": {"predictor_bias": True},
    "no stop-gradient": {"stop_gradient": "none", "loss": "squared", "loss_scale": 2.0, "predictor_lr": 0.1},
    "mirrored": {"stop_gradient": "mirrored", "symmetric_loss": False},
    "mlp": {"predictor": "mlp", "predictor_hidden": 4, "predictor_schedule": "constant", "warmup_epochs": 0.5},
    "symmetric": {"predictor": "symmetric", "target": "ema", "ema_momentum": 0.9},
    "no predictor": {"predictor": "identity", "projector_layers": 3, "projector_output_bn": "affine"},
    "fixed": {"predictor": "fixed", "predictor_hidden": 4, "projector_output_bn": "affine_free"},
    "bias": {"predictor": "bias"},
    "directpred": {"predictor": "directpred", "predictor_freq": 2, "predictor_cutoff": 0.1},
    "directset": {"predictor": "directset", "predictor_alpha": 0.5, "predictor_normalisation": "frobenius"},
    "optimal": {"predictor": "optimal", "target": "ema"},
    "tied": {"predictor": "symmetric_mlp", "predictor_hidden": 4, "loss": "cross_entropy"},
    "alternating": {"target": "alternating", "predictor": "mlp", "predictor_hidden": 4},
    "symmetric target": {"target": "symmetric", "predictor": "mlp", "predictor_hidden": 4},
    "inverse": {"target": "inverse", "predictor": "mlp", "predictor_hidden": 4},
    "fresh views": {"target": "fresh_views", "target_views": 2, "predictor": "identity"},
    "moving average": {"target": "moving_average", "predictor": "identity"},
    "isoloss": {"predictor": "directcopy", "isoloss": True, "loss": "squared", "precision": "float64"},
    "components": {"objective": "components", "keep": "centre", "predictor": "mlp", "predictor_hidden": 4},
    "direction": {"objective": "direction", "toward": "residual"},
    "infonce": {"objective": "infonce", "temperature": 0.5, "predictor": "identity"},
    "triplet": {"objective": "triplet", "keep": "centre", "predictor": "identity"},
    "decorrelation": {"objective": "decorrelation", "form": "correlation"},
    "schedule": {
        "objective": "schedule",
        "phases": ("direction toward=random@3", "predictive@3"),
        "repeat": True,
        "target": "ema",
    },
    "accumulation": {"accumulation": 2},
    "streamed": {"dataset": "imagefolder", "fraction": 1.0, "storage": "stream", "workers": 0},
    "layer": {"dataset": "gaussian", "fraction": 1.0, "batch_size": 512, "backbone": "identity", "projector_layers": 1},
}
"""What each run changes in TINY; every predictor, target, objective, loss and stop-gradient is in one of them."""


@dataclass(frozen=True)
class Fingerprints(Command):
    """Say what no longer comes out as recorded, to the last bit: tiny runs of every method, and the theory's claims.

    Exit status 1 where anything differs; where that is the machine or a version, nothing is compared.
    """

    against: Path | None = None
    """The record to compare with, made on this machine by --record."""
    record: Path | None = None
    """Write a record, FILE.json, instead."""
    json: bool = False

    def run(self) -> dict:
        """What differs. Raises ValueError unless one file is named, for one that is no record or cannot be written."""
        if (self.against is None) == (self.record is None):
            raise BadInput("give --record FILE to make a record, or --against FILE to compare with one")
        path, before = self.record and prepare_file(self.record, ".json"), self.against and _read(self.against)
        now = {"machine": machine()}
        if before and before["machine"] != now["machine"]:
            return {"values": 0, "changed": differing({"machine": before["machine"]}, now)}
        now |= computed()
        if path:
            replace_file(path, lambda draft: draft.write_text(dumps(now) + "\n", encoding="utf-8"))
        return {"values": sum(map(len, now.values())), "changed": differing(before, now) if before else {}}

    def text(self, result: dict) -> str:
        changed = [f"{name}: {', '.join(quantities)}" for name, quantities in result["changed"].items()]
        if not result["values"]:
            return f"not compared, since it would mean nothing: recorded with another {changed[0]}"
        said = f"recorded in {self.record}" if self.record else f"compared; {'these' if changed else 'none'} differ"
        return "\n".join([f"{result['values']} values {said}", *changed])

    def status(self, result: dict) -> int:
        return int(bool(result["changed"]))


def machine() -> dict[str, str]:
    """What bits depend on beside the project's code: hardware, instruction set, compiler and versions."""
    import torch

    from stopgrad.deep.storage.provenance import NUMERICS, cpu_name, instructions
    from stopgrad.linear_theory.simulation.kernel import compiler

    here = {"hardware": cpu_name(), "instructions": instructions(torch.device("cpu")), "compiler": f"{compiler()}"}
    return here | {"python": platform.python_version()} | {name: version(name) for name in NUMERICS}


def computed() -> dict[str, dict[str, str]]:
    """{case: {what comes out: its bits, as a digest or in hexadecimal}}, computed here and now by one thread."""
    from threadpoolctl import threadpool_limits

    from stopgrad.deep.training.runs import joined

    with tempfile.TemporaryDirectory() as name, joined("cpu") as world, threadpool_limits(1):
        folder, images = Path(name), Path(name, "images")
        _write_images(images)
        configs = {case: change(TINY, data_folder=f"{images}", **values) for case, values in CASES.items()}
        cases = track(configs, "", console=Console(stderr=True), transient=True)
        found = {case: _of_run(configs[case], folder / case, world) for case in cases}
        papers = [paper.key for paper in chosen(having="claims")]
        rows = [row for paper in papers for row in ledger.theory_rows(paper, Store(folder / "none")).values()]
    exact = {row["id"]: " ".join([row["verdict"], *(float(v).hex() for v in row["ci"] or ())]) for row in rows}
    return found | {"theory": exact}


def _of_run(config: Config, folder: Path, world) -> dict[str, str]:
    """A run's end, weights (by their bits, however modules are called), F of a set predictor, and tables."""
    from stopgrad.deep.storage import checkpoint, table
    from stopgrad.deep.training.runs import Place, execute

    found = {"state": execute(config, Place(folder, quiet=True, picture=False), world)["state"]}
    tensors = checkpoint.load_latest(folder).payload["siamese"]
    bits = {name: tensor.contiguous().numpy().tobytes() for name, tensor in tensors.items()}
    F = [bits.pop(name) for name in tensors if name.endswith("moments")]
    found |= {"F": _digest(*F), "weights": _digest(*sorted(bits.values()))}
    for prefix, columns in ("", table.read(folder)), ("evaluated ", table.read(folder / "evaluations")):
        found |= {prefix + name: _digest(columns.step, values) for name, values in columns.scalars.items()}
        found |= {prefix + name: _digest(*series) for name, series in columns.arrays.items()}
    return {name: value for name, value in found.items() if table.WALL_CLOCK not in name}


def _write_images(folder: Path) -> None:
    """A tiny folder of images, the same each time: two classes, for training and for testing."""
    import numpy as np
    from PIL import Image

    for k in range(64):
        path = folder / ("train", "val")[k % 2] / f"class {k // 2 % 2}" / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(k).integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(path)


def _digest(*parts) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def differing(before: dict, now: dict) -> dict[str, list[str]]:
    """{case: what is not the same in it, is new or is missing}, for the cases where anything is."""
    found = {case: dict(before.get(case, {}).items() ^ now.get(case, {}).items()) for case in {**before, **now}}
    return {case: sorted(names) for case, names in found.items() if names}


def _read(path: Path) -> dict:
    try:
        record = {case: dict(found) for case, found in json.loads(path.read_text(encoding="utf-8")).items()}
        return {"machine": record.pop("machine"), **record}
    except (ValueError, LookupError, TypeError, AttributeError):
        raise BadInput(f"{path} is no record of fingerprints; make one with --record") from None

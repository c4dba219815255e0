"""A first look at real training on an accelerator: two recipes on CIFAR-10, recorded as small tables.

Each recipe is a run of `deep` in a folder of its own. The record, one JSON file of columns, is read off those folders
and written anew every half minute; weights stay where they are. When --minutes are over the run at hand keeps its
state and leaves, and the same command goes on with it.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from stopgrad.deep.config import Config, Monitor, check
from stopgrad.deep.presets import SIMSIAM_CIFAR10
from stopgrad.deep.storage.run_folder import default_folder
from stopgrad.deep.training.stopping import Told, signals_raise
from stopgrad.linear_theory.tools.door import Command
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.files import prepare_file, replace_file

if TYPE_CHECKING:
    from stopgrad.deep.training.distributed import World

RECORDED, REHEARSED = Path("experiments/results/first_look.json"), Path("out/first_look/rehearsal.json")
EPOCHS, TOY_EPOCHS = 100, 3
EVERY = 30.0
"""Seconds between two writings of the record."""


class Recipe(NamedTuple):
    """A config and why it is what it is."""

    config: Config
    why: str


# The spectra of 2048 dimensions are taken at evaluations only, and there only where a measurement is due: 5 divides the
# 97 · 5 steps between two of them.
_SIMSIAM = replace(SIMSIAM_CIFAR10, monitor=Monitor(monitor_every=5, evaluate_every=5))
RECIPES = {
    "linear-predictor": Recipe(
        replace(
            _SIMSIAM,
            method=replace(
                _SIMSIAM.method,
                projector_output_bn="none",
                embedding_dim=128,
                predictor="linear",
                predictor_bias=False,
            ),
            monitor=Monitor(monitor_every=20, evaluate_every=5),
        ),
        "SimSiam's recipe with the theory's heads: a linear predictor without bias, no output BatchNorm, which would "
        "fix the diagonal of F and hide its spectrum; d = 128 as in Tian et al. 2021, with full spectra throughout",
    ),
    "simsiam": Recipe(
        _SIMSIAM, "Chen & He 2021, Appendix D, for fewer epochs; its MLP predictor is no matrix and has no alignment"
    ),
}


@dataclass(frozen=True)
class FirstLook(Command):
    """Train ResNet-18 on CIFAR-10 with a linear predictor and with SimSiam's, and record a small table of each."""

    data_folder: Path | None = None
    """An imagefolder of CIFAR-10: train/CLASS/… and val/CLASS/… (or test/)."""
    epochs: int | None = None
    """Epochs of each recipe; None: 100, and 3 of a rehearsal."""
    minutes: float | None = None
    """Stop after so long, to be continued by the same command; None: when all is done."""
    seed: int = 0
    """Decides initialisation, order and views."""
    out: Path | None = None
    """The record; None: experiments/results/first_look.json, and of a rehearsal out/first_look/rehearsal.json."""
    runs: Path = Path("out/first_look")
    """Folder for the runs themselves: checkpoints, tables, pictures."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA, without which only a rehearsal is of use."""
    compile: bool = False
    """Fuse the backbone with torch.compile."""
    rehearse: bool = False
    """Go through all of it in toy size, on images made for the purpose; on a CPU this takes less than a minute."""
    quiet: bool = False
    """No live view on standard error."""
    json: bool = False
    """Print the record."""

    def run(self) -> dict:
        """Train what is not yet trained, and return the record. Raises ValueError for what cannot be done."""
        from stopgrad.deep.training.runs import joined

        end = time.monotonic() + 60 * (np.inf if self.minutes is None else self.minutes)
        if self.minutes is not None and not self.minutes > 0:
            raise BadInput(f"--minutes is {self.minutes:g}; it must be above 0")
        if self.rehearse == (self.data_folder is not None):
            raise BadInput("give either --data-folder, an imagefolder of CIFAR-10, or --rehearse, which makes one")
        with joined(self.device) as world:
            if world.size > 1:
                raise BadInput("a first look is one process's work; start it without torchrun")
            if world.device.type == "cpu" and self.device == "auto" and not self.rehearse:
                raise BadInput("there is no CUDA device and a CPU takes days; --rehearse, or insist with --device cpu")
            return self._look(world, end)

    def _look(self, world: "World", end: float) -> dict:
        from stopgrad.deep.data import datasets
        from stopgrad.experiments.commands.first_look_record import compact, opening, recorded, refuse_another

        path = prepare_file(self.out or (REHEARSED if self.rehearse else RECORDED), ".json")
        configs = self.configs()
        folders = {name: self.runs / default_folder(config).name for name, config in configs.items()}
        dataset = datasets.load(configs["simsiam"].data, self.seed)
        why = {name: recipe.why for name, recipe in RECIPES.items()}
        record = opening(configs, why, dataset, world)
        refuse_another(path, record)

        def write(**ended) -> dict:
            recipes = {
                name: about | recorded(folders[name], configs[name], len(dataset.train.labels))
                for name, about in record["recipes"].items()
            }
            whole = record | {"recipes": recipes} | ended
            text = compact(whole)  # a name that is no UTF-8 is written as JSON's own escape
            replace_file(path, lambda draft: draft.write_text(text, encoding="utf-8", errors="backslashreplace"))
            return whole

        write()
        number: int | None = None
        try:
            with stopping(end, write):
                number = self._carry_out(configs, folders, world)
        except Told as told:
            number = told.number
        finally:
            whole = write(state="finished" if number == 0 else "unfinished")
        return whole | {"signal": int(number), "record": str(path)}

    def configs(self) -> dict[str, Config]:
        """The recipes as this command wants them, by name. Raises ValueError for an impossible field."""
        epochs = (TOY_EPOCHS if self.rehearse else EPOCHS) if self.epochs is None else self.epochs
        if epochs < 1:
            raise BadInput(f"--epochs is {epochs}; it must be at least 1")
        folder = toy_images(self.runs / "toy_images") if self.rehearse else self.data_folder

        def fit(config: Config) -> Config:
            config = toy(config) if self.rehearse else config
            data = replace(config.data, dataset="imagefolder", data_folder=str(folder))
            optimisation = replace(config.optimisation, epochs=epochs, compile=self.compile)
            return check(replace(config, data=data, optimisation=optimisation, seed=self.seed))

        return {name: fit(recipe.config) for name, recipe in RECIPES.items()}

    def _carry_out(self, configs: dict[str, Config], folders: dict[str, Path], world: "World") -> int:
        """Train one recipe after the other, or go on with them; the signal that ended it, 0 where none did."""
        from stopgrad.deep.training.runs import Place, execute

        for name, config in configs.items():
            place = Place(folders[name], resume=True, quiet=self.quiet)
            result = execute(config, place, world, preset_name="simsiam-cifar10")
            if result["state"] == "stopped":
                return result["signal"]
        return 0

    def text(self, result: dict) -> str:
        """A few lines a recipe, and where the record is."""
        lines = [f"{result['scale']}, {result['provenance']['hardware']}: {result['state']}"]
        for name, found in result["recipes"].items():
            lines += ["", f"{name}: {found['state']}, {found['epochs_done']:.4g} epochs", *_lines(found)]
        again = "; the same command goes on" if result["signal"] else ""
        return "\n".join([*lines, "", f"record: {result['record']}{again}"])

    def status(self, result: dict) -> int:
        """0; 128 + the signal where it stopped, 1 where a run diverged."""
        if result["signal"]:
            return 128 + result["signal"]
        return int(any(found["state"] == "diverged" for found in result["recipes"].values()))


# ---------------------------------------------------------------- stopping in time


@contextmanager
def stopping(end: float, write: Callable[[], object], every: float = EVERY) -> Iterator[None]:
    """Within the block `write()` is called every so many seconds, and SIGTERM is sent at `end` (of time.monotonic()).

    A run in training takes that as its order to keep its state and leave; elsewhere it, and
    any other signal that tells a run to stop, raises Told.
    """
    left = threading.Event()

    def watch():
        over = False
        while not left.wait(every if over else max(0.0, min(every, end - time.monotonic()))):
            if not over and time.monotonic() >= end:
                over = True
                os.kill(os.getpid(), signal.SIGTERM)
            with suppress(Exception):  # a table may be cut just now; what is wrong in earnest the last writing raises
                write()

    watcher = threading.Thread(target=watch, daemon=True)
    with signals_raise():
        try:
            watcher.start()
            yield
        finally:
            left.set()
            watcher.join()


# ---------------------------------------------------------------- what is said of it


def _lines(found: dict) -> list[str]:
    """A recipe's numbers, first and last."""
    evaluated, measured, speed_ = found["evaluations"], found["over_time"], found["speed"]
    names = ("loss", "rank_z", "alignment_2", "alignment_3", "alignment_4")
    pairs = [("kNN accuracy", evaluated.get("knn")), *((name, measured.get(name)) for name in names)]
    lines = [f"  {name}: {first_last(values)}" for name, values in pairs if values]
    if speed_:
        lines.append(f"  {speed_['images_per_second']:.4g} images/s, {speed_['seconds_per_epoch']:.3g} s an epoch")
    return [*lines, *([f"  {found['diagnosis']}"] if found["diagnosis"] else [])]


def first_last(values: list) -> str:
    """'first → last' of a column, of those that are numbers."""
    known = [v for v in values if v is not None and v == v]
    return f"{known[0]:.4g} → {known[-1]:.4g}" if known else "unknown"


# ---------------------------------------------------------------- the rehearsal


def toy(config: Config) -> Config:
    """The recipe in toy size: what a CPU does in seconds."""
    return replace(
        config,
        data=replace(config.data, workers=0),
        method=replace(config.method, width=4, projector_hidden=32, embedding_dim=16, predictor_hidden=8),
        optimisation=replace(config.optimisation, batch_size=32),
        monitor=replace(config.monitor, monitor_every=2, evaluate_every=1),
    )


def toy_images(folder: Path) -> Path:
    """Make an imagefolder of coloured stripes, 128 images to train on and 64 to test, in 4 classes by direction."""
    from PIL import Image

    draw = np.random.default_rng(0)
    y, x = np.mgrid[:16, :16] / 16
    for part, count in (("train", 128), ("test", 64)):
        for k in range(count):
            angle = k % 4 * np.pi / 4
            wave = np.sin(2 * np.pi * (2 * (x * np.cos(angle) + y * np.sin(angle)) + draw.random()))
            image = 128 + 90 * wave[..., None] * draw.uniform(-1, 1, 3) + draw.normal(0, 10, (16, 16, 3))
            path = folder / part / f"direction{k % 4}" / f"{k:03d}.jpg"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                picture = Image.fromarray(image.clip(0, 255).astype(np.uint8))
                replace_file(path, lambda draft, picture=picture: picture.save(draft, quality=90))
    return folder

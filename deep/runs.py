"""A run from its config to its folder: assembled, trained or resumed, evaluated, summed up.

The folder holds `config.json`, the table of measurements (`metrics.jsonl` and raw arrays), `evaluations/`, checkpoints,
and at the end `summary.json`, `run.png` and `backbone.pt`. Which folder that is, unless one is named, follows from
the config, the code that computes and the versions of the numerics: another result never comes out of an old folder.
"""

import copy
import functools
import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from deep import checkpoint, data_order, datasets, views
from deep.build import build
from deep.conclusion import SUMMARY, conclude, evaluate_now, evaluation_parts, probe
from deep.config import Config, check, from_json, to_json
from deep.distributed import World, join, leave
from deep.evaluation import pixel_knn
from deep.expectation import expectation, measure_noise
from deep.live import View
from deep.optimisation import base_rates, make_optimiser
from deep.presets import changes, words
from deep.presets import preset as named_preset
from deep.provenance import fingerprint
from deep.recorder import Recorder, Stop
from deep.references import reference
from deep.siamese import Siamese
from deep.training import Plan, Run, train
from linear_theory.files import replace_file


@dataclass(frozen=True)
class Place:
    """Where and how a run is carried out."""

    folder: Path | None = None
    resume: bool = False
    device: str = "auto"
    quiet: bool = False


# ---------------------------------------------------------------- folders


def default_folder(config: Config) -> Path:
    """runs/NAME-HASH, the hash being that of config, code and versions."""
    key = hashlib.sha256((to_json(config) + fingerprint()).encode()).hexdigest()
    return Path("runs") / f"{config.data.dataset}-{config.method.predictor}-seed{config.seed}-{key[:10]}"


def read_summary(folder: Path) -> dict:
    """The summary of a finished run. Raises ValueError where there is none."""
    path = Path(folder) / SUMMARY
    if not path.is_file():
        unfinished = (Path(folder) / "config.json").is_file()
        raise ValueError(
            f"{folder} holds an unfinished run; `python -m deep train --out {folder} --resume` goes on with it"
            if unfinished
            else f"{folder} holds no run"
        )
    return json.loads(path.read_text())


# ---------------------------------------------------------------- a run


def execute(config: Config, place: Place, preset_name: str = "default") -> dict:
    """Carry out a run, or go on with it; a finished one is read, not repeated. Returns its summary.

    Raises ValueError for an impossible config, data that are not there, or a folder that cannot serve.
    """
    check(config)
    folder = default_folder(config) if place.folder is None else Path(place.folder)
    if (folder / SUMMARY).is_file():
        return _finished(folder, config)
    world = join(place.device)
    try:
        if not world.writes:
            return _carry_out(config, folder, world, place, preset_name)
        with checkpoint.lock(folder):
            if (folder / "config.json").is_file() and not place.resume:
                raise ValueError(f"{folder} holds an unfinished run; go on with --resume, or name another --out")
            return _carry_out(config, folder, world, place, preset_name)
    finally:
        leave()


def _finished(folder: Path, config: Config) -> dict:
    summary = read_summary(folder)
    difference = checkpoint.first_difference((folder / "config.json").read_text(), to_json(config))
    if difference:
        raise ValueError(f"{folder} holds another, finished run: {difference}; name another --out")
    if summary["provenance"]["fingerprint"] != fingerprint():
        raise ValueError(f"{folder} was computed by other code or versions; name another --out, or remove it")
    return summary | {"repeated": False}


def _carry_out(config: Config, folder: Path, world: World, place: Place, preset_name: str) -> dict:
    began, o = time.monotonic(), config.optimisation
    dataset = datasets.load(config.data, config.seed, world.device)
    plan = Plan(o, data_order.steps_per_epoch(len(dataset.train.labels), o.batch_size), config.method.loss_scale)
    siamese = build(config, dataset, world)
    optimiser = make_optimiser(siamese, o)
    pairs = training_views(config, dataset, world, next(siamese.parameters()).dtype)
    parts = evaluation_parts(config, dataset, world.device)
    title = f"{config.data.dataset}, {config.method.predictor} predictor, seed {config.seed}"
    with Stop() as stop, View(title, plan.steps, place.quiet or not world.writes) as view:
        evaluation = functools.partial(evaluate_now, siamese, *parts)
        recorder = Recorder(config, folder, world, siamese, optimiser, plan, evaluation, view, stop)
        if world.writes:
            for sentence in introduction(config, preset_name, siamese, pairs, plan):
                view.say(sentence)
        run = Run(siamese, optimiser, pairs, plan, recorder.resume())
        if world.writes:
            replace_file(folder / "config.json", lambda draft: draft.write_text(to_json(config)))
        state = train(run, recorder)
        if state == "stopped":
            recorder.keep(run.clock)
            return {"state": state, "signal": int(stop.signal), "step": run.clock.step, "run": str(folder)}
        if not world.writes:
            return {"state": state, "run": str(folder)}
        seconds = recorder.seconds_before + time.monotonic() - began
        return conclude(config, dataset, folder, world, siamese, parts, state, recorder.warnings, seconds)


def training_views(config: Config, dataset: datasets.Dataset, world: World, dtype: torch.dtype):
    """(epoch, first step) → this process's pairs of batches of views, part after part, from that step on."""
    o, count = config.optimisation, len(dataset.train.labels)

    def pairs(epoch, first_step):
        steps = data_order.batches(
            config.seed, epoch, count, o.batch_size, world.rank, world.size, o.accumulation, first_step
        )
        indices = (part for step in steps for part in step)
        for first, second in views.batches(dataset, config.data, config.seed, epoch, indices, world.device):
            yield first.to(dtype), second.to(dtype)

    return pairs


def introduction(config: Config, preset_name: str, siamese: Siamese, pairs, plan: Plan) -> list[str]:
    """What is said before the first step: the preset, the learning rate as scaled, and the theory's expectation."""
    o, peak = config.optimisation, base_rates(config.optimisation)
    set_by = words(changes(named_preset(preset_name)))
    scaled = f" = {o.lr:g} · {o.batch_size}/256" if o.lr_scaling == "linear" else ""
    fixed = ", constant" if o.predictor_schedule == "constant" else ""
    said = [
        f"preset {preset_name}: {set_by or 'the defaults'}",
        f"{plan.steps} steps of {o.batch_size} images; learning rate {peak.trunk:.4g}{scaled}, of the predictor "
        f"{peak.predictor:.4g}{fixed}",
    ]
    first = next(pairs(0, 0), None) if plan.steps else None
    if first is not None:
        said += expectation(config, measure_noise(*features_before_last(siamese, first)), plan.steps_per_epoch)
    return said


@torch.no_grad()
def features_before_last(siamese: Siamese, pair) -> list[torch.Tensor]:
    """What the projector's last layer sees of a pair of batches of views: the x₁, x₂ of the linear theory."""
    online, seen = copy.deepcopy(siamese.online).train(), []  # a copy: BatchNorm's statistics must not notice
    online.projector.last.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    for x in pair:
        online(x)
    return seen


def evaluate_again(folder: Path, protocol: str, names, device: str) -> dict:
    """Evaluate the final weights of a finished run: kNN, spectrum, probe and references."""
    summary, config = read_summary(folder), from_json((Path(folder) / "config.json").read_text())
    world = join(device)
    dataset = datasets.load(config.data, config.seed, world.device)
    siamese = build(config, dataset, world)
    found = checkpoint.load_latest(folder, to_json(config))
    if found is None:
        raise ValueError(f"{folder} holds no checkpoint that can be read")
    siamese.load_state_dict(found.payload["siamese"])
    parts = evaluation_parts(config, dataset, world.device)
    return {
        "run": summary["run"],
        **evaluate_now(siamese, *parts),
        "knn_pixels": pixel_knn(*parts),
        "probe": probe(config, siamese, parts, protocol),
        "references": {name: reference(name, config, dataset, world, parts) for name in names},
    }

"""A run from its config to its folder: assembled, trained or resumed, evaluated, summed up."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist

from stopgrad.deep.config import Config, check, from_json, to_json, views_wanted
from stopgrad.deep.data import datasets, views
from stopgrad.deep.data.batch import Batch
from stopgrad.deep.data.orders.setting import Setting, check_shares, shares
from stopgrad.deep.measuring.evaluation import pixel_knn
from stopgrad.deep.measuring.units import measure_noise
from stopgrad.deep.method.optimisation import base_rates, make_optimiser
from stopgrad.deep.method.siamese import Siamese
from stopgrad.deep.presets import changes, words
from stopgrad.deep.presets import preset as named_preset
from stopgrad.deep.processes.distributed import World, agree, gathered, join, leave
from stopgrad.deep.processes.stopping import Stop
from stopgrad.deep.storage.run_folder import CONFIG, claim, default_folder
from stopgrad.deep.training.build import build, fitting_threads
from stopgrad.deep.training.conclusion import conclude, evaluate_now, evaluation_parts, probe
from stopgrad.deep.training.laws import inputs_of_last_layer, look, new_views
from stopgrad.deep.training.recorder import Recorder
from stopgrad.deep.training.references import reference
from stopgrad.deep.training.start import Start, final_weights, refuse_other_start, start_of
from stopgrad.deep.training.training import Plan, Run, train
from stopgrad.deep.words.expectation import expectation
from stopgrad.deep.words.live import View
from stopgrad.linear_theory.simulation.allocator import keep_memory
from stopgrad.linear_theory.tools.door import BAD_INPUT
from stopgrad.linear_theory.tools.errors import BadInput, Unshared, sentence_of
from stopgrad.linear_theory.tools.files import replace_file

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """Where and how a run is carried out."""

    folder: Path | None = None
    resume: bool = False
    quiet: bool = False
    tensorboard: bool = False
    picture: bool = True
    """Whether run.png, measurements.npz and backbone.pt are made, which takes seconds and serves a person."""


@contextlib.contextmanager
def joined(device: str) -> Iterator[World]:
    """The processes of one or several runs, joined for as long as the block lasts; a second group would not form.

    What is refused within it, a process that does not write has met by itself, and says.
    """
    world = join(device)
    if world.device.type == "cpu":
        keep_memory()
    try:
        yield world
    except (BadInput, OSError) as error:
        if world.writes or (told := sentence_of(error)) is None:
            raise
        raise Unshared(told) from error
    finally:
        leave()


def execute(config: Config, place: Place, world: World, preset_name: str = "default") -> dict:
    """Carry out a run, or go on with it; a finished one is read, not repeated. Returns its summary.

    A process that does not write returns {state, run} alone. Raises ValueError for an impossible config, data that are
    not there, or a folder that cannot serve.
    """
    check(config)
    folder = default_folder(config) if place.folder is None else Path(place.folder)
    with contextlib.ExitStack() as held:
        summary = together(world, lambda: _claim(folder, config, place.resume, held) if world.writes else None)
        if agree(summary is not None):
            return summary or {"state": "finished", "run": str(folder)}
        with fitting_threads(config, world.device):
            return _carry_out(config, folder, world, place, preset_name)


def _claim(folder: Path, config: Config, resume: bool, held: contextlib.ExitStack) -> dict | None:
    if (summary := claim(folder, config, resume, held)) is not None:
        refuse_other_start(config, summary)
    return summary


def together(world: World, act: Callable[[], T]) -> T:
    """act(), in every process; where one fails all leave, so that none waits for it for hours.

    Raises its error in the first process that failed; the others leave with the same exit status, silently.
    """
    if world.size == 1:
        return act()
    result, error = None, None
    try:
        result = act()
    except Exception as failure:
        error = failure
    failed = [False] * world.size
    dist.all_gather_object(failed, error is not None)
    if not any(failed):
        return result
    if failed.index(True) == world.rank:
        raise error
    raise SystemExit(BAD_INPUT)


def _carry_out(config: Config, folder: Path, world: World, place: Place, preset_name: str) -> dict:
    began = time.monotonic()
    start = together(world, lambda: start_of(config, folder))
    dataset, plan, siamese = together(world, lambda: prepare(config, world, start))
    dtype = next(siamese.parameters()).dtype
    optimiser = make_optimiser(siamese, config.optimisation)
    batches = training_batches(config, dataset, world, dtype)
    parts = evaluation_parts(config, dataset, world.device, dtype)
    title = f"{config.data.dataset}, {config.method.predictor} predictor, seed {config.seed}"
    events = folder / "tensorboard" if place.tensorboard and world.writes else None
    with Stop() as stop, View(title, plan.steps, place.quiet or not world.writes, events) as view:
        for sentence in introduction(config, preset_name, siamese, batches, plan):
            view.say(sentence)
        if world.writes:
            replace_file(folder / CONFIG, lambda draft: draft.write_text(to_json(config)))
        evaluation = functools.partial(evaluate_now, siamese, *parts)
        origin = None if start is None else start.origin
        laws = functools.partial(_look, siamese, new_views(config, dataset, world.device, dtype))
        recorder = Recorder(config, folder, world, siamese, optimiser, plan, evaluation, laws, view, stop, origin)
        run = Run(siamese, optimiser, batches, plan, together(world, recorder.resume))
        together(world, lambda: _refuse_apart(folder, world, run.clock.step))
        if start is not None and run.clock.step == 0:
            view.say(start.words(siamese))
            recorder.keep(run.clock)  # from here on it goes on without the run that it started from
        state = train(run, recorder)
        if state == "stopped":
            recorder.keep(run.clock)
    # From here on a signal is obeyed at once: the last checkpoint is whole, and --resume comes back to this line.
    if state == "stopped":
        return _stopped(folder, run.clock.step, stop.signal, recorder)
    if not world.writes:
        return {"state": state, "run": str(folder)}
    seconds, told = recorder.seconds_before + time.monotonic() - began, recorder.warnings
    return conclude(
        *(config, dataset, folder, world, siamese, parts, state, run.clock.step, told, seconds, place.picture, origin)
    )


def prepare(config: Config, world: World, start: Start | None = None) -> tuple[datasets.Dataset, Plan, Siamese]:
    """Data, plan and network before the first step. Raises ValueError for what would make the run impossible later."""
    o = config.optimisation
    check_shares(o.batch_size, world.size, o.accumulation)
    dataset = datasets.load(config.data, config.seed, world.device)
    setting = Setting.of(config, dataset.train.labels)
    config.data.order.at(setting, 0)
    if "supervised" in config.monitor.references:
        config.data.order.at(Setting.of(config, dataset.labelled.labels), 0)
    plan = Plan(o, setting.steps_per_epoch, config.method.loss_scale, config.data.order.restart(o.epochs))
    return dataset, plan, build(config, dataset, world, start)


def _look(siamese: Siamese, batches: Callable[[], Iterator[Batch]]) -> dict:
    return look(siamese, batches())


def _refuse_apart(folder: Path, world: World, step: int) -> None:
    """All processes must have resumed from the same checkpoint, which takes a folder that all can read."""
    if bool((gathered(torch.tensor([step], device=world.device), dim=0) != step).any()):
        raise BadInput(f"the processes find different checkpoints in {folder}; it must be on a disk that all share")


def _stopped(folder: Path, step: int, signal: int, recorder: Recorder) -> dict:
    unknown = dict.fromkeys(("diagnosis", "alignment", "spectrum", "knn"))
    told = {"warnings": [sign.words() for sign in recorder.warnings], "seconds": recorder.seconds}
    return {"state": "stopped", "signal": int(signal), "step": step, **unknown, **told, "run": str(folder)}


def training_batches(
    config: Config, dataset: datasets.Dataset, world: World, dtype: torch.dtype
) -> Callable[[int], Iterator[Batch]]:
    """First step → this process's batches, part after part, from that step to the run's end."""
    count = views_wanted(config)
    setting, parts = Setting.of(config, dataset.train.labels), config.optimisation.accumulation

    def batches(first_step: int) -> Iterator[Batch]:
        asked = shares(config.data.order, setting, world.rank, world.size, parts, first_step)
        for batch in views.batches(dataset, config.data, config.seed, asked, world.device, count):
            yield batch.to(dtype)

    return batches


def introduction(config: Config, preset_name: str, siamese: Siamese, batches, plan: Plan) -> list[str]:
    """What is said before the first step: the preset, the learning rate as scaled, and the theory's expectation.

    Every process must ask: the features it rests on are normalised over all.
    """
    o, peak = config.optimisation, base_rates(config.optimisation)
    set_by = words(changes(named_preset(preset_name)))
    scaled = f" = {o.lr:g} · {o.batch_size}/256" if o.lr_scaling == "linear" else ""
    fixed = ", constant" if o.predictor_schedule == "constant" else ""
    said = [
        f"preset {preset_name}: {set_by or 'the defaults'}",
        f"{plan.steps} steps of {o.batch_size} images; learning rate {peak.trunk:.4g}{scaled}, of the predictor "
        f"{peak.predictor:.4g}{fixed}",
    ]
    first = next(batches(0), None)
    if first is not None:
        features = (gathered(f, dim=0) for f in inputs_of_last_layer(siamese, [first]))
        said += expectation(config, measure_noise(*features), plan.steps_per_epoch)
    return said


def evaluate_again(folder: Path, protocol: str, names, device: str) -> dict:
    """Evaluate the final weights of a finished run: kNN, spectrum, probe and references.

    Raises ValueError where there is no finished run, or one that diverged, or no whole checkpoint.
    """
    weights = final_weights(folder)
    config = from_json((Path(folder) / CONFIG).read_text(encoding="utf-8"))
    with joined(device) as world:
        dataset = datasets.load(config.data, config.seed, world.device)
        siamese = build(config, dataset, world)
        siamese.load_state_dict(weights)
        parts = evaluation_parts(config, dataset, world.device, next(siamese.parameters()).dtype)
        return {
            "run": str(folder),
            **evaluate_now(siamese, *parts),
            "knn_pixels": pixel_knn(*parts),
            "probe": probe(config, siamese, parts, protocol),
            "references": {name: reference(name, config, dataset, world, parts) for name in names},
        }

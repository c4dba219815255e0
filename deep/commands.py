"""The commands of the deep wing: train, evaluate, summary, presets, quantities; two have files of their own."""

import re
from dataclasses import dataclass, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import tyro

from stopgrad.deep.collapse_command import Collapse
from stopgrad.deep.config import GROUPS, Config, change, check
from stopgrad.deep.diagnose_command import Diagnose
from stopgrad.deep.parts import flag, flat, known, options, override, seats_of, spelled
from stopgrad.deep.presets import PRESETS, changes, preset, refuse_idle, words
from stopgrad.linear_theory.tools.door import Command
from stopgrad.linear_theory.tools.errors import BadInput


@dataclass(frozen=True)
class RunOptions:
    """Where and how a run is carried out; of these only the seed decides its numbers."""

    preset: str = "default"
    """Recipe to start from; every other flag overrides it. `python -m deep presets` lists them."""
    seed: int = 0
    """Decides initialisation, subset, order and views."""
    seeds: str | None = None
    """Several seeds, one run after the other: 0-4, or 0,2,5; with --out each in a folder seedN in it."""
    out: Path | None = None
    """Folder of the run; None: runs/ and a hash of everything that decides its numbers."""
    resume: bool = False
    """Go on with a run that was stopped or killed, from its last checkpoint."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """cuda, or several processes, one an accelerator, through torchrun."""
    quiet: bool = False
    """No live view on standard error."""
    tensorboard: bool = False
    """Write the measurements for TensorBoard too, in the run's folder."""


@dataclass(frozen=True)
class Train(Command):
    """Train a network, watch its spectra and alignment, evaluate it, and say in words what became of it."""

    data: Any
    method: Any
    optimisation: Any
    monitor: Any
    run_options: Annotated[RunOptions, tyro.conf.arg(name="run")]
    json: bool = False
    """Print one JSON object."""

    def configs(self) -> list[Config]:
        """One record a seed. Raises ValueError for seeds that cannot be read and for impossible records."""
        chosen = self.run_options
        seeds = [chosen.seed] if chosen.seeds is None else read_seeds(chosen.seeds)
        base = preset(chosen.preset)
        config = change(base, **{name: value for group in GROUPS for name, value in vars(getattr(self, group)).items()})
        return [refuse_idle(check(replace(config, seed=seed)), base) for seed in seeds]

    def run(self) -> dict:
        configs, options = self.configs(), self.run_options
        from stopgrad.deep.training.runs import Place, execute, joined

        if options.out is not None and options.seeds is not None:
            folders = [options.out / f"seed{config.seed}" for config in configs]
        else:
            folders = [options.out] * len(configs)
        results = []
        with joined(options.device) as world:
            for config, folder in zip(configs, folders):
                place = Place(folder, options.resume, options.quiet, options.tensorboard)
                results.append(execute(config, place, world, options.preset))
                if results[-1]["state"] == "stopped":
                    break
        return results[0] if options.seeds is None else {"runs": results, "state": worst_state(results)}

    def text(self, result: dict) -> str:
        from stopgrad.deep.words.report import text

        return "\n\n".join(text(r) for r in result.get("runs", [result]))

    def status(self, result: dict) -> int:
        """0; 1 for a run that diverged; 128 + the signal for a run that was told to stop."""
        last = result["runs"][-1] if "runs" in result else result
        return {"diverged": 1, "stopped": 128 + last.get("signal", 0)}.get(result["state"], 0)


def worst_state(results: list[dict]) -> str:
    """What to say of several runs: stopped or diverged if one was, else finished."""
    states = [r["state"] for r in results]
    return next((state for state in ("stopped", "diverged") if state in states), "finished")


def read_seeds(text: str) -> list[int]:
    """'0-4' or '0,2,5' as numbers. Raises ValueError for anything else."""
    seeds: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if not found or int(found[2] or found[1]) < int(found[1]):
            raise BadInput(f"--seeds is {text!r}; give a range like 0-4 or a list like 0,2,5")
        seeds += range(int(found[1]), int(found[2] or found[1]) + 1)
    return list(dict.fromkeys(seeds))


@dataclass(frozen=True)
class Summary(Command):
    """What became of a run, from its folder."""

    folder: tyro.conf.Positional[Path]
    """Folder of the run."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> dict:
        from stopgrad.deep.storage.run_folder import read_summary

        return read_summary(self.folder)

    def text(self, result: dict) -> str:
        from stopgrad.deep.words.report import text

        return text(result)


@dataclass(frozen=True)
class Evaluate(Command):
    """Evaluate the representations of a finished run again: kNN, linear probe, spectrum, references."""

    folder: tyro.conf.Positional[Path]
    """Folder of the run."""
    probe: Literal["none", "logistic", "paper"] = "logistic"
    """Regularised logistic regression, or the papers' SGD protocol."""
    references: tuple[Literal["pixels", "random", "supervised"], ...] = ()
    """Evaluate beside it the network as initialised, or one trained with the labels."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> dict:
        from stopgrad.deep.training.runs import evaluate_again

        return evaluate_again(self.folder, self.probe, self.references, self.device)

    def text(self, result: dict) -> str:
        from stopgrad.deep.words.report import evaluation_text

        return evaluation_text(result)


@dataclass(frozen=True)
class Presets(Command):
    """The recipes to start from, and what each sets beside the defaults."""

    json: bool = False
    """Print one JSON object."""

    def run(self) -> dict:
        return {name: changes(config) for name, config in PRESETS.items()}

    def text(self, result: dict) -> str:
        return "\n".join(f"{name}: {words(fields) or 'the defaults'}" for name, fields in result.items())


@dataclass(frozen=True)
class Quantities(Command):
    """Everything that is measured: what it is, when, and where it is shown."""

    json: bool = False
    """Print one JSON object."""

    def run(self) -> dict:
        from stopgrad.deep.measuring.quantities.quantities import QUANTITIES

        told = ("words", "about", "source", "unit", "at", "needs", "shown")
        return {one.name: {field: getattr(one, field) for field in told} for one in QUANTITIES.values()}

    def text(self, result: dict) -> str:
        return "\n\n".join(_described(name, one) for name, one in result.items())


def _described(name: str, one: dict) -> str:
    """A quantity in a few lines."""
    unit = f", in {one['unit']}" if one["unit"] else ""
    lines = [f"{name}: {one['words']}{unit}", one["about"], one["source"] and f"({one['source']})"]
    when = {"step": "", "evaluation": "of the representations, at an evaluation"}[one["at"]]
    needs = one["needs"] and f"where there is: {', '.join(one['needs'])}"
    seen = one["shown"] and f"shown: {', '.join(one['shown'])}"
    return "\n  ".join(filter(None, [*lines, "; ".join(filter(None, (when, needs, seen)))]))


def commands(argv: list[str]) -> dict:
    """The commands, the training one with the defaults of the preset and the options of the parts that `argv` names.

    Raises ValueError for an unknown preset or part, and for an option of a part that is not chosen.
    """
    told = argv if argv[:1] == ["train"] else []  # other commands have flags of these names too
    return {
        "train": _train_from(_given(told, "preset") or "default", told),
        "evaluate": Evaluate,
        "summary": Summary,
        "collapse": Collapse,
        "diagnose": Diagnose,
        "presets": Presets,
        "quantities": Quantities,
    }


def _given(argv: list[str], name: str) -> str | None:
    """What --name is given, the last time; None where it is not, or is without a value."""
    found = None
    for this, following in zip(argv, [*argv[1:], None]):
        stem, equals, value = this.partition("=")
        if stem in (f"--{name}", flag(name)):
            found = value if equals else following
    return None if found is not None and found.startswith("--") else found


def as_stored(argv: list[str]) -> list[str]:
    """`argv` with the names of choices as records have them: --target fresh_views for --target fresh-views."""
    if argv[:1] != ["train"]:  # other commands have flags of these names too
        return argv
    records = _chosen(preset(_given(argv, "preset") or "default"), argv).values()
    named = [o for record in records for o in options(record) if get_origin(o.hint) is Literal]
    choices = {flag(o.name): get_args(o.hint) for o in named}
    found = list(argv)
    for k, (this, following) in enumerate(zip(argv, [*argv[1:], None])):
        stem, equals, value = this.partition("=")
        names = choices.get(flag(stem[2:]), ()) if stem.startswith("--") else ()
        if equals and (name := spelled(value, names)):
            found[k] = f"{stem}={name}"
        elif not equals and following is not None and (name := spelled(following, names)):
            found[k + 1] = name
    return found


def _chosen(base: Config, argv: list[str]) -> dict:
    """The groups of `base` with the parts that `argv` names."""
    records = {}
    for group in GROUPS:
        record = getattr(base, group)
        chosen = {seat.name: _given(argv, seat.name) for seat in seats_of(record)}
        records[group] = override(record, {seat: part for seat, part in chosen.items() if part is not None})
    return records


def _train_from(name: str, argv: list[str]) -> Train:
    """`Train` with a field for every option that a run from the preset `name` with the parts in `argv` has."""
    base = preset(name)
    kinds, defaults = [], {}
    for group, record in _chosen(base, argv).items():
        _refuse_others(record, argv)
        defaults[group] = _flags(record)
        kinds.append((group, type(defaults[group])))
    kind = make_dataclass("Train", kinds, bases=(Train,), frozen=True, namespace={"__doc__": Train.__doc__})
    return kind(**defaults, run_options=RunOptions(preset=name, seed=base.seed))


def _flags(record):
    """A record of the options of `record` and of its parts, named flatly, for the parser of arguments."""
    fields = [(o.name, Annotated[o.hint, tyro.conf.arg(help=o.help())], o.value) for o in options(record)]
    return make_dataclass(type(record).__name__, fields, frozen=True)()


def _refuse_others(record, argv: list[str]) -> None:
    """Raise ValueError for an option of a part that could sit in `record` and does not."""
    others = known(type(record)) - flat(record).keys()
    for argument in argv:
        name = argument.partition("=")[0].replace("-", "_").removeprefix("__")
        if argument.startswith("--") and (name in others or (name := name.removeprefix("no_")) in others):
            override(record, {name: None})

"""`python -m experiments fate RECIPE`: what becomes of a run, told from its recipe and the first tenth of it."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from stopgrad.experiments.store.store import ROOT
from stopgrad.linear_theory.tools.door import Command
from stopgrad.linear_theory.tools.errors import BadInput


@dataclass(frozen=True)
class Fate(Command):
    """Tell from a recipe and the first tenth of its run whether it will collapse, how, when, and how many modes live.

    RECIPE is OPTION=VALUE for every option that differs from the preset's, as flags of `python -m deep train` are
    called: `fate weight_decay=0.02 predictor=symmetric`. The first tenth is trained, at least an epoch; from the
    weights it leaves the linear theory goes on, and is calibrated with runs of drawn recipes whose end is known.
    """

    recipe: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="RECIPE")] = ()
    """OPTION=VALUE, several."""
    preset: str = "default"
    """The recipe that they change."""
    device: str = "auto"
    """auto, cpu or cuda."""
    runs: Path = ROOT
    """Folder of the store; runs that it lacks are taken from the record."""
    scores: bool = False
    """Say instead how good the forecast is: on the drawn runs that it was not calibrated with, which are listed."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> dict:
        """Train the tenth, and forecast. Raises BadInput for an impossible recipe, one that Lemma 1 knows nothing of,
        one that diverges at once, and where no run is known to calibrate with."""
        if self.scores:
            return self._scores()
        from stopgrad.deep.config import change, check
        from stopgrad.deep.parts import written
        from stopgrad.deep.presets import preset

        config = change(preset(self.preset), **written(self.recipe))
        config = check(change(config, laws_every=1))
        if config.optimisation.start_from is not None:
            raise BadInput("--start-from is of weights that have learned; a fate is told from random ones")

        from stopgrad.deep.training.beginning import expected, first_part
        from stopgrad.deep.training.runs import joined
        from stopgrad.experiments.fate.foretell import drawn_runs, fitted, foretold, parted

        known, _ = parted(drawn_runs(self.runs))
        model, began = fitted("theory", known), time.perf_counter()
        with joined(self.device) as world:
            early = expected(config, world)
        told = foretold(model, early, config.method.objective.theory == "cosine", config.method.embedding_dim)
        return told | {
            "epochs_trained": first_part(config),
            "epochs": config.optimisation.epochs,
            "seconds": time.perf_counter() - began,
            "calibrated_with": len(known),
            "early": {name: value for name, value in early.items() if name not in ("steps", "times")},
        }

    def _scores(self) -> dict:
        """Every model's scores, all seeds together, and each new run: what was drawn, told, and what became of it."""
        if self.recipe:
            raise BadInput("--scores is of the drawn runs; leave the recipe out")
        from stopgrad.experiments.fate.draws import KNOWN, words
        from stopgrad.experiments.fate.foretell import MODELS, collapsed, drawn_runs, fitted, parted, scored

        runs = drawn_runs(self.runs)
        known, new = parted(runs)
        found = {name: scored(fitted(name, known), new) for name in MODELS}
        names = [name for name in runs if name.startswith("new/")]
        rows = [
            {
                "run": name,
                "drawn": words(KNOWN + int(name[4:6])),
                "told": float(told),
                "collapsed": collapsed(run),
                "ended": run.summary["diagnosis"],
            }
            for name, run, told in zip(names, new, found["theory"].probabilities)
        ]
        scores = {
            name: {key: getattr(one, key) for key in ("brier", "bias", "right", "modes", "covered")}
            for name, one in found.items()
        }
        return {"known": len(known), "new": len(new), "scores": scores, "runs": rows}

    def text(self, result: dict) -> str:
        """Sentences, or two tables."""
        if self.scores:
            from stopgrad.experiments.commands.runs import table

            scores, runs = result["scores"], result["runs"]
            head = ("model", "Brier", "bias", "told right", "error of ln(modes + 1)", "in interval")
            lines = [(name, *(f"{value:.3f}" for value in one.values())) for name, one in scores.items()]
            listed = [(one["run"], one["drawn"], f"{one['told']:.2f}", one["ended"]) for one in runs]
            ended = sum(one["collapsed"] for one in runs)
            said = f"calibrated with {result['known']} runs, scored on {result['new']}, {ended} of which collapsed"
            parts = [said, table(head, lines), table(("run", "drawn", "told", "ended"), listed)]
            return "\n\n".join(parts)
        low, high = result["modes_interval"]
        dies, of = result["dies_at_step"], result["steps"]
        said = [
            f"collapse: {result['collapse']:.0%} likely ({result['kind']}, if so)",
            f"modes that live at the end: {result['modes']:.0f} ({low:.0f} to {high:.0f} in nine of ten such runs)",
        ]
        if dies is not None:
            said.append(f"by Lemma 1 tr F has fallen by e² at step {dies} of {of}")
        said += [
            f"told from {result['epochs_trained']} of {result['epochs']} epochs in {result['seconds']:.0f} s, "
            f"calibrated with {result['calibrated_with']} runs on digits of drawn recipes (`verify --paper fate` says "
            "how good it is)",
            *result["beyond"],
        ]
        return "\n".join(said)

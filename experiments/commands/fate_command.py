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
    json: bool = False
    """Print one JSON object."""

    def run(self) -> dict:
        """Train the tenth, and forecast. Raises BadInput for an impossible recipe, one that Lemma 1 knows nothing of,
        one that diverges at once, and where no run is known to calibrate with."""
        from stopgrad.deep.config import change, check
        from stopgrad.deep.parts import written
        from stopgrad.deep.presets import preset

        config = change(preset(self.preset), **written(self.recipe))
        config = check(change(config, laws_every=1))
        if config.optimisation.start_from is not None:
            raise BadInput("--start-from is of weights that have learned; a fate is told from random ones")

        from stopgrad.deep.training.beginning import expected, first_part
        from stopgrad.deep.training.runs import joined
        from stopgrad.experiments.fate.foretell import fitted, foretold, known_runs

        known = known_runs(self.runs)
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

    def text(self, result: dict) -> str:
        """Sentences."""
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

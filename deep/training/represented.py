"""What a finished run's network makes of its images, for measurements that come after training."""

from pathlib import Path

import torch

from stopgrad.deep.config import from_json
from stopgrad.deep.data import datasets
from stopgrad.deep.measuring.evaluation import evaluating
from stopgrad.deep.storage.run_folder import CONFIG
from stopgrad.deep.training.build import build
from stopgrad.deep.training.conclusion import evaluation_parts
from stopgrad.deep.training.runs import joined
from stopgrad.deep.training.start import final_weights
from stopgrad.linear_theory.tools.errors import BadInput

SPACES = {
    "representation": lambda siamese, x: siamese.online.represent(x),
    "embedding": lambda siamese, x: siamese.online(x),
    "prediction": lambda siamese, x: siamese.predictor(siamese.online(x)),
}
"""What of a network can be looked at, from images (B, …) to (B, d)."""


def features_of_run(folder: Path, space: str = "representation", device: str = "auto") -> torch.Tensor:
    """Features (N, d) of the images that the run's evaluations look at, unaugmented, by its final weights, eval mode.

    Raises BadInput where there is no finished run, or one that diverged, or no whole checkpoint, and for another space.
    """
    if space not in SPACES:
        raise BadInput(f"a run has no {space}; it has {', '.join(SPACES)}")
    weights = final_weights(folder)
    config = from_json((Path(folder) / CONFIG).read_text(encoding="utf-8"))
    with joined(device) as world:
        dataset = datasets.load(config.data, config.seed, world.device)
        siamese = build(config, dataset, world)
        siamese.load_state_dict(weights)
        part, _ = evaluation_parts(config, dataset, world.device, next(siamese.parameters()).dtype)
        with torch.no_grad(), evaluating(siamese):
            return torch.cat([SPACES[space](siamese, x).float() for x in part.batches()]).cpu()

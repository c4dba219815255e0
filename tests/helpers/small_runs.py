"""A run of seconds, and how it is carried out."""

import torch

from stopgrad.deep.config import Config, Data, Method, Monitor, Optimisation
from stopgrad.deep.processes.distributed import World
from stopgrad.deep.training.runs import Place, execute

TINY = Config(
    Data(fraction=0.1, image_size=8),
    Method.of(backbone="linear", projector_hidden=16, embedding_dim=8),
    Optimisation(epochs=2, batch_size=32),
    Monitor(monitor_every=3, probe="none"),
)


def run(folder, config=TINY, resume=False, world=World(0, 1, torch.device("cpu"), None), picture=False):
    """What `execute` returns; by default without the picture, which would take longer than the run."""
    return execute(config, Place(folder, resume, quiet=True, picture=picture), world)


def title_alone(table, title, path):
    """In place of `words.picture.draw`, which takes longer than a small run, where nobody looks at run.png."""
    path.write_text(title)


def undrawn(monkeypatch):
    """For as long as a test lasts runs leave the title in place of their picture."""
    monkeypatch.setattr("stopgrad.deep.words.picture.draw", title_alone)

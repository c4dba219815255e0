"""A run of seconds, how it is changed, and how it is carried out."""

import dataclasses
from dataclasses import replace

import torch

from stopgrad.deep.config import Config, Data, Method, Monitor, Optimisation
from stopgrad.deep.training.distributed import World
from stopgrad.deep.training.runs import Place, execute

TINY = Config(
    Data(fraction=0.1, image_size=8),
    Method(backbone="linear", projector_hidden=16, embedding_dim=8),
    Optimisation(epochs=2, batch_size=32),
    Monitor(monitor_every=3, probe="none"),
)


def changed(config, **fields):
    """`config` with fields of its groups replaced by name."""
    for group in ("data", "method", "optimisation", "monitor"):
        record = getattr(config, group)
        mine = {name: v for name, v in fields.items() if name in {f.name for f in dataclasses.fields(record)}}
        config = replace(config, **{group: replace(record, **mine)})
    return replace(config, seed=fields.get("seed", config.seed))


def run(folder, config=TINY, resume=False, world=World(0, 1, torch.device("cpu"), None)):
    return execute(config, Place(folder, resume, quiet=True), world)

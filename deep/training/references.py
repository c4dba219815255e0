"""What a representation is compared with: raw pixels, the same network as initialised, or trained with the labels."""

from dataclasses import replace

import torch

from stopgrad.deep.config import Config
from stopgrad.deep.data import views
from stopgrad.deep.data.datasets import Dataset
from stopgrad.deep.data.orders.setting import Setting, shares
from stopgrad.deep.measuring.evaluation import Part, RawPixels, evaluate, representations
from stopgrad.deep.measuring.probe import classifier_accuracy, linear_probe, supervised_reference
from stopgrad.deep.method.optimisation import base_rates
from stopgrad.deep.processes.distributed import World
from stopgrad.deep.training.build import build


def reference(name: str, config: Config, dataset: Dataset, world: World, parts: tuple[Part, Part]) -> dict | None:
    """kNN and probe of raw 'pixels', or of the network 'random' or 'supervised'; None for a set without labels."""
    if not dataset.classes:
        return None
    world = world._replace(rank=0, size=1, backend=None)  # one process evaluates; nothing here waits for others
    return {"pixels": pixels, "random": random, "supervised": supervised}[name](config, dataset, world, parts)


def pixels(config: Config, dataset: Dataset, world: World, parts: tuple[Part, Part]) -> dict:
    """The images themselves."""
    return _scores(RawPixels(), None, config, parts)


def random(config: Config, dataset: Dataset, world: World, parts: tuple[Part, Part]) -> dict:
    """The backbone with the run's initial weights."""
    online = build(config, dataset, world).online
    return _scores(online.backbone, online.half, config, parts)


def supervised(config: Config, dataset: Dataset, world: World, parts: tuple[Part, Part]) -> dict:
    """The same initial weights and a linear classifier, trained with labels on as many views of as many epochs."""
    online, o = build(config, dataset, world).online, config.optimisation
    labelled = dataset.labelled
    setting = Setting.of(config, labelled.labels)
    classifier = supervised_reference(
        online.backbone,
        labelled_views(config, replace(dataset, train=labelled), setting, world, next(online.parameters()).dtype),
        steps=setting.steps,
        feature_dim=online.backbone.out_features,
        classes=len(dataset.classes),
        lr=base_rates(o).trunk,
        momentum=o.momentum,
        weight_decay=o.weight_decay,
        half=online.half,
        seed=config.seed,
    )
    features = representations(online.backbone, parts[1].batches(), online.half)
    accuracy = classifier_accuracy(classifier, features, parts[1].labels)
    return _scores(online.backbone, online.half, config, parts) | {"accuracy": accuracy}


def labelled_views(config: Config, labelled: Dataset, setting: Setting, world: World, dtype: torch.dtype):
    """Batches (first view in `dtype`, label) of the whole setting, in the order that the run itself would take."""
    asked = shares(config.data.order, setting)
    for batch in views.batches(labelled, config.data, config.seed, asked, world.device, 1):
        (view,) = batch.to(dtype).views
        yield view, setting.labels[batch.index].to(view.device)


def _scores(backbone: torch.nn.Module, half, config: Config, parts: tuple[Part, Part]) -> dict:
    train, test = (representations(backbone, part.batches(), half) for part in parts)
    found = {"knn": evaluate(backbone, *parts, half)["knn"]}
    if config.monitor.probe != "none":
        probe = linear_probe(train, parts[0].labels, test, parts[1].labels, config.monitor.probe, seed=config.seed)
        found["probe"] = probe.accuracy
    return found

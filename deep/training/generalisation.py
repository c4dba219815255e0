"""What a finished network makes of new views of the images that it learned from, and of images that it never saw.

Li, Efros & Pathak 2022 hold the loss on both beside each other: on few images they part. X and X′ at the projector's
input are what the linear theory needs to say how many modes can live there.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch

from stopgrad.deep.config import Config
from stopgrad.deep.data import views
from stopgrad.deep.data.batch import Batch
from stopgrad.deep.data.datasets import Dataset, ImageSet
from stopgrad.deep.data.fold import fold
from stopgrad.deep.data.orders.setting import Setting, shares
from stopgrad.deep.measuring.evaluation import evaluating
from stopgrad.deep.method.siamese import Siamese

_NEW = int.from_bytes(b"unseen")


def generalisation(config: Config, dataset: Dataset, siamese: Siamese, device, dtype: torch.dtype) -> dict:
    """{"train": `on_views` of the images of the run's last epoch, "test": of images that were not trained on}.

    Both through views that the run has not drawn, in eval mode, of `monitor.knn_images` images at most. A target that
    remembers training images, by their number, has nothing to say of others.
    """
    setting, size = Setting.of(config, dataset.train.labels), config.optimisation.batch_size
    most = max(1, config.monitor.knn_images // size)
    last = shares(config.data.order, setting, first_step=max(0, setting.steps - min(most, setting.steps_per_epoch)))
    seed, count = fold(_NEW, config.seed), max(2, config.method.objective.views + config.method.target.views)

    def seen(images: ImageSet, asked: Iterable[Batch]) -> dict:
        made = views.batches(replace(dataset, train=images), config.data, seed, asked, device, count)
        return on_views(siamese, (batch.to(dtype) for batch in made))

    unseen = _once(len(dataset.test.labels), size, most, setting.steps - 1)
    return {"train": seen(dataset.train, last), "test": seen(dataset.test, unseen)}


def _once(images: int, size: int, most: int, step: int) -> Iterator[Batch]:
    """Each of so many images once, in `most` batches at most, as of this step; alone in a batch is none of them."""
    for index in torch.arange(images).split(size)[:most]:
        if len(index) > 1:
            yield Batch((), index, torch.zeros_like(index), step)


@torch.no_grad()
def on_views(siamese: Siamese, batches: Iterable[Batch]) -> dict:
    """The mean loss, and of the projector's input h = f + noise the second moments of both views, in eval mode.

    `signal`: eigenvalues of X, the covariance of h across the views of an image, falling; `noise`: what X′, half the
    covariance of their difference, is along the same directions; `sigma2`: tr X′/tr X (Lemma 1 of Tian, Chen & Ganguli
    2021, of centred features, since BatchNorm takes their mean away). Raises ValueError for no batch.

    batches: of at least two views each, of the objective's number and, behind them, the target's.
    """
    losses, heard, pairs = [], [], []
    hook = siamese.online.projector.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0]))
    try:
        with evaluating(siamese):
            for batch in batches:
                heard.clear()
                found = siamese.compared(batch)
                losses.append((float(siamese.loss_scale * siamese.objective(found)), len(batch)))
                pairs.append(torch.stack(heard[:2]).double())
    finally:
        hook.remove()
    if not losses:
        raise ValueError("there is no batch of views; at least one is needed")
    first, second = torch.cat(pairs, dim=1)
    centre, n = (first.mean(0) + second.mean(0)) / 2, len(first)
    common = (first - centre).mT @ (second - centre) / n
    apart = (first - second).mT @ (first - second) / (2 * n)
    signal, directions = torch.linalg.eigh((common + common.mT) / 2)
    noise = (directions * (apart @ directions)).sum(0)
    trace = float(signal.sum())
    return {
        "loss": sum(loss * size for loss, size in losses) / sum(size for _, size in losses),
        "images": n,
        "sigma2": float(apart.trace()) / trace if trace > 0 else None,
        "signal": signal.flip(0).tolist(),
        "noise": noise.flip(0).tolist(),
    }

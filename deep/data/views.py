"""Views to train on, and plain images to evaluate on, from whatever holds the images.

View v of image i at visit k under seed s is a function of (s, k, v, i): neither the batch nor the process nor the
worker that makes it, nor a resumption, nor the number of views changes it. Images in memory are augmented as a batch
where they lie. Images in files are decoded and cut by a loader's workers, with the same numbers; their colours are then
changed as a batch.
"""

import functools
import signal
from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from torch.utils.data import DataLoader

from stopgrad.deep.config import Data
from stopgrad.deep.data import augmentation, counter
from stopgrad.deep.data.batch import Batch
from stopgrad.deep.data.datasets import Dataset, ImageSet
from stopgrad.deep.data.fold import fold
from stopgrad.deep.data.image_files import ImageFiles, read_image
from stopgrad.deep.processes.stopping import HINTS
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.files import room_for_sockets

_VIEWS = int.from_bytes(b"views")  # keeps these numbers apart from every other use of the seed
_MARGIN = 256 / 224  # Li et al. 2022 evaluate on the central 224 pixels of images 256 pixels high or wide
_WORTH_CALLING = 2**16  # a batch's pixels, or points' numbers, above which kernels take longer than calling them
_LAST_SECONDS = 10  # of a worker that is told to end while training may still need it for its last step


def batches(
    dataset: Dataset, data: Data, seed: int, asked: Iterable[Batch], device: torch.device | str, views: int = 2
) -> Iterator[Batch]:
    """The batches that are asked for, with so many views of their images, float32 on `device`.

    Images: (B, 3, size, size), normalised, channels_last; gaussian: (B, dim). Raises ValueError, naming it, for an
    image that cannot be read.
    """
    make = {"points": _drawn, "resident": _augmented, "files": _streamed}[_kind(dataset.train)]
    return make(dataset, data, functools.partial(view_keys, seed, views), asked, torch.device(device))


def view_keys(seed: int, views: int, visit: torch.Tensor) -> list[torch.Tensor]:
    """For each view the keys of `deep.data.counter` under which it is drawn at these visits, int64 (B,)."""
    visits, place = visit.unique(return_inverse=True)
    return [torch.tensor([_key(seed, k, v) for k in visits.tolist()], dtype=torch.int64)[place] for v in range(views)]


@functools.lru_cache(maxsize=4096)
def _key(seed: int, visit: int, view: int) -> int:
    return fold(_VIEWS, seed, visit, view)


def plain(
    images: ImageSet | ImageFiles, dataset: Dataset, data: Data, device: torch.device | str, batch: int = 256
) -> Iterator[torch.Tensor]:
    """`images` (a part of `dataset`) in their order, unaugmented and normalised, `batch` at a time, as `batches` does.

    In files: the shorter side is brought to 256/224 of the view's, but never enlarged further than to fill the view,
    and the centre is kept. Gaussian: the points that views scatter around. Raises ValueError for an unreadable image.
    """
    device, kind = torch.device(device), _kind(images)
    if kind == "points":
        yield from (points.to(device) for points in images.images.split(batch))
        return
    normalise = _normaliser(dataset, device)
    indices = torch.arange(len(images.labels)).split(batch)
    parts = (
        images.images.split(batch)
        if kind == "resident"
        else _load(_Centres(images, dataset.size), data, indices, device)
    )
    for part in parts:
        yield normalise(augmentation.scale(part.to(device, non_blocking=True)))


# ---------------------------------------------------------------- views, by where the images are


def _kind(images: ImageSet | ImageFiles) -> str:
    if isinstance(images, ImageFiles):
        return "files"
    return "points" if images.images.ndim == 2 else "resident"


def _drawn(dataset: Dataset, data: Data, keys, asked, device) -> Iterator[Batch]:
    """x̄ + √σ² · noise: X′ = σ² I."""
    points, spread = dataset.train.images, data.gaussian_sigma2**0.5
    for group in _together(asked, points.shape[1]):
        index, visit = (torch.cat(parts) for parts in zip(*((batch.index, batch.visit) for batch in group)))
        centre, index = points[index.to(points.device)].to(device), index.to(device)
        noise = (counter.normal(key.to(device), index, points.shape[1]) for key in keys(visit))
        yield from _parted(group, (centre + spread * drawn.to(centre.dtype) for drawn in noise))


def _augmented(dataset: Dataset, data: Data, keys, asked, device) -> Iterator[Batch]:
    images, normalise = dataset.train.images, _normaliser(dataset, device)
    for group in _together(asked, dataset.size**2):
        index, visit = (torch.cat(parts) for parts in zip(*((batch.index, batch.visit) for batch in group)))
        chosen = images[index.to(images.device)].to(device)
        drawn = (augmentation.draw(data, key, index, *images.shape[-2:]) for key in keys(visit))
        made = (
            normalise(augmentation.apply(chosen, augmentation.to_device(parameters, device), dataset.size))
            for parameters in drawn
        )
        yield from _parted(group, made)


def _parted(group: list[Batch], views: Iterable[torch.Tensor]) -> Iterator[Batch]:
    """Each batch of a group with its own rows of the views of all."""
    for batch, *own in zip(group, *(x.split([len(batch) for batch in group]) for x in views), strict=True):
        yield replace(batch, views=tuple(own))


def _together(asked: Iterable[Batch], numbers: int) -> Iterator[list[Batch]]:
    """Batches of small views in groups that are made at once: most of their time goes into calling small kernels."""
    group = []
    for batch in asked:
        group.append(batch)
        if sum(map(len, group)) * numbers >= _WORTH_CALLING:
            yield group
            group = []
    if group:
        yield group


def _streamed(dataset: Dataset, data: Data, keys, asked, device) -> Iterator[Batch]:
    normalise = _normaliser(dataset, device)
    cuts = _Cuts(dataset.train, data, keys, dataset.size)
    for batch, *cut in _load(cuts, data, asked, device):
        drawn = (augmentation.draw_colours(data, key, batch.index) for key in keys(batch.visit))
        views = (
            normalise(augmentation.recolour(augmentation.scale(x), augmentation.to_device(colours, device)))
            for x, colours in zip((x.to(device, non_blocking=True) for x in cut), drawn, strict=True)
        )
        yield replace(batch, views=tuple(views))


def _normaliser(dataset: Dataset, device):
    mean, std = (torch.tensor(v, dtype=torch.float32, device=device) for v in (dataset.mean, dataset.std))
    return lambda x: augmentation.normalise(x, mean, std)


# ---------------------------------------------------------------- what a loader's worker does


class _Cuts:
    """A batch that is asked for → (batch, first views, …): uint8 (B, 3, size, size) each, cut and flipped."""

    def __init__(self, files: ImageFiles, data: Data, keys, size: int):
        self.files, self.data, self.keys, self.size = files, data, keys, size

    def __getitem__(self, batch: Batch):
        images = [read_image(self.files.paths[k]) for k in batch.index.tolist()]
        height, width = torch.tensor([image.shape[-2:] for image in images]).unbind(1)
        drawn = (augmentation.draw_crops(self.data, key, batch.index, height, width) for key in self.keys(batch.visit))
        return batch, *(self._cut(images, crops) for crops in drawn)

    def _cut(self, images: list[torch.Tensor], crops: augmentation.Crops) -> torch.Tensor:
        from torchvision.transforms.v2.functional import resized_crop

        size, boxes, flip = [self.size, self.size], torch.stack(crops[:4], dim=1).tolist(), crops.flip
        cut = torch.stack([resized_crop(x, *box, size, antialias=True) for x, box in zip(images, boxes)])
        return torch.where(flip[:, None, None, None], cut.flip(3), cut)


class _Centres:
    """index, int64 (B,) → the images' centres: uint8 (B, 3, size, size)."""

    def __init__(self, files: ImageFiles, size: int):
        self.files, self.size = files, size

    def __getitem__(self, index: torch.Tensor) -> torch.Tensor:
        return torch.stack([self._centre(read_image(self.files.paths[k])) for k in index.tolist()])

    def _centre(self, image: torch.Tensor) -> torch.Tensor:
        from torchvision.transforms.v2.functional import center_crop, resize

        side = min(max(min(image.shape[-2:]), self.size), round(self.size * _MARGIN))
        return center_crop(resize(image, [side], antialias=True), [self.size, self.size])


class _Spoken:
    """Hand an error in a worker over as a value: raised there, it would come back wrapped in the worker's traceback."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __getitem__(self, index):
        try:
            return self.dataset[index]
        except BadInput as error:
            return str(error)


def _load(dataset, data: Data, indices: Iterable, device: torch.device) -> Iterator:
    """`dataset[index]` for each of `indices`, in order, made ahead of time by `data.workers` processes."""
    loader = DataLoader(
        _Spoken(dataset),
        batch_size=None,
        sampler=indices,
        num_workers=data.workers,
        pin_memory=device.type == "cuda",
        worker_init_fn=_begin_work,
        generator=torch.Generator(),  # the loader draws a seed that nothing here uses: not from the global generator
    )
    for item in loader:
        if isinstance(item, str):
            raise BadInput(item)
        yield item


def _begin_work(worker: int) -> None:
    """Ctrl-C and what a cluster sends reach workers too; only the process that trains decides what follows from it.

    SIGTERM also comes from that process, to a worker that hangs: obeyed, after a while.
    """
    room_for_sockets()
    for number in (signal.SIGINT, *HINTS):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_LAST_SECONDS))

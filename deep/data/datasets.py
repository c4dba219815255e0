"""What is learned from: images as uint8 on the training device, or paths of images where they are too many to hold.

A folder's images are decoded once and kept as a memory-mapped array under `cache_folder()`; that folder may be deleted
at any time. Which images `--fraction` keeps, and which digits are for testing, is decided by counting
(`deep.data.counter`), so that every machine chooses the same. Torchvision and scikit-learn take longer to import than
the rest of a short run and are imported by the sets that need them.
"""

import os
import stat
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
import torch
import torch.nn.functional as F

from stopgrad.deep.config import Data
from stopgrad.deep.data import counter
from stopgrad.deep.data.fold import fold
from stopgrad.deep.data.image_files import (
    ImageFiles,
    cached,
    decode,
    digest,
    endings,
    header_shapes,
    image_paths,
    refuse_link,
)
from stopgrad.linear_theory.tools.arrays import as_int64
from stopgrad.linear_theory.tools.errors import BadInput, Missing
from stopgrad.linear_theory.tools.files import cache_folder, is_litter

RESIDENT_BYTES = 2 * 2**30  # decoded images that `--storage auto` still holds in memory
_DIGITS, _SUBSET, _POINTS = (int.from_bytes(word) for word in (b"digits", b"subset", b"points"))  # keys of their own
_MEAN_STD = {  # per channel, over the training images; a folder of images has ImageNet's, however it is stored
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "stl10": ((0.4467, 0.4398, 0.4066), (0.2603, 0.2566, 0.2713)),
    "imagefolder": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


class ImageSet(NamedTuple):
    """Images in memory. Their number is len(labels); that of the tuple is 2."""

    images: torch.Tensor
    """uint8 (N, 3, size, size), RGB; for gaussian float32 (N, dim), the points x̄ that views scatter around."""
    labels: torch.Tensor
    """int64 (N,): indices into the classes, −1 where the class is unknown."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test images, and what is known about them."""

    name: str
    classes: tuple[str, ...]
    """Their names; none for gaussian."""
    mean: tuple[float, ...]
    """Per channel, of pixels between 0 and 1: to normalise views with, after augmentation."""
    std: tuple[float, ...]
    train: ImageSet | ImageFiles
    test: ImageSet | ImageFiles
    size: int
    """Side of a view in pixels; for gaussian the dimension."""
    key: str
    """Hash of what is learned from and tested on: pixels and labels, or names and byte counts where images stream."""
    source: str = ""
    """Where the images came from, in words, where a set may come from several places."""

    @property
    def labelled(self) -> ImageSet | ImageFiles:
        """The training images whose class is known (for stl10 a copy of 5 in 105), for kNN and the linear probe."""
        known = self.train.labels >= 0
        return self.train if bool(known.all()) else take(self.train, known.nonzero()[:, 0])


def load(data: Data, seed: int, device="cpu", cache: Path | None = None) -> Dataset:
    """The data set that `data` describes, resident parts on `device`; decoded folders are kept in `cache`.

    `seed` decides which training images `--fraction` keeps and, for gaussian, the points themselves: a seed is one
    draw of the whole experiment. Raises ValueError with one sentence for whatever is missing or unreadable.
    """
    cache = cache_folder() if cache is None else Path(cache)
    if data.storage == "stream" and data.dataset != "imagefolder":
        raise BadInput(f"--storage stream is for --dataset imagefolder; {data.dataset} is always held in memory")
    match data.dataset:
        case "digits":
            whole = _digits(data)
        case "gaussian":
            whole = _gaussian(data, seed)
        case "imagefolder":
            try:
                whole = _imagefolder(data, cache)
            except OSError as error:
                raise BadInput(f"{error.filename} cannot be read: {error.strerror or error}") from None
        case _:
            whole = _torchvision(data, cache)
    kept = choose_fraction(whole.train.labels, data.fraction, seed)
    train = whole.train if data.fraction == 1 else take(whole.train, kept)
    return replace(whole, train=_on(train, device), test=_on(whole.test, device), key=digest(whole.key, kept))


def take(images: ImageSet | ImageFiles, indices: torch.Tensor) -> ImageSet | ImageFiles:
    """The images at `indices`, whole numbers (n,), in that order."""
    indices = torch.from_numpy(as_int64(indices, "indices"))
    if isinstance(images, ImageFiles):
        return ImageFiles(tuple(images.paths[k] for k in indices.tolist()), images.labels[indices])
    return ImageSet(images.images[indices], images.labels[indices])


# ---------------------------------------------------------------- choosing


def stratified_order(labels: torch.Tensor, key: int) -> torch.Tensor:
    """A random order, int64 (n,), every beginning of which has the classes in their proportions. labels: (n,).

    Image r of a class of n_c is due at (r + ½)/n_c; a tie is broken at random.
    """
    labels = torch.from_numpy(as_int64(labels, "labels"))
    shuffled = counter.permutation(key, len(labels))
    _, kind, counts = labels[shuffled].unique(return_inverse=True, return_counts=True)
    by_kind = torch.argsort(kind, stable=True)
    within = torch.empty_like(kind)
    within[by_kind] = torch.arange(len(kind)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    return shuffled[torch.argsort((within.double() + 0.5) / counts[kind], stable=True)]


def choose_fraction(labels: torch.Tensor, fraction: float, seed: int) -> torch.Tensor:
    """Rising indices, int64, of a share of the images in which every class keeps its own share. labels: (n,).

    For one seed, a smaller share is part of a larger one. Raises ValueError where fewer than 2 images are left.
    """
    count = round(fraction * len(labels))
    if count < 2:
        raise BadInput(
            f"--fraction {fraction:g} leaves {count} of the {len(labels)} training images; at least 2 are needed"
        )
    return stratified_order(labels, fold(_SUBSET, seed))[:count].sort().values


# ---------------------------------------------------------------- sets that come as arrays


def _digits(data: Data) -> Dataset:
    """scikit-learn's 1797 digits, upsampled, in three equal channels; 360 of them for testing, whatever the seed."""
    from sklearn.datasets import load_digits

    size = data.image_size or 16
    bunch = load_digits()
    raw = torch.as_tensor(bunch.images)[:, None]  # float64, 0 … 16
    images = F.interpolate(raw, size=(size, size), mode="bilinear", antialias=False) * (255 / 16)
    whole = ImageSet(
        images.round().to(torch.uint8).expand(-1, 3, -1, -1).contiguous(), torch.as_tensor(bunch.target).long()
    )
    order = stratified_order(whole.labels, fold(_DIGITS))
    test, train = (take(whole, part.sort().values) for part in (order[:360], order[360:]))
    pixels = train.images.double() / 255
    mean, std = ((round(float(v), 4),) * 3 for v in (pixels.mean(), pixels.std(correction=0)))
    return _dataset("digits", [str(k) for k in range(10)], train, test, size, mean, std)


def _gaussian(data: Data, seed: int) -> Dataset:
    """Points x̄ ~ N(μ, Σ), Σ = diag(j^−decay) for j ≤ rank and 0 beyond, μ along the last direction.

    The theory's X = E[x̄x̄ᵀ] = Σ + μμᵀ is diagonal too, and where the rank is not full the mean is a mode of its own.
    """
    n, dim = data.gaussian_samples, data.gaussian_dim
    count = n + max(2, n // 4)
    spread = torch.arange(1, dim + 1, dtype=torch.float64) ** (-data.gaussian_decay / 2)
    spread[data.gaussian_rank or dim :] = 0
    centre = torch.zeros(dim, dtype=torch.float64)
    centre[-1] = data.gaussian_mean
    points = (counter.normal(fold(_POINTS, seed), torch.arange(count), dim) * spread + centre).float()
    train, test = (ImageSet(part, torch.zeros(len(part), dtype=torch.int64)) for part in (points[:n], points[n:]))
    return _dataset("gaussian", (), train, test, dim, (0.0,), (1.0,))


def _torchvision(data: Data, cache: Path) -> Dataset:
    """cifar10, cifar100 or stl10: from the files that torchvision keeps (and checks) in a folder, or the first two from
    a copy there as images, NAME/train/CLASS/… and NAME/test/CLASS/…, as they would be from the set itself."""
    folder = Path(os.path.expanduser(data.data_folder)) if data.data_folder else cache / "torchvision"
    if data.dataset != "stl10" and (folder / data.dataset / "train").is_dir():
        copy = _imagefolder(replace(data, data_folder=str(folder / data.dataset), storage="resident"), cache)
        mean, std = _MEAN_STD[data.dataset]
        return replace(copy, name=data.dataset, mean=mean, std=std)
    try:
        train, test, classes = (_stl10 if data.dataset == "stl10" else _cifar)(data.dataset, folder, data.download)
    except (RuntimeError, OSError) as error:
        if data.download:
            hint = "check the network, or name a folder that holds it with --data-folder"
            raise BadInput(f"{data.dataset} could not be downloaded into {folder} ({error}); {hint}") from None
        hint = "give --download to fetch it, or --data-folder to name the folder where torchvision keeps it"
        raise Missing(f"{data.dataset} is missing from {folder} or damaged there", hint) from None
    size = data.image_size or train.images.shape[-1]
    train, test = (ImageSet(_resized(part.images, size), part.labels) for part in (train, test))
    whole = _dataset(data.dataset, classes, train, test, size, *_MEAN_STD[data.dataset])
    return replace(whole, source="torchvision's files")


def _cifar(name: str, folder: Path, download: bool) -> tuple[ImageSet, ImageSet, list[str]]:
    from torchvision.datasets import CIFAR10, CIFAR100

    kind = {"cifar10": CIFAR10, "cifar100": CIFAR100}[name]
    parts = [kind(folder, train=train, download=download) for train in (True, False)]
    train, test = (_image_set(part.data.transpose(0, 3, 1, 2), part.targets) for part in parts)
    return train, test, parts[0].classes


def _stl10(name: str, folder: Path, download: bool) -> tuple[ImageSet, ImageSet, list[str]]:
    """Trained on are the 5,000 labelled and the 100,000 unlabelled images, as in Tian et al. 2021."""
    from torchvision.datasets import STL10

    parts = [STL10(folder, split=split, download=download) for split in ("train+unlabeled", "test")]
    train, test = (_image_set(part.data, part.labels) for part in parts)
    return train, test, parts[0].classes


def _image_set(images: np.ndarray, labels) -> ImageSet:
    return ImageSet(torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(as_int64(labels, "labels")))


def _resized(images: torch.Tensor, size: int) -> torch.Tensor:
    if images.shape[-1] == size:
        return images
    from torchvision.transforms.v2.functional import resize

    return torch.cat([resize(part, [size, size], antialias=True) for part in images.split(1024)])


def _dataset(name, classes, train: ImageSet, test: ImageSet, size: int, mean, std) -> Dataset:
    key = digest(*classes, *train, *test)
    return Dataset(name, tuple(classes), mean, std, train, test, size, key)


def _on(images: ImageSet | ImageFiles, device) -> ImageSet | ImageFiles:
    return ImageSet(*(part.to(device) for part in images)) if isinstance(images, ImageSet) else images


# ---------------------------------------------------------------- folders of images


def _imagefolder(data: Data, cache: Path) -> Dataset:
    """train/CLASS/… and val/CLASS/… (or test/): held in memory where few and alike, else left on disk.

    A folder's images are known by their names, byte counts and times of change: hashing the bytes of ImageNet would
    take minutes at every start, and an image that changes but keeps all three is not made by accident.
    """
    root = Path(os.path.expanduser(data.data_folder))
    refuse_link(root / "val")
    folders = [root / "train", root / "val" if (root / "val").is_dir() else root / "test"]
    for folder, name in zip(folders, ("train", "val/ or test")):
        refuse_link(folder)
        if not folder.is_dir():
            raise BadInput(
                f"there is no {name}/ in {root}; that folder (--data-folder), or what it is a link to, must hold "
                "train/CLASS/… and val/CLASS/…"
            )
    classes = _same_classes(*folders)
    parts = [_image_files(folder, classes) for folder in folders]
    suffixes = sorted({Path(path).suffix.lower() for part in parts for path in part.paths})
    source = f"image files ({', '.join(suffixes)})"
    contents, stamps = zip(*map(_fingerprint, folders, parts))
    shapes = [
        cached(cache, f"{stamp}-shapes", partial(header_shapes, part.paths)) for stamp, part in zip(stamps, parts)
    ]
    size, resident = _plan(data, np.concatenate(shapes), root)
    if not resident:
        key = digest(*classes, *contents)
        return Dataset("imagefolder", classes, *_MEAN_STD["imagefolder"], *parts, size, key, source)
    pixels = [cached(cache, f"{stamp}-{size}", partial(decode, part.paths, size)) for stamp, part in zip(stamps, parts)]
    sets = [ImageSet(torch.from_numpy(array), part.labels) for array, part in zip(pixels, parts)]
    whole = _dataset("imagefolder", classes, *sets, size, *_MEAN_STD["imagefolder"])
    return replace(whole, source=source)


def _fingerprint(folder: Path, files: ImageFiles) -> tuple[str, str]:
    """Hashes of what a folder's images are: of names and byte counts, and of these and the times of change."""
    stats = [_stat(path) for path in files.paths]
    content = digest(*(f"{path[len(str(folder)) :]}/{s.st_size}" for path, s in zip(files.paths, stats)))
    return content, digest(PIL.__version__, content, np.array([s.st_mtime_ns for s in stats]))


def _stat(path: str) -> os.stat_result:
    try:
        found = os.stat(path)
    except OSError:
        refuse_link(Path(path))
        raise
    if not stat.S_ISREG(found.st_mode):
        raise BadInput(f"{path} is no file; take it away")
    return found


def _same_classes(train: Path, test: Path) -> tuple[str, ...]:
    both = [_classes(train), _classes(test)]
    for folder, classes in zip((train, test), both):
        if not classes:
            raise BadInput(f"{folder} holds no folders; its images must lie in {folder}/CLASS/")
    for name in sorted(both[0] ^ both[1]):
        here, there = (train, test) if name in both[0] else (test, train)
        raise BadInput(f"class {name} is in {here} but not in {there}; both must hold the same classes")
    return tuple(sorted(both[0], key=os.fsencode))


def _classes(folder: Path) -> set[str]:
    paths = [path for path in folder.iterdir() if not is_litter(path.name)]
    for path in paths:
        refuse_link(path)
    return {path.name for path in paths if path.is_dir()}


def _image_files(folder: Path, classes: tuple[str, ...]) -> ImageFiles:
    found = [image_paths(folder / name) for name in classes]
    for name, paths in zip(classes, found):
        if not paths:
            raise BadInput(f"{folder / name} holds no images; they must end in {', '.join(endings())}")
    labels = torch.arange(len(classes)).repeat_interleave(torch.tensor([len(paths) for paths in found]))
    return ImageFiles(tuple(path for paths in found for path in paths), labels)


def _plan(data: Data, shapes: np.ndarray, root: Path) -> tuple[int, bool]:
    """Side of a view, and whether the images are to be held in memory. shapes: (N, 2), width and height."""
    low, high = shapes.min(0), shapes.max(0)
    alike = bool((low == high).all())
    if data.image_size is None and not alike:
        raise BadInput(
            f"the images in {root} differ in size ({low[0]} to {high[0]} wide, {low[1]} to {high[1]} high); "
            "give the side of a view with --image-size, for ImageNet 224"
        )
    size = data.image_size or int(low.min())
    # Holding others would cut their margins away: that has to be asked for.
    square = alike and low[0] == low[1]
    return size, data.storage == "resident" or (
        data.storage == "auto" and square and len(shapes) * 3 * size**2 <= RESIDENT_BYTES
    )

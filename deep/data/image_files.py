"""Images in files: read one by one or all at once, and kept decoded so that a folder is read only once."""

import hashlib
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track

from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.files import is_litter, refuse_broken_link, replace_file

_CHUNK = 64  # images a thread takes at a time


class ImageFiles(NamedTuple):
    """Images on disk, decoded whenever they are needed; of any sizes."""

    paths: tuple[str, ...]
    """N paths."""
    labels: torch.Tensor
    """int64 (N,), as in ImageSet; on the CPU always, where a loader's workers can read them."""


# ---------------------------------------------------------------- finding


def endings() -> tuple[str, ...]:
    """What names of images end in, as torchvision has it."""
    from torchvision.datasets.folder import IMG_EXTENSIONS

    return IMG_EXTENSIONS


def image_paths(folder: Path) -> list[str]:
    """Every image in `folder` and below, by its ending, in torchvision's order (of bytes, so in any locale).

    Litter is passed over, links are followed. Raises OSError for a folder that cannot be read, ValueError for a link
    that leads nowhere or back to a folder that holds it.
    """
    found, images = {}, endings()
    for root, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        folders[:] = [name for name in folders if not is_litter(name)]
        names = [name for name in names if not is_litter(name)]
        found[root] = sorted((name for name in names if name.lower().endswith(images)), key=os.fsencode)
        for name in {*folders, *names}.difference(found[root]):
            refuse_link(Path(root, name))
    return [os.path.join(root, name) for root in sorted(found, key=os.fsencode) for name in found[root]]


def refuse_link(path: Path) -> None:
    """Raise ValueError where `path` is a link that leads nowhere, or to a folder that holds it."""
    refuse_broken_link(path)
    if path.is_symlink() and any(path.samefile(above) for above in path.absolute().parents):
        raise BadInput(f"{path} is a link to a folder that holds it; take it away")


def _raise(error: OSError) -> None:
    raise error


# ---------------------------------------------------------------- reading


def read_image(path: str) -> torch.Tensor:
    """One image in its own size: uint8 (3, height, width), RGB. Raises ValueError, naming it, if it is unreadable."""
    with _opened(path) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


def read_images(files: ImageFiles, indices: torch.Tensor, size: int, centre: float = 1.0) -> torch.Tensor:
    """The images at `indices`, int64 (n,), as a set in memory has them: uint8 (n, 3, size, size), RGB.

    The shorter side is brought to size/centre (bilinear, antialiased), then the central square is kept: the papers'
    protocol on ImageNet is size 224, centre 224/256. Raises ValueError naming an unreadable image.
    """
    return torch.from_numpy(decode([files.paths[k] for k in indices.tolist()], size, centre, threads=1))


@contextmanager
def _opened(path: str):
    try:
        with Image.open(path) as image:
            if image.mode[0] in "IF":  # Pillow would clip them to 8 bits without a word
                raise BadInput("it has more than 8 bits a channel")
            yield image
    except Exception as error:  # Pillow's decoders raise nearly anything
        reason = getattr(error, "strerror", None) or error
        reason = "of no known format" if isinstance(error, PIL.UnidentifiedImageError) else reason
        raise BadInput(f"{path} cannot be read as an image ({reason}); repair it or take it away") from None


def header_shapes(paths: Sequence[str]) -> np.ndarray:
    """Width and height of every image, int32 (N, 2), from their headers."""
    shapes = np.empty((len(paths), 2), np.int32)

    def look(k):
        with _opened(paths[k]) as image:
            shapes[k] = image.size

    _for_each(look, len(shapes), "looking at images")
    return shapes


def decode(paths: Sequence[str], size: int, centre: float = 1.0, threads: int | None = None) -> np.ndarray:
    """The images as uint8 (N, 3, size, size), RGB: see `read_images`. threads: by default as many as pay."""
    from torchvision.transforms.v2.functional import center_crop, resize

    pixels = np.empty((len(paths), 3, size, size), np.uint8)

    def put(k):
        with _opened(paths[k]) as image:
            image = image.convert("RGB")
            if image.size != (size, size) or centre != 1:
                image = center_crop(resize(image, [round(size / centre)]), [size, size])
            pixels[k] = np.asarray(image).transpose(2, 0, 1)

    _for_each(put, len(pixels), "decoding images", threads)
    return pixels


def _for_each(work: Callable[[int], None], count: int, text: str, threads: int | None = None) -> None:
    """work(0) … work(count − 1), in threads (Pillow frees the interpreter while it decodes). The first error is raised.

    threads=1 works in the caller's own thread: a loader's worker is one of several already.
    """

    def some(start, size=_CHUNK):
        for k in range(start, min(start + size, count)):
            work(k)

    starts = range(0, count, _CHUNK)
    if threads == 1:
        some(0, count)
        return
    console = Console(stderr=True)
    with ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1)) as pool:
        hidden = not console.is_terminal
        for _ in track(pool.map(some, starts), text, len(starts), console=console, transient=True, disable=hidden):
            pass


# ---------------------------------------------------------------- keeping


def cached(cache: Path, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """What `make` returned when it was first asked for under `name`, memory-mapped (changes stay private).

    The file's name ends in a hash of the array, so that damage is noticed; then, or where nothing can be written, a
    warning is given and the array is made.
    """
    for path in cache.glob(f"{name}-*.npy"):
        try:
            array = np.load(path, mmap_mode="c")
            if path.stem.endswith(digest(array)):
                return array
            reason = "its hash differs"
        except (ValueError, OSError, EOFError) as error:
            reason = error
        warnings.warn(f"{path} is damaged ({reason}); reading the images again", stacklevel=2)
    array = make()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        replace_file(cache / f"{name}-{digest(array)}.npy", lambda draft: np.save(draft, array))
    except OSError as error:
        warnings.warn(f"decoded images cannot be kept in {cache}: {error.strerror or error}", stacklevel=2)
    return array


def digest(*parts) -> str:
    """32 hexadecimal digits of SHA-256 over strings, arrays and CPU tensors, with their types and shapes.

    Of a file's name its bytes count, which need be no UTF-8 and are the same in any locale.
    """
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            name = os.fsencode(part)
            total.update(b"%d:%b" % (len(name), name))
            continue
        array = np.ascontiguousarray(part)
        total.update(f"{array.dtype.str}{array.shape}".encode())
        total.update(array)
    return total.hexdigest()[:32]

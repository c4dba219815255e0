"""Tiny folders of images, and how they are loaded."""

import numpy as np
import torch
from PIL import Image

from stopgrad.deep.config import Data
from stopgrad.deep.data.datasets import load

CLASSES = ("cat", "dog")


def write_image(path, seed, size=(12, 12), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], len(mode)) if len(mode) > 1 else (size[1], size[0])
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)).save(path)


def make_folder(root):
    """A tiny imagefolder: 2 classes, 4 + 2 images each, JPEG and PNG."""
    for split, count in (("train", 4), ("val", 2)):
        for label, name in enumerate(CLASSES):
            for k in range(count):
                write_image(root / split / name / f"{k}.{('jpg', 'png')[k % 2]}", 10 * k + label)
    return root


def load_folder(folder, seed=0, **fields):
    return load(Data(dataset="imagefolder", data_folder=str(folder), **fields), seed, cache=folder.parent / "cache")


def same(a, b):
    return type(a) is type(b) and all(
        torch.equal(u, v) if isinstance(u, torch.Tensor) else u == v for u, v in zip(a, b)
    )

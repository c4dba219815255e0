"""Views: a function of (seed, visit, view, index) alone, from memory, from files and from points."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torchvision.transforms.v2 import functional as tv

from stopgrad.deep.config import Data
from stopgrad.deep.data import augmentation, views
from stopgrad.deep.data.batch import Batch
from stopgrad.deep.data.datasets import Dataset, ImageSet
from stopgrad.deep.data.fold import fold
from stopgrad.deep.data.image_files import ImageFiles
from stopgrad.deep.processes.stopping import HINTS, ORDERS

N, SIZE = 40, 24
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MEMORY = Data(dataset="cifar10", blur=0.5)
FILES = Data(dataset="imagefolder", data_folder="images", storage="stream", workers=0, blur=0.5)
POINTS = Data(dataset="gaussian", gaussian_dim=6, gaussian_sigma2=0.3)


def random_images(count=N, height=SIZE, width=SIZE, seed=0):
    coarse = torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    return tv.resize(coarse, [height, width]).mul(255).round().to(torch.uint8)


def dataset(train, size=SIZE, mean=MEAN, std=STD):
    return Dataset("test", ("a", "b"), mean, std, train, train, size, "key")


def in_memory():
    return dataset(ImageSet(random_images(), torch.arange(N) % 2))


def saved(folder, images):
    """The images as PNG files, which keep every pixel."""
    paths = []
    for k, image in enumerate(images):
        paths.append(str(folder / f"{k}.png"))
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(paths[-1])
    return ImageFiles(tuple(paths), torch.arange(len(paths)) % 2)


@pytest.fixture(scope="module")
def in_files(tmp_path_factory):
    """The same images as `in_memory`."""
    return dataset(saved(tmp_path_factory.mktemp("same"), random_images()))


def points():
    x = torch.randn(N, 6, generator=torch.Generator().manual_seed(0))
    return dataset(ImageSet(x, torch.zeros(N, dtype=torch.int64)), 6, (0.0,), (1.0,))


@pytest.fixture(params=["memory", "files", "points"])
def source(request, in_files):
    return {"memory": (in_memory(), MEMORY), "files": (in_files, FILES), "points": (points(), POINTS)}[request.param]


def asked(index, visit=3):
    """Images `index` (B,) at their visit `visit`, a number or (B,)."""
    return Batch((), index, torch.as_tensor(visit).expand(len(index)))


def seen(source, indices, seed=0, visit=3, count=2):
    """The views of all `indices`, one after the other: a list of `count`."""
    found = views.batches(*source, seed, [asked(index, visit) for index in indices], "cpu", count)
    return [torch.cat(view) for view in zip(*(batch.views for batch in found))]


# ---------------------------------------------------------------- what a view depends on


def test_batch_order_and_rank_change_no_view(source):
    index = torch.arange(N)
    whole = seen(source, [index])
    shuffled = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    assert all(torch.equal(a, b) for a, b in zip(seen(source, index.split(7)), whole))
    assert all(torch.equal(a, b[shuffled]) for a, b in zip(seen(source, shuffled.split(16)), whole))
    ranks = [seen(source, [index[rank::2]]) for rank in (0, 1)]
    assert all(torch.equal(ranks[r][v], whole[v][r::2]) for r in (0, 1) for v in (0, 1))


def test_visits_may_mix_in_a_batch(source):
    """Images at several visits, one of them at two: the bits of batches of their own."""
    index, visit = torch.tensor([5, 3, 5, 30, 7]), torch.tensor([0, 2, 1, 0, 2])
    mixed = seen(source, [index], visit=visit)
    for k in range(3):
        for found, alone in zip(mixed, seen(source, [index[visit == k]], visit=k)):
            assert torch.equal(found[visit == k], alone)


def test_more_views_leave_the_first_as_they_are(source):
    one, two, five = (seen(source, [torch.arange(9)], count=count) for count in (1, 2, 5))
    assert (len(one), len(two), len(five)) == (1, 2, 5)
    assert all(map(torch.equal, one, two)) and all(map(torch.equal, two, five))


def test_a_batch_keeps_what_was_asked_for(source):
    """Indices, visits and steps come with the views, wherever these are made."""
    wanted = [Batch((), torch.tensor(i), torch.tensor(k), step) for i, k, step in (([4, 2], [0, 1], 7), ([9], [3], 8))]
    for data in (source[1], replace(source[1], workers=2)):
        found = list(views.batches(source[0], data, 0, wanted, "cpu"))
        for batch, other in zip(found, wanted, strict=True):
            assert torch.equal(batch.index, other.index) and torch.equal(batch.visit, other.visit)
            assert batch.step == other.step and all(len(view) == len(other) for view in batch.views)


def test_the_keys_of_the_usual_order_are_as_ever():
    """Visit k is drawn under what was the key of epoch k: fold('views', seed, k, view)."""
    word = int.from_bytes(b"views")
    keys = views.view_keys(7, 2, torch.tensor([0, 5, 0]))
    assert [key.tolist() for key in keys] == [[fold(word, 7, k, v) for k in (0, 5, 0)] for v in (0, 1)]


def test_views_visits_and_seeds_differ(source):
    index = [torch.arange(N)]
    draws = [*seen(source, index, count=3), *seen(source, index, visit=4), *seen(source, index, seed=1)]
    for k, a in enumerate(draws):
        for b in draws[:k]:
            assert ((a - b).abs().flatten(1).amax(1) > 1e-3).all()


def test_the_same_image_at_another_index_is_seen_otherwise():
    twice = dataset(ImageSet(random_images(1).expand(2, -1, -1, -1), torch.zeros(2)))
    first, _ = seen((twice, MEMORY), [torch.arange(2)])
    assert (first[0] - first[1]).abs().max() > 1e-3


def test_torchs_own_generator_is_left_alone(source):
    before = torch.get_rng_state()
    seen(source, [torch.arange(4)])
    assert torch.equal(torch.get_rng_state(), before)


def test_form(source):
    (batch,) = views.batches(*source, 0, [asked(torch.arange(5))], "cpu")
    assert len(batch.views) == 2
    for x in batch.views:
        assert x.dtype == torch.float32
        assert x.shape == ((5, 3, SIZE, SIZE) if x.ndim == 4 else (5, 6))
        assert x.ndim == 2 or x.is_contiguous(memory_format=torch.channels_last)
    assert list(views.batches(*source, 0, [], "cpu")) == []


# ---------------------------------------------------------------- images in memory


def test_a_view_is_drawn_applied_and_normalised():
    source, index = in_memory(), torch.tensor([5, 3, 30])
    for key, found in zip(views.view_keys(7, 2, torch.tensor([2])), seen((source, MEMORY), [index], seed=7, visit=2)):
        parameters = augmentation.draw(MEMORY, key, index, SIZE, SIZE)
        expected = augmentation.apply(source.train.images[index], parameters, SIZE)
        torch.testing.assert_close(found, tv.normalize(expected, MEAN, STD))


def test_images_are_not_changed_by_being_viewed():
    source = in_memory()
    seen((source, MEMORY), [torch.arange(N)])
    assert torch.equal(source.train.images, random_images())


# ---------------------------------------------------------------- images in files


def test_files_give_the_views_of_memory_up_to_rounding(in_files):
    """torchvision rounds the cut to 8 bits: half a level, and one more where its fixed-point weights are off."""
    mild = {"jitter_probability": 0.0, "blur": 0.0}
    index = [torch.arange(N)]
    ours = seen((in_files, replace(FILES, **mild)), index)
    theirs = seen((in_memory(), replace(MEMORY, **mild)), index)
    for a, b in zip(ours, theirs):
        assert (a - b).abs().max() < 1.6 / 255 / min(STD)
    for a, b in zip(seen((in_files, FILES), index), seen((in_memory(), MEMORY), index)):
        assert (a - b).abs().mean() < 0.02  # contrast and saturation enlarge what rounding did


def test_large_files_are_cut_as_torchvision_does(tmp_path):
    """Images of other sizes than the view, each its own: antialiased where the box exceeds the view."""
    images = [random_images(1, h, w, seed=h)[0] for h, w in ((90, 60), (24, 31), (50, 120), (16, 16))]
    quiet = replace(FILES, jitter_probability=0.0, grayscale=0.0, blur=0.0)
    source = dataset(saved(tmp_path, images))
    index = torch.tensor([2, 0, 1, 3])
    for key, found in zip(views.view_keys(0, 2, torch.tensor([3])), seen((source, quiet), [index])):
        for x, k in zip(found, index.tolist()):
            crops = augmentation.draw_crops(quiet, key, torch.tensor([k]), *images[k].shape[-2:])
            *box, flip = (int(v) for v in crops)
            expected = tv.resized_crop(images[k] / 255, *box, [SIZE, SIZE], antialias=True)
            expected = tv.normalize(tv.horizontal_flip(expected) if flip else expected, MEAN, STD)
            assert (x - expected).abs().max() < 1.6 / 255 / min(STD)


def test_workers_change_nothing(in_files):
    index = torch.arange(24).split(5)
    alone, helped = (seen((in_files, replace(FILES, workers=k)), index) for k in (0, 2))
    assert all(torch.equal(a, b) for a, b in zip(alone, helped))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_one_sentence(tmp_path, workers):
    source = dataset(saved(tmp_path, random_images(3)))
    (tmp_path / "1.png").write_bytes(b"no image")
    data = replace(FILES, workers=workers)
    found = views.batches(source, data, 0, map(asked, torch.arange(3).split(1)), "cpu")
    next(found)
    with pytest.raises(ValueError, match=r"1\.png") as error:
        next(found)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"1\.png"):
        list(views.plain(source.train, source, data, "cpu"))


@pytest.mark.parametrize("number", [*ORDERS, *HINTS])
def test_signals_are_left_to_the_process_that_trains(in_files, number):
    """They reach every process of a terminal or a job; workers live on, and the training process finishes its step."""

    class Interrupted:
        def __getitem__(self, index):
            os.kill(os.getpid(), number)
            return index

    loaded = views._load(Interrupted(), replace(FILES, workers=1), torch.arange(3).split(1), torch.device("cpu"))
    assert torch.cat(list(loaded)).tolist() == [0, 1, 2]


# ---------------------------------------------------------------- points


def test_views_of_points_scatter_with_the_given_variance():
    """X′ = σ² I: noise of variance σ², white, independent of the point and of the other view."""
    source, n = points(), 4000
    index, noise = torch.arange(N).repeat(n // N), []
    for visit in range(n // N):
        found = seen((source, POINTS), [index[:N]], visit=visit)
        noise.append(torch.cat([x - source.train.images for x in found], dim=1))
    noise = torch.cat(noise).double().numpy() / 0.3**0.5
    assert np.abs(np.cov(noise, rowvar=False) - np.eye(12)).max() < 6 / n**0.5
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-2
    assert np.abs(np.corrcoef(noise[:, :6].T, source.train.images[index].T)[:6, 6:]).max() < 5 / n**0.5


def test_without_noise_views_are_the_points():
    source, index = points(), torch.tensor([4, 1])
    for x in seen((source, replace(POINTS, gaussian_sigma2=0.0)), [index]):
        assert torch.equal(x, source.train.images[index])


# ---------------------------------------------------------------- plain images


def test_plain_images_come_in_order_normalised():
    source = in_memory()
    found = list(views.plain(source.train, source, MEMORY, "cpu", batch=16))
    assert [len(part) for part in found] == [16, 16, 8]
    assert all(part.is_contiguous(memory_format=torch.channels_last) for part in found)
    torch.testing.assert_close(torch.cat(found), tv.normalize(random_images() / 255, MEAN, STD))


@pytest.mark.parametrize("workers", [0, 1])
def test_plain_files_of_the_views_size_are_as_in_memory(in_files, workers):
    memory, data = in_memory(), replace(FILES, workers=workers)
    found = torch.cat(list(views.plain(in_files.train, in_files, data, "cpu", batch=9)))
    assert torch.equal(found, torch.cat(list(views.plain(memory.train, memory, MEMORY, "cpu"))))


@pytest.mark.parametrize(("height", "width", "side"), [(60, 90, 27), (25, 40, 25), (12, 30, 24)])
def test_plain_files_are_resized_and_cut_to_the_centre(tmp_path, height, width, side):
    """27 = 24 · 256/224; smaller images are enlarged no further than to fill the view."""
    images = random_images(1, height, width)
    source = dataset(saved(tmp_path, images))
    (found,) = views.plain(source.train, source, FILES, "cpu")
    expected = tv.center_crop(tv.resize(images, [side], antialias=True), [SIZE, SIZE])
    torch.testing.assert_close(found, tv.normalize(expected / 255, MEAN, STD))


def test_plain_points_are_the_points():
    source = points()
    assert torch.equal(torch.cat(list(views.plain(source.train, source, POINTS, "cpu", batch=7))), source.train.images)

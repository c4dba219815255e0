"""Data sets: what is loaded, which part of it, from where, and what is said when it cannot be."""

import shutil

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from image_folders import CLASSES, load_folder, make_folder, same, write_image
from PIL import Image
from sklearn.datasets import load_digits
from torchvision.transforms import v2

from stopgrad.deep.config import Data
from stopgrad.deep.data import datasets, image_files
from stopgrad.deep.data.datasets import ImageSet, choose_fraction, load, stratified_order
from stopgrad.deep.data.image_files import ImageFiles, read_image, read_images


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "set")


def forbid_decoding(monkeypatch):
    def refuse(*arguments, **named):
        raise AssertionError("an image was opened")

    monkeypatch.setattr(image_files.Image, "open", refuse)


# ---------------------------------------------------------------- digits and gaussian


def test_digits_are_split_once_and_for_all_with_classes_in_proportion():
    data, again = load(Data(), seed=0), load(Data(), seed=5)
    assert data.train.images.shape == (1437, 3, 16, 16) and data.test.images.shape == (360, 3, 16, 16)
    assert data.train.images.dtype == torch.uint8 and data.train.labels.dtype == torch.int64
    assert same(data.train, again.train) and same(data.test, again.test) and data.key == again.key
    assert data.size == 16 and data.classes == tuple("0123456789") and data.labelled is data.train
    total = np.bincount(load_digits().target)
    assert np.abs(data.test.labels.bincount().numpy() - total * 360 / 1797).max() <= 1


def test_digits_in_their_own_size_are_scikit_learns_and_each_is_used_once():
    data = load(Data(image_size=8), seed=0)
    ours = torch.cat([data.train.images, data.test.images])
    assert torch.equal(ours[:, 0], ours[:, 1]) and torch.equal(ours[:, 0], ours[:, 2])
    labels = torch.cat([data.train.labels, data.test.labels]).tolist()
    theirs = [(label, *image) for label, image in zip(load_digits().target, load_digits().data.astype(int).tolist())]
    levels = (ours[:, 0].flatten(1) * (16 / 255)).round().long().tolist()
    assert sorted((label, *image) for label, image in zip(labels, levels)) == sorted(theirs)


def test_digits_are_upsampled_as_pillow_does():
    small, large = load(Data(image_size=8), 0).train.images[:50, 0], load(Data(image_size=20), 0).train.images[:50, 0]
    for a, b in zip(small.numpy(), large.numpy()):
        pillow = np.asarray(Image.fromarray(a).resize((20, 20), Image.BILINEAR)).astype(int)
        assert np.abs(pillow - b).max() <= 2  # Pillow starts from rounded levels


def test_digits_are_normalised_by_their_own_moments():
    data = load(Data(), 0)
    views = v2.functional.normalize(data.train.images.float() / 255, list(data.mean), list(data.std))
    assert abs(views.mean()) < 1e-3 and abs(views.std() - 1) < 1e-3


def test_gaussian_points_have_the_covariance_that_was_asked_for():
    data = load(Data(dataset="gaussian", gaussian_dim=5, gaussian_decay=1.0, gaussian_samples=40_000), seed=3)
    points = data.train.images
    assert points.shape == (40_000, 5) and points.dtype == torch.float32 and data.test.images.shape == (10_000, 5)
    assert data.size == 5 and data.classes == () and not data.train.labels.any()
    X = torch.diag(torch.arange(1.0, 6.0) ** -1)
    error = points.T @ points / len(points) - X
    deviation = torch.sqrt((X.diag()[:, None] * X.diag() + X**2) / len(points))  # Isserlis
    assert (error.abs() < 4 * deviation).all()


def test_gaussian_points_follow_the_seed_and_are_not_those_of_the_test():
    first, again, other = (load(Data(dataset="gaussian"), seed) for seed in (0, 0, 1))
    assert same(first.train, again.train) and first.key == again.key
    assert not same(first.train, other.train) and first.key != other.key
    assert not (first.train.images[:, :1] == first.test.images[:, 0]).any()


def test_more_gaussian_points_begin_with_the_fewer():
    few, many = (load(Data(dataset="gaussian", gaussian_samples=n), 0).train.images for n in (100, 400))
    assert torch.equal(many[:100], few)


# ---------------------------------------------------------------- fraction


LABELS = st.lists(st.integers(-1, 4), min_size=4, max_size=120).map(torch.tensor)


@given(LABELS, st.integers(0, 2**63 - 1))
def test_the_stratified_order_is_a_permutation_that_begins_in_proportion(labels, key):
    order = stratified_order(labels, key)
    n = len(labels)
    assert order.sort().values.tolist() == list(range(n))
    for kind in labels.unique():
        so_far = (labels[order] == kind).cumsum(0)
        share = (labels == kind).double().mean()
        slack = 0.5 + 0.5 * len(labels.unique()) * share  # half an image of its own, and its share of the others'
        assert (so_far - share * torch.arange(1, n + 1)).abs().max() <= slack + 1e-9


@given(LABELS, st.integers(0, 2**31), st.floats(0.5, 1), st.floats(0.5, 1))
def test_a_smaller_fraction_is_part_of_a_larger_one(labels, seed, a, b):
    small, large = (choose_fraction(labels, f, seed) for f in sorted((a, b)))
    assert set(small.tolist()) <= set(large.tolist())
    assert len(small) == round(min(a, b) * len(labels)) and (small.diff() > 0).all()


def test_balanced_classes_stay_balanced_and_seeds_choose_differently():
    labels = torch.arange(1000) % 10
    kept = choose_fraction(labels, 0.1, 0)
    assert labels[kept].bincount().tolist() == [10] * 10
    assert set(kept.tolist()) != set(choose_fraction(labels, 0.1, 1).tolist())


def test_all_images_are_kept_in_their_order():
    assert choose_fraction(torch.tensor([1, 0, 1]), 1.0, 9).tolist() == [0, 1, 2]


def test_fraction_reaches_the_data_set_and_its_key_but_not_its_test_images():
    whole, part, other = (load(Data(fraction=f), s) for f, s in ((1.0, 0), (0.1, 0), (0.1, 1)))
    kept = choose_fraction(whole.train.labels, 0.1, 0)
    assert len(kept) == 144 and same(part.train, datasets.take(whole.train, kept)) and same(part.test, whole.test)
    assert len({whole.key, part.key, other.key}) == 3


def test_a_fraction_that_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match=r"--fraction 0.001 leaves 1 of the 1437 training images; at least 2"):
        load(Data(fraction=0.001), 0)


# ---------------------------------------------------------------- folders of images


def test_a_small_folder_is_held_in_memory_as_torchvision_reads_it(folder):
    data = load_folder(folder)
    assert isinstance(data.train, ImageSet) and data.classes == CLASSES and data.size == 12
    for part, split in ((data.train, "train"), (data.test, "val")):
        theirs = torchvision.datasets.ImageFolder(folder / split)
        assert part.labels.tolist() == theirs.targets
        pixels = torch.stack([v2.functional.pil_to_tensor(image) for image, _ in theirs])
        assert part.images.dtype == torch.uint8 and torch.equal(part.images, pixels)


def test_images_are_decoded_once(folder, monkeypatch):
    first = load_folder(folder)
    forbid_decoding(monkeypatch)
    again = load_folder(folder)
    assert same(first.train, again.train) and same(first.test, again.test) and first.key == again.key
    again.train.images[0] = 0  # memory-mapped, but private
    assert same(load_folder(folder).train, first.train)


def test_a_folder_that_has_moved_is_not_decoded_again(folder, monkeypatch):
    first = load_folder(folder)
    forbid_decoding(monkeypatch)
    assert same(load_folder(folder.rename(folder.with_name("elsewhere"))).train, first.train)


def test_a_changed_image_is_decoded_again(folder):
    first, path = load_folder(folder), folder / "train" / "cat" / "1.png"
    write_image(path, 99)
    again = load_folder(folder)
    assert torch.equal(again.train.images[1], read_image(path)) and again.key != first.key
    assert torch.equal(again.train.images[[0, 2, 3]], first.train.images[[0, 2, 3]])


@pytest.mark.parametrize("harm", ["truncate", "flip", "empty", "header"])
def test_a_damaged_cache_is_noticed_and_repaired(folder, harm, monkeypatch):
    first = load_folder(folder)
    for path in (folder.parent / "cache").iterdir():
        content = bytearray(path.read_bytes())
        content[-3] ^= 4 if harm == "flip" else 0
        content[20] = ord("!") if harm == "header" else content[20]
        path.write_bytes(content[: {"truncate": -1, "empty": 0}.get(harm, len(content))])
    with pytest.warns(UserWarning, match=r"\.npy is damaged .*; reading the images again"):
        again = load_folder(folder)
    assert same(first.train, again.train) and same(first.test, again.test)
    forbid_decoding(monkeypatch)
    assert same(load_folder(folder).train, first.train)


def test_a_cache_that_cannot_be_written_is_done_without(folder):
    (folder.parent / "cache").write_text("a file where a folder should be")
    with pytest.warns(UserWarning, match="decoded images cannot be kept in"):
        assert len(load_folder(folder).train.labels) == 8


def test_the_cache_follows_xdg(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert datasets.cache_folder() == tmp_path / "stopgrad"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert datasets.cache_folder().parts[-2:] == (".cache", "stopgrad")


@pytest.mark.parametrize("size", [12, 9, 16])
def test_what_streams_has_the_pixels_of_what_is_held(folder, size):
    held = load_folder(folder, image_size=size, storage="resident")
    files = load_folder(folder, image_size=size, storage="stream")
    assert isinstance(files.train, ImageFiles) and files.size == held.size == size
    assert torch.equal(files.train.labels, held.train.labels) and (files.mean, files.std) == (held.mean, held.std)
    indices = torch.tensor([5, 0, 7])
    assert torch.equal(read_images(files.train, indices, size), held.train.images[indices])
    part = load_folder(folder, image_size=size, storage="stream", fraction=0.5)
    kept = choose_fraction(files.train.labels, 0.5, 0).tolist()
    assert part.train.paths == tuple(files.train.paths[k] for k in kept) and part.key != files.key


def test_images_of_other_sizes_are_cut_as_torchvision_does(folder):
    path = folder / "train" / "cat" / "wide.png"
    write_image(path, 1, size=(40, 25))
    theirs = v2.Compose([v2.Resize(round(14 / 0.875)), v2.CenterCrop(14), v2.PILToTensor()])(Image.open(path))
    ours = read_images(ImageFiles((str(path),), torch.zeros(1)), torch.tensor([0]), 14, centre=0.875)
    assert torch.equal(ours[0], theirs)
    assert read_image(path).shape == (3, 25, 40)
    held = load_folder(folder, image_size=14, storage="resident").train
    assert held.images.shape == (9, 3, 14, 14)


def test_folders_that_are_large_or_mixed_stream_by_themselves(folder, monkeypatch):
    monkeypatch.setattr(datasets, "RESIDENT_BYTES", 12 * 3 * 12 * 12 - 1)
    assert isinstance(load_folder(folder).train, ImageFiles)
    monkeypatch.setattr(datasets, "RESIDENT_BYTES", 12 * 3 * 12 * 12)
    assert isinstance(load_folder(folder).train, ImageSet)
    write_image(folder / "val" / "dog" / "tall.png", 1, size=(12, 13))
    assert isinstance(load_folder(folder, image_size=12).train, ImageFiles)


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_gray_and_transparent_images_become_rgb(tmp_path, mode):
    write_image(tmp_path / "a.png", 0, mode=mode)
    colours = np.asarray(Image.open(tmp_path / "a.png"))
    expected = np.stack([colours] * 3) if mode == "L" else colours[..., :3].transpose(2, 0, 1)
    assert np.array_equal(read_image(tmp_path / "a.png").numpy(), expected)


def rename(old, new):
    return lambda folder: (folder / old).rename(folder / new)


def cut(path, count):
    return lambda folder: (folder / path).write_bytes((folder / path).read_bytes()[:count])


def deep_pixels(folder):
    Image.fromarray(np.full((12, 12), 40_000, np.uint16)).save(folder / "val/cat/1.png")


@pytest.mark.parametrize(
    "harm, words",
    [
        (
            rename("train", "training"),
            r"no train/ in .*set; that folder \(--data-folder\), .* must hold train/CLASS/",
        ),
        (rename("val", "validation"), r"there is no val/ or test/ in"),
        (lambda f: rename("train", "old")(f) and (f / "train").mkdir(), r"train holds no folders; .*train/CLASS/"),
        (rename("val/dog", "val/fox"), r"class dog is in .*train but not in .*val"),
        (lambda f: (f / "val/emu").mkdir(), r"class emu is in .*val but not in .*train"),
        (lambda f: [p.unlink() for p in (f / "train/dog").iterdir()], r"train/dog holds no images; .*\.jpg, \.jpeg"),
        (cut("train/cat/2.jpg", 0), r"train/cat/2\.jpg cannot be read as an image \(of no known format\)"),
        (cut("train/cat/2.jpg", 300), r"train/cat/2\.jpg cannot be read as an image"),
        (cut("val/dog/1.png", 200), r"val/dog/1\.png cannot be read as an image"),
        (deep_pixels, r"val/cat/1\.png cannot be read as an image \(it has more than 8 bits a channel\)"),
        (lambda f: write_image(f / "train/cat/0.jpg", 0, (10, 14)), r"differ in size \(10 to 12 wide, 12 to 14 high\)"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said_in_a_sentence(folder, harm, words):
    harm(folder)
    with pytest.raises(ValueError, match=words):
        load_folder(folder)
    cached = [path.name for path in (folder.parent / "cache").glob("*")]
    assert not [name for name in cached if name.startswith(".")]  # nothing half-written


def test_an_unreadable_header_is_found_before_anything_streams(folder):
    cut("train/dog/3.png", 10)(folder)
    with pytest.raises(ValueError, match=r"3\.png cannot be read as an image"):
        load_folder(folder, storage="stream")


def test_val_goes_before_test_and_other_files_are_passed_over(folder):
    write_image(folder / "test" / "unsorted" / "0.png", 0)
    (folder / "train" / "cat" / "notes.txt").write_text("none")
    (folder / "train" / ".hidden").mkdir()
    assert len(load_folder(folder).train.labels) == 8
    (folder / "val").rename(folder / "old")
    (folder / "test").rename(folder / "older")
    (folder / "old").rename(folder / "test")
    assert len(load_folder(folder).test.labels) == 4


# ---------------------------------------------------------------- torchvision's sets


class FakeCIFAR:
    """The part of torchvision's CIFAR10 that is relied on."""

    classes = ("a", "b", "c")

    def __init__(self, root, train, download):
        count = 30 if train else 6
        self.data = np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        self.targets = [k % 3 for k in range(count)]


class FakeSTL:
    """The part of torchvision's STL10 that is relied on."""

    classes = FakeCIFAR.classes

    def __init__(self, root, split, download):
        unknown = {"train+unlabeled": 40, "test": 0}[split]
        self.labels = np.array([0, 1, 2] * 4 + [-1] * unknown)
        self.data = np.zeros((len(self.labels), 3, 96, 96), np.uint8).transpose(0, 1, 3, 2)
        self.data[:, 0, 0, 1] = np.arange(len(self.labels))


def test_cifar_comes_from_torchvision(monkeypatch, tmp_path):
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", FakeCIFAR)
    data = load(Data(dataset="cifar10", data_folder=str(tmp_path)), 0)
    fake = FakeCIFAR(None, True, False)
    assert np.array_equal(data.train.images.permute(0, 2, 3, 1).numpy(), fake.data)
    assert data.train.labels.tolist() == fake.targets and data.classes == ("a", "b", "c") and data.size == 32
    small = load(Data(dataset="cifar10", image_size=16), 0, cache=tmp_path).train.images
    pillow = Image.fromarray(fake.data[0]).resize((16, 16), Image.BILINEAR)  # antialiased
    assert np.abs(small[0].permute(1, 2, 0).numpy().astype(int) - np.asarray(pillow)).max() <= 1


def test_cifar_may_be_a_copy_as_image_files(folder, tmp_path):
    copy = tmp_path / "data" / "cifar10"
    shutil.copytree(folder, copy)
    found = load(Data(dataset="cifar10", data_folder=str(copy.parent)), 0, cache=tmp_path / "cache")
    plain = load_folder(folder)
    assert torch.equal(found.train.images, plain.train.images) and torch.equal(found.test.labels, plain.test.labels)
    assert found.name == "cifar10" and found.source == plain.source == "image files (.jpg, .png)"
    assert found.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=1e-3)  # the set's own, not ImageNet's


def test_stl10_trains_on_unlabelled_images_and_knows_the_labelled_ones(monkeypatch, tmp_path):
    monkeypatch.setattr(torchvision.datasets, "STL10", FakeSTL)
    data = load(Data(dataset="stl10"), 0, cache=tmp_path)
    assert data.size == 96 and len(data.train.labels) == 52 and data.train.images.is_contiguous()
    assert data.labelled.labels.tolist() == [0, 1, 2] * 4
    assert data.labelled.images[:, 0, 0, 1].tolist() == list(range(12))
    half = load(Data(dataset="stl10", fraction=0.5), 0, cache=tmp_path)
    assert len(half.train.labels) == 26 and 5 <= len(half.labelled.labels) <= 7


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "stl10"])
def test_a_missing_set_says_what_to_do(name, tmp_path):
    with pytest.raises(ValueError, match=rf"{name} is missing from .*; give --download to fetch it, or --data-folder"):
        load(Data(dataset=name, data_folder=str(tmp_path / "none")), 0)


def test_a_download_that_fails_is_one_sentence(monkeypatch, tmp_path):
    def fail(*arguments, **named):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.datasets, "CIFAR100", fail)
    with pytest.raises(ValueError, match=r"cifar100 could not be downloaded .*no route to host.*check the network"):
        load(Data(dataset="cifar100", download=True, data_folder=str(tmp_path)), 0)


def test_only_folders_stream():
    with pytest.raises(ValueError, match="--storage stream is for --dataset imagefolder; digits is always"):
        load(Data(storage="stream"), 0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_resident_sets_live_on_the_device(folder):
    for data in (load(Data(), 0, "cuda"), load(Data(dataset="gaussian"), 0, "cuda")):
        assert {v.device.type for part in (data.train, data.test) for v in part} == {"cuda"}
    cpu = load(Data(fraction=0.2), 0)
    assert torch.equal(load(Data(fraction=0.2), 0, "cuda").train.images.cpu(), cpu.train.images)

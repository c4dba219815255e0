"""Folders of images as people have them: what systems leave in them, names that are no UTF-8, and links."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torchvision
from image_folders import CLASSES, load_folder, make_folder, same, write_image

from stopgrad.deep.config import Data
from stopgrad.deep.data.datasets import load
from stopgrad.deep.data.image_files import image_paths
from stopgrad.linear_theory.tools.files import is_litter

ODD = (os.fsdecode(b"caf\xe9"), "café")  # Latin-1, and UTF-8


ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "set")


def same_sets(a, b):
    return same(a.train, b.train) and same(a.test, b.test) and (a.classes, a.key) == (b.classes, b.key)


# ---------------------------------------------------------------- litter


@pytest.mark.parametrize(
    "path",
    [
        "train/cat/.ipynb_checkpoints/0-checkpoint.jpg",
        "train/cat/deeper/.ipynb_checkpoints/0-checkpoint.jpg",
        "train/.ipynb_checkpoints/0.png",
        "train/cat/._0.png",
        "val/dog/._1.png",
        "train/.DS_Store/0.png",
        "train/__MACOSX/cat/0.png",
        "train/cat/__MACOSX/0.png",
        "val/@eaDir/0.png",
        "train/cat/@eaDir/0.jpg/SYNOPHOTO_THUMB_M.jpg",
        "val/#recycle/0.png",
        "train/$RECYCLE.BIN/0.png",
        "train/System Volume Information/0.png",
        "val/lost+found/0.png",
        "train/dog/Thumbs.db",
        "train/desktop.ini",
    ],
)
def test_what_systems_leave_behind_is_passed_over(folder, path):
    clean = load_folder(folder)
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(b"no image")  # would stop the run if it were opened
    assert same_sets(load_folder(folder), clean)


@pytest.mark.parametrize("name", ["cat", "0.png", "thumbs", "@home", "#1", "lost", "recycle"])
def test_what_people_name_is_no_litter(name):
    assert not is_litter(name)


def test_images_below_a_hidden_folder_are_the_users_own(folder):
    hidden = folder.rename(folder.with_name(".set"))
    assert len(load_folder(hidden).train.labels) == 8


# ---------------------------------------------------------------- names


def odd(folder):
    """The folder with classes and files of odd names; skips where the disk refuses them."""
    try:
        for split in ("train", "val"):
            for old, new in zip(CLASSES, ODD):
                (folder / split / old).rename(folder / split / new)
                write_image(folder / split / new / f"{new}.png", 5)
    except OSError:
        pytest.skip("this disk takes UTF-8 alone")
    return folder


def test_order_and_paths_are_torchvisions(tmp_path):
    for k, name in enumerate(("b/1.png", "a-b/0.PNG", "a/0.png", "a/b/0.png", "Z.png", "é.png", "ａ/0.webp", "😀.png")):
        write_image(tmp_path / "cat" / name, k)
    theirs = [path for path, _ in torchvision.datasets.ImageFolder(tmp_path).samples]
    assert image_paths(tmp_path / "cat") == theirs and len(theirs) == 8


@pytest.mark.parametrize("storage", ["resident", "stream"])
def test_names_that_are_no_utf8_are_names_like_others(folder, storage):
    plain = load_folder(folder, storage=storage, image_size=12)
    odd(folder)
    data = load_folder(folder, storage=storage, image_size=12)
    assert data.classes == tuple(sorted(ODD, key=os.fsencode)) and data.key != plain.key
    assert len(data.train.labels) == 10 and data.train.labels.bincount().tolist() == [5, 5]
    assert same_sets(load_folder(folder, storage=storage, image_size=12), data)


ASCII = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


def test_a_run_on_odd_names_in_an_ascii_locale(folder):
    """Names under the folder, of it, of the run and of the cache; the data set is the same as in this locale."""
    place = odd(folder).rename(folder.with_name(os.fsdecode(b"\xe9 set [$x]")))
    arguments = "--backbone linear --projector-hidden 16 --embedding-dim 8 --batch-size 8 --epochs 1 --probe none"
    code = (
        "import sys\nfrom stopgrad.deep.__main__ import door\nfrom stopgrad.deep.config import Data\n"
        "from stopgrad.deep.data.datasets import load\n"
        "print(load(Data(dataset='imagefolder', data_folder=sys.argv[1]), 0).key, file=sys.stderr)\n"
        "sys.exit(door(sys.argv[2:]))"
    )
    run = place.with_name(os.fsdecode(b"r\xe9n"))
    surroundings = {"XDG_CACHE_HOME": str(place.with_name(ODD[0])), "PYTHONPATH": str(ROOT)}
    flags = [*arguments.split(), "--dataset", "imagefolder", "--data-folder", place, "--out", run]
    done = subprocess.run(
        [sys.executable, "-c", code, place, "train", *flags, "--device", "cpu", "--quiet", "--json"],
        capture_output=True, timeout=300, check=False, cwd=folder.parent,
        env=os.environ | ASCII | surroundings,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.decode().split() == [load_folder(place).key]
    answer = json.loads(done.stdout)
    assert (answer["state"], answer["run"]) == ("finished", str(run))
    assert {"summary.json", "run.png", "backbone.pt", "measurements.npz"} <= set(os.listdir(run))


def test_an_unreadable_image_of_an_odd_name_is_one_sentence(folder):
    path = odd(folder) / "train" / ODD[0] / f"{ODD[0]}.png"
    path.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"caf\udce9\.png cannot be read as an image \(of no known format\)"):
        load_folder(folder)


# ---------------------------------------------------------------- links


def link(path, target):
    def make(folder):
        shutil.rmtree(folder / path) if (folder / path).is_dir() else (folder / path).unlink(missing_ok=True)
        (folder / path).symlink_to(target)

    return make


BROKEN, LOOP = "is a broken link; repair it or take it away", "is a link to a folder that holds it; take it away"


@pytest.mark.parametrize("storage", ["auto", "stream"])
@pytest.mark.parametrize(
    "path, target, words",
    [
        ("train/cat/1.png", "gone.png", BROKEN),
        ("train/cat/1.png", "1.png", BROKEN),  # to itself
        ("train/cat/more", "gone", BROKEN),  # perhaps a folder of images
        ("train/dog", "gone", BROKEN),
        ("val/dog", "../gone", BROKEN),
        ("train/fox", "fox", BROKEN),
        ("train", "gone", BROKEN),
        ("val", "gone", BROKEN),
        ("train/cat/more", ".", LOOP),
        ("train/cat/more", "..", LOOP),
        ("val/dog", "../..", LOOP),
        ("train/cat/1.png", "/dev/null", "is no file; take it away"),
    ],
)
def test_a_link_that_cannot_serve_is_one_sentence(folder, storage, path, target, words):
    link(path, target)(folder)
    with pytest.raises(ValueError, match=f"^{folder / path} {words}$"):
        load_folder(folder, storage=storage, image_size=12)


def test_two_links_into_each_other_are_one_sentence(folder):
    (folder / "aside").mkdir()
    (folder / "aside" / "back").symlink_to(folder / "train" / "cat")
    link("train/cat/aside", "../../aside")(folder)
    with pytest.raises(ValueError, match=f"^{folder}/train/cat/aside/back {LOOP}$"):
        load_folder(folder)


def test_a_broken_val_is_not_replaced_by_test(folder):
    (folder / "val").rename(folder / "test")
    assert len(load_folder(folder).test.labels) == 4
    (folder / "val").symlink_to("gone")
    with pytest.raises(ValueError, match=f"val {BROKEN}"):
        load_folder(folder)


def test_hidden_links_lead_where_they_like(folder):
    clean = load_folder(folder)
    (folder / "train" / "cat" / ".#0.png").symlink_to("somebody@a-machine")  # an editor's lock
    assert same_sets(load_folder(folder), clean)


@pytest.mark.parametrize("path", ["train/cat/1.png", "train/cat", "val/dog", "train", "val", "."])
def test_links_that_leave_the_tree_work(folder, path):
    plain, outside = load_folder(folder), folder.with_name("elsewhere")
    (folder / path).rename(outside)
    (folder / path).symlink_to(outside)
    assert same_sets(load_folder(folder), plain)


def test_a_link_to_another_folder_brings_its_images(folder):
    more = folder.with_name("more")
    write_image(more / "0.png", 77)
    link("train/cat/more", more)(folder)
    assert len(load_folder(folder).train.labels) == 9


# ---------------------------------------------------------------- what cannot be read


def test_a_pipe_is_not_waited_for(folder):
    (folder / "train" / "cat" / "0.jpg").unlink()
    os.mkfifo(folder / "train" / "cat" / "0.jpg")
    with pytest.raises(ValueError, match=r"0\.jpg is no file; take it away"):
        load_folder(folder)


@pytest.mark.parametrize("path", ["train", "val/dog", "train/cat/deeper"])
def test_a_folder_without_permission_is_one_sentence(folder, path, monkeypatch):
    write_image(folder / "train" / "cat" / "deeper" / "0.png", 3)
    for name in ("scandir", "listdir"):
        original = getattr(os, name)

        def guarded(place=".", original=original):
            if os.fspath(place) == str(folder / path):
                raise PermissionError(13, "Permission denied", str(place))
            return original(place)

        monkeypatch.setattr(os, name, guarded)
    with pytest.raises(ValueError, match=f"^{folder / path} cannot be read: Permission denied$"):
        load_folder(folder)


def test_a_home_that_nobody_has_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="there is no train/ in ~nobody-of-this-name/set"):
        load(Data(dataset="imagefolder", data_folder="~nobody-of-this-name/set"), 0, cache=tmp_path)

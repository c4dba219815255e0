"""`python -m deep collapse` as a user meets it: files of every kind, runs, tables, pictures, refusals."""

import json
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import undrawn

from stopgrad.deep import open_features
from stopgrad.deep.__main__ import door
from stopgrad.deep.measuring.collapse import features as parts_of_features
from stopgrad.deep.measuring.collapse.files import READERS, open_array
from stopgrad.deep.measuring.collapse.measurement import measure_collapse
from stopgrad.deep.words.collapse import METRICS
from stopgrad.deep.words.spectrum_picture import spectra_figure
from stopgrad.linear_theory.tools.errors import BadInput

Z = (np.random.default_rng(0).normal(size=(2, 120, 6)) * np.arange(1, 7.0) ** -0.7 + 0.2).astype(np.float32)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(parts_of_features, "ENTRIES", 200)
    np.save("z.npy", Z[0])
    np.save("pairs.npy", Z)


def call(capsys, *argv):
    status = door(["collapse", *map(str, argv)])
    out, err = capsys.readouterr()
    assert (status, err) == (0, ""), err
    return out


def answer(capsys, *argv):
    return json.loads(call(capsys, *argv, "--json"))


def same(found, expected):
    """Equal in all but the file's name, and to rounding in the numbers."""
    assert found.keys() == expected.keys()
    for key in found.keys() - {"features"}:
        number = isinstance(expected[key], (float, list)) and key != "notes"
        assert found[key] == (pytest.approx(expected[key], rel=1e-9) if number else expected[key]), key


def refused(capsys, *argv):
    assert door(["collapse", *map(str, argv)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    return err


# ---------------------------------------------------------------- files


def test_every_kind_of_file_gives_the_same_numbers(capsys):
    tensor = torch.from_numpy(Z[0])
    np.save("fortran.npy", np.asfortranarray(Z[0]))
    np.save("swapped.npy", Z[0].astype(">f4"))
    np.savez("plain.npz", z=Z[0], other=Z[1])
    np.savez_compressed("packed.npz", z=Z[0])
    torch.save(tensor, "bare.pt")
    torch.save({"model": {"z": tensor}, "step": 3, "list": [tensor, 1]}, "nested.pth")
    torch.save(tensor, "old.pt", _use_new_zipfile_serialization=False)
    torch.save(torch.nn.Parameter(tensor), "parameter.ckpt")
    expected = answer(capsys, "z.npy")
    names = ["fortran.npy", "swapped.npy", "plain.npz:z", "packed.npz", "bare.pt", "nested.pth:model.z"]
    for name in (*names, "nested.pth:list.0", "old.pt", "parameter.ckpt"):
        same(answer(capsys, name), expected)
    assert expected["collapse_auc"] == pytest.approx(measure_collapse(Z[0]).spectrum.metrics.collapse_auc)
    assert {Path(name.split(":")[0]).suffix for name in (*names, "z.npy", "parameter.ckpt")} | {
        ".bin",
        ".safetensors",
    } == set(READERS)


def test_safetensors(capsys):
    """Read by the format's own library, in parts."""
    safetensors = pytest.importorskip("safetensors.torch")
    tensor = torch.from_numpy(Z[0])
    safetensors.save_file({"z": tensor, "n": torch.zeros(1, dtype=int)}, "z.safetensors", {"by": "a test"})
    same(answer(capsys, "z.safetensors:z"), answer(capsys, "z.npy"))
    assert "name one, as z.safetensors:" in refused(capsys, "z.safetensors")
    torch.save(tensor.bfloat16(), "half.pt")
    safetensors.save_file({"z": tensor.bfloat16()}, "half.safetensors")
    assert answer(capsys, "half.pt")["sigma"] == answer(capsys, "half.safetensors")["sigma"]
    safetensors.save_file({"z": tensor.to(torch.float8_e4m3fn)}, "tiny.safetensors")
    assert "holds torch.float8_e4m3fn; it must hold real numbers, not in 8 bits" in refused(capsys, "tiny.safetensors")
    Path("cut.safetensors").write_bytes(b"but no header")
    Path("short.safetensors").write_bytes(Path("half.safetensors").read_bytes()[:-100])
    for name in ("cut.safetensors", "short.safetensors"):
        assert f"{name} is damaged: " in refused(capsys, name)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="asks the system what is mapped")
def test_safetensors_are_mapped_for_as_long_as_they_are_looked_at():
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file({"z": torch.from_numpy(Z[0])}, "z.safetensors")

    def mapped():
        return "z.safetensors" in Path("/proc/self/maps").read_text()

    load = open_array("z.safetensors")
    tensor = load()
    part = tensor[:3].clone()
    assert mapped() and torch.equal(part, torch.from_numpy(Z[0][:3]))
    del tensor
    assert not mapped() and torch.equal(part, torch.from_numpy(Z[0][:3]))


def test_safetensors_without_the_library_are_one_sentence(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    Path("z.safetensors").write_bytes(b"")
    assert "z.safetensors needs the library safetensors: pip install" in refused(capsys, "z.safetensors")


def test_half_precision(capsys):
    half = torch.from_numpy(Z[0]).bfloat16()
    torch.save(half, "half.pt")
    np.save("half.npy", Z[0].astype(np.float16))
    exact = answer(capsys, "z.npy")
    for name, digits in (("half.pt", 2e-3), ("half.npy", 2e-4)):
        found = answer(capsys, name)
        assert found["rankme"] == pytest.approx(exact["rankme"], rel=digits)
        assert found["noise_floor"] > 100 * exact["noise_floor"]


def test_files_are_mapped_and_parts_are_copies():
    torch.save(torch.from_numpy(Z[0]), "z.pt")
    np.savez_compressed("z.npz", z=Z)
    assert isinstance(open_array("z.npy")(), np.memmap) and isinstance(open_array("z.npz")(), np.memmap)
    for features in (open_features("z.npy"), open_features("z.npz"), open_features("z.pt")):
        part = features.read(3, 9)
        assert tuple(part.shape)[1:] == (6, 6) and not isinstance(part, np.memmap)
        np.testing.assert_array_equal(part[0], Z[0, 3:9])


def test_views_in_one_array_of_either_order_or_in_several_files(capsys):
    np.save("turned.npy", Z.swapaxes(0, 1))
    np.save("second.npy", Z[1])
    found = answer(capsys, "pairs.npy")
    assert found["views"] == 2 and found["lidar"] > 1 and found["alignment_white_noise"] == 2
    for argv in (("turned.npy", "--views-axis", "1"), ("z.npy", "--views", "second.npy")):
        same(answer(capsys, *argv), found)
    alone = answer(capsys, "z.npy")
    assert alone["lidar"] is alone["alignment"] is None
    assert alone["sigma"] == pytest.approx(found["sigma"])


# ---------------------------------------------------------------- refusals


class Trap:
    def __reduce__(self):
        return os.mkdir, ("sprung",)


def test_no_code_in_a_file_is_run(capsys):
    np.save("trap.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    np.savez("trap.npz", z=np.array([Trap()], dtype=object))
    torch.save(Trap(), "trap.pt")
    torch.save({"z": torch.ones(3, 2), "by": Trap()}, "old.ckpt", _use_new_zipfile_serialization=False)
    Path("renamed.npy").write_bytes(pickle.dumps(Trap()))
    Path("renamed.bin").write_bytes(pickle.dumps(Trap()))
    for name in ("trap.npy", "trap.npz", "trap.pt", "old.ckpt", "renamed.npy", "renamed.bin"):
        assert "could run code" in refused(capsys, name), name
    assert not Path("sprung").exists()


def test_files_that_cannot_be_read(capsys):
    np.savez("two.npz", a=Z[0], b=Z[1])
    np.savez("none.npz")
    np.save("words.npy", np.array(["a", "b"]))
    np.save("complex.npy", np.ones((4, 2), complex))
    torch.save({"step": 3}, "empty.pt")
    Path("z.txt").write_text("1 2 3")
    for name in ("cut.npy", "cut.npz", "cut.pt"):
        Path(name).write_bytes(b"\x93NUMPY but no more of it")
    Path("short.npy").write_bytes(Path("z.npy").read_bytes()[:-100])
    for name, says in {
        "nothing.npy": "there is no file nothing.npy",
        "nothing.npz:z": "there is no file nothing.npz",
        "z.txt": "z.txt is no kind of file that is read here: .npy",
        "two.npz": "two.npz holds several arrays; name one, as two.npz:a: a, b",
        "two.npz:c": "two.npz has no array c; it has a, b",
        "none.npz": "holds no array",
        "empty.pt": "holds no array",
        "words.npy": "it must hold real numbers",
        "complex.npy": "it must hold real numbers",
        **dict.fromkeys(("cut.npy", "cut.npz", "short.npy"), "is damaged"),
    }.items():
        assert says in refused(capsys, name), name
    refused(capsys, "cut.pt")


def test_flags_that_make_no_sense(capsys):
    np.save("constant.npy", np.ones((30, 4)))
    np.save("one.npy", np.ones((1, 4)))
    torch.save({"one": torch.eye(3), "two": torch.eye(3)}, "several.pt")
    np.save("hole.npy", np.where(np.arange(120)[:, None] == 50, np.nan, Z[0]))
    np.save("wide.npy", np.ones((120, 7)))
    for argv, says in [
        ((), "no features: name a file"),
        (("one.npy",), "one.npy: there is but one sample, and a spectrum is of two or more"),
        (("several.pt",), "two; of a checkpoint `python -m deep diagnose` tells the spectra"),
        (("constant.npy",), "constant.npy: the features do not vary, which is complete collapse"),
        (("hole.npy",), "hole.npy: sample 50 holds NaN or infinity"),
        (("z.npy", "--views", "wide.npy"), "wide.npy has 120 samples of 7 dimensions and z.npy 120 of 6"),
        (("pairs.npy", "--views-axis", "1"), "give --views-axis 0"),
        (("z.npy", "--spectrum"), "singular values are one row of numbers"),
        (("z.npy", "--samples", "4"), "give --spectrum too"),
        (("z.npy", "--spectrum", "--samples", "1"), "at least 2"),
        (("z.npy", "--compare", "z.npy", "--views", "z.npy"), "--views are of one set of features"),
        (("z.npy", "--preset", "li2023"), "must be one of li2022"),
        (("z.npy", "--picture", "z.jpg"), "does not end in .png"),
        ((".",), "holds no run"),
    ]:
        assert says in refused(capsys, *argv), argv
    with pytest.raises(BadInput, match="there is no file"):
        open_array("nothing.npy")


# ---------------------------------------------------------------- answers


def test_json_has_each_metric_by_its_function_and_white_noise_beside(capsys):
    import stopgrad.deep
    import stopgrad.linear_theory

    found = answer(capsys, "pairs.npy")
    offered = {*dir(stopgrad.linear_theory), *dir(stopgrad.deep)}
    for name in METRICS:
        assert name in offered and f"{name}_white_noise" in found
    assert all(found[name] is not None for name in METRICS if name != "alpha_req")
    for key in ("space", "convention", "centred", "normalised", "samples", "dim", "verdict", "sentence", "notes"):
        assert key in found


def test_text_says_what_was_measured_and_how(capsys):
    out = call(capsys, "pairs.npy", "--preset", "li2022-normalised", "--space", "embedding", "--centre", "no")
    first, *_, last = out.splitlines()
    assert first.startswith("pairs.npy; N 120, d 6, 2 views; embedding; not centred; rows normalised; preset li2022")
    assert "not centred" in first.split("preset")[1] and last.startswith("A verdict on spread, not on quality")
    assert all(told.words in out for name, told in METRICS.items() if name != "alpha_req")


def test_a_flag_that_says_what_the_preset_says_changes_no_name(capsys):
    found = answer(capsys, "z.npy", "--centre", "yes", "--normalise", "no")
    assert found == answer(capsys, "z.npy") and found["convention"] == "li2022"


def test_comparison_is_a_table_that_names_the_most_collapsed(capsys):
    np.save("flat.npy", np.random.default_rng(0).normal(size=(120, 6)))
    np.save("steep.npy", Z[0] * 0.1 ** np.arange(6))
    out = call(capsys, "--compare", "flat.npy", "steep.npy")
    [auc] = [line for line in out.splitlines() if "collapse AUC" in line]
    assert auc.split()[-1] == "steep.npy" and "flat.npy: healthy." in out
    both = answer(capsys, "flat.npy", "--compare", "steep.npy")["compared"]
    assert [row["features"] for row in both] == ["flat.npy", "steep.npy"]
    assert both[1] == answer(capsys, "steep.npy")
    np.save("few.npy", np.random.default_rng(1).normal(size=(8, 6)))
    beside = call(capsys, "--compare", "few.npy", "steep.npy")
    assert "only what is beside white noise's compares" in beside and "Sizes differ" not in out
    last = {line.split("  ")[1]: line.split()[-1] for line in beside.splitlines() if line.startswith("  ")}
    assert last["RankMe over white noise's"] == "steep.npy" and last["RankMe (Garrido et al. 2023)"] != "steep.npy"
    np.save("wide.npy", np.hstack([Z[0], Z[1]]))
    assert "Dimensions differ" in call(capsys, "--compare", "flat.npy", "wide.npy")


def test_spectrum_of_a_file(capsys):
    torch.save({"stds": torch.tensor([4.0, 2.0, 1.0, 1.0])}, "train_reprs_e0_svd.pt")
    found = answer(capsys, "train_reprs_e0_svd.pt", "--spectrum", "--samples", "1000")
    assert found["collapse_auc"] == 0.78125 and found["rankme"] == pytest.approx(2**1.75) and found["samples"] == 1000
    told = call(capsys, "train_reprs_e0_svd.pt", "--spectrum")
    assert "singular values as given; preset" in told and "centred;" not in told and "does not tell" in told
    padded = answer(capsys, "train_reprs_e0_svd.pt", "--spectrum", "--dim", "8")
    assert padded["collapse_auc"] == pytest.approx(1 - (1 - 0.78125) / 2) and padded["rms"] is padded["samples"] is None


def test_a_run_is_measured_in_each_space(capsys, monkeypatch):
    undrawn(monkeypatch)
    argv = (
        "train --preset linear-gaussian --gaussian-samples 64 --batch-size 16 --epochs 1 --probe none --quiet --out r"
    )
    assert door(argv.split()) == 0
    capsys.readouterr()
    recorded = json.loads(Path("r/summary.json").read_text())["representation"]
    found = answer(capsys, "r")
    for name in ("collapse_auc", "rankme", "stable_rank", "samples", "dim"):
        assert found[name] == pytest.approx(recorded[name], rel=1e-5)
    sizes = {space: answer(capsys, "r", "--space", space)["rankme"] for space in ("embedding", "prediction")}
    assert len({found["rankme"], *sizes.values()}) == 3
    assert "a run has no logits" in refused(capsys, "r", "--space", "logits")


@pytest.mark.parametrize("name", ["cost$\\x$.npy", os.fsdecode(b"caf\xe9.npy")])
def test_any_name_of_a_file_can_be_drawn(capsys, name):
    """A pair of dollars is no formula, and a name need not be UTF-8."""
    np.save(name, Z[0])
    assert call(capsys, name, "--compare", "z.npy", "--picture", "named.png").splitlines()[-1] == "picture: named.png"
    first, *_ = spectra_figure([measure_collapse(open_features(name))]).axes[1].get_legend().texts
    assert first.get_text() in (r"cost\$\x\$.npy", "caf?.npy")


def test_picture_has_the_area_and_the_floor(capsys):
    out = call(capsys, "z.npy", "--compare", "pairs.npy", "--picture", "out/z.png")
    assert out.splitlines()[-1] == "picture: out/z.png" and Path("out/z.png").stat().st_size > 10_000
    one = measure_collapse(Z[0])
    left, right = spectra_figure([one]).axes
    assert len(left.collections) == 1 and right.get_yscale() == "log"
    curve = left.lines[0].get_ydata()
    assert curve[1:].mean() == pytest.approx(one.spectrum.metrics.collapse_auc)
    assert any(set(line.get_ydata()) == {one.noise_floor} for line in right.lines)

"""The deep wing's command line as a user meets it: help, refusals, answers, and what is seen while a run goes on."""

import io
import json
import re
import shlex
import sys
from types import SimpleNamespace

import pytest
from small_runs import undrawn

from stopgrad.deep.__main__ import door
from stopgrad.deep.commands import Presets, Train, read_seeds
from stopgrad.deep.config import change, key_text
from stopgrad.deep.presets import PRESETS
from stopgrad.deep.words.live import View
from stopgrad.deep.words.report import text

TINY = shlex.split(
    "train --backbone linear --projector-hidden 16 --embedding-dim 8 --fraction .1 --image-size 8 --batch-size 32 "
    "--epochs 1 --probe none --device cpu"
)
AFFINE_FREE = {"backbone": "resnet50_basic", "projector_output_bn": "affine_free"}
KEYS = {"diagnosis", "warnings", "seconds", "alignment", "spectrum", "knn", "run"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Runs without --out go into runs/ of a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RANK", raising=False)


def call(capsys, *argv):
    """Exit status, standard output, standard error."""
    status = door([str(v) for v in argv])
    return status, *capsys.readouterr()


def refused(capsys, *argv):
    """The one sentence on standard error."""
    status, out, err = call(capsys, *argv)
    assert (status, out) == (2, ""), err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


# ---------------------------------------------------------------- help


def flag_of(line):
    """The flag that a line of the help begins with."""
    found = re.match(r"[│ ] *(--[a-z][\w-]*)", line)
    return found and found[1]


def test_help_reads_like_documentation(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    status, out, err = call(capsys, "train", "--help")
    assert (status, err) == (0, "")
    titles = re.findall(r"^[^\w\n]*([a-z][\w-]*) options\b", out, flags=re.MULTILINE)
    assert titles == ["data", "method", "optimisation", "monitor", "run"]
    rows = [flag for flag in map(flag_of, out.splitlines()) if flag]
    assert len(rows) == len(set(rows)) > 60
    assert "run_options" not in out.replace("-", "_")
    assert "Share of the training images to use" in out


@pytest.mark.parametrize(("name", "width"), [("default", "8"), ("simsiam-cifar10", "64")])
def test_help_shows_the_presets_own_defaults(capsys, name, width):
    _, out, _ = call(capsys, "train", "--preset", name, "--help")
    words = " ".join(out.replace("│", " ").split())
    shown = {
        flag: re.search(rf"{flag} [A-Z]+ [^()]*\(default: ([^)]*)\)", words)[1]
        for flag in ("--width", "--preset", "--lr")
    }
    assert shown == {"--width": width, "--preset": name, "--lr": str(PRESETS[name].optimisation.lr)}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_read_and_overridden(capsys, name, monkeypatch):
    monkeypatch.setattr(Train, "run", lambda self: {"configs": self.configs()})
    monkeypatch.setattr(Train, "text", lambda self, result: "\n".join(map(str, result["configs"])))
    monkeypatch.setattr(Train, "status", lambda self, result: 0)
    status, out, _ = call(capsys, "train", f"--preset={name}")
    assert (status, out) == (0, f"{PRESETS[name]}\n")
    status, out, _ = call(capsys, "train", "--lr", "0.123", "--preset", name, "--seed", "7")
    assert "lr=0.123" in out
    assert "seed=7" in out


def test_presets_are_listed(capsys):
    status, out, _ = call(capsys, "presets")
    assert status == 0
    assert [line.split(":")[0] for line in out.splitlines()] == list(PRESETS)
    _, out, _ = call(capsys, "presets", "--json")
    assert json.loads(out).keys() == PRESETS.keys()
    assert Presets().run()["linear-theory"].keys() == {"loss", "schedule", "lr", "predictor_lr", "weight_decay"}


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ("--preset nothing", "there is no preset 'nothing'"),
        ("--colour red", "--colour red"),
        ("--lr fast", "--lr"),
        ("--lr nan", "NaN"),
        ("--predictor mpl", "--predictor"),
        ("--target ema --ema-momentum 1.2", "--ema-momentum is 1.2; it must be between 0 and 1"),
        ("--predictor mlp --predictor-cutoff .1", "--predictor-cutoff goes with --predictor directpred, not mlp"),
        (
            "--predictor directpred --no-predictor-bias",
            "--predictor-bias goes with --predictor mlp, linear, symmetric, symmetric_mlp, not directpred",
        ),
        ("--predictor-freq=3", "--predictor-freq goes with --predictor directpred, "),
        ("--target ema --stop-gradient none", "--stop-gradient none needs a target that learns"),
        ("--accumulation 3", "--accumulation 3 does not divide --batch-size 128"),
        ("--batch-size 4000", "--batch-size 4000 exceeds the 1437 training images"),
        ("--dataset imagefolder", "needs --data-folder"),
        ("--dataset gaussian", "--backbone resnet18 needs images"),
        ("--seeds 4-0", "--seeds is '4-0'"),
        ("--seeds 0..4", "give a range like 0-4"),
        ("--seed -1", "--seed"),
        ("--epochs 1 --warmup-epochs 2", "--warmup-epochs 2 exceeds --epochs 1"),
        ("--image-size 4", "--image-size is 4"),
        ("--references best", "--references"),
        ("--objective", "--objective needs a value: {predictive,components,"),
        ("--start-from=", "--start-from is empty; it must be the folder of a finished run"),
        ("--target fresh-view", "--target is 'fresh-view'; it must be one of shared, "),
        (
            "--dataset gaussian --backbone mlp --references random",
            "--references are compared by how well",
        ),
        ("--objective components --keep centre --target symmetric --predictor mlp", "--keep centre is a part of what"),
    ],
)
def test_what_makes_no_sense_is_one_sentence_before_any_compute(capsys, monkeypatch, tmp_path, argv, sentence):
    monkeypatch.setattr("stopgrad.deep.training.runs.build", lambda *_: pytest.fail("a network was built"))
    assert sentence in refused(capsys, "train", *argv.split())
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("argv", "fields"),
    [
        ("--target fresh-views --target-views 3", {"target": "fresh_views", "target_views": 3}),
        ("--target=moving-average --predictor identity", {"target": "moving_average", "predictor": "identity"}),
        ("--target fresh-views --target moving_average", {"target": "moving_average"}),
        (
            "--predictor symmetric-mlp --backbone resnet50-basic",
            {"predictor": "symmetric_mlp", "backbone": "resnet50_basic"},
        ),
        ("--predictor bias --predictor_layers weight-bias", {"predictor": "bias", "predictor_layers": "weight_bias"}),
        (
            "--loss=cross-entropy --projector-output-bn affine-free",
            {"loss": "cross_entropy", "projector_output_bn": "affine_free"},
        ),
        ("--data-folder affine-free --dataset cifar10", {"data_folder": "affine-free", "dataset": "cifar10"}),
    ],
)
def test_names_may_be_written_as_flags_are(capsys, monkeypatch, argv, fields):
    """Hyphens for underscores; what is stored, and what names a run, is the same."""
    monkeypatch.setattr(Train, "run", lambda self: {"state": "finished", "key": key_text(self.configs()[0])})
    status, out, err = call(capsys, "train", "--json", *argv.split())
    assert status == 0, err
    assert json.loads(out)["key"] == key_text(change(PRESETS["default"], **fields))
    hyphens = {name: value.replace("_", "-") for name, value in fields.items() if name in ("target", "predictor")}
    assert change(PRESETS["default"], **fields | hyphens) == change(PRESETS["default"], **fields)


def test_an_unreadable_image_is_one_sentence(capsys, tmp_path):
    for part in ("train", "val"):
        for name in "ab":
            (tmp_path / "images" / part / name).mkdir(parents=True)
            (tmp_path / "images" / part / name / "0.png").write_bytes(b"no image")
    argv = shlex.split("train --dataset imagefolder --data-folder images --image-size 8 --batch-size 2")
    assert "0.png" in refused(capsys, *argv)


def test_commands_need_a_run(capsys, tmp_path):
    assert "holds no run" in refused(capsys, "summary", tmp_path / "none")
    assert "holds no run" in refused(capsys, "evaluate", tmp_path / "none")
    refused(capsys, "summary")
    refused(capsys, "walk")


def test_seeds():
    assert read_seeds("0-4") == [0, 1, 2, 3, 4]
    assert read_seeds("0,2,5") == [0, 2, 5]
    assert read_seeds("1-3, 2-4,9") == [1, 2, 3, 4, 9]


# ---------------------------------------------------------------- answers


def test_a_run_answers_on_stdout_and_talks_on_stderr(capsys):
    status, out, err = call(capsys, *TINY, "--out", "run")
    assert status == 0
    assert out.startswith("4 steps, ")
    assert out.endswith("picture: run/run.png\n")
    for words in ("effective rank of Z", "alignment of modes 2–5", "kNN accuracy (raw pixels"):
        assert words in out
    assert "preset default: the defaults" in err
    assert "learning rate 0.00625 = 0.05 · 32/256" in err
    assert "α_p = 1" in err
    assert "step 3/4 · epoch 1 · loss" in err
    assert "\x1b" not in err + out  # no terminal, no moving
    assert call(capsys, "summary", "run") == (0, out, "")
    assert call(capsys, *TINY, "--out", "run") == (0, out, "")  # finished, and not repeated
    status, evaluated, _ = call(capsys, "evaluate", "run", "--references", "random", "supervised")
    assert status == 0
    assert "collapse_auc: " in evaluated
    assert "linear probe, logistic: " in evaluated
    assert "knn of the random network: " in evaluated
    assert "accuracy of the supervised network: " in evaluated


def test_json_is_one_object_and_quiet_is_quiet(capsys, monkeypatch):
    undrawn(monkeypatch)
    status, out, err = call(capsys, *TINY, "--json", "--quiet")
    assert (status, err, out.count("\n")) == (0, "", 1)
    found = json.loads(out)
    assert found.keys() >= KEYS
    assert re.fullmatch("runs/[0-9a-f]{16}", found["run"])
    assert len(found["alignment"]) == len(found["spectrum"]) == 8
    assert found["knn"].keys() == {"before", "after", "pixels"}
    _, out, _ = call(capsys, "evaluate", found["run"], "--json", "--probe", "none")
    assert json.loads(out)["knn"] == found["knn"]["after"]


def test_several_seeds(capsys, tmp_path, monkeypatch):
    undrawn(monkeypatch)
    argv = [*TINY, "--quiet", "--json"]
    status, out, _ = call(capsys, *argv, "--seeds", "0-1", "--out", "many")
    found = json.loads(out)
    assert (status, found["state"]) == (0, "finished")
    assert [r["run"] for r in found["runs"]] == ["many/seed0", "many/seed1"]
    assert found["runs"][0]["spectrum"] != found["runs"][1]["spectrum"]
    _, out, _ = call(capsys, *argv, "--seeds", "1,2")
    runs = json.loads(out)["runs"]
    assert [r["config"]["seed"] for r in runs] == [1, 2]
    assert len({r["run"] for r in runs}) == 2
    assert runs[0]["spectrum"] == found["runs"][1]["spectrum"]
    assert all((tmp_path / r["run"] / "summary.json").is_file() for r in runs)


def test_divergence_is_status_1_and_collapse_status_0(capsys, monkeypatch):
    undrawn(monkeypatch)
    status, out, err = call(
        capsys, *TINY, "--quiet", "--loss", "squared", "--lr", "1e6", "--epochs", "40", "--out", "a"
    )
    assert (status, err) == (1, "")
    assert "diverged: " in out
    argv = shlex.split(
        "--loss squared --stop-gradient none --predictor identity --lr 1 --epochs 25 --weight-decay .1 --out b"
    )
    status, out, _ = call(capsys, *TINY, "--quiet", *argv)
    assert status == 0
    assert "collapse" in out


def test_data_without_classes_have_no_knn_and_that_is_said(capsys, monkeypatch):
    undrawn(monkeypatch)
    argv = shlex.split("--dataset gaussian --gaussian-samples 64 --backbone mlp --probe logistic --out run")
    _, out, err = call(capsys, *TINY, *argv, "--width", "8", "--fraction", "1", "--image-size", "8")
    said = "The data have no classes: there is no kNN accuracy and no linear probe."
    assert said in out.splitlines() and "kNN" not in err and out.count("kNN") == 1 and "None" not in out
    _, out, _ = call(capsys, "evaluate", "run")
    assert said in out.splitlines() and "collapse_auc: " in out
    _, out, _ = call(capsys, "evaluate", "run", "--json")
    assert json.loads(out)["knn"] is None


def test_nothing_trained_is_said(capsys, monkeypatch):
    undrawn(monkeypatch)
    status, out, _ = call(capsys, *TINY, "--quiet", "--epochs", "0", "--out", "run")
    assert status == 0
    assert "Nothing was trained; the network is evaluated as initialised." in out
    assert "None" not in out


# ---------------------------------------------------------------- the live view


def shown(monkeypatch, terminal, quiet=False):
    """What a view writes to standard error, over a few measurements."""
    screen = io.StringIO()
    screen.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with View("digits [F, W_p]", 20, quiet) as view:
        view.say("warning [F, W_p] :smile:")
        for step in (0, 10):
            view.step(step, {"loss": -0.5, "rank_z": 3.0, "alignment": [1.0, 0.25, -0.5, 0.0]})
        view.evaluation(1, {"knn": 0.75})
    return screen.getvalue()


def test_without_a_terminal_the_view_is_plain_lines(monkeypatch):
    first, second = shown(monkeypatch, terminal=False).splitlines()
    assert first == "warning [F, W_p] :smile:"
    for words in ("step 10/20", "epoch 1", "loss -0.5", "kNN 0.75", "rank Z 3", "+0.25 -0.50 +0.00"):
        assert words in second


def test_on_a_terminal_it_moves_and_sentences_stay(monkeypatch):
    written = shown(monkeypatch, terminal=True)
    assert "\x1b[" in written
    assert "warning [F, W_p] :smile:" in written


@pytest.mark.parametrize("terminal", [True, False])
def test_quiet_shows_nothing(monkeypatch, terminal):
    assert shown(monkeypatch, terminal, quiet=True) == ""


def test_a_summary_in_words_survives_missing_numbers():
    summary = {
        "state": "finished", "steps": 3, "seconds": 1.0, "first": {"loss": 1.0}, "last": {"loss": 0.5, "rank_z": 2.0},
        "alignment": [None, 0.5, None], "alignment_at_start": [0.0, None, None], "probe": None, "references": {},
        "knn": {"before": None, "after": None, "pixels": None}, "diagnosis": "healthy", "explanation": "So it is.",
        "warnings": ["one"], "run": "folder",
    }  # fmt: skip
    assert "healthy: So it is.\nwarning, one\npicture: folder/run.png" in text(summary)
    assert text({"state": "finished", "run": "folder"}) == ""


def test_how_a_stopped_run_goes_on_can_be_pasted():
    said = text({"state": "stopped", "step": 3, "run": "my runs/$1"})
    assert shlex.split(said)[-4:] == ["my runs/$1", "--resume", "goes", "on"]


# ---------------------------------------------------------------- TensorBoard


def test_tensorboard_gets_the_numbers_of_steps_and_evaluations(monkeypatch, tmp_path):
    written, closed = [], []
    writer = SimpleNamespace(add_scalar=lambda *entry: written.append(entry), close=lambda: closed.append(True))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=lambda folder: writer))
    with View("digits", 20, quiet=True, tensorboard=tmp_path) as view:
        view.step(10, {"loss": -0.5, "alignment": None})
        view.evaluation(1, {"knn": 0.7})
    assert written == [("train/loss", -0.5, 10), ("representation/knn", 0.7, 1)] and closed


def test_a_missing_tensorboard_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match="--tensorboard needs TensorBoard"):
        View("digits", 20, quiet=True, tensorboard=tmp_path)

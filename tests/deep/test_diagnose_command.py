"""`python -m deep diagnose` on checkpoints as other people's code writes them: the same network, and refusals."""

import copy
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import undrawn
from torch import nn
from torchvision.models import resnet

from stopgrad.deep import Config, Data, Method, Optimisation, train
from stopgrad.deep.__main__ import door
from stopgrad.deep.measuring.collapse.measurement import measure_collapse
from stopgrad.deep.measuring.layouts.layouts import LAYOUTS
from stopgrad.deep.measuring.layouts.network import rebuild
from stopgrad.linear_theory.spectra.alignment import eigenvector_alignment
from stopgrad.linear_theory.tools.errors import BadInput

IMAGES = torch.randn(12, 3, 16, 16, generator=torch.Generator().manual_seed(3))
FEW = ("--images", "40", "--quiet")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def answer(capsys, *argv):
    status = door(["diagnose", *map(str, argv), *FEW])
    out, err = capsys.readouterr()
    assert (status, err) == (0, ""), err
    return json.loads(out) if "--json" in argv else out


def refused(capsys, *argv):
    assert door(["diagnose", *map(str, argv), *FEW]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    return err


# ---------------------------------------------------------------- networks as their authors build them


def lived(network):
    """In eval mode, with weights and running statistics that are no longer those of the start."""
    torch.manual_seed(7)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.normal_(module.running_mean, std=0.2)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.2)
    return network.eval()


def small(padding=None, **more):
    """torchvision's ResNet, four blocks; with `padding` the stem for small images."""
    network = resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1], **more)
    if padding is not None:
        network.conv1, network.maxpool = nn.Conv2d(3, 64, 3, 1, padding, bias=False), nn.Identity()
    return network


def projector(d, hidden, out):
    layers = [nn.Linear(d, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()]
    layers += [nn.Linear(hidden, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, out), nn.BatchNorm1d(out, affine=False))


def predictor(d, hidden):
    return nn.Sequential(nn.Linear(d, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, d))


class SoloLearn(nn.Module):
    """solo/methods/base.py and byol.py: a stem padded by 2, a momentum network, a classifier."""

    def __init__(self):
        super().__init__()
        self.backbone = small(padding=2)
        self.backbone.fc = nn.Identity()
        self.projector, self.predictor = projector(512, 32, 16), predictor(16, 8)
        self.momentum_backbone, self.momentum_projector = map(copy.deepcopy, (self.backbone, self.projector))
        self.classifier = nn.Linear(512, 10)

    def spaces(self, x):
        h = self.backbone(x)
        z = self.projector(h)
        return {"representation": h, "embedding": z, "prediction": self.predictor(z)}


class Released(nn.Module):
    """simsiam/builder.py of the paper's code."""

    def __init__(self):
        super().__init__()
        self.encoder = small(num_classes=16, zero_init_residual=True)
        last, self.encoder.fc = self.encoder.fc, projector(512, 512, 16)
        self.encoder.fc[6] = last
        self.predictor = predictor(16, 8)

    def spaces(self, x):
        whole = self.encoder.fc
        self.encoder.fc = nn.Identity()
        h = self.encoder(x)
        self.encoder.fc = whole
        z = whole(h)
        return {"representation": h, "embedding": z, "prediction": self.predictor(z)}


class Head(nn.Module):
    """lightly/models/modules/heads.py."""

    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, x):
        return self.layers(x)


class Lightly(nn.Module):
    """examples/pytorch_lightning/simsiam.py."""

    def __init__(self, heads=None, backbone=None):
        super().__init__()
        self.backbone = backbone or nn.Sequential(*list(small().children())[:-1])
        self.projection_head, self.prediction_head = heads or (Head(projector(512, 32, 16)), Head(predictor(16, 8)))

    def spaces(self, x):
        h = self.backbone(x).flatten(1)
        z = self.projection_head(h)
        return {"representation": h, "embedding": z, "prediction": self.prediction_head(z)}


def same(file, layout, network):
    with torch.no_grad():
        expected = network.spaces(IMAGES)
    found = rebuild(file, LAYOUTS[layout])
    spaces = found.features(IMAGES.split(5))
    assert spaces.keys() == expected.keys()
    for space, z in spaces.items():
        torch.testing.assert_close(z, expected[space], rtol=1e-4, atol=1e-5)
    return found


def test_solo_learns():
    network = lived(SoloLearn())
    torch.save({"state_dict": network.state_dict(), "epoch": 3, "global_step": 70}, "last.ckpt")
    found = same("last.ckpt", "solo-learn", network)
    assert found.words == "ResNet of 1-1-1-1 basic blocks of width 64, stem for small images" and not found.notes
    older = {re.sub("^backbone", "encoder", name): v for name, v in network.state_dict().items()}
    torch.save({"state_dict": older}, "older.ckpt")
    same("older.ckpt", "solo-learn", network)


def test_the_released_simsiams():
    network = lived(Released())
    names = {f"module.{name}": v for name, v in network.state_dict().items()}
    moments = {0: {"momentum_buffer": torch.zeros(3)}}
    whole = {"epoch": 1, "arch": "resnet18", "state_dict": names, "optimizer": {"state": moments, "param_groups": []}}
    torch.save(whole, "checkpoint_0000.pth.tar")
    assert same("checkpoint_0000.pth.tar", "simsiam", network).matrix() is None


def test_lightlys_example_by_hand():
    network = lived(Lightly())
    torch.save({"state_dict": network.state_dict()}, "example.ckpt")
    same("example.ckpt", "lightly", network)


@pytest.mark.parametrize("own", [False, True], ids=["torchvision's backbone", "its own"])
def test_lightlys_own_modules(own, monkeypatch):
    monkeypatch.setenv("LIGHTLY_DID_VERSION_CHECK", "True")
    pytest.importorskip("lightly")
    from lightly.models import ResNetGenerator
    from lightly.models.modules.heads import SimSiamPredictionHead, SimSiamProjectionHead

    backbone = None
    if own:  # as benchmarks of small images have it; its ReLUs are no modules, so that a sequence would lack them
        whole = ResNetGenerator("resnet-9", width=0.25)
        whole.linear = nn.Identity()
        backbone = lived(whole)
    d = 128 if own else 512
    network = Lightly((SimSiamProjectionHead(d, 32, 16), SimSiamPredictionHead(16, 8, 16)), backbone)
    lived(network)
    names = network.state_dict()
    if own:
        monkeypatch.setattr(nn.functional, "avg_pool2d", lambda x, size: x.mean((2, 3), keepdim=True))
    torch.save(names, "own.pt")
    same("own.pt", "lightly", network)


def test_lightlys_own_blocks_in_a_sequence():
    """Conv, BatchNorm and four stages, whose blocks call the shortcut so."""
    network = small(padding=1)
    network.fc = nn.Identity()
    stages = ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]
    names = {}
    for name, value in lived(network).state_dict().items():
        stage, _, rest = name.partition(".")
        names[f"backbone.{stages.index(stage)}.{rest.replace('downsample', 'shortcut')}"] = value
    torch.save({"state_dict": names}, "own.ckpt")
    found = rebuild("own.ckpt", LAYOUTS["lightly"]).features([IMAGES])
    torch.testing.assert_close(found["representation"], network(IMAGES).detach(), rtol=1e-4, atol=1e-5)
    assert found.keys() == {"representation"}


@pytest.mark.parametrize(("make", "words"), [(resnet.resnet18, "resnet18"), (resnet.resnet50, "resnet50")])
def test_torchvisions(make, words):
    network = lived(make())
    torch.save(network.state_dict(), "whole.pth")
    network.fc = nn.Identity()
    torch.save({"model": network.state_dict()}, "headless.pth")
    with torch.no_grad():
        expected = network(IMAGES[:3])
    for file in ("whole.pth", "headless.pth"):
        found = rebuild(file, LAYOUTS["torchvision"])
        assert found.words == f"{words} of width 64, stem for large images"
        torch.testing.assert_close(found.features([IMAGES[:3]])["representation"], expected, rtol=1e-4, atol=1e-4)


def test_safetensors_too():
    safetensors = pytest.importorskip("safetensors.torch")
    network = lived(small())
    safetensors.save_file(network.state_dict(), "mine.safetensors")
    network.fc = nn.Identity()
    found = rebuild("mine.safetensors", LAYOUTS["torchvision"]).features([IMAGES])["representation"]
    torch.testing.assert_close(found, network(IMAGES).detach(), rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of ours with a linear predictor."""
    folder = tmp_path_factory.mktemp("run") / "run"
    method = Method.of(width=4, projector_hidden=16, embedding_dim=8, predictor="linear")
    with pytest.MonkeyPatch.context() as replaced:
        undrawn(replaced)
        train(Config(Data(fraction=0.2), method, Optimisation(epochs=1, batch_size=32)), folder)
    return folder


def test_a_run_of_ours_and_its_predictor(run, capsys):
    file = max(run.glob("checkpoint-*.pt"))
    found = answer(capsys, file, "--layout", "stopgrad", "--json")
    assert found["network"] == "resnet18 of width 4, stem for small images" and found["notes"] == []
    assert found["spaces"].keys() == {"representation", "embedding", "prediction"} and found["data"] == "digits"
    network = rebuild(file, LAYOUTS["stopgrad"])
    W = network.matrix()
    weights = torch.load(file, weights_only=True)["payload"]["siamese"]
    assert torch.equal(W, weights["predictor.network.weight"])
    from stopgrad.deep.data import datasets, views

    whole = datasets.load(Config().data, 0)
    images = torch.cat(list(views.plain(datasets.take(whole.train, torch.arange(40)), whole, Config().data, "cpu")))
    assert found["spaces"]["embedding"]["samples"] == 40 == len(network.features([images])["embedding"])
    said = answer(capsys, file, "--layout", "stopgrad", "--picture", "drawn.png")
    assert "linear predictor: cos(u_j, W_p u_j) " in said and said.count("RankMe (Garrido") == 3
    assert Path("drawn.png").read_bytes()[:4] == b"\x89PNG"
    backbone = answer(capsys, run / "backbone.pt", "--layout", "stopgrad", "--json")
    assert backbone["spaces"]["representation"]["rankme"] == pytest.approx(found["spaces"]["representation"]["rankme"])
    assert backbone["alignment"] is None and backbone["spaces"].keys() == {"representation"}


def test_numbers_are_those_of_the_features(run, capsys, monkeypatch):
    """The command's rows are `measure_collapse` of what the network makes of the images, and F is of its embeddings."""
    from stopgrad.deep.measuring.layouts.network import Rebuilt

    kept = {}
    features = Rebuilt.features
    monkeypatch.setattr(Rebuilt, "features", lambda *given: kept.setdefault("spaces", features(*given)))
    file = max(run.glob("checkpoint-*.pt"))
    found = answer(capsys, file, "--layout", "stopgrad", "--json", "--preset", "garrido2023")
    for space, z in kept["spaces"].items():
        expected = measure_collapse(z, "garrido2023", space).row()
        own = found["spaces"][space]
        assert own["rankme"] == pytest.approx(expected["rankme"]) and own["space"] == space
    z = kept["spaces"]["embedding"].double().numpy()
    expected = eigenvector_alignment(rebuild(file, LAYOUTS["stopgrad"]).matrix().double().numpy(), z.T @ z / len(z))
    np.testing.assert_allclose(found["alignment"]["cosine"], expected.cosine, atol=1e-6)


def test_checkpoints_side_by_side(capsys):
    for k, scale in enumerate((1.0, 0.0)):
        network = lived(SoloLearn())
        network.projector[6].weight.data[2:] *= scale
        torch.save({"state_dict": network.state_dict()}, f"{k}.ckpt")
    asked = ("0.ckpt", "--compare", "1.ckpt", "--layout", "solo-learn")
    first, second = answer(capsys, *asked, "--json")["compared"]
    assert first["spaces"]["embedding"]["numerical_rank"] > second["spaces"]["embedding"]["numerical_rank"] == 2
    said = answer(capsys, *asked, "--picture", "both.png")
    assert said.count("most collapsed") == 3 and "embedding:" in said


# ---------------------------------------------------------------- refusals


class Trap:
    def __reduce__(self):
        return open, ("sprung", "w")


def test_what_cannot_be_read(capsys, tmp_path):
    network = small()
    names = network.state_dict()
    torch.save(names, "tv.pt")
    torch.save({"state_dict": {f"backbone.{k}": v for k, v in names.items() if k[:3] != "fc."}}, "solo.ckpt")
    torch.save({k: v for k, v in names.items() if "bn2" not in k}, "fewer.pt")
    torch.save(names | {"layer1.0.se.weight": torch.zeros(2)}, "more.pt")
    torch.save(names | {"conv1.weight": torch.zeros(64, 1, 7, 7)}, "grey.pt")
    with torch.device("meta"):
        wide = resnet.wide_resnet50_2().state_dict()
    torch.save({k: torch.zeros(()).expand(v.shape) for k, v in wide.items()}, "wide.pt")  # shapes alone
    torch.save({f"encoder.{k}": v for k, v in names.items()} | {"head.weight": torch.zeros(2, 2)}, "odd.pt")
    torch.save({"epoch": 3}, "empty.pt")
    np.save("z.npy", np.eye(3))
    (tmp_path / "folder").mkdir()
    for name in "ab":
        torch.save({}, f"folder/{name}.pt")
    (tmp_path / "trap.pt").write_bytes(pickle.dumps(Trap()))
    (tmp_path / "cut.pt").write_bytes((tmp_path / "tv.pt").read_bytes()[:1000])
    for argv, says in [
        ((), "no checkpoint: name a file"),
        (("nothing.pt",), "there is no file nothing.pt"),
        (("folder",), "folder is a folder; name a file in it, as folder/b.pt"),
        (("z.npy",), "z.npy is no checkpoint; `python -m deep collapse` reads features"),
        (
            ("solo.ckpt",),
            "solo.ckpt is not laid out as torchvision, which has layer1.0.conv1.weight; it looks",
        ),
        (("solo.ckpt",), "it looks like lightly or solo-learn"),
        (("tv.pt", "--layout", "simsiam"), "which has encoder.layer1.0.conv1.weight; it looks like torchvision"),
        (("fewer.pt",), "fewer.pt lacks layer1.0.bn2.bias, layer1.0.bn2.running_mean"),
        (("more.pt",), "more.pt has the unknown layer1.0.se.weight, for a ResNet of basic blocks (1, 1, 1, 1)"),
        (("grey.pt",), "conv1 is (64, 1, 7, 7); ResNets that are read here begin with"),
        (("wide.pt",), "layer1.0.conv1.weight is (128, 64, 1, 1), where width 64 has (64, 64, 1, 1)"),
        (("odd.pt", "--layout", "simsiam"), "names that the layout simsiam does not know: head.weight"),
        (("empty.pt",), "it has no tensors"),
        (
            ("trap.pt",),
            "could run code of whoever wrote it: refused; save plain arrays or tensors, as model.state",
        ),
        (("cut.pt",), "cut.pt"),
        (("tv.pt", "--data", "imagefolder"), "--dataset imagefolder needs --data-folder"),
        (("tv.pt", "--image-size", "3"), "--image-size is 3"),
    ]:
        assert says in refused(capsys, *argv), argv
    assert not (tmp_path / "sprung").exists()


def test_heads_that_are_not_rebuilt_are_said_and_left_out(capsys):
    network = lived(SoloLearn()).state_dict()
    torch.save(network | {"projector.gate": torch.zeros(3)}, "gated.pt")
    found = answer(capsys, "gated.pt", "--layout", "solo-learn", "--json")
    assert found["spaces"].keys() == {"representation"}
    assert found["notes"] == ["The projector is not rebuilt: gate is of no sequence of linear layers and BatchNorm."]
    torch.save({k: v for k, v in network.items() if not k.startswith("projector")}, "without.pt")
    with pytest.raises(BadInput, match="the predictor takes no 512 numbers"):
        rebuild("without.pt", LAYOUTS["solo-learn"])


def test_a_space_that_does_not_vary_does_not_hide_the_others(capsys):
    network = lived(SoloLearn())
    network.projector[6].weight.data[:] = 0
    torch.save(network.state_dict(), "flat.pt")
    found = answer(capsys, "flat.pt", "--layout", "solo-learn", "--json")
    assert (
        found["spaces"].keys() == {"representation"} and "do not vary, which is complete collapse" in found["notes"][0]
    )

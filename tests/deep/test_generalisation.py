"""What new views give at a run's end: the loss on seen and unseen images, X and X′ at the projector's input."""

import numpy as np
import pytest
import torch

from stopgrad.deep.config import Config, Method, change, key_text
from stopgrad.deep.data.batch import Batch
from stopgrad.deep.method.siamese import Siamese
from stopgrad.deep.training.generalisation import on_views
from stopgrad.deep.training.runs import Place, execute, joined

METHOD = Method.of(backbone="identity", projector_layers=1, embedding_dim=4)


def batches(count=3, size=50, noise=0.5, seed=1):
    generator = torch.Generator().manual_seed(seed)
    scale = torch.tensor([2.0, 1.0, 0.5, 0.1, 0.0])
    for _ in range(count):
        image = 3 + torch.randn(size, 5, generator=generator) * scale
        yield Batch.of(*(image + noise * torch.randn(size, 5, generator=generator) for _ in range(2)))


def test_moments_and_loss_are_those_of_all_views_together():
    siamese = Siamese(METHOD, 5)
    found = on_views(siamese, batches())
    first, second = (torch.cat([batch.views[v] for batch in batches()]).double().numpy() for v in (0, 1))
    f, s = (x - (first.mean(0) + second.mean(0)) / 2 for x in (first, second))
    X, Xp = (f.T @ s + s.T @ f) / 300, (first - second).T @ (first - second) / 300
    x, vectors = np.linalg.eigh(X)
    assert found["signal"] == pytest.approx(x[::-1], rel=1e-5, abs=1e-6)
    assert found["noise"] == pytest.approx(np.diag(vectors.T @ Xp @ vectors)[::-1], rel=1e-4)
    assert found["sigma2"] == pytest.approx(np.trace(Xp) / np.trace(X), rel=1e-5) and found["images"] == 150
    with torch.no_grad():
        slow = np.mean([float(siamese.eval()(batch).loss) for batch in batches()])
    assert found["loss"] == pytest.approx(slow, rel=1e-5)


def test_nothing_is_left_behind():
    siamese = Siamese(METHOD, 5).train()
    on_views(siamese, batches(1))
    assert siamese.online.training and not siamese.online.projector._forward_pre_hooks
    with pytest.raises(ValueError, match="no batch of views"):
        on_views(siamese, [])


def test_a_run_says_how_far_losses_part_only_if_asked_and_else_keeps_its_name(tmp_path):
    small = {"dataset": "gaussian", "gaussian_samples": 64, "gaussian_dim": 8, "backbone": "identity", "epochs": 4}
    small |= {"projector_layers": 1, "embedding_dim": 8, "batch_size": 16, "probe": "none", "lr": 0.5}
    plain = change(Config(), **small, order="last", chunk_size=1)
    asked = change(plain, generalisation=True)
    assert "generalisation" not in key_text(plain) and "generalisation" in key_text(asked)
    with joined("cpu") as world:
        told, silent = (
            execute(config, Place(tmp_path / name, quiet=True, picture=False), world)
            for name, config in (("asked", asked), ("plain", plain))
        )
    assert "generalisation" not in silent and told["last"]["loss"] == silent["last"]["loss"]
    train, test = told["generalisation"]["train"], told["generalisation"]["test"]
    assert (train["images"], test["images"]) == (64, 16)
    # 16 images span no more than their own X, whose trace is what 16 points have of it
    assert sum(v > 1e-4 for v in train["signal"]) <= 8 and train["loss"] != test["loss"]

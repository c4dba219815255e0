"""What a part gives is looked at: a mistake in it is said, and overwrites nothing."""

from dataclasses import dataclass, replace

import pytest
import torch

from stopgrad.deep.config import Config, Method, change
from stopgrad.deep.data.batch import Batch
from stopgrad.deep.kinds import Objective, Target
from stopgrad.deep.method.siamese import Siamese
from stopgrad.deep.seats import OBJECTIVES
from stopgrad.deep.training.from_python import train

BATCH = Batch.of(torch.randn(6, 4), torch.randn(6, 4))
SMALL = {"backbone": "identity", "embedding_dim": 4, "projector_layers": 1}


@dataclass(frozen=True)
class Vector(Objective):
    """A loss of every image."""

    def __call__(self, outputs):
        return (outputs.p - outputs.target).square().sum(-1)


@dataclass(frozen=True)
class Flat(Target):
    """One embedding for both views."""

    def __call__(self, batch, seen, online):
        return replace(seen, target=seen.z[0])


@dataclass(frozen=True)
class Taken(Objective):
    """A number under a name that is taken."""

    def __call__(self, outputs):
        return (outputs.p - outputs.target.detach()).square().mean()

    def scalars(self, outputs):
        return {"trace_z": outputs.z.mean()}


@pytest.mark.parametrize(
    ("part", "said"), [({"objective": Vector()}, r"loss of shape \(2, 6\)"), ({"target": Flat()}, r"shape \(6, 4\)")]
)
def test_a_wrong_shape_is_said(part, said):
    siamese = Siamese(replace(Method.of(**SMALL), **part), in_features=4)
    with pytest.raises(ValueError, match=said):
        siamese(BATCH)


def test_a_name_that_is_measured_already_is_not_overwritten(tmp_path, monkeypatch):
    monkeypatch.setitem(OBJECTIVES, "taken", Taken)
    small = {"dataset": "gaussian", "gaussian_samples": 64, "batch_size": 32, "epochs": 1, "probe": "none"}
    with pytest.raises(ValueError, match="trace_z: measured already"):
        train(change(Config(), objective="taken", **SMALL, **small), tmp_path / "run")

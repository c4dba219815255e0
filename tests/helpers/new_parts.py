"""New parts as a user would write them, each a file of at most 40 lines, and how one is entered."""

import importlib.util
import sys

from stopgrad.deep import seats

UNIFORMITY = (
    seats.OBJECTIVE,
    '''
from dataclasses import dataclass
from typing import Annotated

from stopgrad.deep.kinds import Objective
from stopgrad.deep.parts import POSITIVE
from stopgrad.linear_theory.tools.lengths import directions


@dataclass(frozen=True)
class Uniformity(Objective):
    """Views of an image are drawn together, images of a batch spread over the sphere."""

    sharpness: Annotated[float, POSITIVE] = 2.0
    """t of exp(-t |P_i - P_j|^2)."""
    whole_batch = True

    def __call__(self, outputs):
        P, T = directions(outputs.p), directions(outputs.target.flip(0))
        near = (2 * self.sharpness * (P @ P.mT - 1)).exp().mean(dim=(-2, -1))
        return (P - T).square().sum(dim=-1).mean() + near.log().mean()

    def scalars(self, outputs):
        found = (outputs.p[0] @ outputs.target[1].mT).argmax(1)
        return {"found": (found == found.new_tensor(range(len(found)))).double().mean()}
''',
)
COMPOSITE = (
    seats.OBJECTIVE,
    '''
from dataclasses import dataclass
from typing import Literal

from stopgrad.deep.kinds import Objective
from stopgrad.linear_theory.tools.lengths import directions


@dataclass(frozen=True)
class Composite(Objective):
    """SimSiam's target with centre and residual of the embedding or of the prediction (Zhang et al. 2022, Table 4)."""

    centre: Literal["z", "p"] = "z"
    """Whose mean direction o the target has."""
    residual: Literal["z", "p"] = "p"
    """Whose residual r = Z - o it has."""
    whole_batch = True

    def __call__(self, outputs):
        P = directions(outputs.p)
        unit = {"z": directions(outputs.target).flip(0).detach(), "p": P.flip(0).detach()}
        o = {name: vectors.mean(dim=1, keepdim=True) for name, vectors in unit.items()}
        target = o[self.centre] + unit[self.residual] - o[self.residual]  # of no particular length
        return -(P * target).sum(dim=-1).mean()
''',
)
INVERSE = (
    seats.TARGET,
    '''
from dataclasses import dataclass, replace
from typing import Annotated

import torch

from stopgrad.deep.method.networks import TargetNetwork, in_full_precision, mlp
from stopgrad.deep.method.objectives.predictive import cosine_loss
from stopgrad.deep.kinds import Target
from stopgrad.deep.parts import COUNT


@dataclass(frozen=True)
class Inverse(Target):
    """The embedding as a second predictor makes it out from the prediction (Zhang et al. 2022, Fig. 2c and Alg. 5)."""

    inverse_hidden: Annotated[int, COUNT] = 16
    """Width of the inverse predictor's hidden layer."""
    learns = False

    def build(self, online, predictor, method):
        return InverseNetwork(mlp(method.embedding_dim, self.inverse_hidden, bias=False))


class InverseNetwork(TargetNetwork):
    def __init__(self, network):
        super().__init__()
        self.inverse = network

    def forward(self, batch, seen, online):
        guess = torch.stack([in_full_precision(p.detach(), self.inverse) for p in seen.p])
        return replace(seen, target=guess.detach(), terms={"inverse": cosine_loss(guess, seen.z.detach())})
''',
)
FRESH = (
    seats.TARGET,
    '''
from dataclasses import dataclass, replace
from typing import Annotated

import torch

from stopgrad.deep.kinds import Target
from stopgrad.deep.parts import COUNT


@dataclass(frozen=True)
class Fresh(Target):
    """The mean embedding of n fresh views (Zhang et al. 2022, Table 1)."""

    fresh_views: Annotated[int, COUNT] = 3
    """n."""
    learns = False

    @property
    def views(self):
        return self.fresh_views

    @torch.no_grad()
    def __call__(self, batch, seen, online):
        mean = torch.stack([online(x) for x in batch.views[-self.views :]]).mean(dim=0)
        return replace(seen, target=mean.expand_as(seen.z))
''',
)
MLP = (
    seats.BACKBONE,
    '''
from dataclasses import dataclass
from typing import Annotated

from torch import nn

from stopgrad.deep.kinds import Backbone
from stopgrad.deep.parts import COUNT


@dataclass(frozen=True)
class MLP(Backbone):
    """Layers of one width with ReLU, on anything flattened to numbers."""

    layers: Annotated[int, COUNT] = 2
    """How many."""
    width: Annotated[int, COUNT] = 64
    """Units of each."""

    def build(self, in_features=None):
        network, inputs = nn.Sequential(nn.Flatten()), in_features
        for _ in range(self.layers):
            network.extend([nn.Linear(inputs, self.width), nn.ReLU()])
            inputs = self.width
        network.out_features = inputs
        return network
''',
)
NEW = {"uniformity": UNIFORMITY, "composite": COMPOSITE, "inverse": INVERSE, "fresh": FRESH, "layers": MLP}
CLASS = {"uniformity": "Uniformity", "composite": "Composite", "inverse": "Inverse", "fresh": "Fresh", "layers": "MLP"}


def enter(name, folder):
    """Write a part's file, as a module of its own, and enter it in its table: 'module:Class'."""
    seat, text = NEW[name]
    file = folder / f"part_{name}.py"
    file.write_text(f'"""A new part."""\n{text}')
    spec = importlib.util.spec_from_file_location(file.stem, file)
    sys.modules[file.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[file.stem])
    seat.table[name] = f"{file.stem}:{CLASS[name]}"
    return seat.kind(name)

"""SimSiam from top to bottom, on digits: `python examples/simsiam_by_hand.py [STEPS]`, from the root of a checkout.

Every line of the method is here (Chen & He 2021, Algorithm 1), on this project's parts: views that are functions of
(seed, image, visit, view), a small ResNet, heads, and the diagnostics. Then the same without stop-gradient.
"""

import sys
from itertools import islice

import torch

from stopgrad.deep import Data, Method, diagnose, measure
from stopgrad.deep.data import datasets, views
from stopgrad.deep.data.orders.setting import Setting, shares
from stopgrad.deep.data.orders.shuffled import Shuffled
from stopgrad.deep.measuring.monitor import to_host
from stopgrad.deep.method.backbones.resnet import ResNet18
from stopgrad.deep.method.networks import projector
from stopgrad.deep.method.predictors.linear import Linear
from stopgrad.linear_theory.tools.lengths import directions

SEED, BATCH, D = 0, 64, 32
DATA = Data(crop_scale=(0.6, 1.0), flip=0.0)  # crops keep most of a digit, and none is mirrored


def cosine_loss(p, z):
    """−cos(p, z), averaged over the batch."""
    return -(directions(p) * directions(z)).sum(dim=-1).mean()


def main(steps: int = 300, stop_gradient: bool = True) -> str:
    """Train for `steps` steps and say what became of the embeddings."""
    torch.manual_seed(SEED)
    dataset = datasets.load(DATA, SEED)

    # f: backbone and projector; h: the predictor, here a matrix W_p, which learns ten times as fast (α_p = 10)
    backbone = ResNet18(width=8).build()
    head = projector(Method(embedding_dim=D), backbone.out_features)
    h = Linear().build(D)
    trunk = [*backbone.parameters(), *head.parameters()]
    groups = [{"params": trunk, "lr": 0.02}, {"params": h.parameters(), "lr": 0.2}]
    optimiser = torch.optim.SGD(groups, momentum=0.9, weight_decay=2e-3)

    # which images each step sees, and how often each was seen before; then two views of each of them
    order = islice(shares(Shuffled(), Setting(SEED, dataset.train.labels, BATCH, epochs=10_000)), steps)
    rows = []
    for batch in views.batches(dataset, DATA, SEED, order, "cpu"):
        z1, z2 = (head(backbone(x)) for x in batch.views)
        p1, p2 = h(z1), h(z2)
        t1, t2 = (z1.detach(), z2.detach()) if stop_gradient else (z1, z2)
        loss = cosine_loss(p1, t2) / 2 + cosine_loss(p2, t1) / 2

        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

        if batch.step % 50 == 0 or batch.step == steps - 1:
            z, p = torch.stack([z1, z2]).detach(), torch.stack([p1, p2]).detach()
            row, arrays = to_host(measure(z, p, z, h.matrix()))  # the target is z itself
            rows.append({"step": batch.step, **row})
            aligned = arrays["alignment"][1:5].mean()  # of the modes behind the mean direction
            print(f"step {batch.step}: loss {loss:.3f}, rank {row['rank_z']:.1f} of {D}, alignment {aligned:.2f}")
    return diagnose(rows[0], rows[-1], rows).word


if __name__ == "__main__":
    asked = [int(n) for n in sys.argv[1:]]
    print("with stop-gradient:", main(*asked))
    print("without stop-gradient:", main(*asked, stop_gradient=False))

"""A training loop of your own, watched: `python examples/watch.py [STEPS]`, from the root of a checkout; seconds.

SimSiam in plain PyTorch on scikit-learn's digits. After a third of the steps its predictor is taken out: the loss then
looks better than ever, and the watch warns that the embeddings collapse; the loop ends by it. Then
`python -m deep summary out/watched` says what became of it.
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cosine_similarity

from stopgrad.deep import Watch


def main(steps: int = 600, folder: str = "out/watched") -> dict:
    """Train, its predictor being taken out on the way, until the watch sees a collapse; its summary."""
    torch.manual_seed(0)
    images = torch.tensor(load_digits().data, dtype=torch.float32) / 16
    encoder = nn.Sequential(nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 32))
    predictor = nn.Sequential(nn.Linear(32, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 32))
    weights = [*encoder.parameters(), *predictor.parameters()]
    optimiser = torch.optim.SGD(weights, lr=0.1, momentum=0.9, weight_decay=1e-3)

    with Watch(folder, every=5) as watch:
        for step in range(steps):
            x = images[torch.randint(len(images), (128,))]
            z1, z2 = (encoder(x + 0.3 * torch.randn_like(x)) for _ in range(2))
            there = step < steps // 3
            p1, p2 = (predictor(z1), predictor(z2)) if there else (z1, z2)
            loss = -(cosine_similarity(p1, z2.detach()).mean() + cosine_similarity(p2, z1.detach()).mean()) / 2
            watch((z1, z2), (p1, p2), loss=loss)
            if any(sign.kind == "direction collapsed" for sign in watch.signs):
                break
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return watch.summary


if __name__ == "__main__":
    found = main(*(int(n) for n in sys.argv[1:]))
    print(f"{found['diagnosis']}, seen {found['steps']} steps after the start")

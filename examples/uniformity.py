"""A loss of one's own, trained on digits: `python examples/uniformity.py [STEPS]`, from the root of a checkout.

Here the images of a batch push each other away, the nearer the harder (Wang & Isola 2020), so that no predictor and no
stop-gradient is needed against a collapse. The class below is all there is to it; the rest trains it by hand. Entered
in a table, it is a choice of every command as well: `--objective uniformity --sharpness 3`.
"""

import sys
from dataclasses import dataclass
from itertools import islice
from typing import Annotated

import torch

from stopgrad.deep.config import Config, Data, Method, Optimisation, check
from stopgrad.deep.data import datasets, views
from stopgrad.deep.data.orders.setting import Setting, shares
from stopgrad.deep.kinds import Objective
from stopgrad.deep.measuring.monitor import measure, to_host
from stopgrad.deep.method.optimisation import make_optimiser, rates, set_rates
from stopgrad.deep.method.predictors.identity import Identity
from stopgrad.deep.method.siamese import Siamese
from stopgrad.deep.parts import POSITIVE
from stopgrad.deep.seats import OBJECTIVES
from stopgrad.linear_theory.tools.lengths import directions

# ---------------------------------------------------------------- the loss


@dataclass(frozen=True)
class Uniformity(Objective):
    """Views of an image are drawn together, images of a batch spread over the sphere."""

    sharpness: Annotated[float, POSITIVE] = 2.0
    """t of exp(−t‖Pᵢ − Pⱼ‖²): the larger, the fewer neighbours push."""
    whole_batch = True  # images are compared with each other

    def __call__(self, outputs):
        """‖Pᵢ − Tᵢ‖² + log mean exp(−t‖Pᵢ − Pⱼ‖²), averaged over views; z, p and target are (2, B, d), a row a view."""
        P, T = directions(outputs.p), directions(outputs.target.flip(0))
        near = (2 * self.sharpness * (P @ P.mT - 1)).exp().mean(dim=(-2, -1))
        return (P - T).square().sum(dim=-1).mean() + near.log().mean()


OBJECTIVES["uniformity"] = Uniformity

# ---------------------------------------------------------------- a run, by hand


def main(steps: int = 400) -> dict[str, float]:
    """Train a small ResNet for at most 20 epochs, 440 steps; the numbers of the last one."""
    method = Method(objective=Uniformity(), predictor=Identity(), embedding_dim=32)
    data, optimisation = Data(crop_scale=(0.6, 1.0), flip=0.0), Optimisation(epochs=20, batch_size=64, lr=0.1)
    config = check(Config(data, method, optimisation))
    torch.manual_seed(config.seed)
    dataset = datasets.load(data, config.seed)
    setting = Setting.of(config, dataset.train.labels)
    siamese = Siamese(method).train()
    optimiser = make_optimiser(siamese, optimisation)
    visits = islice(shares(data.order, setting), steps)  # which images a step sees, and how often each was seen before
    for batch in views.batches(dataset, data, config.seed, visits, "cpu"):
        set_rates(optimiser, rates(optimisation, batch.step, setting.steps_per_epoch))
        outputs = siamese(batch)
        optimiser.zero_grad()
        outputs.total.backward()
        optimiser.step()
        if batch.step % 50 == 0 or batch.step == steps - 1:
            seen, _ = to_host(measure(outputs.z, outputs.p, outputs.target, loss=outputs.loss.detach()))
            said = f"mean direction m_o {seen['m_o_z']:.3f}, rank {seen['rank_z']:.1f} of {method.embedding_dim}"
            print(f"step {batch.step}: loss {seen['loss']:.3f}, {said}")
    return seen


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

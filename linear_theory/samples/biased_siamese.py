"""The linear Siamese network with a bias in its predictor, trained by gradient descent on views with a mean.

What the flows of `linear_theory.flows.mean` are held against. Gradients come from the loss itself by automatic
differentiation, so that flow and network can disagree.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from stopgrad.linear_theory.flows.mean import BiasedNetwork, MeanHyperparameters
from stopgrad.linear_theory.samples.linear_siamese import Draw, Training
from stopgrad.linear_theory.tools.arrays import as_tensor
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.lengths import directions
from stopgrad.linear_theory.tools.threads import for_tensors_of

Loss = Literal["squared", "cosine"]


@dataclass(frozen=True)
class BiasedRun:
    """What a training left."""

    times: np.ndarray
    """(k,) times of the observations, in units of the flow."""
    observed: Any
    """What `observe` returned at each time, stacked."""
    state: BiasedNetwork
    """The final weights, arrays."""


def shifted_views(draw: Draw, mu, mirrored: bool = True) -> Draw:
    """Views of images with the mean μ (n1,): those of `draw`, whose mean is 0, and μ.

    mirrored: every pair also with its sign turned, so that a batch, twice as large, has the mean μ and nothing else.
    """
    shift = as_tensor(mu, "mu", dtype=torch.float64)

    def shifted(generator, batch):
        x1, x2 = (as_tensor(v, "the view", dtype=torch.float64) for v in draw(generator, batch))
        if mirrored:
            x1, x2 = torch.cat([x1, -x1]), torch.cat([x2, -x2])
        return x1 + shift, x2 + shift

    return shifted


def biased_objective(state: BiasedNetwork, x1, x2, loss: Loss, tau=1.0) -> torch.Tensor:
    """The loss of views x1, x2 (batch, n1), 0-d: ½ mean‖W_p f₁ + b − sg(τ f₂)‖², or −mean cos(W_p Z₁ + b, sg Z₂).

    f = W x and Z = f/‖f‖: under the cosine loss the predictor sees normalised embeddings.
    """
    Wp, W, b = (as_tensor(v, name, dtype=torch.float64) for v, name in zip(state, state._fields))
    x1, x2 = as_tensor(x1, "x1", dtype=torch.float64), as_tensor(x2, "x2", dtype=torch.float64)
    f1, f2 = x1 @ W.mT, x2 @ W.mT
    if loss == "squared":
        error = f1 @ Wp.mT + b.mT - (tau * f2).detach()
        return (error * error).sum(-1).mean() / 2
    if loss != "cosine":
        raise BadInput(f"loss is {loss!r}; it must be squared or cosine")
    P = directions(directions(f1) @ Wp.mT + b.mT)
    return -(P * directions(f2).detach()).sum(-1).mean()


def train_biased(
    draw: Draw,
    state: BiasedNetwork,
    h: MeanHyperparameters,
    loss: Loss = "cosine",
    training: Training = Training(),
    seed: int = 0,
    observe: Callable[[BiasedNetwork], Any] = lambda state: state,
) -> BiasedRun:
    """Descend by SGD with momentum and coupled weight decay; `draw(generator, batch)` gives both views of fresh images.

    α_p = η_p = 0 keeps W_p, α_b = η_b = 0 keeps b. `observe(state)` gives an array or a NamedTuple of arrays. Of `h`
    only τ and what concerns learning are read: the views are the data.

    >>> from stopgrad.linear_theory.flows.matrices import Correlations
    >>> from stopgrad.linear_theory.samples.views import exact_views
    >>> views = shifted_views(exact_views(Correlations(np.eye(2), np.eye(2))), [2.0, 0.0])
    >>> start = BiasedNetwork(np.eye(2), np.eye(2), np.zeros((2, 1)))
    >>> run = train_biased(views, start, MeanHyperparameters(eta=0.0), "squared", Training(lr=0.1, steps=1))
    >>> run.state.W.diagonal()  # one step of −X′, all that is left of Lemma 1 at W_p = I
    array([0.9, 0.9])
    """
    h = h.validate().map(as_tensor)
    generator = torch.Generator().manual_seed(seed)
    state = BiasedNetwork(*(as_tensor(v, name, dtype=torch.float64) for v, name in zip(state, state._fields)))
    rates = BiasedNetwork(h.alpha_p, torch.ones(()), h.alpha_b)
    decays = BiasedNetwork(h.predictor_decay, h.eta, h.bias_decay)
    velocity = BiasedNetwork(*(0 * v for v in state))
    times, records = [], []
    for step in range(training.steps + 1):
        if step % training.record_every == 0 or step == training.steps:
            times.append(step * training.time_per_step)
            records.append(observe(state))
        if step == training.steps:
            break
        x1, x2 = (as_tensor(v, "the view", dtype=torch.float64) for v in draw(generator, training.batch))
        if training.symmetric_loss:
            x1, x2 = torch.cat([x1, x2]), torch.cat([x2, x1])
        with for_tensors_of(x1.numel()):
            free = BiasedNetwork(*(v.clone().requires_grad_() for v in state))
            slopes = torch.autograd.grad(biased_objective(free, x1, x2, loss, h.tau), free, materialize_grads=True)
            pushes = (r * g + decay * v for r, g, decay, v in zip(rates, slopes, decays, state))
            velocity = BiasedNetwork(*(training.momentum * v + g for v, g in zip(velocity, pushes)))
            state = BiasedNetwork(*(v - training.lr * moves for v, moves in zip(state, velocity)))
    return BiasedRun(np.asarray(times), _stacked(records), BiasedNetwork(*(v.numpy() for v in state)))


def _stacked(records: list):
    if isinstance(records[0], tuple):
        return type(records[0])(*map(_stacked, zip(*records)))
    return np.stack([np.asarray(record) for record in records])

"""A linear Siamese network trained by gradient descent on pairs of views: what Lemma 1 is held against.

Gradients come from the objective J by automatic differentiation and never from Lemma 1, so that the two can disagree.
Views come from a callable `draw(generator, batch) -> (x1, x2)`, two float64 tensors (batch, n1) of two augmentations of
the same `batch` images. `linear_theory.samples.views` makes such callables and measures the X and X′ of any of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.matrices import Network, Switches, symmetric_part
from stopgrad.linear_theory.tools.arrays import as_tensor
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.threads import for_tensors_of

Draw = Callable[[torch.Generator, int], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Training:
    """How J is descended. Raises ValueError with one sentence naming the first field out of range."""

    lr: float = 0.02
    """Learning rate of the encoder; the predictor's is α_p times it."""
    steps: int = 2000
    batch: int = 128
    """Pairs of views a step."""
    momentum: float = 0.0
    """Heavy-ball momentum m, as in `torch.optim.SGD`."""
    symmetric_loss: bool = True
    """Average J over both orders of the two views, or predict view 2 from view 1 alone."""
    record_every: int = 20
    """Observe the network every so many steps; the first and the last state are always observed."""

    def __post_init__(self):
        for name, valid, rule in (
            ("lr", 0 < self.lr < np.inf, "finite and above 0"),
            ("steps", self.steps >= 1, "at least 1"),
            ("batch", self.batch >= 1, "at least 1"),
            ("momentum", 0 <= self.momentum < 1, "in [0, 1)"),
            ("record_every", self.record_every >= 1, "at least 1"),
        ):
            if not valid:
                raise BadInput(f"{name} is {getattr(self, name)}; it must be {rule}")

    @property
    def time_per_step(self) -> float:
        """The flow's time that one step stands for: lr/(1 − m)."""
        return self.lr / (1 - self.momentum)


@dataclass(frozen=True)
class Run:
    """What a training left: every array has the seeds as an axis, `observed` has the times in front of it."""

    times: np.ndarray
    """(k,) times of the observations, in units of the flow."""
    observed: Any
    """What `observe` returned at each time, stacked: an array (k, seeds, …) or a NamedTuple of such."""
    state: Network
    """The final weights, (seeds, …)."""
    diverged: np.ndarray
    """(seeds,) True where the final weights are not finite."""


# What passes a gradient from the prediction side and from the target side. The online side is cut before the predictor,
# which therefore learns in every case.
_STOPPED = {
    "target": (lambda f: f, torch.Tensor.detach),
    "none": (lambda f: f, lambda f: f),
    "mirrored": (torch.Tensor.detach, lambda f: f),
}


def objective(
    state: Network, x1: torch.Tensor, x2: torch.Tensor, h: Hyperparameters, switches: Switches = Switches()
) -> torch.Tensor:
    """Eq. 1 on samples: J = ½ mean‖W_p W x₁ − W_a x₂‖², with shape (…,).

    x1, x2 are (…, batch, n1). A set predictor is computed, without gradient, from the batch's own correlation of both
    views' features, as in DirectPred without a moving average: its bias against the flow is O(1/batch).
    """
    Wp, W, Wa = map(as_tensor, state, state._fields)
    x1, x2 = as_tensor(x1, "x1"), as_tensor(x2, "x2")
    if callable(switches.predictor):
        features = torch.cat([x1, x2], -2).detach() @ W.detach().mT
        Wp = switches.predictor(features.mT @ features / features.shape[-2])
    online, stopped = _STOPPED[switches.stop_gradient]
    target = {"shared": W, "ema": Wa, "proportional": h.tau * W}[switches.target]
    residual = online(x1 @ W.mT) @ Wp.mT - stopped(x2 @ target.mT)
    return (residual * residual).sum(-1).mean(-1) / 2


def gradient(
    state: Network,
    x1: torch.Tensor,
    x2: torch.Tensor,
    h: Hyperparameters,
    switches: Switches = Switches(),
    symmetric_loss: bool = True,
) -> Network:
    """∂J/∂(W_p, W, W_a) by automatic differentiation, for each network of the batch; zero for W_a and a given W_p.

    With `symmetric_loss` J is the average over both orders of the views.
    """
    x1, x2 = as_tensor(x1, "x1"), as_tensor(x2, "x2")
    if symmetric_loss:
        x1, x2 = torch.cat([x1, x2], -2), torch.cat([x2, x1], -2)
    Wp, W, Wa = (as_tensor(v, name).detach() for v, name in zip(state, state._fields))
    with torch.enable_grad():
        free = Network(Wp.clone().requires_grad_(), W.clone().requires_grad_(), Wa)
        J = objective(free, x1, x2, h, switches)
        dWp, dW = torch.autograd.grad(J.sum(), free[:2], materialize_grads=True)
    if switches.predictor == "symmetrised":
        dWp = symmetric_part(dWp)
    return Network(dWp if switches.predictor in ("learned", "symmetrised") else 0 * Wp, dW, 0 * Wa)


def descend(state: Network, velocity: Network, slope: Network, h, switches: Switches, training: Training):
    """One step of SGD with momentum and coupled weight decay; then the EMA target moves. Returns (state, velocity).

    In PyTorch's terms: encoder (lr, weight decay η), predictor (α_p lr, weight decay η_p/α_p), EMA momentum
    1 − β lr/(1 − m). A fixed or set predictor neither moves nor decays.
    """
    Wp, W, Wa = state
    learns = switches.predictor in ("learned", "symmetrised")
    push = Network(h.alpha_p * slope.Wp + learns * h.predictor_decay * Wp, slope.W + h.eta * W, 0 * Wa)
    velocity = Network(*(training.momentum * v + g for v, g in zip(velocity, push)))
    Wp, W, Wa = (w - training.lr * v for w, v in zip(state, velocity))
    if switches.target == "ema":
        Wa = Wa + h.beta * training.time_per_step * (W - Wa)
    return Network(Wp, W, Wa), velocity


def train(
    draw: Draw,
    state: Network,
    h: Hyperparameters,
    switches: Switches = Switches(),
    training: Training = Training(),
    seeds: Sequence[int] = (0,),
    observe: Callable[[Network], Any] = lambda state: state,
) -> Run:
    """Train one network for each seed, all at once, from `state`: (n2, …) shared by the seeds, or (seeds, n2, …).

    Each seed draws its own views, and the same views whichever seeds are trained beside it. `observe(state)` returns an
    array or a NamedTuple of arrays with the seeds in front. Its values approach the solution of `network_flow` as
    O(lr + √(lr/batch)). Weight decay, α_p, β and τ are those of `h`, in units of the flow (`descend` gives PyTorch's);
    its σ² and x are not read: the views decide. Raises ValueError for mismatched shapes, weights or hyperparameters out
    of range, an EMA without β, and β lr/(1 − m) > 1.
    """
    h = h.validate().map(as_tensor)
    if switches.target == "ema" and h.beta is None:
        raise BadInput("target='ema' needs beta, the EMA rate; it is None")
    if switches.target == "ema" and (h.beta * training.time_per_step > 1).any():
        raise BadInput(
            f"beta · lr/(1 − momentum) is {float((h.beta * training.time_per_step).max()):g}; it must be at most 1, "
            "or the EMA momentum would be negative"
        )
    generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
    state = _checked(state, len(generators))
    velocity = Network(*(0 * v for v in state))

    times, records = [], []
    for step in range(training.steps + 1):
        if step % training.record_every == 0 or step == training.steps:
            times.append(step * training.time_per_step)
            records.append(observe(state))
        if step == training.steps:
            break
        drawn = ([as_tensor(v, "the view", dtype=torch.float64) for v in draw(g, training.batch)] for g in generators)
        x1, x2 = map(torch.stack, zip(*drawn))
        if step == 0 and not x1.shape == x2.shape == (*x1.shape[:2], state.W.shape[-1]):
            raise ValueError(
                f"draw returned views of shapes {tuple(x1.shape[1:])} and {tuple(x2.shape[1:])}; "
                f"both must be (batch, {state.W.shape[-1]}) to fit W"
            )
        with for_tensors_of(x1.numel()):
            slope = gradient(state, x1, x2, h, switches, training.symmetric_loss)
            state, velocity = descend(state, velocity, slope, h, switches, training)

    diverged = torch.stack([~v.isfinite().flatten(1).all(1) for v in state]).any(0)
    return Run(np.asarray(times), _stack(records), Network(*(v.numpy() for v in state)), diverged.numpy())


def _checked(state: Network, seeds: int) -> Network:
    if not seeds:
        raise BadInput("seeds is empty; give at least one")
    state = Network(*(as_tensor(v, name, dtype=torch.float64) for v, name in zip(state, state._fields)))
    n2, n1 = state.W.shape[-2:]
    for name, value, shape in zip(state._fields, state, ((n2, n2), (n2, n1), (n2, n1))):
        if value.shape not in (shape, (seeds, *shape)):
            raise BadInput(f"{name} has shape {tuple(value.shape)}; it must be {shape} or {(seeds, *shape)}")
        if not value.isfinite().all():
            raise BadInput(f"{name} holds NaN or infinity; the initial weights must be finite")
    return Network(*(v.expand(seeds, *v.shape[-2:]).clone() for v in state))


def _stack(records: list):
    if isinstance(records[0], tuple):
        return type(records[0])(*map(_stack, zip(*records)))
    return np.stack([np.asarray(record) for record in records])

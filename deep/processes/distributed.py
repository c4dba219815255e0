"""Several processes, one run: each takes its share of every batch, and together they compute what one would.

torchrun starts the processes; without it there is one, no process group, and everything here does nothing. Gradients
are averaged once, after the backward passes of a step (`average_gradients`): two forwards per step through shared
parameters, accumulated parts and unused parameters need no special care then, as they do with DistributedDataParallel.
"""

import os
from collections import defaultdict
from collections.abc import Iterable
from datetime import timedelta
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch.nn.functional import batch_norm

from stopgrad.linear_theory.tools.errors import BadInput, Unshared

# Evaluation is done by one process while the others wait; torch would give up on them after ten minutes.
PATIENCE = timedelta(hours=2)


class World(NamedTuple):
    """The processes of a run and the place of this one among them."""

    rank: int
    size: int
    device: torch.device
    backend: str | None
    """nccl, gloo, or None where there is one process and no group."""

    @property
    def writes(self) -> bool:
        """Whether this is the one process that writes files and prints."""
        return self.rank == 0


def join(device: str = "auto") -> World:
    """Enter the process group that torchrun's environment variables describe; without them, a world of one.

    `device`: a torch device, or auto: CUDA where there is one, else the CPU. Collectives on CPU tensors go through
    gloo, those on CUDA tensors through nccl. Raises ValueError if the variables are incomplete or the device is not
    there.
    """
    rank, size, local = (
        _variable(name, default) for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    )
    if ("RANK" in os.environ) != ("WORLD_SIZE" in os.environ) or not 0 <= rank < size:
        raise Unshared("RANK and WORLD_SIZE contradict each other; start several processes with torchrun")
    place = _device(device, local, size)
    if size == 1:
        return World(0, 1, place, None)
    if "MASTER_ADDR" not in os.environ or "MASTER_PORT" not in os.environ:
        raise Unshared("WORLD_SIZE is set but MASTER_ADDR and MASTER_PORT are not; start the processes with torchrun")
    if place.type == "cuda":
        torch.cuda.set_device(place)
    on_cuda = place.type == "cuda"
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_cuda else "gloo", rank=rank, world_size=size, timeout=PATIENCE)
    return World(rank, size, place, "nccl" if on_cuda else "gloo")


def leave() -> None:
    """Leave the process group, if there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def all_reduce_mean(tensor: torch.Tensor) -> torch.Tensor:
    """The average of `tensor` over the processes, the same bits in each; where there is one, `tensor`.

    No gradient passes through it.
    """
    total = tensor.detach()
    if _size() == 1:
        return total
    total = total.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total / _size()


def gathered(tensor: torch.Tensor, dim: int) -> torch.Tensor:
    """The processes' tensors, of one shape, one after the other along `dim`. No gradient passes through it."""
    if _size() == 1:
        return tensor.detach()
    mine = tensor.detach().contiguous()
    parts = [torch.empty_like(mine) for _ in range(_size())]
    dist.all_gather(parts, mine)
    return torch.cat(parts, dim=dim)


def gathered_with_gradient(tensor: torch.Tensor, dim: int) -> torch.Tensor:
    """As `gathered`, differentiable: for a loss of the whole batch, which every process then computes.

    A process's share receives the sum of the gradients of all processes' losses. Averaged over the processes by
    `average_gradients`, a parameter's gradient is then the one that a single process finds.
    """
    return tensor if _size() == 1 else _Gathered.apply(tensor, dim)


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor, dim):
        ctx.dim, ctx.size = dim, tensor.shape[dim]
        return gathered(tensor, dim)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.narrow(ctx.dim, dist.get_rank() * ctx.size, ctx.size), None


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace every gradient by its average over the processes, in one all-reduce per dtype and device.

    Call it after the last backward of a step. Parameters without a gradient are passed over; which ones these are must
    be the same in all processes, as it is where all run the same code on shares of one batch.
    """
    if _size() == 1:
        return
    buckets = defaultdict(list)
    for parameter in parameters:
        if parameter.grad is not None:
            buckets[parameter.grad.dtype, parameter.grad.device].append(parameter.grad)
    for gradients in buckets.values():
        flat = all_reduce_mean(torch.cat([g.reshape(-1) for g in gradients]))
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients])):
            gradient.copy_(part.view_as(gradient))


def agree(flag: bool) -> bool:
    """Whether `flag` is true in any process; every process must ask, and all get the same answer."""
    if _size() == 1:
        return flag
    votes = torch.tensor(int(flag))  # on the CPU, through gloo: the accelerator need not be waited for
    dist.all_reduce(votes)
    return bool(votes)


# ---------------------------------------------------------------- batch normalisation


def synchronise(module: torch.nn.Module, world: World) -> torch.nn.Module:
    """`module` with every BatchNorm1d and BatchNorm2d normalising over the batches of all processes.

    Parameters, buffers and state-dict keys stay. On CUDA torch's SyncBatchNorm takes their place (use the returned
    module); on the CPU, which that refuses, `SyncedBatchNorm`, in place.
    """
    if world.size == 1:
        return module
    if world.backend == "nccl":
        return torch.nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for part in module.modules():
        if type(part) in (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d):
            part.__class__ = SyncedBatchNorm  # it adds no state; so hooks and references to the layer stay valid
    return module


class SyncedBatchNorm(torch.nn.modules.batchnorm._BatchNorm):
    """BatchNorm over the batches of all processes together, with exact gradients through the shared statistics.

    Input (n, C) or (n, C, …); the processes' n may differ. What it computes, running buffers included, is what
    BatchNorm would on the concatenated batch; in one process it is BatchNorm. Half-precision input is normalised in
    float32 and returned in its own dtype. Not twice differentiable. Raises ValueError for a batch of one value per
    channel.
    """

    def _check_input_dim(self, input):
        if input.dim() < 2:
            raise ValueError(f"the input has {input.dim()} dimensions; it must have a batch and a channel axis")

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """The normalised input, in its shape and dtype."""
        own_statistics = self.training or self.running_mean is None
        if _size() == 1 or not own_statistics:
            return super().forward(input)
        self._check_input_dim(input)
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        mean, variance, count = _global_statistics(x)
        if count < 2:
            raise BadInput("BatchNorm needs more than one value per channel over all processes; take a larger batch")
        if self.training and self.running_mean is not None:
            self._update(mean, variance * (count / (count - 1)))
        normalised = _Normalise.apply(x, mean, variance, count, self.eps)
        if self.affine:
            shape = _along_channels(x)
            normalised = torch.addcmul(self.bias.view(shape), self.weight.view(shape), normalised)
        return normalised.to(input.dtype)

    @torch.no_grad()
    def _update(self, mean, unbiased_variance):
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        for running, batch in ((self.running_mean, mean), (self.running_var, unbiased_variance)):
            running.mul_(1 - share).add_(batch, alpha=share)


@torch.no_grad()
def _global_statistics(x):
    """Mean (C,), biased variance (C,) and values per channel of the processes' batches together.

    Each process sends its own mean, variance and count (Chan, Golub & LeVeque 1979): sums of squares about 0 would
    cancel in float32. All add them up in the order of the ranks, so all get the same bits.
    """
    variance, mean = torch.var_mean(x, dim=_but_channels(x), correction=0)
    count = torch.tensor([x.numel() // x.shape[1]], device=x.device)
    mine = torch.cat([mean.double(), variance.double(), count.double()])
    gathered = [torch.empty_like(mine) for _ in range(_size())]
    dist.all_gather(gathered, mine)
    means, variances, counts = torch.stack(gathered).split([len(mean), len(mean), 1], dim=1)
    shares = counts / counts.sum()
    mean = (shares * means).sum(0)
    variance = (shares * (variances + (means - mean) ** 2)).sum(0)
    return mean.to(x.dtype), variance.to(x.dtype), int(counts.sum())


class _Normalise(torch.autograd.Function):
    """(x − mean)/√(variance + ε), differentiated through the mean and variance over all processes' x."""

    @staticmethod
    def forward(ctx, x, mean, variance, count, eps):
        normalised = batch_norm(x, mean, variance, eps=eps)
        ctx.save_for_backward(normalised, variance)
        ctx.count, ctx.eps = count, eps
        return normalised

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        """x̂ = (x − μ)/σ: ∂L/∂x = (g − ⟨g⟩ − x̂⟨g x̂⟩)/σ, with ⟨⟩ over the batches of all processes."""
        normalised, variance = ctx.saved_tensors
        axes, shape = _but_channels(gradient), _along_channels(gradient)
        sums = torch.stack([gradient.sum(axes), (gradient * normalised).sum(axes)])
        dist.all_reduce(sums)
        mean, slope = (sums / ctx.count).view(2, *shape)
        inner = gradient - mean - normalised * slope
        return inner * torch.rsqrt(variance + ctx.eps).view(shape), None, None, None, None


def _but_channels(x) -> list[int]:
    return [0, *range(2, x.dim())]


def _along_channels(x) -> list[int]:
    return [1, -1] + [1] * (x.dim() - 2)


# ---------------------------------------------------------------- environment


def _size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _variable(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise Unshared(f"{name} is {text!r}; it must be a whole number, as torchrun sets it")
    return int(text)


def _device(name: str, local_rank: int, size: int) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise BadInput(f"--device is {name!r}; it must be auto, cpu, cuda or another device of torch") from None
    if device.type != "cuda":
        return device
    index = local_rank if device.index is None or size > 1 else device.index
    found = torch.cuda.device_count()
    if index >= found:
        kind = Unshared if index == found else BadInput  # of a machine's processes the first without a device says so
        raise kind(f"--device {name} needs CUDA device {index} and there are {found}; use --device cpu")
    return torch.device("cuda", index)

"""One integrator for one trajectory and for millions: fixed-step Runge–Kutta of order 6, fused, with a stated error.

Every element of the batch is integrated with n and with 2n equal steps; where the two disagree by more than the
tolerance allows, and only there, n is doubled again. The comparison spans the whole time interval, so it sees what a
local error estimate cannot: the amplification of early errors near a separatrix. It also pays for one order more
(Richardson extrapolation). The same step runs on Python floats (one system), eager torch (a few) and in a loop that
the compiler has fused (many), on CPU and CUDA.
"""

import functools
import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch._higher_order_ops.while_loop import while_loop

from linear_theory.hyperparameters import Hyperparameters

# Butcher's seven-stage method of order 6. Its nodes are whole sixths, so that an exact decay costs four products a
# step; at tolerances from 1e-6 to 1e-10 it needs fewer operations than orders 4 and 8 (Dormand–Prince).
METHOD = "Butcher's Runge–Kutta of order 6, fixed step, extrapolated"
_ORDER = 6
_STAGES = (
    (),
    (1 / 3,),
    (0, 2 / 3),
    (1 / 12, 1 / 3, -1 / 12),
    (-1 / 16, 9 / 8, -3 / 16, -3 / 8),
    (0, 9 / 8, -3 / 8, -3 / 4, 1 / 2),
    (9 / 44, -9 / 11, 63 / 44, 18 / 11, 0, -16 / 11),
    (11 / 120, 0, 27 / 40, 27 / 40, -4 / 15, -4 / 15, 11 / 120),  # the step itself
)
_SIXTHS = (0, 2, 4, 2, 3, 3, 6, 6)

_FIRST_STEPS = 24
_EARLY = (1 / 16, 1 / 4)  # the first sixteenth of the time gets a quarter of the steps: transients come early
_MOST_STEPS = 2**18
_MARGIN = 16  # a doubling is as good as the order promises (2⁶) if it closes the gap by a quarter of that
_BLOCK = 2**16  # elements in one run of the loop: bounds the memory
_WORTH_COMPILING = 2**12  # with fewer elements compiling costs more than it saves


@dataclass(frozen=True)
class Solution:
    """Where every element of the batch went, and how well that is known.

    `state` has the type of the initial state; with several output times each field has a leading axis for them.
    """

    state: Any
    error: np.ndarray
    """Estimated error of each element: largest over fields and times; absolute below one, relative above."""
    worst_error: float
    steps: np.ndarray
    """Steps of each element's last run."""
    resolved: np.ndarray
    """False where the tolerance was not met within the most steps allowed, or the solution left the finite numbers."""
    method: str
    tolerance: float
    seconds: float


def integrate(
    flow: Callable,
    state,
    *args,
    t,
    tolerance: float = 1e-9,
    event_dims: int = 0,
    decays: Mapping[str, Any] | None = None,
    duration=1.0,
    most_steps: int = _MOST_STEPS,
    compiled: bool | None = None,
    device: str = "cpu",
) -> Solution:
    """Integrate state′ = flow(state, *args) from time 0 to `t`, a number or a 1-D array of rising times.

    Args:
        flow: pure function (state, *args) → derivative, a NamedTuple of the state's type, in plain operators.
        state: NamedTuple of numbers or arrays; fields, and arrays among the args, broadcast against each other.
        args: records (NamedTuple, Hyperparameters, arrays, numbers) handed to the flow, constant in time. Python ints
            in them are constants of the problem, which a fused flow is specialised for.
        t: output time or times, of which only these are kept, in units of `duration`.
        tolerance: largest estimated error of any element, absolute below one and relative above.
        event_dims: trailing dimensions that belong to one system: 0 for modes, 2 for matrices.
        decays: fields known to decay exactly as e^{−rate·t}: advanced by that factor, whatever the flow says of them.
        duration: unit of time, a number or an array that broadcasts against the fields: each element's own clock.
        most_steps: an element that would need more is returned as it is, `resolved` false.
        compiled: fuse with torch.compile (None: where the batch is worth it and a C++ compiler is found).
        device: torch device that integrates; results come back as NumPy arrays.

    Raises ValueError for NaN or falling times, a NaN initial state, or shapes that do not broadcast.
    """
    began = time.perf_counter()
    times = _checked_times(t)
    decays = decays or {}
    batch, y, leaves, rates, (unit,) = _arrange(state, args, decays.values(), [duration], event_dims, device)
    size = math.prod(batch)
    spec = (type(state), _map_leaves(lambda _: _SLOT, args), tuple(decays))
    if compiled is None:
        compiled = worth_compiling(size) and event_dims == 0
    lone = size == 1 and event_dims == 0 and not compiled
    loop = _compiled(flow, spec) if compiled and _compiler_found() else functools.partial(_loop, flow, spec)
    run = functools.partial(_run, functools.partial(_trace, loop, lone), (y, leaves, rates, [unit]), times, event_dims)

    kept = [v.new_empty((len(times), size, *v.shape[1:])) for v in y]
    error, steps = np.full(size, np.inf), np.zeros(size, dtype=np.int64)
    with torch.no_grad():
        todo, n = torch.arange(size, device=device), _FIRST_STEPS
        coarse = run(todo, n)
        before = torch.full((size,), math.inf, device=device)
        stalled = torch.zeros(size, dtype=torch.int64, device=device)
        while len(todo):
            n *= 2
            fine = run(todo, n)
            gap = _distance(fine, coarse)
            trusted = gap * _trust(gap, before)
            index = todo.cpu().numpy()
            error[index], steps[index] = trusted.cpu().numpy(), n
            for whole, f, c in zip(kept, fine, coarse):
                extrapolated = f.add(f - c, alpha=1 / (2**_ORDER - 1))
                if len(todo) == size:
                    whole.copy_(extrapolated)
                else:
                    whole[:, todo] = extrapolated
            stalled = torch.where(gap > before / 2, stalled + 1, 0)
            rounding = (stalled >= 2) & (gap < 1e-6)  # doubling no longer helps: only rounding is left
            again = ~(trusted <= tolerance) & ~rounding & (2 * n <= most_steps)
            todo, before, stalled, coarse = todo[again], gap[again], stalled[again], [f[:, again] for f in fine]

    fields = [v.reshape(len(times), *batch, *v.shape[2:]).cpu().numpy() for v in kept]
    return Solution(
        state=type(state)(*(v if np.ndim(t) else v[0] for v in fields)),
        error=error.reshape(batch),
        worst_error=float(error.max(initial=0.0)),
        steps=steps.reshape(batch),
        resolved=(error <= tolerance).reshape(batch),
        method=METHOD,
        tolerance=tolerance,
        seconds=time.perf_counter() - began,
    )


def worth_compiling(size: int) -> bool:
    """Whether a batch of so many systems repays the seconds that the compiler takes."""
    return size >= _WORTH_COMPILING


def _checked_times(t) -> np.ndarray:
    times = np.atleast_1d(np.asarray(t, dtype=float))
    if times.ndim != 1 or not np.all(np.isfinite(times)) or np.any(times < 0) or np.any(np.diff(times) <= 0):
        raise ValueError("t must be finite, at least 0 and, if there are several, rising")
    return times


# Leaves: every number or array inside the args; batched ones as (size, *event) tensors, shared ones as they are.

_SLOT = "leaf"


def _is_number(value) -> bool:
    return isinstance(value, (float, np.ndarray, np.generic, torch.Tensor))


def _map_leaves(function, record, is_leaf=_is_number):
    """`record` with `function` applied to its leaves, in a fixed order; what is neither leaf nor record stays."""
    if is_leaf(record):
        return function(record)
    if isinstance(record, Hyperparameters):
        return record.map(lambda v: _map_leaves(function, v, is_leaf))
    if isinstance(record, tuple):
        mapped = [_map_leaves(function, v, is_leaf) for v in record]
        return type(record)(*mapped) if hasattr(record, "_fields") else tuple(mapped)
    return record


def _arrange(state, args, rates, units, event_dims, device):
    """Batch shape; fields, leaves of the args, rates and units of time as tensors, the batch dimensions made one."""

    def tensor(value):
        value = value if isinstance(value, torch.Tensor) else np.array(value, dtype=float)
        return torch.as_tensor(value, dtype=torch.float64, device=device)

    fields = [tensor(v) for v in state]
    if any(bool(v.isnan().any()) for v in fields):
        raise ValueError("the initial state holds NaN; give numbers")
    leaves: list = []
    _map_leaves(lambda v: leaves.append(tensor(v)), args)
    rates, units = [tensor(v) for v in rates], [tensor(v) for v in units]
    everything = [*fields, *leaves, *rates, *units]
    shapes = [tuple(v.shape[: v.ndim - event_dims]) for v in everything if v.ndim > event_dims]
    try:
        batch = np.broadcast_shapes(*shapes)
    except ValueError:
        raise ValueError(f"shapes {', '.join(map(str, shapes))} do not broadcast together") from None

    def flat(v):
        event = v.shape[v.ndim - event_dims :] if event_dims else ()
        return v.expand((*batch, *event)).reshape((math.prod(batch), *event)).contiguous()

    def flat_if_batched(v):
        return flat(v) if v.ndim > event_dims else v

    return batch, [flat(v) for v in fields], *([flat_if_batched(v) for v in vs] for vs in (leaves, rates, units))


# Runs: every output time with a given number of steps.


def _run(trace, batched, times, event_dims, todo, n):
    """States at `times` with about n steps in all: a list of (len(times), len(todo), *event), block by block."""
    segments = _segments(times, n)
    blocks = []
    for start in range(0, len(todo), _BLOCK):
        chosen = todo[start : start + _BLOCK]
        whole = len(chosen) == len(batched[0][0])
        picked = [[v if whole or v.ndim <= event_dims else v[chosen] for v in values] for values in batched]
        blocks.append(trace(*picked, segments))
    return blocks[0] if len(blocks) == 1 else [torch.cat(parts, dim=1) for parts in zip(*blocks)]


def _segments(times, n):
    """(step, number of steps, whether an output follows) from each breakpoint to the next, in order."""
    end = max(times[-1], np.finfo(float).tiny)
    breaks = np.union1d(times, [_EARLY[0] * end])
    progress = np.interp(breaks / end, [0.0, _EARLY[0], 1.0], [0.0, _EARLY[1], 1.0])
    # Rounded up before doubling, so that a run with 2n steps halves every step of the run with n.
    counts = np.ceil(_FIRST_STEPS * np.diff(progress, prepend=0.0) - 1e-9).astype(int) * (n // _FIRST_STEPS)
    gaps = np.diff(breaks, prepend=0.0)
    return [(float(gap / max(count, 1)), int(count), at in times) for gap, count, at in zip(gaps, counts, breaks)]


def _trace(loop, lone, y, leaves, rates, unit, segments):
    """One block through all its output times; a lone scalar system runs on Python floats, 50 times faster."""
    like = y[0]
    outputs = []
    if lone:
        y, leaves = [v.item() for v in y], [v.item() for v in leaves]
    for h, count, keep in segments:
        width = h * unit[0]
        sixth = [torch.exp(rate * width / -6) for rate in rates]
        if lone:
            y = loop(y, width.item(), leaves, [v.item() for v in sixth], count)
        else:
            y = loop(y, width, leaves, [v.expand_as(like) for v in sixth], torch.tensor(count))
        if keep:
            outputs.append([like.new_tensor([v]) for v in y] if lone else y)
    return [torch.stack(values) for values in zip(*outputs)]


def _distance(fine, coarse):
    """Largest |fine − coarse| over times, fields and event dimensions, relative above one; NaN counts as infinite."""
    gaps = []
    for f, c in zip(fine, coarse):
        gap = (f - c).abs_().div_(f.abs().clamp_(min=1.0)).nan_to_num_(nan=math.inf, posinf=math.inf)
        gaps.append(gap.movedim(1, 0).flatten(1).amax(1))
    return torch.stack(gaps).amax(0)


def _trust(gap, before):
    """What to make of a gap. Closed as the order promises, it overstates what is left of the error. A first gap may be
    small by accident, where the errors of n and 2n cross: it must be much smaller to be believed."""
    first, closing = torch.isinf(before), gap <= before / _MARGIN
    return torch.where(first, float(_MARGIN), torch.where(closing, 1.0 / _MARGIN, 1.0))


# The loop over steps, and its fusing.


def _loop(flow, spec, y, h, leaves, sixth, count):
    """`count` steps of length h, one after the other."""
    step = _stepper(flow, spec, h, leaves, sixth)
    for _ in range(int(count)):
        y = step(y)
    return y


def _stepper(flow, spec, h, leaves, sixth):
    """The step y → y(t + h) on plain sequences: the state's fields, the args' leaves, each decay over h/6."""
    kind, template, decaying = spec
    rest = iter(leaves)
    args = _map_leaves(lambda _: next(rest), template, is_leaf=lambda v: v is _SLOT)

    def step(y):
        powers = [_powers(g) for g in sixth]  # here, so that a fused step keeps them in registers
        exact = [powers[decaying.index(name)] if name in decaying else None for name in kind._fields]
        slopes: list = []
        for weights, sixths in zip(_STAGES, _SIXTHS):
            stage = [
                _combine(v, weights, [k[m] for k in slopes]) if decay is None else v * decay[sixths]
                for m, (v, decay) in enumerate(zip(y, exact))
            ]
            if len(slopes) < len(_STAGES) - 1:
                slopes.append([h * slope for slope in flow(kind(*stage), *args)])
        return stage

    return step


def _powers(g):
    """The factors of an exact decay at the stages' nodes, in sixths of a step."""
    square, cube = g * g, g * g * g
    return {0: 1.0, 2: square, 3: cube, 4: square * square, 6: cube * cube}


def _combine(v, weights, changes):
    for weight, change in zip(weights, changes):
        if weight:
            v = v + weight * change
    return v


@functools.lru_cache
def _compiled(flow, spec):
    """`_loop` fused for this flow, the loop included; the elements are a dynamic dimension: one kernel for any size."""

    def loop(y, h, leaves, sixth, count):
        step = _stepper(flow, spec, h, leaves, sixth)

        def again(left, *y):
            return left > 0

        def body(left, *y):
            return (left - 1, *step(y))

        return while_loop(again, body, (count, *y))[1:]

    options = {"cpp.enable_floating_point_contract_flag": "fast"}  # let a·b + c be one instruction
    fused = torch.compile(loop, fullgraph=True, options=options)

    def call(y, h, leaves, sixth, count):
        if len(y[0]) == 1:  # a size of one would be compiled apart
            (h,), y, leaves, sixth = ([v.repeat(2) if v.ndim else v for v in vs] for vs in ([h], y, leaves, sixth))
            return [v[:1] for v in call(y, h, leaves, sixth, count)]
        for v in (*y, h, *leaves, *sixth):
            if v.ndim:
                torch._dynamo.maybe_mark_dynamic(v, 0)
        return fused(tuple(y), h, tuple(leaves), tuple(sixth), count)

    return call


@functools.cache
def _compiler_found() -> bool:
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except Exception as reason:
        warnings.warn(f"no C++ compiler, so integration is not fused and some 20 times slower: {reason}", stacklevel=3)
        return False
    return True

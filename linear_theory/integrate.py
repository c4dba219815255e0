"""One integrator for one trajectory and for millions: fixed-step Runge–Kutta of order 6, fused, with a stated error.

Every element of the batch is integrated with n and with 2n steps, side by side in one kernel; where the two disagree
by more than the tolerance allows, and only there, n is doubled. The comparison spans the whole time interval, so it
sees what a local error estimate cannot: the amplification of early errors near a separatrix. It also pays for one
order more (Richardson extrapolation). The same steps run on Python floats (one system), eager torch (a few) and in a
loop that the compiler has fused (many), on CPU and CUDA.
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

from linear_theory.allocator import keep_memory
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
_EARLY = (1 / 10, 1 / 4)  # the first tenth of the time gets a quarter of the steps: transients come early
_MOST_STEPS = 2**18
_MARGIN = 16  # a doubling is as good as the order promises (2⁶) if it closes the gap by a quarter of that
_APART = 0.01  # runs that differed by more at any time did not follow the same trajectory
_BLOCK = 2**16  # elements in one run of the loop: bounds the memory
# Let a·b + c be one instruction, and the three steps of an iteration one kernel.
_OPTIONS = {"cpp.enable_floating_point_contract_flag": "fast", "max_fusion_size": 512}
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
    advance = (_compiled if compiled and _compiler_found() else _eager)(flow, spec)
    given = (y, leaves, rates, [unit])
    run = functools.partial(_run, functools.partial(_trace, advance, lone), given, times, event_dims)

    with torch.no_grad():
        n = _FIRST_STEPS
        kept, error = run(torch.arange(size, device=device), n)
        steps = torch.full((size,), 2 * n, device=device)
        todo = (~(error <= tolerance)).nonzero()[:, 0]
        before, stalled = error[todo], torch.zeros_like(todo)
        while len(todo) and 4 * n <= most_steps:
            n *= 2
            found, gap = run(todo, n)
            # Closed as the order promises, the gap overstates what is left of the error.
            trusted = torch.where(gap <= before / _MARGIN, gap / _MARGIN, gap)
            error[todo], steps[todo] = trusted, 2 * n
            for whole, v in zip(kept, found):
                whole[:, todo] = v
            stalled = torch.where(gap > before / 2, stalled + 1, 0)
            rounding = (stalled >= 2) & (gap < 1e-6)  # doubling no longer helps: only rounding is left
            again = ~((trusted <= tolerance) | rounding)
            todo, before, stalled = todo[again], gap[again], stalled[again]

    error, steps = error.cpu().numpy(), steps.cpu().numpy()
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
        if not isinstance(value, torch.Tensor):
            value = np.require(value, float, "W")  # copied if read-only, which torch cannot hold
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


# Runs: every output time with a given number of steps, and with twice as many beside it.


def _run(trace, batched, times, event_dims, todo, n):
    """Fields (len(times), len(todo), *event) at `times` after about 2n steps, and their errors; block by block."""
    segments = _segments(times, n)
    blocks = []
    for start in range(0, max(len(todo), 1), _BLOCK):
        chosen = todo[start : start + _BLOCK]
        whole = len(chosen) == len(batched[0][0])
        picked = [[v if whole or v.ndim <= event_dims else v[chosen] for v in values] for values in batched]
        blocks.append(trace(*picked, segments))
    if len(blocks) == 1:
        return blocks[0]
    fields, errors = zip(*blocks)
    return [torch.cat(parts, dim=1) for parts in zip(*fields)], torch.cat(errors)


def _segments(times, n):
    """(step, number of steps, whether an output follows) from each breakpoint to the next, in order."""
    end = max(times[-1], np.finfo(float).tiny)
    breaks = np.union1d(times, [_EARLY[0] * end])
    progress = np.interp(breaks / end, [0.0, _EARLY[0], 1.0], [0.0, _EARLY[1], 1.0])
    # Rounded up before doubling, so that a run with 2n steps halves every step of the run with n.
    counts = np.ceil(_FIRST_STEPS * np.diff(progress, prepend=0.0) - 1e-9).astype(int) * (n // _FIRST_STEPS)
    gaps = np.diff(breaks, prepend=0.0)
    return [(float(gap / max(count, 1)), int(count), at in times) for gap, count, at in zip(gaps, counts, breaks)]


def _trace(advance, lone, y, leaves, rates, unit, segments):
    """One block through all its output times; a lone scalar system runs on Python floats, 50 times faster."""
    like, outputs = y[0], []
    rates = [rate.expand_as(like) for rate in rates]
    pair = (y, [v.clone() for v in y], like.new_zeros(len(like)), like.new_zeros(len(like)))  # no aliases in the loop
    if lone:
        pair, leaves = ([v.item() for v in y], [v.item() for v in y], 0.0, 0.0), [v.item() for v in leaves]
        rates = [v.item() for v in rates]
    for h, count, keep in segments:
        width = h * unit[0]
        if lone:
            *pair, values, error = advance(*pair, width.item(), leaves, rates, count)
            values, error = (
                [like.new_tensor([v]) for v in values],
                like.new_tensor([math.inf if error != error else error]),
            )
        else:
            *pair, values, error = advance(*pair, width, leaves, rates, torch.tensor(count))
        if keep:
            outputs.append((*values, error))
    if len(outputs) == 1:
        *fields, error = outputs[0]
        return [v[None] for v in fields], error
    *fields, errors = map(torch.stack, zip(*outputs))
    return fields, errors.amax(0)


# The loop over steps, and its fusing. It carries both runs, the gap between them a step ago and the widest so far.


def _eager(flow, spec):
    def advance(coarse, fine, before, widest, h, leaves, rates, count):
        """`count` steps h, and twice as many of h/2: all that is carried, then the state and its error."""
        step = _stepper(flow, spec, h, leaves, rates)
        carried = (coarse, fine, before, widest)
        for _ in range(int(count)):
            carried = step(*carried)
        return *carried, *_told(spec, *carried)

    return advance


def _told(spec, coarse, fine, before, widest):
    """The extrapolated state and its error. A gap may be small by accident, where the errors of both runs cross: that
    of the step before is asked too. Runs that ever were far apart may have ended together in a wrong place."""
    error = _larger(_gap(spec, fine, coarse), before)
    extrapolated = [f + (f - c) * (1 / (2**_ORDER - 1)) for f, c in zip(fine, coarse)]
    error = error + widest * (widest > _APART)
    return extrapolated, error.nan_to_num(nan=math.inf) if isinstance(error, torch.Tensor) else error


def _gap(spec, fine, coarse):
    """Largest |fine − coarse| over the fields and event dimensions, relative above one; exact decays have none."""
    kind, _, decaying = spec
    pairs = [pair for name, *pair in zip(kind._fields, fine, coarse) if name not in decaying]
    gaps = [abs(f - c) / _larger(abs(f), 1.0) for f, c in pairs] or [0 * fine[0]]
    return functools.reduce(_larger, [g.flatten(1).amax(1) if getattr(g, "ndim", 0) > 1 else g for g in gaps])


def _larger(a, b):
    """The larger of two numbers or tensors, elementwise; NaN if either is."""
    if isinstance(a, torch.Tensor):
        return torch.maximum(a, b) if isinstance(b, torch.Tensor) else a.clamp(min=b)
    return a if a > b or a != a else b


def _stepper(flow, spec, h, leaves, rates):
    """A step h of one run and two of h/2 of the other, on plain sequences: the state's fields, the args' leaves and
    the rates of exact decays."""
    kind, template, decaying = spec
    rest = iter(leaves)
    args = _map_leaves(lambda _: next(rest), template, is_leaf=lambda v: v is _SLOT)

    twelfth = [torch.exp(v) if isinstance(v, torch.Tensor) else math.exp(v) for v in (rate * h / -12 for rate in rates)]

    def step(y, h, powers):
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

    def both(coarse, fine, before, widest):
        gap = _gap(spec, fine, coarse)
        halves = [_powers(g) for g in twelfth]  # here, so that a fused step keeps them in registers
        coarse = step(coarse, h, [_powers(g * g) for g in twelfth])
        for _ in range(2):
            fine = step(fine, h / 2, halves)
        return coarse, fine, gap, _larger(widest, gap)

    return both


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
    """`_eager` fused for this flow, the loop included; the elements are a dynamic dimension: a kernel for any size."""

    def loop(coarse, fine, before, widest, h, leaves, rates, count):
        step = _stepper(flow, spec, h, leaves, rates)
        fields = len(coarse)

        def split(carried):
            return list(carried[:fields]), list(carried[fields : 2 * fields]), *carried[2 * fields :]

        def again(left, *carried):
            return left > 0

        def body(left, *carried):
            coarse, fine, *gaps = step(*split(carried))
            return (left - 1, *coarse, *fine, *gaps)

        carried = split(while_loop(again, body, (count, *coarse, *fine, before, widest))[1:])
        return *carried, *_told(spec, *carried)

    keep_memory(2**26, 2**22)  # faulting the arrays in anew at each step can take as long as the step
    fused = torch.compile(loop, fullgraph=True, options=_OPTIONS)

    def call(coarse, fine, before, widest, h, leaves, rates, count):
        if len(before) == 1:  # a size of one would be compiled apart
            twice = [[v.repeat(2) if v.ndim else v for v in vs] for vs in (coarse, fine, leaves, rates)]
            gaps = [v.repeat(2) for v in (before, widest)]
            h = h.repeat(2) if h.ndim else h
            found = call(*twice[:2], *gaps, h, *twice[2:], count)
            return [[u[:1] for u in v] if isinstance(v, (list, tuple)) else v[:1] for v in found]
        for v in (*coarse, *fine, before, widest, h, *leaves, *rates):
            if v.ndim:
                torch._dynamo.maybe_mark_dynamic(v, 0)
        return fused(tuple(coarse), tuple(fine), before, widest, h, tuple(leaves), tuple(rates), count)

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

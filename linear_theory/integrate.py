"""One integrator for one trajectory and for millions: fixed-step Runge–Kutta of order 6, fused, with a stated error.

Every element of the batch is integrated with n and with 2n steps, side by side; where the two disagree by more than
the tolerance allows, and only there, n is doubled. The comparison spans the whole time interval, so it sees what a
local error estimate cannot: the amplification of early errors near a separatrix. It also pays for one order more
(Richardson extrapolation). The same steps run on Python floats (one system), eager torch (a few), in C++ (many, on the
CPU: `linear_theory.kernel`) and fused by torch.compile (on CUDA, and for flows that C++ cannot serve).
"""

import functools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from linear_theory import runge_kutta
from linear_theory.arrays import as_float64, as_tensor
from linear_theory.kernel import compiler, kernel
from linear_theory.runge_kutta import METHOD, SLOT, Problem, map_leaves

_FIRST_STEPS = 24
_EARLY = (1 / 10, 1 / 4)  # the first tenth of the time gets a quarter of the steps: transients come early
_MOST_STEPS = 2**18
_MARGIN = 16  # a doubling is as good as the order promises (2⁶) if it closes the gap by a quarter of that
_BLOCK = 2**16  # elements in one run of torch's loop: bounds the memory
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
        compiled: fuse the steps (None: where the batch is worth it); needs a C++ compiler, else warns and does not.
        device: torch device that integrates; results come back as NumPy arrays.

    Raises ValueError for NaN or falling times, a NaN initial state, or shapes that do not broadcast.
    """
    began = time.perf_counter()
    times = _checked_times(t)
    decays = decays or {}
    batch, y, leaves, rates, (unit,) = _arrange(state, args, decays.values(), [duration], event_dims, device)
    size = math.prod(batch)
    problem = Problem(flow, type(state), map_leaves(lambda _: SLOT, args), tuple(decays))
    if compiled is None:
        compiled = worth_compiling(size) and event_dims == 0
    trace = _tracer(problem, y, leaves, rates, unit, event_dims, compiled)
    run = functools.partial(_run, trace, (y, leaves, rates, [unit]), _segments(times), event_dims)

    n = _FIRST_STEPS
    kept, error = run(n, None)
    steps = np.full(size, 2 * n)
    todo = np.flatnonzero(~(error <= tolerance))
    before, stalled = error[todo], np.zeros_like(todo)
    while len(todo) and 4 * n <= most_steps:
        n *= 2
        found, gap = run(n, todo)
        # Closed as the order promises, the gap overstates what is left of the error.
        trusted = np.where(gap <= before / _MARGIN, gap / _MARGIN, gap)
        error[todo], steps[todo] = trusted, 2 * n
        for whole, v in zip(kept, found):
            whole[:, todo] = v
        stalled = np.where(gap > before / 2, stalled + 1, 0)
        rounding = (stalled >= 2) & (gap < 1e-6)  # doubling no longer helps: only rounding is left
        again = ~((trusted <= tolerance) | rounding)
        todo, before, stalled = todo[again], gap[again], stalled[again]

    fields = [v.reshape(len(times), *batch, *v.shape[2:]) for v in kept]
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
    times = np.atleast_1d(as_float64(t, "t"))
    if times.ndim != 1 or not np.all(np.isfinite(times)) or np.any(times < 0) or np.any(np.diff(times) <= 0):
        raise ValueError("t must be finite, at least 0 and, if there are several, rising")
    return times


def _arrange(state, args, rates, units, event_dims, device):
    """Batch shape; fields, leaves of the args, rates and units of time as tensors, the batch dimensions made one."""

    def tensor(value):
        return as_tensor(value, dtype=torch.float64, device=device)

    fields = [tensor(v) for v in state]
    if any(np.isnan(v.cpu().numpy()).any() for v in fields):
        raise ValueError("the initial state holds NaN; give numbers")
    leaves: list = []
    map_leaves(lambda v: leaves.append(tensor(v)), args)
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


def _tracer(problem, y, leaves, rates, unit, event_dims, compiled):
    """What takes (fields, leaves, rates, [unit], segments) through all segments, by the fastest way there is."""
    compiled = compiled and compiler() is not None
    if compiled and event_dims == 0 and y[0].device.type == "cpu":
        steps = kernel(problem, tuple(v.ndim > 0 for v in (*leaves, *rates, unit)))
        if steps:
            return steps
    lone = y[0].numel() == 1 and event_dims == 0 and not compiled
    advance = runge_kutta.fused(problem, compiler()) if compiled else runge_kutta.eager(problem)
    return functools.partial(_in_blocks, functools.partial(_trace, advance, lone), event_dims)


def _run(trace, given, segments, event_dims, n, todo):
    """Fields (outputs, elements, *event) after about 2n steps and their errors, of all elements or of those in `todo`.

    Both are NumPy arrays, as is what is reckoned with them: torch would share out even such small work among threads.
    """
    if todo is not None:
        index = torch.as_tensor(todo, device=given[0][0].device)
        given = [[v[index] if v.ndim > event_dims else v for v in values] for values in given]
    fold = n // _FIRST_STEPS
    with torch.no_grad():
        fields, error = trace(*given, [(width / fold, count * fold, keep) for width, count, keep in segments])
    return [v.cpu().numpy() for v in fields], error.cpu().numpy()


def _in_blocks(trace, event_dims, *given_and_segments):
    """`trace` on so many elements at a time."""
    *given, segments = given_and_segments
    size, blocks = len(given[0][0]), []
    for start in range(0, max(size, 1), _BLOCK):
        here = slice(start, start + _BLOCK)
        blocks.append(trace(*([v[here] if v.ndim > event_dims else v for v in values] for values in given), segments))
    if len(blocks) == 1:
        return blocks[0]
    fields, errors = zip(*blocks)
    return [torch.cat(parts, dim=1) for parts in zip(*fields)], torch.cat(errors)


def _segments(times):
    """(step, number of steps, whether an output follows) from each breakpoint to the next, in the run of fewest steps.

    Rounded up before any doubling, so that a run with 2n steps halves every step of the run with n.
    """
    end = max(times[-1], np.finfo(float).tiny)
    breaks = np.union1d(times, [_EARLY[0] * end])
    progress = np.interp(breaks / end, [0.0, _EARLY[0], 1.0], [0.0, _EARLY[1], 1.0])
    outputs = set(times.tolist())
    counts = np.ceil(_FIRST_STEPS * np.diff(progress, prepend=0.0) - 1e-9).astype(int)
    widths = np.diff(breaks, prepend=0.0) / np.maximum(counts, 1)
    return list(zip(widths.tolist(), counts.tolist(), (at in outputs for at in breaks.tolist())))


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
            values, error = [like.new_tensor([v]) for v in values], like.new_tensor([error])
        else:
            *pair, values, error = advance(*pair, width, leaves, rates, torch.tensor(count))
        if keep:
            outputs.append((*values, error))
    if len(outputs) == 1:
        *fields, error = outputs[0]
        return [v[None] for v in fields], error
    *fields, errors = map(torch.stack, zip(*outputs))
    return fields, errors.amax(0)

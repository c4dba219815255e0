"""One integrator for one trajectory and for millions: fixed-step Runge–Kutta of order 6, fused, with a stated error.

Every element of the batch is integrated with n and with 2n steps, side by side; where the two disagree by more than
the tolerance allows, and only there, n is doubled. The comparison spans the whole time interval, so it sees what a
local error estimate cannot: the amplification of early errors near a separatrix. It also pays for one order more
(Richardson extrapolation). The same steps run on Python floats (one system), in NumPy (little work), in C++ (much,
on the CPU: `kernel`) and fused by torch.compile (on CUDA, and for flows that C++ cannot serve). What many
steps still throw about is stiff and gets a method of its own (`stiff`).
"""

import functools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from stopgrad.linear_theory.simulation import runge_kutta, stiff
from stopgrad.linear_theory.simulation.kernel import compiler, kernel
from stopgrad.linear_theory.simulation.kernel_source import Given
from stopgrad.linear_theory.simulation.runge_kutta import APART, METHOD, SLOT, Problem, map_leaves
from stopgrad.linear_theory.tools.arrays import as_float64, as_tensor
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.threads import for_tensors_of

_FIRST_STEPS = 24
_EARLY = (1 / 10, 1 / 4)  # the first tenth of the time gets a quarter of the steps: transients come early
_MOST_STEPS = 2**18
_MARGIN = 16  # a doubling is as good as the order promises (2⁶) if it closes the gap by a quarter of that
_BLOCK = 2**16  # elements in one run of torch's loop: bounds the memory
_OVERHEAD = 2**10  # a step of NumPy's costs what these many elements cost, however few there are
_WORTH_COMPILING = 240 * _OVERHEAD  # steps times elements: with less, compiling a C++ program costs more than it saves
_WORTH_FUSING = 2**12  # elements: as much for torch.compile, which takes a minute
_LONE = 2**12  # steps of a single system that Python floats take
_COMPILED = {"C++", "torch.compile"}
_CELLS = 8  # numbers in a system: one of more would outgrow the program's registers
_PATIENCE = {"C++": 2**8 * _FIRST_STEPS}  # steps after which what they throw about is called stiff
_IMPATIENCE = 2**5 * _FIRST_STEPS  # the same where steps are dear


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
    """Steps of each element's last run of fixed steps."""
    resolved: np.ndarray
    """False where the tolerance was not met within the most steps allowed, or the solution left the finite numbers."""
    method: str
    engine: str
    """What took the steps: Python floats, NumPy, torch, torch.compile, C++ or VODE; several joined by commas."""
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
    most_steps: int | None = None,
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
        most_steps: an element that would need more is returned as it is, `resolved` false. None: 2¹⁸, and what is still
            thrown about by far fewer is handed to the method for stiff systems.
        compiled: fuse the steps (None: where steps times elements are worth it); needs a C++ compiler, else warns and
            does not.
        device: torch device that integrates; results come back as NumPy arrays.

    Raises ValueError for NaN or falling times, a NaN initial state, or shapes that do not broadcast.

    >>> from stopgrad.linear_theory import Hyperparameters, Mode, mode_flow
    >>> found = integrate(mode_flow, Mode(0.5, 0.25), Hyperparameters(sigma2=0.0, eta=0.16), t=200.0)
    >>> found.state.p.round(6), found.worst_error < 1e-9  # p₊ = 0.8
    (np.float64(0.8), True)
    """
    began = time.perf_counter()
    times = _checked_times(t)
    decays = decays or {}
    batch, y, leaves, rates, (unit,) = _arrange(state, args, decays.values(), [duration], event_dims, device)
    size, given, segments = math.prod(batch), (y, leaves, rates, [unit]), _segments(times)
    problem = Problem(flow, type(state), map_leaves(lambda _: SLOT, args), tuple(decays))
    engines: list[str] = []

    def run(n, todo):
        here = _chosen(given, todo, event_dims)
        count = n * sum(count for _, count, _ in segments) // _FIRST_STEPS
        fast = compiled if _COMPILED.isdisjoint(engines) else True  # what is compiled serves the few left too
        engine, trace = _engine(problem, here, event_dims, fast, count, alone=size == 1 and event_dims == 0)
        engines.append(engine)
        return _run(trace, here, segments, n)

    n = _FIRST_STEPS
    kept, error = run(n, None)
    steps = np.full(size, 2 * n)
    todo = np.flatnonzero(~(error <= tolerance))
    before, stalled = error[todo], np.zeros_like(todo)
    while len(todo) and 4 * n <= (most_steps or _MOST_STEPS):
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
        lost = ~(before <= APART)
        if most_steps is None and n == _PATIENCE.get(engines[-1], _IMPATIENCE) and lost.any():
            engines.append(stiff.METHOD)
            stray = todo[lost]
            here = _chosen(given, stray, event_dims)
            # Of plain numbers: on matrices the digits of NumPy and torch differ in the last place.
            form = np.asarray if event_dims == 0 and _serves_numpy(problem, here, event_dims) else torch.as_tensor
            found, gap = stiff.solve(problem, here, event_dims, times, tolerance, form)
            solved = gap <= APART
            error[stray[solved]] = gap[solved]
            for whole, v in zip(kept, found):
                whole[:, stray[solved]] = v[:, solved]
            # Only a fast engine goes on with what is left.
            done = np.isin(todo, stray[solved] if engines[-2] in _PATIENCE else stray)
            todo, before, stalled = todo[~done], before[~done], stalled[~done]

    fields = [v.reshape(len(times), *batch, *v.shape[2:]) for v in kept]
    return Solution(
        state=type(state)(*(v if np.ndim(t) else v[0] for v in fields)),
        error=error.reshape(batch),
        worst_error=float(error.max(initial=0.0)),
        steps=steps.reshape(batch),
        resolved=(error <= tolerance).reshape(batch),
        method=METHOD,
        engine=", ".join(dict.fromkeys(engines)),
        tolerance=tolerance,
        seconds=time.perf_counter() - began,
    )


def _checked_times(t) -> np.ndarray:
    times = np.atleast_1d(as_float64(t, "t"))
    if times.ndim != 1 or not np.all(np.isfinite(times)) or np.any(times < 0) or np.any(np.diff(times) <= 0):
        raise BadInput("t must be finite, at least 0 and, if there are several, rising")
    return times


def _arrange(state, args, rates, units, event_dims, device):
    """Batch shape; fields, leaves of the args, rates and units of time as tensors, the batch dimensions made one."""

    def tensor(value):
        return as_tensor(value, dtype=torch.float64, device=device)

    fields = [tensor(v) for v in state]
    if any(np.isnan(v.cpu().numpy()).any() for v in fields):
        raise BadInput("the initial state holds NaN; give numbers")
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


def _engine(problem, given, event_dims, compiled, steps, alone):
    """The fastest that there is for so many steps: its name, and what takes (fields, leaves, rates, [unit], segments)
    through all segments. alone: one system of plain numbers, to which Python floats are open."""
    (y, *others), size = given, len(given[0][0])

    def blocks(advance, form):
        return functools.partial(_in_blocks, functools.partial(_trace, advance, form), event_dims)

    worth = steps >= _LONE if alone else steps * (size + _OVERHEAD) >= _WORTH_COMPILING
    if (worth if compiled is None else compiled) and compiler() is not None:
        shapes = tuple(_given(v, event_dims) for v in (*y, *(v for values in others for v in values)))
        if y[0].device.type == "cpu" and sum(one.cells for one in shapes[: len(y)]) <= _CELLS:
            trace = kernel(problem, shapes)
            if trace:
                return "C++", trace
        if compiled or (event_dims == 0 and size >= _WORTH_FUSING):
            return "torch.compile", blocks(runge_kutta.fused(problem, compiler()), torch.clone)
    advance = runge_kutta.eager(problem)
    if alone and not compiled:
        return "Python floats", blocks(advance, torch.Tensor.item)
    if _serves_numpy(problem, given, event_dims):
        return "NumPy", blocks(advance, torch.Tensor.numpy)
    return "torch", blocks(advance, torch.clone)


def _serves_numpy(problem, given, event_dims) -> bool:
    """Whether the flow takes NumPy's arrays, which are several times faster than torch's where they are small."""
    if given[0][0].device.type != "cpu":
        return False
    y, leaves, *_ = ([(v[:1] if v.ndim > event_dims else v).numpy() for v in values] for values in given)
    try:
        slopes = problem.flow(problem.kind(*y), *problem.arguments(leaves))
        return not any(isinstance(v, torch.Tensor) for v in slopes)
    except Exception:  # whatever a flow of torch's functions may say
        return False


def _given(v, event_dims) -> Given:
    return Given(True, tuple(v.shape[1:])) if v.ndim > event_dims else Given(False, tuple(v.shape))


def _chosen(given, todo, event_dims):
    """What is given, of all elements (None) or of those in `todo`."""
    if todo is None:
        return given
    index = torch.as_tensor(todo, device=given[0][0].device)
    return [[v[index] if v.ndim > event_dims else v for v in values] for values in given]


def _run(trace, given, segments, n):
    """Fields (outputs, elements, *event) after about 2n steps and their errors.

    Both are NumPy arrays, as is what is reckoned with them: torch would share out even such small work among threads.
    """
    fold = n // _FIRST_STEPS
    with torch.no_grad(), np.errstate(all="ignore"):
        fields, error = trace(*given, [(width / fold, count * fold, keep) for width, count, keep in segments])
    return [v.cpu().numpy() for v in fields], error.cpu().numpy()


def _in_blocks(trace, event_dims, *given_and_segments):
    """`trace` on so many elements at a time."""
    *given, segments = given_and_segments
    size, blocks = len(given[0][0]), []
    with for_tensors_of(min(size, _BLOCK) * max(v[:1].numel() for v in given[0])):
        for start in range(0, max(size, 1), _BLOCK):
            here = [[v[start : start + _BLOCK] if v.ndim > event_dims else v for v in values] for values in given]
            blocks.append(trace(*here, segments))
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


def _trace(advance, form, y, leaves, rates, unit, segments):
    """One block through all its output times, on what `form` makes of tensors: floats, arrays or other tensors."""
    zero, outputs = y[0].new_zeros(len(y[0])), []
    pair = ([form(v) for v in y], [form(v) for v in y], form(zero), form(zero))
    leaves, rates = [form(v) for v in leaves], [form(rate.expand_as(y[0])) for rate in rates]
    for h, count, keep in segments:
        *pair, values, error = advance(*pair, form(h * unit[0]), leaves, rates, count)
        if keep:
            kept = zip((*values, error), (*y, zero))
            outputs.append([torch.as_tensor(v, dtype=zero.dtype).reshape(like.shape) for v, like in kept])
    *fields, errors = map(torch.stack, zip(*outputs))
    return fields, errors.amax(0)

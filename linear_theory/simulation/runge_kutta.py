"""The method behind `integrate`: fixed steps of order 6, a run with twice as many steps beside each run.

The steps are written once, in plain operators: Python floats take them for one system, NumPy for a few, and torch's
compiler fuses them. `linear_theory.simulation.kernel` makes a C++ program of the same tables.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from stopgrad.linear_theory.simulation.allocator import keep_memory
from stopgrad.linear_theory.tools.arrays import is_tensor, namespace
from stopgrad.linear_theory.tools.records import is_record, items, with_values

# Butcher's seven-stage method of order 6. Its nodes are whole sixths, so that an exact decay costs four products a
# step; at tolerances from 1e-6 to 1e-10 it needs fewer operations than orders 4 and 8 (Dormand–Prince).
METHOD = "Butcher's Runge–Kutta of order 6, fixed step, extrapolated"
ORDER = 6
STAGES = (
    (),
    (1 / 3,),
    (0, 2 / 3),
    (1 / 12, 1 / 3, -1 / 12),
    (-1 / 16, 9 / 8, -3 / 16, -3 / 8),
    (0, 9 / 8, -3 / 8, -3 / 4, 1 / 2),
    (9 / 44, -9 / 11, 63 / 44, 18 / 11, 0, -16 / 11),
    (11 / 120, 0, 27 / 40, 27 / 40, -4 / 15, -4 / 15, 11 / 120),  # the step itself
)
SIXTHS = (0, 2, 4, 2, 3, 3, 6, 6)
APART = 0.01  # runs that differed by more at any time did not follow the same trajectory
EXTRAPOLATION = 1 / (2**ORDER - 1)

# Let a·b + c be one instruction, and the three steps of an iteration one kernel.
_OPTIONS = {"cpp.enable_floating_point_contract_flag": "fast", "max_fusion_size": 512}


class Problem(NamedTuple):
    """What a step is specialised for: everything about an initial value problem but its numbers."""

    flow: Callable
    kind: type
    """Of the state, a NamedTuple."""
    template: tuple
    """The flow's further arguments, with `SLOT` for each leaf."""
    decaying: tuple[str, ...]
    """The fields that decay exactly."""

    def arguments(self, leaves) -> tuple:
        """The flow's further arguments with these leaves."""
        rest = iter(leaves)
        return map_leaves(lambda _: next(rest), self.template, is_leaf=lambda v: v is SLOT)


SLOT = "leaf"


def _is_number(value) -> bool:
    return isinstance(value, (float, list)) or hasattr(value, "__array__")


def map_leaves(function, record, is_leaf=_is_number):
    """`record` with `function` applied to its leaves, every float or array in it, in a fixed order; the rest stays.

    So does a dataclass that holds anything but numbers, as `Switches` does: the flow is specialised for it.
    """
    if is_leaf(record):
        return function(record)
    if isinstance(record, tuple) and not hasattr(record, "_fields"):
        return tuple(map_leaves(function, v, is_leaf) for v in record)
    if isinstance(record, tuple) or _holds_numbers(record, is_leaf):
        return with_values(record, {name: map_leaves(function, v, is_leaf) for name, v in items(record).items()})
    return record


def _holds_numbers(record, is_leaf) -> bool:
    """Whether it is a dataclass of leaves, whole numbers and fields left empty."""
    return is_record(record) and all(v is None or isinstance(v, int) or is_leaf(v) for v in items(record).values())


# The loop over steps. It carries both runs, the gap between them a step ago and the widest so far.


def of_every_field(slopes, kind: type):
    """`slopes`, as a flow has given them for a state of `kind`. Raises TypeError where they are not one for each field.

    A bare array in place of a state of one field would pass for as many slopes as it has entries.
    """
    if not isinstance(slopes, tuple | list) or len(slopes) != len(kind._fields):
        given = f"{len(slopes)} slopes" if isinstance(slopes, tuple | list) else f"a {type(slopes).__name__}"
        raise TypeError(f"the flow gives {given}; it must give {kind.__name__}({', '.join(kind._fields)})")
    return slopes


def eager(problem: Problem):
    """The loop on Python floats, arrays or tensors, one operation after the other."""

    def advance(coarse, fine, before, widest, h, leaves, rates, count):
        """`count` steps h, and twice as many of h/2: all that is carried, then the state and its error."""
        step = _stepper(problem, h, leaves, rates)
        carried = (coarse, fine, before, widest)
        for _ in range(count):
            last, carried = carried, step(*carried)
            if _is_nan(carried[-1]) and all(map(_stays, _numbers(*last), _numbers(*carried))):
                break  # whatever is left is lost or rests: further steps change nothing
        return *carried, *_told(problem, *carried)

    return advance


def _numbers(coarse, fine, before, widest):
    return *coarse, *fine, before, widest


def _is_nan(v) -> bool:
    return bool((v != v).all()) if hasattr(v, "all") else v != v


def _stays(old, new) -> bool:
    same = (old == new) | ((old != old) & (new != new))
    return bool(same.all()) if hasattr(same, "all") else same


@functools.lru_cache
def fused(problem: Problem, compiler: str):
    """`eager` fused by torch.compile, the loop included; the elements are a dynamic dimension: a kernel for any size.

    compiler: of C++, for the CPU.
    """
    import torch
    from torch._higher_order_ops.while_loop import while_loop  # here, as it comes with the whole of torch's compiler

    def loop(coarse, fine, before, widest, h, leaves, rates, count):
        step = _stepper(problem, h, leaves, rates)
        fields = len(coarse)

        def split(carried):
            return list(carried[:fields]), list(carried[fields : 2 * fields]), *carried[2 * fields :]

        def again(left, *carried):
            return left > 0

        def body(left, *carried):
            coarse, fine, *gaps = step(*split(carried))
            return (left - 1, *coarse, *fine, *gaps)

        carried = split(while_loop(again, body, (count, *coarse, *fine, before, widest))[1:])
        return *carried, *_told(problem, *carried)

    keep_memory(2**26, 2**22)  # faulting the arrays in anew at each step can take as long as the step
    fast = torch.compile(loop, fullgraph=True, options=_OPTIONS | {"cpp.cxx": (None, compiler)})

    def call(coarse, fine, before, widest, h, leaves, rates, count):
        if len(before) == 1:  # a size of one would be compiled apart
            own = coarse[0].ndim - 1  # dimensions of one system; what has more is of the batch

            def twice(vs):
                return [torch.cat([v, v]) if v.ndim > own else v for v in vs]

            gaps, h = [v.repeat(2) for v in (before, widest)], torch.cat([h, h]) if h.ndim else h
            found = call(twice(coarse), twice(fine), *gaps, h, twice(leaves), twice(rates), count)
            return [[u[:1] for u in v] if isinstance(v, (list, tuple)) else v[:1] for v in found]
        for v in (*coarse, *fine, before, widest, h, *leaves, *rates):
            if v.ndim:
                torch._dynamo.maybe_mark_dynamic(v, 0)
        return fast(tuple(coarse), tuple(fine), before, widest, h, tuple(leaves), tuple(rates), torch.tensor(count))

    return call


def _told(problem: Problem, coarse, fine, before, widest):
    """The extrapolated state and its error. A gap may be small by accident, where the errors of both runs cross: that
    of the step before is asked too. Runs that ever were far apart may have ended together in a wrong place."""
    error = _larger(_gap(problem, fine, coarse), before)
    extrapolated = [f + (f - c) * EXTRAPOLATION for f, c in zip(fine, coarse)]
    error = error + widest * (widest > APART)
    if isinstance(error, float):
        return extrapolated, error if error == error else math.inf
    return extrapolated, namespace(error).nan_to_num(error, nan=math.inf, posinf=math.inf)


def _gap(problem: Problem, fine, coarse):
    """Largest |fine − coarse| over the fields and event dimensions, relative above one; exact decays have none."""
    pairs = [pair for name, *pair in zip(problem.kind._fields, fine, coarse) if name not in problem.decaying]
    gaps = [abs(f - c) / _larger(abs(f), 1.0) for f, c in pairs] or [0 * fine[0]]
    return functools.reduce(_larger, [_widest(g) if getattr(g, "ndim", 0) > 1 else g for g in gaps])


def _widest(gap):
    return namespace(gap).amax(gap.reshape(len(gap), math.prod(gap.shape[1:])), 1)


def _larger(a, b):
    """The larger of two numbers, arrays or tensors, elementwise; NaN if either is."""
    if is_tensor(a):
        return namespace(a).maximum(a, b) if is_tensor(b) else a.clamp(min=b)
    if isinstance(a, np.ndarray):
        return np.maximum(a, b)
    return a if a > b or a != a else b


def _stepper(problem: Problem, h, leaves, rates):
    """A step h of one run and two of h/2 of the other, on plain sequences: the state's fields, the args' leaves and
    the rates of exact decays."""
    flow, kind, _, decaying = problem
    args = problem.arguments(leaves)
    twelfth = [math.exp(v) if isinstance(v, float) else namespace(v).exp(v) for v in (rate * h / -12 for rate in rates)]

    def step(y, h, powers):
        exact = [powers[decaying.index(name)] if name in decaying else None for name in kind._fields]
        slopes: list = []
        for weights, sixths in zip(STAGES, SIXTHS):
            stage = [
                _combine(v, weights, [k[m] for k in slopes]) if decay is None else v * decay[sixths]
                for m, (v, decay) in enumerate(zip(y, exact))
            ]
            if len(slopes) < len(STAGES) - 1:
                slopes.append([h * slope for slope in of_every_field(flow(kind(*stage), *args), kind)])
        return stage

    def both(coarse, fine, before, widest):
        gap = _gap(problem, fine, coarse)
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

"""Stiff systems, in which something settles many thousand times faster than what is of interest moves: VODE, by SciPy.

Many systems are one to it, with a banded Jacobian in which each is a block, so that a step serves them all. It runs
twice, with tolerances a factor of ten apart: what the runs differ by is the error. (LSODA, which chooses between a
method for the stiff and another, at times keeps to the other where all is at rest, and does not end.)
"""

import math
import warnings
from typing import NamedTuple

import numpy as np
import torch

from stopgrad.linear_theory.simulation.runge_kutta import Problem, of_every_field
from stopgrad.linear_theory.tools.threads import for_tensors_of

METHOD = "VODE"
_TOGETHER = 512  # systems in one run at most: each step is as short as the one that needs it shortest
_BAND = 2**15  # and no more than keep the Jacobian small: numbers of a system, squared, times systems
_EVALUATIONS = 2**16  # of the flow, for each block of systems: with more it is given up
_MARGIN, _FINEST = 1e-4, 1e-13  # VODE's tolerance beside the one asked for, and the least it can keep
_SMALL = 1e-3  # its absolute tolerance beside the relative one
_BLOWN_UP = 1e10  # beside the start, or one: what grows so large does so without end, and without end to the steps


def solve(problem: Problem, given, event_dims: int, times, tolerance: float, form):
    """Fields (times, systems, …) and errors (systems,), infinite where given up; NumPy arrays.

    given: (fields, leaves, rates, [unit]), tensors with the batch's one dimension before the `event_dims` of a system,
    or without it. times: rising; tolerance: as for `integrate`. form: what the flow takes, `np.asarray` or
    `torch.as_tensor`.
    """
    y = given[0]
    size, width = len(y[0]), sum(v[0].numel() for v in y)
    step, finest = max(1, min(_TOGETHER, _BAND // width**2)), max(tolerance * _MARGIN, _FINEST)
    blocks = [(first, min(first + step, size)) for first in range(0, size, step)]
    fields = [np.full((len(times), *v.shape), np.nan) for v in y]
    errors, left = np.full(size, math.inf), _EVALUATIONS * len(blocks)
    while blocks and left > 0:
        first, last = blocks.pop()
        here = slice(first, last)
        part = [[(v[here] if v.ndim > event_dims else v).cpu() for v in values] for values in given]
        coarse = _follow(problem, part, times, 10 * finest, left, form)
        left -= coarse.evaluations
        fine = _follow(problem, part, times, finest, left, form) if coarse.fields else _Followed(0)
        left -= fine.evaluations
        if fine.fields:
            gap = np.abs(fine.path - coarse.path) / np.maximum(np.abs(fine.path), 1)
            errors[here] = gap.max(axis=(0, 2))
            for whole, v in zip(fields, fine.fields):
                whole[:, here] = v
        elif last - first > 1:  # what cannot be followed may be one of them
            middle = (first + last) // 2
            blocks += [(first, middle), (middle, last)]
    return fields, errors


class _Followed(NamedTuple):
    evaluations: int
    path: np.ndarray | None = None
    """(times, systems, numbers that are integrated)."""
    fields: tuple[np.ndarray, ...] = ()
    """All of them, (times, systems, …) each; none where given up."""


def _follow(problem: Problem, given, times, tolerance, most, form) -> _Followed:
    """All systems of a block at once, with at most so many evaluations of the flow."""
    from scipy.integrate import ode  # here, since most programs that integrate meet nothing stiff

    y, leaves, rates, (unit,) = given
    names, args, clock = problem.kind._fields, problem.arguments([form(v) for v in leaves]), unit.reshape(-1, 1).numpy()
    shapes, moving = [v.shape for v in y], [m for m, name in enumerate(names) if name not in problem.decaying]
    ends = np.cumsum([0] + [y[m][0].numel() for m in moving]).tolist()
    places = {m: slice(*ends[k : k + 2]) for k, m in enumerate(moving)}
    falls = {m: -rates[problem.decaying.index(names[m])] * unit for m in range(len(y)) if m not in places}
    evaluations = 0

    def fields(t, z):
        z = z.reshape(len(y[0]), -1)
        return [
            form(z[:, places[m]].reshape(shape) if m in places else y[m] * torch.exp(falls[m] * t))
            for m, shape in enumerate(shapes)
        ]

    def slope(t, z):
        nonlocal evaluations
        evaluations += 1
        if evaluations > most or not np.abs(z).max() <= bound:
            return np.full_like(z, np.nan)  # which ends it: an exception may not pass through VODE
        found = of_every_field(problem.flow(problem.kind(*fields(t, z)), *args), problem.kind)
        slopes = np.empty((len(y[0]), ends[-1]))
        for m, place in places.items():
            slopes[:, place] = np.broadcast_to(np.asarray(found[m]), shapes[m]).reshape(len(slopes), -1)
        return (clock * slopes).reshape(-1)

    start = torch.cat([y[m].reshape(len(y[0]), -1) for m in moving], dim=1).reshape(-1).numpy()
    if not np.isfinite(start).all():
        return _Followed(0)
    bound, band = _BLOWN_UP * max(1.0, np.abs(start).max()), ends[-1] - 1
    solver = ode(slope).set_integrator(
        "vode", method="bdf", rtol=tolerance, atol=tolerance * _SMALL, lband=band, uband=band, nsteps=most
    )
    solver.set_initial_value(start, 0.0)
    with warnings.catch_warnings(), np.errstate(all="ignore"), torch.no_grad(), for_tensors_of(start.size):
        warnings.simplefilter("ignore")  # of VODE, which says in words that it has failed
        path = np.stack([solver.integrate(t).copy() if t > 0 else start for t in times])
        if not (solver.successful() and np.isfinite(path).all()):
            return _Followed(evaluations)
        states = [fields(t, z) for t, z in zip(times, path)]
        kept = tuple(np.stack([np.asarray(v) for v in each]) for each in zip(*states))
    return _Followed(evaluations, path.reshape(len(times), len(y[0]), -1), kept)

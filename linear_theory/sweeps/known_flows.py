"""Every flow that commands know by name, beside one mode of the theory."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from stopgrad.linear_theory.sweeps.centre_problem import CENTRE_PROBLEMS, centre_sample
from stopgrad.linear_theory.sweeps.cosine_problem import COSINE_PROBLEMS, cosine_sample
from stopgrad.linear_theory.sweeps.flow_problem import FlowProblem
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.records import items

MODE = "mode"
"""The flow of all commands that are told no other: Eq. 11–13, one mode."""

KNOWN_FLOWS: Mapping[str, FlowProblem] = {**CENTRE_PROBLEMS, **COSINE_PROBLEMS}
"""By name: the centre of images with a mean, modes of the cosine loss, held norms, set predictors."""


def known_flow(name: str, settings: Sequence[str] = (), **how) -> FlowProblem:
    """The flow of this name with `settings`, each `field=number`: a hyperparameter, or a start with a 0 at its end.

    how: fields of the problem, such as `t_end`. Raises BadInput for an unknown name, an unknown field and no number.

    >>> known_flow("cosine-none", ["mu=2", "v0=0.5"]).h.mu
    2.0
    """
    if name not in KNOWN_FLOWS:
        raise BadInput(f"flow is {name!r}; it must be one of {', '.join((MODE, *KNOWN_FLOWS))}")
    problem = KNOWN_FLOWS[name]
    values = dict(_setting(text, problem) for text in settings)
    start = problem.start._replace(**{k: values[f"{k}0"] for k in problem.start._fields if f"{k}0" in values})
    h = problem.h.replace(**{k: values[k] for k in items(problem.h) if k in values})
    h.validate()
    return replace(problem, start=start, h=h, **how)


def known_sample(name: str, problem: FlowProblem, rng: np.random.Generator, n: int, p: tuple, s: tuple):
    """n random starts of a known flow: p within `p`, ln s (of a weight, its square) within the logarithms of `s`."""
    return (centre_sample if name in CENTRE_PROBLEMS else cosine_sample)(problem, rng, n, p, s)


def _setting(text: str, problem: FlowProblem) -> tuple[str, float]:
    name, _, value = text.partition("=")
    name = name.strip().replace("-", "_")
    if name not in problem.axes:
        raise BadInput(f"--set {text}: {name!r} is unknown; choose one of {', '.join(problem.axes)}")
    try:
        return name, float(value)
    except ValueError:
        raise BadInput(f"--set {text} is not of the form NAME=NUMBER") from None

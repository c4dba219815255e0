"""What commands on a mode ask of other flows: `--flow NAME` and `--set NAME=VALUE`."""

from collections.abc import Sequence
from dataclasses import fields, replace

from stopgrad.linear_theory.sweeps.centre_problem import CENTRE_PROBLEMS
from stopgrad.linear_theory.sweeps.flow_problem import FlowProblem
from stopgrad.linear_theory.tools.door import Command
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.records import items

MODE = "mode"
"""The flow of all commands that are told no other: Eq. 11–13, one mode."""


def refuse_settings_of_a_mode(command: Command, names: Sequence[str]) -> None:
    """Raise BadInput where one of these fields was given: another flow has `--set` for what it starts from."""
    for field in fields(command):
        if field.name in names and getattr(command, field.name) != field.default:
            said = "a hyperparameter's flag" if field.name == "theory" else f"--{field.name.replace('_', '-')}"
            raise BadInput(f"{said} belongs to --flow mode; with --flow {command.flow} write --set NAME=VALUE")


def refuse_settings_of_other_flows(command: Command) -> None:
    """Raise BadInput for `--set` on a mode, which has a flag for each of its numbers."""
    if command.set:
        raise BadInput("--set belongs to another --flow; a mode has a flag for each of its numbers")


def known_flow(name: str, settings: Sequence[str] = (), **how) -> FlowProblem:
    """The flow of this name with `settings`, each `field=number`: a hyperparameter, or a start with a 0 at its end.

    how: fields of the problem, such as `t_end`. Raises BadInput for an unknown name, an unknown field and no number.

    >>> known_flow("cosine-none", ["mu=2", "v0=0.5"]).h.mu
    2.0
    """
    if name not in CENTRE_PROBLEMS:
        raise BadInput(f"flow is {name!r}; it must be one of {', '.join((MODE, *CENTRE_PROBLEMS))}")
    problem = CENTRE_PROBLEMS[name]
    values = dict(_setting(text, problem) for text in settings)
    start = problem.start._replace(**{k: values[f"{k}0"] for k in problem.start._fields if f"{k}0" in values})
    h = problem.h.replace(**{k: values[k] for k in items(problem.h) if k in values})
    h.validate()
    return replace(problem, start=start, h=h, **how)


def _setting(text: str, problem: FlowProblem) -> tuple[str, float]:
    name, _, value = text.partition("=")
    name = name.strip().replace("-", "_")
    if name not in problem.axes:
        raise BadInput(f"--set {text}: {name!r} is unknown; choose one of {', '.join(problem.axes)}")
    try:
        return name, float(value)
    except ValueError:
        raise BadInput(f"--set {text} is not of the form NAME=NUMBER") from None

"""What commands on a mode ask of other flows: `--flow NAME` and `--set NAME=VALUE`."""

from collections.abc import Sequence
from dataclasses import fields

from stopgrad.linear_theory.tools.door import Command
from stopgrad.linear_theory.tools.errors import BadInput


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

"""The one list of quantities, a file a line.

What a file's QUANTITIES hold is measured, written into the run's table, shown, summed up, and there for figures and
claims by name.
"""

from collections.abc import Iterable
from importlib import import_module
from types import ModuleType

from stopgrad.deep.measuring.quantities.quantity import Quantity


def collected(files: Iterable[ModuleType]) -> dict[str, Quantity]:
    """The quantities of all files, by name. Raises ValueError for a name that two have."""
    found: dict[str, Quantity] = {}
    for file in files:
        for one in file.QUANTITIES:
            if found.setdefault(one.name, one) is not one:
                raise ValueError(f"two quantities are called {one.name}, one of them in {file.__name__}")
    return found


QUANTITIES = collected(
    [
        import_module("stopgrad.deep.measuring.quantities.run"),
        import_module("stopgrad.deep.measuring.quantities.agreement"),
        import_module("stopgrad.deep.measuring.quantities.embeddings"),
        import_module("stopgrad.deep.measuring.quantities.extra_gradient"),
        import_module("stopgrad.deep.measuring.quantities.predictor"),
        import_module("stopgrad.deep.measuring.quantities.laws"),
        import_module("stopgrad.deep.measuring.quantities.representation"),
    ]
)
"""By name, in the order in which they are measured and shown."""


def shown(where: str) -> list[Quantity]:
    """Those that people see in the `live` view or in a `summary`."""
    return [one for one in QUANTITIES.values() if where in one.shown]


def recorded(what: str) -> list[str]:
    """Names of those of which the record of a run keeps the `first`, `lowest`, `mean` or `last` value."""
    return [one.name for one in QUANTITIES.values() if what in one.recorded and one.at == "step"]


def at_evaluation() -> list[str]:
    """Names of those that are measured of the representations."""
    return [one.name for one in QUANTITIES.values() if one.at == "evaluation"]


def measured(seen, at: str = "step") -> dict:
    """What is measured of `seen`, by name: of every quantity that applies."""
    return {one.name: one.of(seen) for one in QUANTITIES.values() if one.at == at and one.applies(seen)}

"""Every picture there is, by name: those of this wing's rooms, and those that stand with a paper's record."""

import pkgutil
import re
from importlib import import_module

import stopgrad.figures
from stopgrad.experiments.papers import PAPERS
from stopgrad.figures.machinery.picture import Picture


def _in_rooms() -> dict[str, Picture]:
    """What the rooms' lists name: `FIGURES` of a room are its files, `FIGURES` of a file its pictures by name."""
    rooms = [import_module(f"stopgrad.figures.{one.name}") for one in pkgutil.iter_modules(stopgrad.figures.__path__)
             if one.ispkg]  # fmt: skip
    files = [import_module(f"{room.__name__}.{file}") for room in rooms for file in getattr(room, "FIGURES", ())]
    return {name: picture for file in files for name, picture in file.FIGURES.items()}


def _place(entry: tuple[str, Picture]) -> tuple:
    """Paper by paper, and figure 10 after figure 9."""
    name, picture = entry
    return [*PAPERS].index(picture.paper), [
        part.zfill(4) if part.isdigit() else part for part in re.findall(r"\d+|\D+", name)
    ]


FIGURES: dict[str, Picture] = dict(
    sorted([*_in_rooms().items(), *(one for paper in PAPERS.values() for one in paper.figures.items())], key=_place)
)

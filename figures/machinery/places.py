"""Where pictures, and what they are made from, are read and written."""

import os
from dataclasses import dataclass
from pathlib import Path

from stopgrad.experiments.suites.grid import SCALES
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.files import refuse_broken_link

VARIABLE = "STOPGRAD_DATA"


@dataclass(frozen=True)
class Places:
    """Where things are read from and written to."""

    out: Path = Path("out/figures")
    """Folder for the pictures; the data behind them go to its folder data/."""
    results: Path = Path("out")
    """Folder where the experiments have left their results."""
    runs: Path = Path("runs")
    """Folder of the run store, for the pictures of trained networks."""
    data: Path | None = None
    """Folder of data that others have released; None: the one that STOPGRAD_DATA in the environment names, if any."""
    scale: str = "cpu"
    """Scale of the suites whose runs are shown: smoke, quick, cpu, cifar, gpu or paper."""

    def check(self) -> None:
        """Raise BadInput where one of the folders is a file, and for a scale that there is not."""
        if self.scale not in SCALES:
            raise BadInput(f"there is no scale {self.scale!r}; there are {', '.join(SCALES)}")
        refuse_files(out=self.out, results=self.results, runs=self.runs)

    @property
    def released(self) -> Path | None:
        """The folder of released data; None where nobody has named one."""
        named = os.environ.get(VARIABLE)
        return self.data or (Path(named) if named else None)


def refuse_files(**folders: Path) -> None:
    """Raise ValueError for the first of `folders`, by flag, that is a file or lies in one; none needs to exist."""
    for flag, folder in folders.items():
        there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
        refuse_broken_link(there)
        if not there.is_dir():
            raise BadInput(f"--{flag}: {there} is a file; name a folder")

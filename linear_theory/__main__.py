"""The door of the theory wing: `python -m linear_theory …`."""

import sys

from stopgrad.linear_theory.commands.one_mode import (
    BasinFraction,
    Boundary,
    Branches,
    Derive,
    FixedPoints,
    Time,
    Trajectory,
)
from stopgrad.linear_theory.commands.phase import Phase
from stopgrad.linear_theory.commands.translate import Translate
from stopgrad.linear_theory.tools.door import main

COMMANDS = {
    "fixed-points": FixedPoints,
    "trajectory": Trajectory,
    "time": Time,
    "phase": Phase,
    "branches": Branches,
    "boundary": Boundary,
    "basin-fraction": BasinFraction,
    "translate": Translate,
    "derive": Derive,
}

if __name__ == "__main__":
    sys.exit(main("linear_theory", "Exact learning dynamics of SimSiam, BYOL and DirectPred, linear.", COMMANDS))

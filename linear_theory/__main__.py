"""The door of the theory wing: `python -m linear_theory …`."""

import sys

from linear_theory.commands import BasinFraction, Boundary, Branches, Derive, FixedPoints, Time, Trajectory
from linear_theory.door import main
from linear_theory.phase_command import Phase
from linear_theory.unit_map import Translate

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

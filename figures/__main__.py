"""Pictures of the theory and of the experiments: `python -m figures list | make | all | check | phase | report`."""

import sys

from figures.commands import All, Check, List, Make, Phase
from figures.report import Report
from linear_theory.door import main

COMMANDS = {"list": List, "make": Make, "all": All, "check": Check, "phase": Phase, "report": Report}

if __name__ == "__main__":
    sys.exit(main("figures", __doc__, COMMANDS))

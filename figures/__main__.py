"""Pictures of the theory and of the experiments, the report, and all of it in one go.

`python -m figures list | make | all | check | phase | report | reproduce`.
"""

import sys

from stopgrad.figures.commands import All, Check, List, Make, Phase
from stopgrad.figures.report.report import Report
from stopgrad.figures.reproduce import Reproduce
from stopgrad.linear_theory.tools.door import main

COMMANDS = {
    "list": List,
    "make": Make,
    "all": All,
    "check": Check,
    "phase": Phase,
    "report": Report,
    "reproduce": Reproduce,
}

if __name__ == "__main__":
    sys.exit(main("figures", __doc__, COMMANDS))

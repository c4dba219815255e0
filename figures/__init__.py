"""Pictures and the report: data in, matplotlib Figure out."""

import os
import sys
from importlib import import_module
from pathlib import Path

_TOUCHED = ("MPLBACKEND", "MATPLOTLIBRC", "MPLCONFIGDIR")
if __name__ == "figures":  # `python -m figures` in a checkout: one package under one name
    sys.modules[__name__] = import_module("stopgrad.figures")
# matplotlib is imported here only where the user's settings might else keep it from being imported at all
elif any(name in os.environ for name in _TOUCHED) or Path("matplotlibrc").exists():
    import stopgrad.linear_theory.tools.drawing  # noqa: F401

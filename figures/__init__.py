"""Pictures and the report: data in, matplotlib Figure out."""

import os
from pathlib import Path

_TOUCHED = ("MPLBACKEND", "MATPLOTLIBRC", "MPLCONFIGDIR")
# matplotlib is imported here only where the user's settings might else keep it from being imported at all
if any(name in os.environ for name in _TOUCHED) or Path("matplotlibrc").exists():
    import linear_theory.drawing  # noqa: F401

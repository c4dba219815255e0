"""Pictures and the report: data in, matplotlib Figure out."""

import os

if "MPLBACKEND" in os.environ:  # matplotlib is imported here only where it might else not be importable
    import linear_theory.drawing  # noqa: F401

"""matplotlib as it was shipped: what a user has set for other work changes no picture here, and keeps none from it.

To be imported before matplotlib, which cannot be imported at all where $MPLBACKEND names a backend that is not
installed, as in a script started from a notebook; no picture here needs any backend.
"""

import contextlib
import os
import sys

chosen = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
try:
    import matplotlib
finally:
    if chosen is not None:
        os.environ["MPLBACKEND"] = chosen
if chosen:
    with contextlib.suppress(ValueError):
        matplotlib.rcParams["backend"] = chosen  # for what the user draws beside

SHIPPED = {name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"}
"""Every setting but the backend, as without a matplotlibrc: what a style of ours is laid over."""

"""matplotlib as it was shipped: what a user has set for other work changes no picture here, and keeps none from it.

To be imported before matplotlib, which cannot be imported at all where $MPLBACKEND names a backend that is not
installed, as in a script started from a notebook, nor where a matplotlibrc is no UTF-8 or asks for a locale that is not
installed; no picture here needs any of them.
"""

import contextlib
import os
import sys

chosen = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
try:
    import matplotlib
except Exception:  # whatever the user's settings bring about; without them it can be imported
    settings = os.environ.get("MATPLOTLIBRC")
    os.environ["MATPLOTLIBRC"] = os.devnull
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        del sys.modules[name]  # half imported
    try:
        with contextlib.chdir(os.path.dirname(__file__)):  # away from a matplotlibrc in the current folder
            import matplotlib
    finally:
        del os.environ["MATPLOTLIBRC"]
        if settings is not None:
            os.environ["MATPLOTLIBRC"] = settings
finally:
    if chosen is not None:
        os.environ["MPLBACKEND"] = chosen
if chosen:
    with contextlib.suppress(ValueError):
        matplotlib.rcParams["backend"] = chosen  # for what the user draws beside

SHIPPED = {name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"}
"""Every setting but the backend, as without a matplotlibrc: what a style of ours is laid over."""

"""How often a program of ours looks for garbage: seldom, since it loads far more than it throws away."""

import atexit
import gc


def seldom_collect() -> None:
    """Look for garbage less often, and not at all on leaving: that is a third of what torch and pictures take to load.

    Modules are half a million objects that live to the end. By default each import goes through them again and again,
    and the interpreter once more as it ends; it passes over what is frozen.
    """
    gc.set_threshold(50_000, 20, 20)
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)

"""Suites, the main job and benchmarks: what is run, recorded and judged."""

import sys
from importlib import import_module

if __name__ == "experiments":  # `python -m experiments` in a checkout: one package under one name
    sys.modules[__name__] = import_module("stopgrad.experiments")

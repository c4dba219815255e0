"""Learning dynamics of Siamese networks without negatives in linear networks: flows, exact results, phase diagrams."""

import sys
from importlib import import_module

if __name__ == "linear_theory":  # `python -m linear_theory` in a checkout: one package under one name
    sys.modules[__name__] = import_module("stopgrad.linear_theory")

"""Real networks: ResNet SimSiam and BYOL, trained with the theory's switches and measured while they train."""

import sys
from importlib import import_module

if __name__ == "deep":  # `python -m deep` in a checkout: one package under one name
    sys.modules[__name__] = import_module("stopgrad.deep")

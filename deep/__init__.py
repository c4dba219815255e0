"""Real networks: ResNet SimSiam and BYOL, trained with the theory's switches and measured while they train."""

import sys
from importlib import import_module

from stopgrad.linear_theory.tools.exports import exports

__all__, __getattr__, __dir__ = exports(
    "stopgrad.deep",
    {
        "config": "change Config Data Method Monitor Optimisation",
        "presets": "PRESETS preset",
        "training.build": "build",
        "training.from_python": "train",
        "training.watch": "CollapseWarning Watch",
        "measuring.monitor": "measure",
        "measuring.evaluation": "knn_accuracy",
        "measuring.probe": "linear_probe",
        "measuring.diagnosis": "diagnose",
        "measuring.collapse.measurement": "measure_collapse measure_spectrum",
        "measuring.collapse.verdict": "verdict",
        "measuring.collapse.features": "open_features",
        "measuring.collapse.views": "lidar alignment uniformity channel_std",
    },
)

if __name__ == "deep":  # `python -m deep` in a checkout: one package under one name
    sys.modules[__name__] = import_module("stopgrad.deep")

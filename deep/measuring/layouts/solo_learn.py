"""Checkpoints of solo-learn."""

from stopgrad.deep.measuring.layouts.layout import Layout

LAYOUT = Layout(
    "solo-learn",
    "vturrisi/solo-learn, solo/methods/base.py and simsiam.py",
    within=("state_dict.", ""),
    backbone=("backbone.", "encoder."),  # encoder: before 2022
    projector=("projector.",),
    predictor=("predictor.",),
    ignored=("momentum_", "classifier.", "queue", "prototypes.", "knn."),
    small_padding=2,  # so its images of 32 pixels make maps of 34
)

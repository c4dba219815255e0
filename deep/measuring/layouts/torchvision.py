"""A ResNet with torchvision's names, its classifier or not: no projector, no predictor."""

from stopgrad.deep.measuring.layouts.layout import Layout

LAYOUT = Layout(
    "torchvision",
    "torchvision.models.resnet",
    within=("state_dict.", "model.", ""),
    backbone=("",),
    ignored=("fc.",),
)

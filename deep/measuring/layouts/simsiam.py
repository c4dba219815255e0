"""Checkpoints of SimSiam's released code (Chen & He 2021): the projector stands in place of the ResNet's last layer."""

from stopgrad.deep.measuring.layouts.layout import Layout

LAYOUT = Layout(
    "simsiam",
    "facebookresearch/simsiam, simsiam/builder.py",
    within=("state_dict.", ""),
    backbone=("encoder.",),
    projector=("encoder.fc.",),
    predictor=("predictor.",),
)

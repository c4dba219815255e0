"""Our own: a run's checkpoint-*.pt, or the backbone.pt that it exports."""

from stopgrad.deep.measuring.layouts.layout import Layout

LAYOUT = Layout(
    "stopgrad",
    "python -m deep train",
    within=("payload.siamese.", ""),
    backbone=("online.backbone.", ""),
    projector=("online.projector.",),
    predictor=("predictor.network.", "predictor."),
    ignored=("target.", "objective.", "predictor.moments", "predictor._extra_state"),
)

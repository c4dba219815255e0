"""Checkpoints of lightly's examples and benchmarks: a backbone by name, or as a sequence of a ResNet's children."""

from stopgrad.deep.measuring.layouts.layout import Layout

_BLOCKS = {r"\.shortcut\.": ".downsample."}
_FIRST = {r"^0\.": "conv1.", r"^1\.": "bn1."}
_CHILDREN = _FIRST | {rf"^{k + 3}\.": f"layer{k}." for k in (1, 2, 3, 4)}  # of torchvision's, ReLU and pooling too
_OWN = _FIRST | {rf"^{k + 1}\.": f"layer{k}." for k in (1, 2, 3, 4)} | _BLOCKS  # of lightly's own

LAYOUT = Layout(
    "lightly",
    "lightly-ai/lightly, examples/, benchmarks/ and lightly/models/resnet.py",
    within=("state_dict.", ""),
    backbone=("backbone.",),
    projector=("projection_head.layers.",),
    predictor=("prediction_head.layers.",),
    ignored=("teacher_", "backbone_momentum.", "projection_head_momentum.", "online_classifier.", "criterion."),
    renamed=(_BLOCKS, _CHILDREN, _OWN),
)

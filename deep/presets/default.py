"""What a run is unless told otherwise."""

from stopgrad.deep.config import Config, Data, Method, Optimisation

# Small enough for a CPU, and in a regime where alignment can be seen: crops keep most of a digit and never mirror it,
# and the predictor learns ten times as fast as the trunk. The papers' recipes start from the records' own values.
DEFAULT = Config(
    data=Data(crop_scale=(0.6, 1.0), flip=0.0),
    method=Method.of(width=8),
    optimisation=Optimisation(epochs=40, predictor_lr=0.5, weight_decay=2e-3),
)
PRESETS = {"default": DEFAULT}

"""The tables of parts: what can be chosen for each seat of a config, by the name that flags and files use.

To add a part, write its file and enter it here; a script enters a class of its own the same way. Values are classes, or
where one is, 'module:Class', since only what is chosen is imported. Nothing that computes is written here.
"""

from stopgrad.deep.parts import Seat

_METHOD, _ORDERS = "stopgrad.deep.method", "stopgrad.deep.data.orders"

BACKBONES = {
    "resnet18": f"{_METHOD}.backbones.resnet:ResNet18",
    "resnet34": f"{_METHOD}.backbones.resnet:ResNet34",
    "resnet50": f"{_METHOD}.backbones.resnet:ResNet50",
    "resnet18_bottleneck": f"{_METHOD}.backbones.resnet:ResNet18Bottleneck",
    "resnet50_basic": f"{_METHOD}.backbones.resnet:ResNet50Basic",
    "mlp": f"{_METHOD}.backbones.vectors:MLPBackbone",
    "linear": f"{_METHOD}.backbones.vectors:LinearBackbone",
    "identity": f"{_METHOD}.backbones.vectors:IdentityBackbone",
}
PREDICTORS = {
    "mlp": f"{_METHOD}.predictors.mlp:MLP",
    "linear": f"{_METHOD}.predictors.linear:Linear",
    "symmetric": f"{_METHOD}.predictors.linear:Symmetric",
    "symmetric_mlp": f"{_METHOD}.predictors.mlp:SymmetricMLP",
    "identity": f"{_METHOD}.predictors.identity:Identity",
    "fixed": f"{_METHOD}.predictors.mlp:Fixed",
    "bias": f"{_METHOD}.predictors.bias:Bias",
}
TARGETS = {
    "shared": f"{_METHOD}.targets.shared:Shared",
    "ema": f"{_METHOD}.targets.ema:Ema",
    "alternating": f"{_METHOD}.targets.alternating:Alternating",
    "symmetric": f"{_METHOD}.targets.symmetric:SymmetricTarget",
    "inverse": f"{_METHOD}.targets.inverse:Inverse",
    "fresh_views": f"{_METHOD}.targets.fresh_views:FreshViews",
    "moving_average": f"{_METHOD}.targets.moving_average:MovingAverage",
}
OBJECTIVES = {
    "predictive": f"{_METHOD}.objectives.predictive:Predictive",
    "components": f"{_METHOD}.objectives.components:Components",
    "direction": f"{_METHOD}.objectives.direction:Direction",
    "infonce": f"{_METHOD}.objectives.infonce:InfoNCE",
    "triplet": f"{_METHOD}.objectives.triplet:Triplet",
    "decorrelation": f"{_METHOD}.objectives.decorrelation:Decorrelation",
    "schedule": f"{_METHOD}.objectives.schedule:Schedule",
}
ORDERS = {
    "shuffled": f"{_ORDERS}.shuffled:Shuffled",
    "hybrid": f"{_ORDERS}.hybrid:Hybrid",
    "current": f"{_ORDERS}.current:Current",
    "accumulate": f"{_ORDERS}.accumulate:Accumulate",
    "last": f"{_ORDERS}.last:Last",
}


BACKBONE = Seat("backbone", "The network behind the projector.", BACKBONES, "resnet18")
PREDICTOR = Seat(
    *("predictor", "Learned, none, frozen or set.", PREDICTORS, "linear", "predictor_"),
    f"{_METHOD}.predictors.set:choices",
)
TARGET = Seat("target", "What predictions are compared with.", TARGETS, "shared")
OBJECTIVE = Seat("objective", "The loss.", OBJECTIVES, "predictive")
ORDER = Seat("order", "Which images a run visits when.", ORDERS, "shuffled", aliases={"iid": "shuffled"})
SEATS = (BACKBONE, PREDICTOR, TARGET, OBJECTIVE, ORDER)

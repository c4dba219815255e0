"""Where a run is, and its loss."""

from stopgrad.deep.measuring.quantities.quantity import Drawn, Quantity

_COUNTED = {"shown": (), "recorded": ()}

QUANTITIES = (
    Quantity("epoch", lambda seen: seen.epoch, "epoch", "Epochs done.", needs=("epoch",), shown=("live",), recorded=()),
    Quantity(
        "time",
        lambda seen: seen.time,
        "the theory's time",
        "Σ c·lr/(1 − m) over the steps so far, c being the loss's scale.",
        "Tian, Chen & Ganguli 2021, §3",
        needs=("time",),
        math="time $t$",
        **_COUNTED,
    ),
    Quantity("lr", lambda seen: seen.rates.trunk, "learning rate", needs=("rates",), **_COUNTED),
    Quantity(
        "lr_predictor",
        lambda seen: seen.rates.predictor,
        "learning rate of the predictor",
        needs=("rates",),
        **_COUNTED,
    ),
    Quantity("seconds", lambda seen: seen.seconds, "wall-clock time", unit="s", needs=("seconds",), **_COUNTED),
    Quantity(
        "loss",
        lambda seen: seen.loss,
        "loss",
        "Near its minimum in the best run and in the worst: no evidence of anything.",
        needs=("loss",),
        recorded=(),
        drawn=Drawn("a", "blue"),
    ),
)

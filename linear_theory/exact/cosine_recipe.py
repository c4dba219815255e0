"""What the theory of the cosine loss expects of a training recipe, in sentences: `predict` for either loss.

Exact for a linear encoder with a linear predictor and a target that is the online network, where embeddings are wide;
what is said of norms, directions and the clock holds for any network of which the loss does not see the lengths.
"""

import math

import numpy as np

from stopgrad.linear_theory.exact import unit_map
from stopgrad.linear_theory.exact.cosine_limit import decay_clock, predictor_rate
from stopgrad.linear_theory.exact.unit_map import Finding, TrainingRecipe, to_theory
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.tools.errors import BadInput

_LONG = 20.0  # of ηt: beyond, the flow's clock is a number without a meaning


class CosineFinding(Finding):
    """A `Finding` of the cosine loss: kind is time, norm, directions, predictor, death, rest, turn or target."""

    __slots__ = ()

    def words(self) -> str:
        """The finding in a sentence."""
        return _WORDS[self.kind][self.case].format(**self.values)


def predict(recipe: TrainingRecipe, sigma2: float, steps: int, x: float = 1.0) -> list[Finding]:
    """What the theory expects of `steps` steps of the recipe on one mode of the data, by the loss of the recipe.

    Raises ValueError for steps < 1 and for σ² or x out of range.

    >>> [one.kind for one in predict(TrainingRecipe(loss="cosine"), sigma2=0.1, steps=1000)]
    ['time', 'norm', 'directions', 'death', 'rest', 'turn']
    """
    if recipe.loss != "cosine":
        return unit_map.predict(recipe, sigma2, steps, x)
    if steps < 1:
        raise BadInput(f"steps is {steps}; a run has at least 1")
    h, dt = to_theory(recipe, sigma2, x)
    t, apart = steps * dt, h.eta_p is not None
    found = {
        "time": ("", {"dt": dt, "t": t}),
        "norm": ("decays" if h.eta > 0 else "kept", {"eta": h.eta, "eta_t": h.eta * t, "left": np.exp(-h.eta * t)}),
        "directions": _directions(h, t),
        "predictor": apart and _predictor(h, t),
        "death": ("apart" if apart else "", {"heavy": h.alpha_p / h.x}),
        "rest": ("", {"a": h.a, "s": h.x / (h.alpha_p * h.a**2)}),
        "turn": h.eta > 0 and ("", _turn(recipe, h, dt)),
        "target": h.beta is not None and (_target(h, t), {"steps": _over(1, h.beta * dt), "beta": h.beta}),
    }
    return [
        CosineFinding(kind, one[0], {name: float(v) for name, v in one[1].items()})
        for kind, one in found.items()
        if one
    ]


def _directions(h: Hyperparameters, t) -> tuple[str, dict]:
    if h.eta == 0:
        return "free", {"t": t}
    if h.eta * t > _LONG:
        return "long", {"t": t}
    return "clock", {"t": t, "theta": decay_clock(t, h.eta)}


def _predictor(h: Hyperparameters, t) -> tuple[str, dict]:
    rate = 2 * (h.predictor_decay - h.eta)
    case = "lags" if rate < 0 else "leads"
    shown = abs(rate * t) <= 2 * _LONG
    values = {"alpha": h.alpha_p, "rate": rate} | ({"end": predictor_rate(t, h)} if shown else {})
    return case if shown else f"{case}_long", values


def _turn(recipe: TrainingRecipe, h: Hyperparameters, dt) -> dict:
    # `settled_turn` for any style of decay, which takes the share η dt of a weight in a step: lr·wd/(1 − m) coupled.
    share = h.eta * dt
    angle = math.sqrt(2 * share * (1 - recipe.momentum) / (1 + recipe.momentum))
    return {"angle": angle, "steps": 1 / (4 * share)}


def _target(h: Hyperparameters, t) -> str:
    return "frozen" if h.beta == 0 else "start_shows" if h.beta * t < 3 else "start_forgotten"


def _over(one, other):
    return one / other if other else math.inf


_SEEN = "The cosine loss does not see lengths: it leaves ‖W‖ and ‖W_p‖ as they are"
_PATH = "Directions follow the path without weight decay"
_RELATIVE = "Its rate over the encoder's, as directions see it, goes as e^({rate:.3g} t) from {alpha:.3g}"
_LAGS = "The predictor decays less than the encoder and falls behind it, which favours strong modes. " + _RELATIVE
_LEADS = "The predictor decays more than the encoder and follows it ever more closely. " + _RELATIVE
_LAG = "The target follows over 1/(1−γ) = {steps:.4g} steps (β = {beta:.3g}); its start "
_SHARED = "where modes end is known of a shared target, at which it aims as well."
_WORDS = {
    "time": {"": "A step takes {dt:.3g} units of the theory's time, so the run lasts {t:.4g}."},
    "norm": {
        "decays": f"{_SEEN}, and weight decay alone shrinks them, to e^(−ηt) = {{left:.3g}} in the flow (ηt = "
        "{eta_t:.3g}); it moves no direction, and no weight decay is critical.",
        "kept": f"{_SEEN}; without weight decay they stay.",
    },
    "directions": {
        "free": f"{_PATH}, as there is none.",
        "clock": f"{_PATH}, of which the run sees θ = (e^(2ηt) − 1)/2η = {{theta:.4g}} units of time instead of "
        "{t:.4g}: decay acts as a learning rate that rises as 1/‖W‖².",
        "long": f"{_PATH}, in a time that grows as e^(2ηt) until finite steps hold the norms: over the run's {{t:.4g}} "
        "units decay acts as a learning rate that rises as 1/‖W‖².",
    },
    "predictor": {
        "lags": f"{_LAGS} to {{end:.3g}}.",
        "lags_long": f"{_LAGS} towards 0.",
        "leads": f"{_LEADS} to {{end:.3g}}.",
        "leads_long": f"{_LEADS} without bound.",
    },
    "death": {
        "": "A mode is lost in direction only if its predictor starts too large, p² > α_p s/x = {heavy:.3g} s, and "
        "beyond what others hold, or if it starts at p ≤ 0 and not above that parabola; else it lives.",
        "apart": "With equal decays a mode is lost in direction only if its predictor starts too large, p² > α_p s/x = "
        "{heavy:.3g} s, or at p ≤ 0; with unequal ones this balance does not stay.",
    },
    "rest": {
        "": "Living modes come to p = P/(1 + σ²) = P/{a:.4g} with one P for all, and from the parabola s = x p²/α_p to "
        "s = {s:.4g} P²: like modes come out alike. A start off it leaves its difference in s; a predictor that is set "
        "as a power of the features' correlation equalises modes from any start."
    },
    "turn": {
        "": "Steps are finite: if gradients keep their size, ‖W‖ settles after some 1/(4η dt) = {steps:.4g} steps, and "
        "each step then turns the encoder by {angle:.3g} rad, whatever the loss."
    },
    "target": {
        "frozen": f"The target never moves from its initial weights (γ = 1); {_SHARED}",
        "start_shows": f"{_LAG}still shows at the end; {_SHARED}",
        "start_forgotten": f"{_LAG}is forgotten by the end; {_SHARED}",
    },
}

"""A training recipe in the theory's units, and back: what lr, momentum, weight decay and EMA mean for α_p, η and β.

A step of SGD moves the encoder by −lr/(1−m) times its gradient once momentum m has built up. The theory counts time so
that the encoder moves with rate one along −∇J, J = ½E‖…‖²; a loss of c·J therefore gives a step the time
dt = c·lr/(1−m). What a step does to a weight beside that, divided by dt, is a rate of the theory: weight decay η, the
target's approach β = (1−γ)/dt. Tian, Chen & Ganguli 2021 (section 3) set c = 1, m = 0 and decay w −= η̄w.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from stopgrad.linear_theory.exact.discrete import stable_lr
from stopgrad.linear_theory.exact.fixed_points import FixedPoints, fixed_points
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.modes import EmaMode, Mode, ema_mode_flow, mode_flow
from stopgrad.linear_theory.tools.arrays import as_float64, settle
from stopgrad.linear_theory.tools.door import Command
from stopgrad.linear_theory.tools.errors import BadInput

_SAME = 1e-14  # decay rates this close (relative) are equal but for rounding


@dataclass(frozen=True)
class TrainingRecipe:
    """SGD as a training script writes it; the defaults are those of SimSiam.

    >>> TrainingRecipe(lr=0.05, momentum=0.9).lr
    0.05
    """

    lr: float = 0.05
    """Learning rate of the encoder."""
    momentum: float = 0.9
    """Momentum m of SGD, without dampening; the same for the predictor. Nesterov's form has the same flow."""
    weight_decay: float = 1e-4
    """Weight decay of the encoder, in the sense of `decay_style`."""
    decay_style: Literal["coupled", "decoupled", "decoupled_plain"] = "coupled"
    """coupled: added to the gradient (torch SGD). decoupled: w −= lr·wd·w (AdamW's way). decoupled_plain: w −= wd·w."""
    predictor_lr: float | None = None
    """Learning rate of the predictor; None: the encoder's."""
    predictor_weight_decay: float | None = None
    """Weight decay of the predictor, in the same style; None: the encoder's."""
    ema_momentum: float | None = None
    """γ of the target, W_a ← γW_a + (1−γ)W each step; None or 0: the target is the online network."""
    loss_scale: float = 1.0
    """c: the loss is c·½E‖prediction − target‖²; 2 for a plain sum of squares, 2/n for a mean over n outputs."""
    loss: Literal["squared", "cosine"] = "squared"
    """Squared error, the theory of Tian et al., or cosine similarity, which has one of its own."""

    def __post_init__(self):
        settle(self)

    def validate(self) -> "TrainingRecipe":
        """Return self. Raises ValueError with one sentence naming the first field out of range."""
        for name, (test, rule) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not np.all(np.isfinite(value) & test(np.asarray(value))):
                raise BadInput(f"{name} is {value}; it must be {rule}")
        for name, choices in {"decay_style": _SHRINK, "loss": ("squared", "cosine")}.items():
            if getattr(self, name) not in choices:
                raise BadInput(f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(choices)}")
        return self

    @property
    def time_per_step(self):
        """dt = c·lr/(1−m): the theory's time that one step takes."""
        return self.loss_scale * self.lr / (1 - self.momentum)


_POSITIVE, _NOT_NEGATIVE = (lambda v: v > 0, "finite and above 0"), (lambda v: v >= 0, "finite and at least 0")
_RANGES = {
    "lr": _POSITIVE,
    "momentum": (lambda v: (v >= 0) & (v < 1), "in [0, 1)"),
    "weight_decay": _NOT_NEGATIVE,
    "predictor_lr": _POSITIVE,
    "predictor_weight_decay": _NOT_NEGATIVE,
    "ema_momentum": (lambda v: (v >= 0) & (v <= 1), "in [0, 1]"),
    "loss_scale": _POSITIVE,
}

# The share of a weight that a step takes away, per unit of weight decay; momentum acts on gradients only.
_SHRINK = {
    "coupled": lambda lr, momentum: lr / (1 - momentum),
    "decoupled": lambda lr, momentum: lr,
    "decoupled_plain": lambda lr, momentum: 1.0,
}


def to_theory(recipe: TrainingRecipe, sigma2=0.1, x=1.0) -> tuple[Hyperparameters, float]:
    """The recipe's hyperparameters and dt, the time of a step, for data with the given σ² and x.

    η = wd/c coupled, lr·wd/dt decoupled, wd/dt plain; η_p the same with the predictor's own decay and its own lr, so
    α_p·wd_p/c coupled: equal decay in a recipe is unequal decay in the flow unless α_p = 1. η_p is None where it equals
    η, β where the target is shared. Fields may be arrays. Raises ValueError for a recipe, σ² or x out of range.

    >>> h, dt = to_theory(TrainingRecipe(lr=0.05, momentum=0.9, weight_decay=1e-4))
    >>> round(dt, 9), h.eta  # a step advances time by lr/(1 − momentum)
    (0.5, 0.0001)
    """
    dt, shrink = recipe.validate().time_per_step, _SHRINK[recipe.decay_style]
    lr_p = recipe.lr if recipe.predictor_lr is None else recipe.predictor_lr
    decay_p = recipe.weight_decay if recipe.predictor_weight_decay is None else recipe.predictor_weight_decay
    eta = shrink(recipe.lr, recipe.momentum) * recipe.weight_decay / dt
    eta_p = shrink(lr_p, recipe.momentum) * decay_p / dt
    shared = recipe.ema_momentum is None or np.all(np.asarray(recipe.ema_momentum) == 0)
    h = Hyperparameters(
        sigma2=sigma2,
        eta=eta,
        alpha_p=lr_p / recipe.lr,
        beta=None if shared else (1 - recipe.ema_momentum) / dt,
        eta_p=None if np.allclose(eta_p, eta, rtol=_SAME, atol=0) else eta_p,
        x=x,
    )
    h.validate()
    return h, dt


def to_recipe(
    h: Hyperparameters, *, dt=None, lr=None, momentum=0.9, decay_style="coupled", loss_scale=1.0, loss="squared"
) -> TrainingRecipe:
    """The recipe that has hyperparameters h, for a step of time dt or a learning rate lr (one of the two).

    The inverse of `to_theory`, to rounding. Raises ValueError where there is none: h out of range, a fixed τ below 1,
    or a step longer than the target's time 1/β.

    >>> from stopgrad.linear_theory import Hyperparameters
    >>> to_recipe(Hyperparameters(eta=1e-4), dt=0.5, momentum=0.9).lr.round(9)
    np.float64(0.05)
    """
    h.validate()
    dt, lr, momentum = (v if v is None else as_float64(v)[()] for v in (dt, lr, momentum))
    if (dt is None) == (lr is None):
        raise BadInput("give either dt, the time of a step, or lr, and not both")
    if not np.all(np.asarray(h.tau) == 1):
        raise BadInput(f"tau is {h.tau}; a recipe's target is the online network or its EMA, for which tau is 1")
    style = {"momentum": momentum, "decay_style": decay_style, "loss_scale": loss_scale, "loss": loss}
    scale = TrainingRecipe(lr=1.0, **style).validate().time_per_step
    lr = dt / scale if lr is None else lr
    dt = TrainingRecipe(lr=lr, **style).validate().time_per_step
    if h.beta is not None and np.any(np.asarray(h.beta) * dt > 1):
        raise BadInput(f"beta is {h.beta} and a step takes {dt:.3g}; it must be at most 1/beta, or the EMA overshoots")
    lr_p = h.alpha_p * lr
    decay = h.eta * dt / _SHRINK[decay_style](lr, momentum)
    decay_p = h.predictor_decay * dt / _SHRINK[decay_style](lr_p, momentum)
    return TrainingRecipe(
        lr=lr,
        weight_decay=decay,
        predictor_lr=None if np.all(np.asarray(h.alpha_p) == 1) else lr_p,
        predictor_weight_decay=None if np.allclose(decay_p, decay, rtol=_SAME, atol=0) else decay_p,
        ema_momentum=None if h.beta is None else 1 - h.beta * dt,
        **style,
    ).validate()


class Finding(NamedTuple):
    """One thing that the theory says of a recipe: values first; `words` makes a sentence of them."""

    kind: str
    """What it is of: time, outcome, basin, alignment, memory, target, speed, predictor_lr, slower_target or cosine."""
    case: str
    """Which of the kind's cases holds."""
    values: dict[str, float]
    """The numbers behind it, by name."""

    def words(self) -> str:
        """The finding in a sentence."""
        return _WORDS[self.kind][self.case].format(**self.values)


def predict(recipe: TrainingRecipe, sigma2: float, steps: int, x: float = 1.0) -> list[Finding]:
    """What the theory expects of `steps` steps of the recipe on one mode of the data.

    Raises ValueError for steps < 1 and for σ² or x out of range.

    >>> len(predict(TrainingRecipe(lr=0.05), sigma2=0.1, steps=1000)) > 2
    True
    """
    if steps < 1:
        raise BadInput(f"steps is {steps}; a run has at least 1")
    h, dt = to_theory(recipe, sigma2, x)
    points, t = fixed_points(h), steps * dt
    alive = points.regime in ("bistable", "critical")
    found = {
        "time": ("", {"dt": dt, "t": t}),
        "outcome": _outcome(h, points),
        "basin": alive and _basin(h, points),
        "alignment": points.regime != "collapse_only" and _alignment(h, points),
        "memory": h.eta > 0 and (_MEMORY[np.searchsorted((0.1, 3), h.eta * t)], {"eta_t": h.eta * t}),
        "target": _target(h, dt, t),
        "speed": points.regime == "bistable" and _speed(recipe, h, points, dt),
        "predictor_lr": alive and (_decays_alike(recipe, h), {}),
        "slower_target": alive and ("", {"tau": 2 * np.sqrt(h.eta * h.a / h.x)}),
        "cosine": recipe.loss == "cosine" and ("", {"left": np.exp(-h.eta * t)}),
    }
    return [Finding(kind, one[0], {name: float(v) for name, v in one[1].items()}) for kind, one in found.items() if one]


def _outcome(h: Hyperparameters, points: FixedPoints) -> tuple[str, dict]:
    if h.eta > 0:
        share = h.eta / points.critical_eta
        values = {"eta": h.eta, "share": share, "eta_c": points.critical_eta, "p": points.p_plus, "s": points.s_plus}
        return str(points.regime), values
    s = h.x / (h.alpha_p * h.a**2)
    case = "free" if h.predictor_decay == 0 else "predictor_decays"
    return case, {"p": 1 / h.a, "s": s, "growth": 2 * s * h.predictor_decay}


def _basin(h: Hyperparameters, points: FixedPoints) -> tuple[str, dict]:
    case = "parabola" if h.eta_p is None else "curve"
    return case, {"p": points.p_minus, "s": points.s_minus, "eta_p": h.predictor_decay}


def _alignment(h: Hyperparameters, points: FixedPoints) -> tuple[str, dict]:
    # Theorem 3 for any x, η_p: K = x(α_p a s/2x + a p² − τp) + η + η_p/2. Its minimum on the parabola (η_p = η) is
    # 3η/2 − xτ²/6a = (3/2)(η − 4η_c/9); over all p and s ≥ 0 it is η + η_p/2 − η_c.
    decay, needed, where = (
        (h.eta, 4 / 9 * points.critical_eta, "parabola")
        if h.eta_p is None
        else (h.eta + h.eta_p / 2, points.critical_eta, "everywhere")
    )
    return f"{'guaranteed' if decay > needed else 'open'}_{where}", {"decay": decay, "needed": needed}


def _target(h: Hyperparameters, dt: float, t: float) -> tuple[str, dict]:
    if not h.beta:
        return "online" if h.beta is None else "frozen", {}
    case = "start_shows" if h.beta * t < 3 else "start_forgotten"
    return case, {"steps": 1 / (h.beta * dt), "beta": h.beta, "beta_t": h.beta * t}


def _speed(recipe: TrainingRecipe, h: Hyperparameters, points: FixedPoints, dt: float) -> tuple[str, dict]:
    p, s = float(points.p_plus), float(points.s_plus)
    jacobian = _jacobian(ema_mode_flow, EmaMode(p, s, 1.0), h) if h.beta else _jacobian(mode_flow, Mode(p, s), h)
    slow, fast = 1 / (-np.sort(np.linalg.eigvals(jacobian).real)[[-1, 0]] * dt)
    values = {"fast": fast, "slow": slow, "memory": 1 / (1 - recipe.momentum)}
    if h.beta is not None or recipe.decay_style != "coupled":
        return "flow", values
    return "steps", values | {"lr": stable_lr(points.eigenvalues_plus, recipe.momentum) / recipe.loss_scale}


def _jacobian(flow, state, h: Hyperparameters) -> np.ndarray:
    """(d, d), of a flow in plain operators at a state of d numbers: the imaginary part that an imaginary step leaves
    is the derivative to rounding, as `exact.branches.stability` has it from torch, which takes seconds to load.
    """
    steps = 1e-30j * np.eye(len(state))
    return np.transpose([flow(type(state)(*(state + step)), h) for step in steps]).imag / 1e-30


def _decays_alike(recipe: TrainingRecipe, h: Hyperparameters) -> str:
    return "decay_stays" if recipe.decay_style == "decoupled_plain" or h.predictor_decay == 0 else "decay_follows"


_MEMORY = ("slight", "shows", "forgotten")

# ---------------------------------------------------------------- findings in words

_STRENGTH = "Weight decay η = {eta:.3g} is {share:.3g} of the critical η_c = {eta_c:.3g}"
_DECAY_ALONE = "Over the run ηt = {eta_t:.3g}, and weight decay alone would leave e^(−ηt) of a weight: "
_GUARANTEED = "the predictor's alignment with the features is guaranteed (Theorem 3, isotropic data)."
_OPEN = "alignment is not guaranteed, though it may well come about."
_LAG = "The target follows over 1/(1−γ) = {steps:.4g} steps (β = {beta:.3g}, βt = {beta_t:.3g}); its own start "
_NEAR = (
    "Near p₊ disturbances fade over {fast:.3g} to {slow:.3g} steps; the flow is faithful where that is far above "
    "momentum's memory of 1/(1−m) = {memory:.3g} steps"
)
_WORDS = {
    "time": {"": "A step takes {dt:.3g} units of the theory's time, so the run lasts {t:.4g}."},
    "outcome": {
        "bistable": f"{_STRENGTH}: a mode settles at p₊ = {{p:.4g}}, s₊ = {{s:.4g}}, or collapses to 0.",
        "critical": f"{_STRENGTH}: p₊ and p₋ meet at {{p:.4g}}, and the least disturbance downwards collapses.",
        "collapse_only": f"{_STRENGTH}: every mode collapses, whatever the start, the predictor's lr or the EMA.",
        "free": "Without weight decay c = s − x p²/α_p keeps its initial value, which a larger predictor lr raises; "
        "c > 0 is enough for an alive end at p = {p:.4g}, s = {s:.4g} + c.",
        "predictor_decays": "The predictor decays and the encoder does not: an alive mode tends to p = {p:.4g} while s "
        "grows for ever, in the end by {growth:.3g} per unit of time.",
    },
    "basin": {
        "parabola": "On the parabola s = x p²/α_p a mode collapses from p < p₋; off it the edge is a curve through "
        "(p₋, s₋) = ({p:.4g}, {s:.4g}).",
        "curve": "As η_p = {eta_p:.3g} differs from η no parabola is invariant; the collapse basin's edge passes "
        "(p₋, s₋) = ({p:.4g}, {s:.4g}).",
    },
    "alignment": {
        "guaranteed_parabola": f"K > 0 along the parabola: {_GUARANTEED}",
        "guaranteed_everywhere": f"K > 0 everywhere: {_GUARANTEED}",
        "open_parabola": f"K > 0 along the parabola would take η > {{needed:.3g}}: {_OPEN}",
        "open_everywhere": f"K > 0 everywhere would take η + η_p/2 > {{needed:.3g}}: {_OPEN}",
    },
    "memory": {
        "slight": f"{_DECAY_ALONE}it hardly acts within the run, which goes as without weight decay.",
        "shows": f"{_DECAY_ALONE}the start still shows at the end.",
        "forgotten": f"{_DECAY_ALONE}the start is forgotten.",
    },
    "target": {
        "online": "The target is the online network, τ = 1 throughout.",
        "frozen": "The target never moves from its initial weights (γ = 1), so nothing said here of fixed points "
        "applies.",
        "start_shows": f"{_LAG}still shows at the end.",
        "start_forgotten": f"{_LAG}is forgotten by the end.",
    },
    "speed": {"flow": f"{_NEAR}.", "steps": f"{_NEAR}, and SGD is stable there up to lr = {{lr:.3g}}."},
    "predictor_lr": {
        "decay_stays": "A larger predictor learning rate leaves η_c and p± where they are and divides s by α_p at "
        "them: the same encoder starts further above the parabola, so the collapse basin shrinks, but it grows less.",
        "decay_follows": "A larger predictor learning rate at the same weight decay scales η_p with α_p, so that η_c, "
        "p± and s± all stay; the predictor only follows faster, and in the limit a mode survives just if s > s₋.",
    },
    "slower_target": {
        "": "A slower EMA leaves η_c and the alive fixed points, at which τ = 1; it changes the way there: no mode can "
        "hold itself while τ < 2√(ηa/x) = {tau:.3g}."
    },
    "cosine": {
        "": "All this is for squared error and only indicative for a cosine loss: that one does not see the scale of "
        "the weights, so its gradient flow keeps their norm and weight decay alone shrinks it, by e^(−ηt) = {left:.3g} "
        "here; decay acts by raising the effective learning rate lr/‖w‖², not through η_c."
    },
}


@dataclass(frozen=True)
class Translate(TrainingRecipe, Command):
    """A training recipe in the theory's units, and what the theory expects of it."""

    sigma2: float = 0.1
    """σ²: augmentation variance of the mode over the variance of its augmentation means."""
    x: float = 1.0
    """Variance of the mode's augmentation means."""
    steps: int = 10_000
    """Number of steps of the run."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> dict:
        h, dt = to_theory(self, self.sigma2, self.x)
        points, findings = fixed_points(h), predict(self, self.sigma2, self.steps, self.x)
        names = ("critical_eta", "p_plus", "s_plus", "p_minus", "s_minus")
        return {
            **vars(h),
            "eta_p": h.predictor_decay,
            "time_per_step": dt,
            "time": self.steps * dt,
            "regime": str(points.regime),
            **{name: float(getattr(points, name)) for name in names},
            "findings": [found._asdict() for found in findings],
            "sentences": [found.words() for found in findings],
        }

    def text(self, result: dict) -> str:
        numbers = {name: value for name, value in result.items() if name not in ("findings", "sentences")}
        return "\n".join([super().text(numbers), "", *result["sentences"]])

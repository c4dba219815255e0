"""What the linear theory claims of each rung, law by law, and the rule that decides.

A law holds on a rung if the error of its tracking reading, or where that is said of its forecast, is within its band.
Beside the laws, what IsoLoss does to modes that a set predictor starves.
"""

import math

import numpy as np

from stopgrad.experiments.claims import kinds
from stopgrad.experiments.claims.claim import Claim, Rule
from stopgrad.experiments.ladder.errors import CRITICAL_BAND, LAWS, READINGS, bracket, error, foretold
from stopgrad.experiments.ladder.rungs import CRITICAL, INGREDIENTS, ISOLOSS, TRAINED, arm_name, decays
from stopgrad.linear_theory.flows.set_loop import Eigenvalues, LoopHyperparameters, SetLoop

FORECAST = ("alignment", "modes")
"""Laws that are claimed of the forecast too."""
THEORY = {
    "balance": "W Wᵀ − W_pᵀW_p/α_p = e^(−2ηt) of its start, whatever stands before the layer (Theorem 1).",
    "alignment": "‖[F, W_p]‖ falls at the rate of K = a(α_p F/2 + W_p² − τW_p/a) + 3η/2 (Theorem 3).",
    "modes": "A mode lives where η < τ²x_j/(4(1 + σ_j²)), as many as the layer has room for.",
    "settling": "Each mode follows Lemma 1 to its fixed point.",
    "no-stop-gradient": "Without stop-gradient W dies at a rate that X′ and η bound from below (Theorem 2).",
    "no-predictor": "Without a predictor W′ = −W(X′ + η) (Theorem 2).",
    "critical": "No mode lives beyond the largest τ²x_j/(4(1 + σ_j²)).",
}


def _law(law: str, rung: int, reading: str) -> Claim:
    about = LAWS[law]
    arm = arm_name(rung, about.setting)
    suffix = "" if reading == "tracking" else "-forecast"
    rule = Rule(f"−|ln(measured ÷ {reading})| of the {about.words}, {arm}", -about.band, "nats", about.why)
    if law == "balance":
        rule = Rule(f"−ln(1 + largest residual of Eq. 5), {arm}", -about.band, "nats", about.why)
    return kinds.claim(
        f"{law}-{rung}{suffix}",
        f"rung {rung}",
        f"{about.words[0].upper()}{about.words[1:]}: as Lemma 1 has it, by {READINGS[reading]} ({INGREDIENTS[rung]}).",
        lambda: THEORY[law],
        rule,
        (arm,),
        lambda runs: -abs(error(runs[arm], law, reading)),
        headline=law == "modes" and reading == "tracking",
    )


def _critical(rung: int, reading: str) -> Claim:
    """That the decay at which the last mode was seen to die is the closed form's, or that of the tracked flow."""
    settings = decays(rung)
    arms = tuple(arm_name(rung, name) for name in settings)

    def value(runs) -> float:
        etas = {name: runs[arm_name(rung, name)].summary["laws"]["eta"] for name in settings}
        seen = bracket(runs, rung, etas, "measured").middle
        told = foretold(runs, rung, etas) if reading == "forecast" else bracket(runs, rung, etas, "tracking").middle
        return -abs(math.log(seen / told))

    by = "τ²x/(4(1 + σ²)) of the start" if reading == "forecast" else "the tracked flow's"
    return kinds.claim(
        f"critical-{rung}" + ("-forecast" if reading == "forecast" else ""),
        f"rung {rung}",
        f"Critical weight decay: {by} ({INGREDIENTS[rung]}).",
        lambda: THEORY["critical"],
        Rule(f"−|ln(decay at which the last mode dies ÷ {by})|", -CRITICAL_BAND, "nats", "within a quarter"),
        arms,
        value,
        headline=reading == "forecast",
    )


def _rates(loss: str) -> str:
    """What Halvagal's eigenvalues do under a loss, with and without IsoLoss, for a small mode among larger ones."""
    modes, h = Eigenvalues(np.array([0.01, 0.1, 0.3, 0.6])), LoopHyperparameters(0.5, 0.3, 0.3, eta=0.1)
    plain, iso = (SetLoop(loss, kind)(modes, h).s[0] / modes.s[0] for kind in ("predictor", "isoloss"))
    return (
        f"λ′/λ of a mode of λ = {modes.s[0]:g} beside larger ones, W_P = √λ, σ² = {h.sigma2:g}, η = {h.eta:g}: "
        f"{plain:+.2g} with the gradient through the predictor, {iso:+.2g} under IsoLoss (Halvagal et al. 2023)."
    )


def _isoloss(rung: int) -> Claim:
    """That modes which the predictor's factor starves live under IsoLoss, on a ResNet."""
    arms = arm_name(rung, "isoloss"), arm_name(rung, "set-predictor")
    loss = ISOLOSS[rung]
    return kinds.claim(
        f"isoloss-{rung}",
        f"rung {rung}",
        f"A set predictor starves small modes, and IsoLoss keeps them: more dimensions are in use ({loss} loss).",
        lambda: _rates(loss),
        Rule(f"ln(effective rank of Z, {arms[0]} ÷ {arms[1]})", math.log(1.25), "nats", "a quarter more"),
        arms,
        lambda runs: math.log(runs[arms[0]].last("rank_z") / runs[arms[1]].last("rank_z")),
    )


CLAIMS = (
    *(_law(law, rung, "tracking") for law in LAWS for rung in TRAINED),
    *(_law(law, rung, "forecast") for law in FORECAST for rung in TRAINED),
    *(_critical(rung, reading) for rung in CRITICAL for reading in ("forecast", "tracking")),
    *(_isoloss(rung) for rung in ISOLOSS),
)

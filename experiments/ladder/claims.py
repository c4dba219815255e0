"""What the linear theory claims of each rung, law by law, and the rule that decides.

A law holds on a rung if the error of its tracking reading, or where that is said of its forecast, is within its band.
"""

import math

from stopgrad.experiments.claims import kinds
from stopgrad.experiments.claims.claim import Claim, Rule
from stopgrad.experiments.ladder.errors import CRITICAL_BAND, LAWS, READINGS, bracket, error, foretold
from stopgrad.experiments.ladder.rungs import CRITICAL, INGREDIENTS, TRAINED, arm_name, decays

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


CLAIMS = (
    *(_law(law, rung, "tracking") for law in LAWS for rung in TRAINED),
    *(_law(law, rung, "forecast") for law in FORECAST for rung in TRAINED),
    *(_critical(rung, reading) for rung in CRITICAL for reading in ("forecast", "tracking")),
)

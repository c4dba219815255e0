"""Claims of Tian, Chen & Ganguli 2021 on one mode that theory alone decides: basins, Eq. 14, observations #1 to #10."""

import functools

from stopgrad.experiments.claims.claim import Rule
from stopgrad.experiments.claims.theory_claims import BORDERS, TOLERANCE, claim, pair
from stopgrad.experiments.tian2021 import theory_modes as modes
from stopgrad.linear_theory.exact.basin import critical_s0
from stopgrad.linear_theory.exact.fixed_points import critical_eta, fixed_points, rest_points
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.spectra.alignment import negative_window

EXAMPLE = Hyperparameters(sigma2=0.0, eta=0.04)
"""σ² = 0, η = 0.04, τ = α_p = 1: the point at which the sentences compute their numbers."""
_GRID = "σ² = 0, 0.5; τ = 0.6, 1; α_p = 1, 4"
ABOVE = (1.05, 1.5, 3.0)
"""Weight decays above the critical one, in its units."""


def _p_minus(**changes) -> float:
    return float(fixed_points(EXAMPLE.replace(**changes)).p_minus)


def _basin_sentence() -> str:
    curve, line = modes.basin_agreement()
    return (
        f"At σ² = 0, η = 0.04 the border passes p = 0 at s = {critical_s0(0.0, EXAMPLE):.4g} and the saddle at p₋ = "
        f"{_p_minus():.4g}. It foretells {curve:.1%} of simulated fates or more, p₀ < p₋ as few as {line:.1%}."
    )


def _free_sentence() -> str:
    closed, rule = modes.free_agreement()
    return f"The closed form foretells {closed:.1%} of simulated fates or more, s₀ > p₀²/α_p as few as {rule:.1%}."


def _balance_sentence() -> str:
    right, flipped, decades = modes.balance_path()
    return (
        f"At t = 2/η s − p²/α_p is e^−4 times s(0) − p(0)²/α_p to {right:.1f} digits of s, and e^−4 times its opposite "
        f"to {flipped:.1f}; it has fallen by {decades:.3g} decades."
    )


_EMA_RUNS = "from p₀ = 1/5a, 1/2a on the parabola, τ(0) = 0; σ² = 0, 0.5; η = 0.1 η_c; β = 0.4, 0.2, 0.1, 0.05"
_K = "share of the states with K > 0, p up to τ/a"

OBSERVATIONS = (
    *pair(
        claim(
            "basin",
            "Collapse basin, Eq. 16",
            "The collapse basin is bounded by the stable manifold of (p₋, s₋), which is p = p₋ on the parabola alone.",
            Rule("share of simulated starts whose fate it foretells", 0.99, "", BORDERS),
            lambda: modes.basin_agreement()[0],
            _basin_sentence,
            f"60 starts each, p₀ from −τ/2a to 3τ/2a, s₀ over four decades; {_GRID}; η/η_c = 0.1, 0.3, 0.6",
        ),
        "A mode collapses if and only if p < p₋ (the paper's basin, read off the parabola too).",
        lambda: modes.basin_agreement()[1],
    ),
    *pair(
        claim(
            "no-decay",
            "Criterion at η = 0, Eq. 14",
            "At η = 0, s(0) > p(0)²/α_p is sufficient for survival and not necessary: p(0) > 0 and (τ/a)²/α_p + c > 0 "
            "with c = s(0) − p(0)²/α_p is enough.",
            Rule("share of simulated starts whose fate it foretells", 0.99, "", BORDERS),
            lambda: modes.free_agreement()[0],
            _free_sentence,
            f"60 starts each, p₀ from −τ/2a to 3τ/2a, s₀ over four decades; {_GRID}; η = 0",
        ),
        "At η = 0 a mode survives if and only if s(0) > p(0)²/α_p (the sufficient criterion, read as necessary).",
        lambda: modes.free_agreement()[1],
    ),
    *pair(
        claim(
            "balance-sign",
            "Eq. 14",
            "s(t) = p(t)²/α_p + c e^{−2ηt} with c = s(0) − p(0)²/α_p.",
            Rule("digits of s to which it holds, the worst mode", 5, "digits", TOLERANCE),
            lambda: modes.balance_path()[0],
            _balance_sentence,
            f"3 starts off the parabola each; {_GRID}; η/η_c = 0.1, 0.3, 0.6; t = 2/η",
        ),
        "c = p(0)²/α_p − s(0).",
        lambda: modes.balance_path()[1],
    ),
    claim(
        "obs1",
        "Observation #1",
        "A larger α_p shrinks the collapse basin.",
        Rule("least ratio of the s₀ needed to survive to that at twice α_p", 1.5, "", "clearly less, if not half"),
        modes.separatrix_ratio,
        lambda: (
            f"Off the parabola too: from p₀ = 0, s₀ must exceed {critical_s0(0.0, EXAMPLE):.4g} at α_p = 1 and "
            f"{critical_s0(0.0, EXAMPLE.replace(alpha_p=10.0)):.4g} at 10, in inverse proportion (σ² = 0, η = 0.04)."
        ),
        "p₀ = −0.3, 0, 0.3, 0.7 of p₋; σ² = 0, 0.5; τ = 0.6, 1; α_p = 0.5, 1, 4; η/η_c = 0.1, 0.3, 0.6, 0.9",
    ),
    claim(
        "obs2",
        "Observation #2",
        "With a large α_p the features hardly grow: s(∞) − s(0) falls as α_p rises.",
        Rule("least ratio of s's growth to that at four times α_p", 2, "", "1 is no effect, 4 is inverse proportion"),
        modes.growth_ratio,
        lambda: (
            f"Each fourfold α_p divides the growth of s by at least {modes.growth_ratio():.4g}; with decay s₊ is "
            f"{rest_points(EXAMPLE).s_plus:.4g} at α_p = 1 and "
            f"{rest_points(EXAMPLE.replace(alpha_p=10.0)).s_plus:.4g} at 10 (σ² = 0, η = 0.04)."
        ),
        "p₀ = 0.05, 0.2, 0.4; s₀ = 0.2, 0.6; σ² = 0.2, η = 0, τ = 1; α_p = 1, 4, 16; simulated to t = 20",
    ),
    claim(
        "obs3",
        "Observation #3",
        "Weight decay ties s to p, so that the features too come to model invariance.",
        Rule("least decades by which |s − p²/α_p| falls", 1, "decades", "what is left is a tenth"),
        lambda: modes.balance_path()[2],
        _balance_sentence,
        f"3 starts off the parabola each; {_GRID}; η/η_c = 0.1, 0.3, 0.6; from 0 to 2/η",
    ),
    claim(
        "obs4",
        "Observation #4",
        "A larger η moves p₋ up and so the collapse basin's edge.",
        Rule("least d ln p₋/d ln η", 0.5, "", "half of proportional"),
        functools.partial(modes.smallest_p_ratio, "eta"),
        lambda: f"p₋ = {_p_minus(eta=0.01):.4g} at η = 0.01 and {_p_minus():.4g} at 0.04 (σ² = 0, τ = 1).",
        f"{_GRID}; η/η_c = 0.01 to 0.2",
    ),
    claim(
        "obs5",
        "Observation #5",
        "Above η_c = τ²/4a every mode collapses.",
        Rule("share of simulated starts that collapse", 0.99, "", "all of them, but for the integrator's error"),
        functools.partial(modes.collapsed_share, ABOVE),
        lambda: (
            f"η_c = {critical_eta(EXAMPLE):.4g} at σ² = 0 and {critical_eta(EXAMPLE.replace(sigma2=0.5)):.4g} at 0.5. "
            f"Of starts at 0.95 η_c as few as {modes.collapsed_share((0.95,)):.0%} collapse, above η_c "
            f"{modes.collapsed_share(ABOVE):.0%} or more."
        ),
        f"60 starts each; {_GRID}; η/η_c = 1.05, 1.5, 3",
    ),
    *pair(
        claim(
            "obs6",
            "Observation #6 (Eq. 17)",
            "A larger α_p loosens the alignment condition K > 0 off the invariant parabola.",
            Rule(f"least rise, from α_p = 1 to 4, of the {_K}", 0.02, "", "2 of 100 states"),
            functools.partial(modes.loosened_by_alpha_p, False),
            lambda: (
                f"Over p and s up to (τ/a)² the share rises by {modes.loosened_by_alpha_p(False):.3g} or more; on the "
                f"parabola α_p s = p², α_p drops out of K, and it rises by {modes.loosened_by_alpha_p(True):.3g}."
            ),
            "2500 states up to s = (τ/a)²; σ² = 0, 0.5; τ = 0.6, 1; η/η_c = 0.05, 0.1, 0.2",
        ),
        "A larger α_p loosens the alignment condition (read where weight decay takes every mode, on the parabola).",
        functools.partial(modes.loosened_by_alpha_p, True),
    ),
    claim(
        "obs7",
        "Observation #7 (Eq. 17)",
        "A larger η loosens the alignment condition.",
        Rule(f"least rise, from η to 2η, of the {_K} on the parabola", 0.02, "", "2 of 100 states"),
        modes.loosened_by_decay,
        lambda: (
            "At σ² = 0 K < 0 for p from {:.4g} to {:.4g} if η = 0.04, from {:.4g} to {:.4g} if 0.08, and nowhere from "
            "η = {:.4g} on."
        ).format(*negative_window(EXAMPLE), *negative_window(EXAMPLE.replace(eta=0.08)), 4 / 9 * critical_eta(EXAMPLE)),
        f"{_GRID}; η/η_c = 0.05, 0.1, 0.2 and twice that",
    ),
    claim(
        "obs8",
        "Observation #8",
        "An EMA is a curriculum: its small τ early keeps K from falling as low as with τ = 1.",
        Rule("least share of K's dip below 0 that it saves", 0.1, "", "a tenth of the dip"),
        modes.curriculum,
        lambda: (
            f"With τ = 1 K dips to {modes.ema_runs()[1].min():.3g} at worst, with β = 0.4 to "
            f"{modes.ema_runs()[0][0].min():.3g}, with β = 0.05 to {modes.ema_runs()[0][-1].min():.3g}."
        ),
        _EMA_RUNS,
    ),
    claim(
        "obs9",
        "Observation #9",
        "A small β makes training slow.",
        Rule("least ratio of the time to come near p₊ to that at twice β", 1.2, "", "a fifth longer"),
        modes.slowing,
        lambda: (
            f"From p₀ = 1/5 (σ² = 0) it takes t = {modes.ema_runs()[2][0, 0]:.3g} at β = 0.4 and "
            f"{modes.ema_runs()[2][-1, 0]:.4g} at 0.05."
        ),
        _EMA_RUNS,
    ),
    claim(
        "obs10",
        "Observation #10",
        "A small τ moves p₋ up, so that more modes are trapped.",
        Rule("least ratio of p₋ at half of τ to p₋", 1.5, "", "1 is no effect, 2 the limit of small η"),
        functools.partial(modes.smallest_p_ratio, "tau"),
        lambda: f"p₋ = {_p_minus():.4g} at τ = 1 and {_p_minus(tau=0.5):.4g} at 0.5 (σ² = 0, η = 0.04).",
        f"{_GRID}; η/η_c = 0.01 to 0.2",
    ),
    claim(
        "predictor-decay",
        "Table 5",
        "With weight decay on the predictor alone no mode with p(0) > 0 collapses.",
        Rule("share of simulated starts with p₀ > 0 that survive", 0.99, "", BORDERS),
        modes.saved_by_predictor_decay,
        lambda: f"At η = 0 < η_p {modes.saved_by_predictor_decay():.1%} of simulated starts or more survive.",
        "σ² = 0, 0.5; τ = α_p = 1; η_p/η_c = 0.3, 3",
    ),
)

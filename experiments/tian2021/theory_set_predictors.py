"""Claims that theory alone decides on predictors that are set, and on what weight decay means (Tian et al. 2021)."""

import functools

from stopgrad.experiments.claims.claim import Rule
from stopgrad.experiments.claims.theory_claims import claim, pair
from stopgrad.experiments.tian2021 import theory_predictors as predictors
from stopgrad.linear_theory.exact.closed_loop import directpred_threshold, directset_limit, directset_threshold
from stopgrad.linear_theory.exact.fixed_points import critical_eta, fixed_points
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters

EXAMPLE = Hyperparameters(sigma2=0.0, eta=0.04)
"""σ² = 0, η = 0.04, τ = α_p = 1: the point at which the sentences compute their numbers."""


def _window_sentence() -> str:
    proper, frozen = (directpred_threshold(EXAMPLE, relaxing=relaxing) for relaxing in (True, False))
    return (
        f"At σ² = 0, η = 0.04 a weak mode grows from ε = {proper[0]:.4g} on, without upper end (Eq. 18, the leading "
        f"mode settled), or for ε from {frozen[0]:.4g} to {frozen[1]:.4g} where max s is held at 1."
    )


_POINTS = "(σ², η) = (0, 0.04), (0.5, 0.02), (0.5, 0.08)"
_SIX = "ε at 0.5, 0.8, 0.95, 1.05, 1.25 and 2 times each end"

PREDICTORS = (
    claim(
        "optimal-predictor",
        "Table 1",
        "A predictor that solves the regression leaves no gradient along W: the encoder decays at η.",
        Rule("least rate of ‖W‖'s decay over η", 0.99, "", "1 but for the integrator's error"),
        lambda: predictors.optimal_predictor()[0],
        lambda: (
            f"‖W‖ decays at {predictors.optimal_predictor()[0]:.6g} η; with a predictor learned by gradient from the "
            f"same start at least {predictors.optimal_predictor()[1]:.3g} of ‖W‖ is left at ηt = 1.6."
        ),
        "6 random encoders 3×4, isotropic data, σ² = 0.2, η = 0.04, t = 40",
    ),
    claim(
        "directpred-window",
        "Eq. 18, Table 6",
        "DirectPred lets a vanishing mode grow just if ε > p₋/(p₊ − p₋)² once the leading mode has settled.",
        Rule("share of ε whose effect in simulation it foretells", 0.99, "", "every ε of the grid"),
        functools.partial(predictors.directpred_agreement, True),
        _window_sentence,
        f"{_POINTS}; {_SIX}",
    ),
    claim(
        "directpred-window-normalised",
        "Eq. 18 as released, Table 6",
        "With s divided by its maximum a vanishing mode grows just if p₋ < ε < p₊.",
        Rule("share of ε whose effect in simulation it foretells", 0.99, "", "every ε of the grid"),
        functools.partial(predictors.directpred_agreement, False),
        _window_sentence,
        f"{_POINTS}; max s held at 1; {_SIX}",
    ),
    claim(
        "threshold-sign",
        "Table 7",
        "A threshold c > 0 in p = √max(s − c, 0) kills weak modes; c < 0 lets them grow.",
        Rule("least share of weak modes that grow at c < 0, less that at c > 0", 0.5, "", "half of the modes"),
        predictors.threshold_sign,
        lambda: (
            f"A mode with s < c has p = 0 and decays; at c = −0.05 its p is {0.05**0.5:.3g} at least, above p₋ = "
            f"{fixed_points(EXAMPLE).p_minus:.3g} (σ² = 0, η = 0.04). The shares of growing "
            f"modes differ by {predictors.threshold_sign():.3g}."
        ),
        f"{_POINTS}; c = ±0.05, ±0.1; weak modes √s = 0.1, 0.05, 0.01 beside a leading one of 0.8",
    ),
    claim(
        "directset",
        "DirectSet (arXiv 2110.04947)",
        "With p = s^α a mode survives above ((1 − √(1 − 4η))/2)^{1/2α} (a = 1) and settles at "
        "((1 + √(1 − 4η))/2)^{1/2α}.",
        Rule("share of simulated starts with the foretold end", 0.99, "", "every start of the grid"),
        predictors.directset_agreement,
        lambda: (
            "At σ² = 0, η = 0.24 the border of α = 0.5, 1, 2 is at {:.4g}, {:.4g}, {:.4g} and the limit at {:.4g}, "
            "{:.4g}, {:.4g}."
        ).format(
            *(f(EXAMPLE.replace(eta=0.24), al) for f in (directset_threshold, directset_limit) for al in (0.5, 1, 2))
        ),
        f"{_POINTS}; α = 0.5, 1, 2; √s(0) = 0.5, 0.7, 1.4, 2 times the border",
    ),
    claim(
        "directset-selective",
        "DirectSet (arXiv 2110.04947)",
        "For η between the two critical weight decays a signal mode lives while a nuisance mode dies.",
        Rule("share of simulated pairs that end so", 0.99, "", "every pair of the grid"),
        predictors.selective_decay,
        lambda: (
            f"With σ² = 1 on the nuisance and 0 on the signal the window is η from "
            f"{critical_eta(EXAMPLE.replace(sigma2=1.0)):.4g} to {critical_eta(EXAMPLE):.4g}."
        ),
        "α = 0.5, 1; η at 0.1, 0.5, 0.9 of the window; both from √s = 0.9",
    ),
    *pair(
        claim(
            "weight-decay-units",
            "Section 3 and Fig. 5",
            "PyTorch's coupled weight decay is the flow's η itself, whatever the learning rate.",
            Rule(
                "digits to which it gives the decay of a weight in SGD",
                2,
                "digits",
                "steps are finite, a percent is not",
            ),
            lambda: predictors.decay_digits()[0],
            lambda: (
                f"A weight under torch's SGD without a gradient decays at η = weight decay to "
                f"{predictors.decay_digits()[0]:.2g} digits; η = η̄/α is up to "
                f"{1 + 10 ** -predictors.decay_digits()[1]:.3g} times that."
            ),
            "weight decay 4e-4; lr 0.01, 0.03; momentum 0, 0.9",
        ),
        "η = η̄/α, so that weight decay 4e-4 at lr 0.01 is η = 0.04.",
        lambda: predictors.decay_digits()[1],
    ),
)

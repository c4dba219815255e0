"""What Tian, Chen & Ganguli 2021 claim and theory alone decides: computed whenever it is asked for, without a run.

Theorems here; observations #1 to #10 and DirectPred are claims of the two modules imported. Where the paper errs, the
corrected claim stands beside what was stated. Statistics and their grids: `theory_matrices` and its like.
"""

import functools

from stopgrad.experiments.claims.claim import Claim, Rule
from stopgrad.experiments.claims.theory_claims import COLLAPSE, TOLERANCE, claim, pair
from stopgrad.experiments.tian2021 import theory_matrices as matrices
from stopgrad.experiments.tian2021.theory_observations import OBSERVATIONS
from stopgrad.experiments.tian2021.theory_set_predictors import PREDICTORS
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.spectra.alignment import stop_gradient_rate_bound

_NETWORKS = "6 random linear networks 3×4, X and X′ random and of full rank, η = 0.05"

THEOREMS = (
    claim(
        "balance",
        "Theorem 1 (Eq. 5)",
        "W Wᵀ − W_pᵀ W_p/α_p decays exactly as e^{−2ηt}, whatever X, X′ and the target are.",
        Rule("digits to which it has decayed so, the worst network", 5, "digits", TOLERANCE),
        functools.partial(matrices.balance_digits, "learned"),
        lambda: f"Lemma 1 keeps it to {matrices.balance_digits('learned'):.1f} digits up to t = 5.",
        f"{_NETWORKS}; α_p = 0.5, 1, 2; target τW with τ = 1 and 0.5, and EMA with β = 0.3",
    ),
    *pair(
        claim(
            "balance-symmetrised",
            "Theorem 1 with assumption 3",
            "Under the symmetrised flow C = F − W_p²/α_p obeys C′ = −2ηC − (a/2)[W_p, [W_p, F]] and not Theorem 1.",
            Rule("digits to which C decays as claimed, the worst case", 5, "digits", TOLERANCE),
            matrices.symmetrised_balance_digits,
            lambda: (
                f"C′ has the double commutator to {matrices.symmetrised_balance_digits():.1f} digits; integrated with "
                f"a symmetrised gradient, Theorem 1 itself is kept to {matrices.balance_digits('symmetrised'):.2f}."
            ),
            "12 random symmetric pairs (W_p, F) for C′; the networks of Theorem 1 up to t = 5 for C(t)",
        ),
        "Theorem 1 holds along the symmetrised flow of assumption 3 too.",
        functools.partial(matrices.balance_digits, "symmetrised"),
    ),
    *pair(
        claim(
            "stop-gradient",
            "Theorem 2 (Eq. 6)",
            "Without stop-gradient W shrinks at least as e^{−λ₀t} if λ₀ = inf λ_min(H) > 0.",
            Rule("least ratio of ‖W‖'s rate of decay to λ₀", 1, "", "Theorem 2's bound itself"),
            matrices.rate_without_stop_gradient,
            lambda: (
                f"The slowest of the networks shrinks {matrices.rate_without_stop_gradient():.3g} times as fast as the "
                f"bound. For isotropic data λ₀ ≥ a − 1/a + η, {stop_gradient_rate_bound(Hyperparameters(eta=0.0)):.4g} "
                f"at σ² = 0.1, η = 0; without augmentation and weight decay λ₀ = 0 and W loses "
                f"{matrices.lost_without_stop_gradient():.2g} of its norm."
            ),
            f"{_NETWORKS}, up to t = 3; as stated: X′ = 0, η = 0, W_p = I, up to t = 50",
        ),
        "Without stop-gradient the weights always collapse (read without the condition λ₀ > 0).",
        matrices.lost_without_stop_gradient,
        Rule("share of ‖W‖ lost where λ₀ = 0, the least of the networks", 0.99, "", COLLAPSE),
    ),
    *pair(
        claim(
            "no-predictor",
            "Theorem 2, remark",
            "Without a predictor W = W(0)e^{−(X′+ηI)t}: at η = 0 what augmentation never changes survives.",
            Rule("digits to which W(t) is this, the worst network", 5, "digits", TOLERANCE),
            lambda: matrices.without_predictor()[1],
            lambda: (
                f"With X′ of rank 2 of 4 one of the encoders has lost just {matrices.without_predictor()[0]:.3g} of "
                f"its norm at t = 30; all follow the formula to {matrices.without_predictor()[1]:.1f} digits."
            ),
            "6 random encoders 3×4, W_p = I, stop-gradient, η = 0, X′ of rank 2 of 4, t = 30",
        ),
        "Without a predictor W always goes to 0.",
        lambda: matrices.without_predictor()[0],
        Rule("share of ‖W‖ lost, the least of the networks", 0.99, "", COLLAPSE),
    ),
    claim(
        "alignment",
        "Theorem 3",
        "If λ₀ = inf λ_min(K) > 0, ‖[F, W_p]‖ shrinks at least as e^{−2λ₀t}.",
        Rule("least ratio of its rate of decay to 2λ₀", 1, "", "Theorem 3's bound itself"),
        lambda: matrices.aligning(0.8, 0.8, 0.8)[0],
        lambda: (
            f"At η = 0.8 η_c λ_min(K) stays above 0 in all 8 runs, above {matrices.aligning(0.8, 0.8, 0.8)[2]:.3g} in "
            f"one; the slowest aligns {matrices.aligning(0.8, 0.8, 0.8)[0]:.3g} times as fast as its bound."
        ),
        "8 random symmetric pairs 3×3 about 0.8 (p₊ I, s₊ I); σ² = 0.2, η = 0.8 η_c, up to t = 20",
    ),
    *pair(
        claim(
            "alignment-sufficient",
            "Theorem 3 and Eq. 17",
            "K > 0 is sufficient only: the predictor also aligns in runs that pass through K < 0.",
            Rule(
                "least decades by which the misalignment falls", 2, "decades", "a hundredth is aligned by any measure"
            ),
            matrices.aligning_through_negative_K,
            lambda: (
                f"At η = 0.1 η_c λ_min(K) falls to {matrices.aligning(0.1, 0.4, 0.15)[2]:.3g} or below in every run, "
                f"and ‖[F, W_p]‖/(‖F‖‖W_p‖) still by {matrices.aligning(0.1, 0.4, 0.15)[1]:.2g} decades or more."
            ),
            "8 random symmetric pairs 3×3 about (0.4 p₊ I, 0.15 s₊ I); σ² = 0.2, η = 0.1 η_c, up to t = 20",
        ),
        "Alignment needs K > 0 (Eq. 17 read as necessary).",
        lambda: -matrices.aligning_through_negative_K(),
        Rule("decades by which the misalignment rises in runs with K < 0", -1, "decades", "a tenth is aligning"),
    ),
    claim(
        "symmetry",
        "Assumption 3 (Eq. 62, Fig. 8)",
        "At a fixed F and with weight decay the predictor turns symmetric by itself.",
        Rule("least decades by which its asymmetry falls", 2, "decades", "a hundredth is symmetric by any measure"),
        matrices.asymmetry_decades,
        lambda: f"The asymmetric part falls by {matrices.asymmetry_decades():.2g} decades or more up to t = 60.",
        "12 random predictors 3×3 and random F of full rank; σ² = 0.2; η = 0.1, 0.2",
    ),
    claim(
        "fixed-points",
        "Appendix D",
        "At η = 0 W_p W = W X(X + X′)⁻¹ with W's rows left eigenvectors of X(X + X′)⁻¹ is a fixed point of Lemma 1.",
        Rule("digits to which the flow stands still", 10, "digits", "rounding in the eigenvectors of random matrices"),
        matrices.fixed_point_digits,
        lambda: f"For 6 random pairs X, X′ all rates vanish to {matrices.fixed_point_digits():.1f} digits.",
        "6 random pairs of X and X′, 4×4, which do not commute; W_a = W",
    ),
)

CLAIMS: tuple[Claim, ...] = THEOREMS + OBSERVATIONS + PREDICTORS

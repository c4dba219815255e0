"""What Zhang et al. 2022 claim and theory alone decides: computed whenever it is asked for, without a run.

Centre and residual, gradients, InfoNCE and de-correlation here; what a predictor does to the centre, and linear
networks on data with a mean, are claims of `theory_centre_claims`. Where the paper errs, the corrected claim stands
beside what was stated. Statistics and their settings: `theory_gradients`, `theory_clouds`, `theory_flows`.
"""

import functools
import math

from stopgrad.experiments.claims.claim import Claim, Rule
from stopgrad.experiments.claims.theory_claims import claim, pair
from stopgrad.experiments.zhang2022 import theory_clouds as clouds
from stopgrad.experiments.zhang2022 import theory_gradients as gradients
from stopgrad.experiments.zhang2022.theory_centre_claims import CENTRE, DAY
from stopgrad.linear_theory.exact import centre, contrast

rule = functools.partial(Rule, since=DAY)
EXACT = "an identity, to rounding in float64"


def _infonce_order_sentence() -> str:
    power, cosine = gradients.infonce_order()
    return (
        f"What it misses falls as τ^−{power:.4g}; at τ = {gradients.SMALL[-1]:g} the cosine of r_e and −C Z_a is "
        f"1 − {1 - cosine:.1g}. At high temperatures it is a force that de-correlates and nothing else."
    )


def _figure5c(centred: contrast.Centre) -> tuple[float, float, float]:
    return tuple(gradients.figure5c((0.05, 0.2, 1.0), centred).tolist())


def _figure5c_sentence(centred: contrast.Centre) -> str:
    low, middle, high = _figure5c(centred)
    return (
        f"The cosine is {low:.2g} at τ = 0.05, {middle:.2g} at 0.2 and {high:.2g} at 1. The positive alone is heard "
        f"below τ = ρ/ln(N − 1) = {contrast.grip(0.6):.2g}, which is where the cosine rises."
    )


def _undoing_sentence() -> str:
    covariance, correlation = (gradients.undoing(form) for form in gradients.FORMS)
    return (
        f"40 steps multiply m_r by {math.exp(correlation):.3g} under the correlation and by {math.exp(covariance):.4g} "
        f"under the covariance, {math.exp(gradients.undoing('covariance', lr=5.0)):.3g} at a hundred times the "
        "learning rate. What spreads them under the correlation is that steps are finite: its flow does not."
    )


_CLOUDS = "64 embeddings in 16 dimensions, centre of length 1, correlated residuals"

SPLIT = (
    claim(
        "split",
        "Centre and residual",
        "‖o‖² + mean ‖r‖² = 1 for embeddings of length 1: what the centre gains the residual loses.",
        rule("digits to which it holds, the worst of 30 clouds", 12, "digits", EXACT),
        lambda: clouds.split()[0],
        lambda: (
            f"It holds to {clouds.split()[0]:.1f} digits. With the mean of ‖r‖ in place of its square, as m_r is "
            f"logged, up to {clouds.split()[1]:.2g} of 1 is missing."
        ),
        "25 directions in 4 dimensions each, about centres of length 0 to 1.5 before they are normalised",
    ),
    claim(
        "chance",
        "m_o of a batch",
        "Unrelated embeddings have E m_o² = 1/N in a batch of N, in any dimension.",
        rule("digits to which the average over all signs is 1/N", 12, "digits", EXACT),
        clouds.chance_digits,
        lambda: f"So at N = 256 an m_o of {centre.chance_m_o_squared(256) ** 0.5:.4g} is none at all.",
        "N = 3, 6, 10 unit vectors in 5 dimensions, all 2^N choices of their signs",
    ),
    claim(
        "start",
        "m_o at the start",
        "Without a BatchNorm at its output a wide random network starts at m_o = 1/√π, over half way to collapse.",
        rule("digits to which networks have it", 1.3, "digits", "within 5 %: they are 1,000 wide"),
        lambda: clouds.digits(abs(clouds.initial_m_o(False) / centre.initial_m_o() - 1)),
        lambda: f"The closed form is {centre.initial_m_o():.4g}, networks have {clouds.initial_m_o(False):.4g}.",
        "4 networks Linear–BatchNorm–ReLU–Linear, 300–1,000–1,000, 600 images of independent Gaussian pixels",
    ),
    claim(
        "start-output-batchnorm",
        "m_o at the start",
        "A BatchNorm at the output takes the centre away at the start.",
        rule("m_o without it over m_o with it", 10, "", "a tenth is next to nothing"),
        lambda: clouds.initial_m_o(False) / clouds.initial_m_o(True),
        lambda: (
            f"With one the same networks start at m_o = {clouds.initial_m_o(True):.2g}, and without at "
            f"{clouds.initial_m_o(False):.2g}."
        ),
        "the networks of the claim before",
    ),
    claim(
        "batchnorm-bound",
        "Table 2 behind an output BatchNorm",
        "Behind an output BatchNorm without affine parameters m_o ≤ 1 − 2/N: no collapse is complete.",
        rule("least (1 − m_o)N/2 that ascent on m_o finds", 1 - 1e-6, "", "the bound itself, and rounding"),
        clouds.adversary,
        lambda: (
            f"The best of 9 ascents ends at (1 − m_o)N/2 = {clouds.adversary():.6g}; at N = 256 the "
            f"bound is {centre.largest_m_o(256):.4g}."
        ),
        "(N, d) = (4, 2), (8, 3), (12, 1); 3 starts each, L-BFGS by the gradient of m_o",
    ),
    claim(
        "batchnorm-bound-reached",
        "Table 2 behind an output BatchNorm",
        "The bound is reached by one outlier opposite to all other embeddings.",
        rule("digits to which it is reached", 12, "digits", EXACT),
        clouds.outlier_digits,
        lambda: f"At N = 16 the outlier makes m_o = {clouds.m_o(clouds.outlier(16)):.6g}.",
        "N = 4, 16, 256 in one dimension",
    ),
    *pair(
        claim(
            "std-blind",
            "Tables 1 and 3 (Std), Figure 6",
            "Channel std is blind to dimensional collapse: in a random subspace of k dimensions √d·std = E χ_k/√k.",
            rule("√d × std of directions of rank 8 in 256 dimensions", 0.9, "", "within a tenth of the healthy value"),
            lambda: clouds.sampled_std(8),
            lambda: (
                f"The closed form is {centre.subspace_std(8, 256):.3g} for k = 8 and {centre.subspace_std(1, 256):.3g} "
                f"on a line; Table 3's healthy .020, {0.020 * math.sqrt(2048):.3g}/√d, is below that of k = 3, "
                f"{centre.subspace_std(3, 2048):.3g}."
            ),
            "2,000 directions, uniform in a random subspace of 256 dimensions",
        ),
        "A channel std near 1/√d tells that embeddings have not collapsed, in no dimension.",
        lambda: 1 - clouds.sampled_std(8) / clouds.sampled_std(64),
        rule("share by which std falls from rank 64 to 8", 0.5, "", "half of what is lost shows"),
    ),
)

GRADIENTS = (
    claim(
        "opposite",
        "Conjecture 1, Figure 4",
        "L_o and L_r have opposite gradients, exactly and for any network: their two effects are one.",
        rule("digits to which ∇L_o = −∇L_r, the worst weights", 10, "digits", EXACT),
        gradients.opposite_digits,
        lambda: f"It holds to {gradients.opposite_digits():.1f} digits in each weight matrix and bias.",
        "5 random networks 8–20–6 with tanh, 30 images, both views; autograd of the losses that train",
    ),
    claim(
        "drawn-to-centre",
        "Conjecture 1",
        "Drawn to their centre, free embeddings gather there: d‖o‖²/dt ∝ ‖o‖² − mean (Z·o)² ≥ 0.",
        rule("least rate at which ‖o‖² rises, over 2‖o‖²/N", 0.01, "", "a hundredth of the fastest possible"),
        lambda: gradients.drawn_to_centre()[0],
        lambda: (
            f"The slowest of 20 clouds has {gradients.drawn_to_centre()[0]:.2g}; all follow the formula to "
            f"{gradients.drawn_to_centre()[1]:.1f} digits, and under L_r fall as fast."
        ),
        "12 directions in 3 dimensions each, about centres of length 0 to 3 before they are normalised",
    ),
    claim(
        "radial",
        "Normalised vectors",
        "The gradient of the cosine loss has no part along the prediction, p·∂L/∂p = 0: it turns p alone.",
        rule("digits to which it is 0 beside ‖p‖‖∂L/∂p‖", 12, "digits", EXACT),
        gradients.radial_digits,
        lambda: f"It is 0 to {gradients.radial_digits():.1f} digits at lengths over four decades.",
        "40 predictions in 7 dimensions, ‖p‖ = 0.01 to 100",
    ),
    claim(
        "norm-grows",
        "Normalised vectors",
        "So without weight decay a step of SGD never shortens a free prediction: ‖p′‖² = ‖p‖² + lr² sin²/‖p‖².",
        rule("digits to which each of 60 steps has this", 10, "digits", EXACT),
        lambda: gradients.free_prediction()[0],
        lambda: (
            f"Each step has it to {gradients.free_prediction()[0]:.1f} digits; over all ‖p‖ grows by the factor "
            f"{gradients.free_prediction()[1]:.4g}."
        ),
        "one prediction in 5 dimensions, lr = 0.3, a random target at each step",
    ),
    *pair(
        claim(
            "algorithm5",
            "Algorithm 5",
            "The encoder's loss beside an inverse predictor is symmetric in the views with ½ before both of its terms.",
            rule("digits to which swapping the views leaves the gradient", 10, "digits", EXACT),
            lambda: gradients.swapping_digits("corrected"),
            lambda: (
                f"With both halves it stays to {gradients.swapping_digits('corrected'):.1f} digits; as printed it is "
                f"{10 ** -gradients.swapping_digits('printed'):.2g} of its own size apart, as the second view "
                "weighs twice."
            ),
            "a random network 8–20–6, predictor and inverse random matrices",
        ),
        "Algorithm 5 as printed, with ½ before the first term alone, treats both views alike.",
        lambda: gradients.swapping_digits("printed"),
    ),
)

INFONCE = (
    claim(
        "infonce-centre",
        "InfoNCE",
        "The centre of InfoNCE's extra gradient is o_e = −o_z at every temperature: its negatives de-centre.",
        rule("digits to which G_e + Σ λ_i r_i = −o_z", 10, "digits", EXACT),
        gradients.infonce_centre_digits,
        lambda: (
            f"It is to {gradients.infonce_centre_digits():.1f} digits. Averaged over anchors as well, G_e has with "
            f"−o_z the cosine {gradients.infonce_mean(0.1):.4g} at τ = 0.1, {gradients.infonce_mean(1.0):.5g} at τ = 1."
        ),
        "30 embeddings in 6 dimensions with a centre; τ = 0.03, 0.1, 0.5, 2, 30; autograd of the loss that trains",
    ),
    claim(
        "infonce-residual",
        "InfoNCE",
        "Its residual is r_e = −(1/τ) C Z_a + O(1/τ²), a force that takes correlations apart.",
        rule("power of 1/τ with which the first order misses it", 1.9, "", "2, less what third order adds"),
        lambda: gradients.infonce_order()[0],
        _infonce_order_sentence,
        "the same embeddings; from τ = 20 to 200",
    ),
    claim(
        "figure5c-fall",
        "Figure 5c",
        "Taken off both views' centre, r_e turns away from de-correlation as τ grows, as in the figure.",
        rule("cosine at τ = 0.2 less that at τ = 1", 0.3, "", "well under the paper's .83 − .08"),
        lambda: _figure5c("both")[1] - _figure5c("both")[2],
        lambda: _figure5c_sentence("both"),
        "256 images in 512 dimensions, flat spectrum, ρ = 0.6, keys of the other view, centre of both",
    ),
    *pair(
        claim(
            "figure5c-centre",
            "Figure 5c",
            "The fall is of the centre: the keys' own taken off, r_e is no further from de-correlation at τ = 1.",
            rule("cosine at τ = 1 less that at τ = 0.2", -0.1, "", "not a tenth lower"),
            lambda: _figure5c("keys")[2] - _figure5c("keys")[1],
            lambda: _figure5c_sentence("keys"),
            "256 images in 512 dimensions, flat spectrum, ρ = 0.6, keys of the other view, their own centre",
        ),
        "InfoNCE's negatives stop pointing at de-correlation at high temperatures (Fig. 5c read of r_e itself).",
        lambda: _figure5c("keys")[1] - _figure5c("keys")[2],
        rule("cosine at τ = 0.2 less that at τ = 1", 0.3, "", "well under the paper's .83 − .08"),
    ),
)

DECORRELATION = (
    *pair(
        claim(
            "algorithm6",
            "Algorithm 6",
            "The regulariser as printed is the off-diagonal covariance: it falls as the fourth power of the residuals.",
            rule("power of the residuals with which the loss goes", 3.9, "", "4 for squares of products of two"),
            lambda: gradients.scale_power("covariance"),
            lambda: (
                f"As printed it goes with the power {gradients.scale_power('covariance'):.3g}; of correlations it "
                f"would be {abs(gradients.scale_power('correlation')):.1f}."
            ),
            f"{_CLOUDS} of 0.1 to 0.01, not normalised",
        ),
        "The regulariser of Algorithm 6 is a correlation (as the text has it), which no scale changes.",
        lambda: -gradients.scale_power("covariance"),
        rule("minus the power of the residuals with which the loss goes", -0.1, "", "0, where no scale counts"),
    ),
    claim(
        "decorrelation-gradient",
        "Figure 5b, Algorithm 6",
        "As embeddings collapse the covariance's gradient vanishes as m_r³, and the correlation's grows as 1/m_r.",
        rule("power of m_r of the first less that of the second", 3.8, "", "3 + 1, at m_r of 0.1 and less"),
        lambda: gradients.gradient_power("covariance") - gradients.gradient_power("correlation"),
        lambda: (
            f"The powers are {gradients.gradient_power('covariance'):.3g} and "
            f"{gradients.gradient_power('correlation'):.3g}: the collapse is a minimum of the one and not of the other."
        ),
        f"{_CLOUDS} of 0.1 to 0.01, normalised",
    ),
    claim(
        "covariance-shrinks",
        "Algorithm 6",
        "Off the diagonal, covariance falls by shrinking: of free raw embeddings d Σ‖r‖²/dt = −8 L, whatever they are.",
        rule("digits to which it does", 10, "digits", EXACT),
        lambda: gradients.spreading()[0],
        lambda: f"It holds to {gradients.spreading()[0]:.1f} digits.",
        f"10 clouds of {_CLOUDS} of 0.3",
    ),
    claim(
        "correlation-keeps",
        "Algorithm 6",
        "The gradient of correlations changes no channel's variance: of free raw embeddings its flow keeps each.",
        rule("digits to which each variance stays", 10, "digits", EXACT),
        lambda: gradients.spreading()[1],
        lambda: (
            f"They stay to {gradients.spreading()[1]:.1f} digits. What spreads is a step's square: m_r grows by the "
            f"factor {math.exp(gradients.undoing('correlation', momentum=0.0)):.3g} in 40 steps, at a hundredth of the "
            f"learning rate by {math.exp(gradients.undoing('correlation', lr=5e-4, momentum=0.0)):.4g}."
        ),
        f"10 clouds of {_CLOUDS} of 0.3",
    ),
    *pair(
        claim(
            "undoing",
            "Figure 5b, Algorithm 6",
            "A regulariser of correlations undoes a collapse of free embeddings; of covariances it does not.",
            rule("ln(m_r after ÷ before), correlation less covariance", math.log(2), "nats", "twice as much is left"),
            lambda: gradients.undoing("correlation") - gradients.undoing("covariance"),
            _undoing_sentence,
            f"{_CLOUDS} of 0.1, normalised; 40 steps of SGD, lr 0.05 for each embedding, momentum 0.9",
        ),
        "The regulariser of Algorithm 6 as printed undoes a collapse (of free embeddings).",
        lambda: gradients.undoing("covariance"),
        rule("ln(m_r after ÷ before), covariance", math.log(2), "nats", "twice as much is there"),
    ),
)

CLAIMS: tuple[Claim, ...] = SPLIT + GRADIENTS + CENTRE + INFONCE + DECORRELATION

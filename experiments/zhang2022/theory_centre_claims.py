"""Claims of Zhang et al. 2022 on the centre that theory alone decides: what an optimal predictor does to it, what the
expectation over augmentation would do, and its fate in linear networks on data with a mean."""

import functools
import math

from stopgrad.experiments.claims.claim import Claim, Rule
from stopgrad.experiments.claims.theory_claims import BORDERS, claim, pair
from stopgrad.experiments.zhang2022 import theory_clouds as clouds
from stopgrad.experiments.zhang2022 import theory_flows as flows
from stopgrad.linear_theory.exact import centre, mean_mode

DAY = "2026-11-29"
"""From which the rules of the paper's theory stand."""
rule = functools.partial(Rule, since=DAY)

_VIEWS = "4,000 images in 40 dimensions, isotropic residuals of one length; m_o = 0.2, 0.5, 0.8; ρ = 0.35, 0.6, 0.8"
_GRID = "‖μ‖ = 0.7, 0.9, 1.2, 2, 5; σ² = 0.2, 0.6, 1.5; 32 residual directions of variance 1"
_MATRICES = (
    "a network 6×6 from W = I; mean 3, variances 0 along it and 1 to 0.5 beside, augmentation 0.3 along each axis"
)


def _bias_sentence() -> str:
    deviation, cosine = clouds.bias_deviation()
    return (
        f"At ρ = 0.35 it is {centre.optimal_bias(0.35):.3g} times the centre. The best bias of all directions is of "
        f"this length to {deviation:.1%} or better, and its cosine with o_z {cosine:.3g} or more."
    )


def _eta_sentence() -> str:
    eta = -clouds.FIGURE5A[0]
    return (
        f"The paper's zero at η_p = −{eta:.2f} needs ρ = {clouds.rho_of(eta):.2f} at m_o = 0 and "
        f"{clouds.rho_of(eta, 0.3):.2f} at m_o = 0.3; the −0.5 of its text needs {clouds.rho_of(0.5):.2f} and "
        f"{clouds.rho_of(0.5, 0.3):.2f}. Without augmentation (ρ = 1) η = {centre.decentring(0.3, 1.0):.2g}."
    )


def _turned_sentence() -> str:
    angles = [clouds.turned(clouds.FIGURE5A[0] + e, clouds.FIGURE5A[1] + e) for e in (-0.01, 0.01)]
    eta = -clouds.FIGURE5A[0]
    return (
        f"‖o_p‖ is {clouds.enlarged(*clouds.FIGURE5A):.3g}‖o_z‖, and the angle between them {angles[1]:.3g}° to "
        f"{angles[0]:.3g}° for zeros read to ±0.01. A predictor that only enlarges the centre has η_z = η/(1 − η) = "
        f"{eta / (1 - eta):.2f} with η = {eta:.2f}, and the angle {clouds.turned(-eta, eta / (1 - eta)):.2g}°."
    )


def _eoa_sentence() -> str:
    low, high = clouds.target_centre("eoa")
    return (
        f"It adds {low:.2g} to {high:.2g} of o_z, in closed form {clouds.eoa_centre(0.8, 0.8):.2g} to "
        f"{clouds.eoa_centre(0.2, 0.35):.2g}: 1/√(m_o² + ρ(1 − m_o²)) − 1. SimSiam's extra gradient takes "
        f"{-clouds.target_centre('simsiam')[1]:.2g} to {-clouds.target_centre('simsiam')[0]:.2g} of it off."
    )


def _fates_sentence() -> str:
    h = flows.DATA.replace(eta=flows.SQUARED_ETA)
    return (
        f"At σ² = 0.5, η = {flows.SQUARED_ETA} a mode needs a second moment of {mean_mode.least_variance(h):.3g}, the "
        f"centre ‖μ‖ = {mean_mode.centre_border(h):.3g}; simulated fates are those in {flows.squared_fates():.0%}."
    )


def _rank_sentence() -> str:
    said = (f"{name} m_o = {m_o:.2g}, rank {rank:.3g}" for name, (m_o, rank) in _ends().items())
    return f"Where the flow ends: {'; '.join(said)}: participation ratios of residuals, on {len(flows.VARIANCES)} axes."


def _ends() -> dict[str, tuple[float, float]]:
    return {
        "no predictor": flows.matrices("none"),
        "a bias alone": flows.matrices("bias"),
        "a learned matrix": flows.matrices("linear"),
    }


PREDICTOR = (
    claim(
        "bias",
        "Single bias layer",
        "The best predictor that is a bias alone is a positive multiple of the centre, b* = (1/ρ − 1) o_z.",
        rule("1 less the largest relative deviation of its length", 0.9, "", "within 10 %: dimensions are 40"),
        lambda: 1 - clouds.bias_deviation()[0],
        _bias_sentence,
        _VIEWS,
    ),
    *pair(
        claim(
            "eta",
            "Figure 5a",
            "o_e = −η o_p with η = 1 − √(m_o² + ρ²(1 − m_o²)), for the best bias and the best linear predictor alike.",
            rule("minus the largest deviation of a measured η", -0.03, "", "a fifteenth of the paper's 0.44"),
            lambda: -clouds.decentring_deviation(),
            _eta_sentence,
            _VIEWS,
        ),
        "o_e is about −0.5 o_p (the rounded zero of Fig. 5a, read as a constant).",
        lambda: -max(abs(eta - 0.5) for eta in clouds.range_of_eta()),
        rule("minus the largest |η − 0.5|", -0.1, "", "the paper's own 0.44 is within"),
    ),
    claim(
        "figure5a-turned",
        "Figure 5a",
        "Its two zeros are not of one optimal isotropic predictor: the paper's turns the centre besides enlarging it.",
        rule("angle between o_p and o_z that the zeros imply", 20, "°", "an error of 0.01 is worth one degree"),
        lambda: clouds.turned(*clouds.FIGURE5A),
        _turned_sentence,
        "the paper's zeros, η_p = −0.44 and η_z = 0.18",
    ),
    *pair(
        claim(
            "eoa",
            "Table 1, Figure 1",
            "The expectation over augmentation as the target adds a pull towards the centre: it cannot be what saves.",
            rule("least share of o_z that the target adds to Z_b's pull", 0.02, "", "clear of a sample's error"),
            lambda: clouds.target_centre("eoa")[0],
            _eoa_sentence,
            _VIEWS,
        ),
        "The expectation over augmentation prevents collapse (Chen & He 2021): its target pulls away from the centre.",
        lambda: -clouds.target_centre("eoa")[1],
        rule("least share of o_z that the target takes off Z_b's pull", 0.02, "", "clear of a sample's error"),
    ),
    claim(
        "mirror",
        "Table 2, Figure 1c",
        "Mirror SimSiam's extra gradient is the opposite of SimSiam's, P − Z: towards the centre.",
        rule("least share of o_z that the target adds to Z_b's pull", 0.02, "", "clear of a sample's error"),
        lambda: clouds.target_centre("mirror")[0],
        lambda: (
            f"With the best linear predictor it adds {clouds.target_centre('mirror')[0]:.2g} to "
            f"{clouds.target_centre('mirror')[1]:.2g} of o_z."
        ),
        _VIEWS,
    ),
    claim(
        "whitening",
        "Conjecture 2, r_e",
        "The residual of an optimal predictor's extra gradient whitens: against strong modes, for weak ones.",
        rule("least pull the right way on the three strongest and weakest modes", 0.1, "", "a tenth of the mode"),
        lambda: clouds.whitening_agreement()[1],
        lambda: (
            f"1 − [s/(s + n)]/rms is {clouds.whitening()[1][0]:.2g} at s = {clouds.STRENGTHS[0]:.2g} and "
            f"{clouds.whitening()[1][-1]:.2g} at s = {clouds.STRENGTHS[-1]:.2g}; sampled modes have it to within "
            f"{clouds.whitening_agreement()[0]:.2g}."
        ),
        "24 modes, s = 4 to 0.1, n = 0.5; 4,000 images; the least-squares fit of the other view",
    ),
)

LINEAR_NETWORKS = (
    claim(
        "one-shrinkage",
        "De-centring and de-correlation, linear network",
        "Both are one shrinkage: a learned predictor comes to p ∝ s/(s + n) on every mode, the mean being one of them.",
        rule("digits to which shares of energy end as (s + n)[s/(s + n)]²", 4, "digits", "the integrator's tolerance"),
        lambda: min(flows.shrinkage()),
        lambda: (
            f"Shares of modes end multiplied by {', '.join(f'{gain:.2g}' for gain in flows.gains())}, the mean's "
            f"being 1, to {flows.shrinkage()[1]:.1f} digits."
        ),
        "cosine loss, η = 0; x = 6 (the mean's second moment), 2, 1, 1, 0.7; x′ = 0.6, 0.6, 0.2, 0.9, 0.6; t = 600",
    ),
    claim(
        "centre-fate",
        "Squared loss, linear network",
        "Under the squared loss centre and residual each live or die by themselves, the centre by its x_μ + ‖μ‖².",
        rule("share of simulated fates that the closed form foretells", 0.99, "", BORDERS),
        flows.squared_fates,
        _fates_sentence,
        f"‖μ‖ = 0.7, 0.9, 1.2, 2; σ² = 0.2, 0.6, 1.5, 6; x = 1, x_μ = 0, η = {flows.SQUARED_ETA}; t = 80",
    ),
    claim(
        "centre-wins",
        "Naive Siamese, linear network",
        "Without predictor the centre is all that is left from ‖μ‖² = x on, and dies below: whatever the augmentation.",
        rule("share of simulated ends where the foretold mode has won", 0.99, "", BORDERS),
        flows.naive_fates,
        lambda: (
            f"At ‖μ‖ = 5 m_o ends at {flows.centre_ends('cosine-none')[0, -1]:.3g} with σ² = 0.2 and at "
            f"{flows.centre_ends('cosine-none')[-1, -1]:.3g} with σ² = 1.5, at ‖μ‖ = 0.9 at "
            f"{flows.centre_ends('cosine-none')[0, 1]:.1g}."
        ),
        f"cosine loss; {_GRID}; t = 5,000",
    ),
    claim(
        "bias-saves",
        "Single bias layer",
        "A bias alone saves a linear network from the complete collapse, however long the mean.",
        rule("least m_o that it takes off where the centre wins without", 0.5, "", "half of a collapse"),
        flows.freed_by_bias,
        lambda: (
            f"At ‖μ‖ = 5, σ² = 0.2 m_o ends at {flows.centre_ends('cosine-none')[0, -1]:.3g} without it and at "
            f"{flows.centre_ends('cosine-bias')[0, -1]:.1g} with it, and falls: beside a bias the centre dies."
        ),
        f"cosine loss; {_GRID}; t = 300",
    ),
    *pair(
        claim(
            "bias-rank",
            "Single bias layer",
            "It does not save the rank: the mode that is augmented least wins, where a learned matrix keeps all.",
            rule("ln(participation ratio with a matrix ÷ with a bias)", math.log(2), "nats", "twice as many modes"),
            lambda: math.log(flows.matrices("linear")[1] / flows.matrices("bias")[1]),
            _rank_sentence,
            f"cosine loss; {_MATRICES}; t = 400",
        ),
        "A single bias layer is sufficient to prevent collapse, the dimensional one too.",
        lambda: math.log(flows.matrices("bias")[1] / len(flows.VARIANCES)),
        rule("ln(participation ratio with a bias ÷ axes)", -math.log(2), "nats", "half of them are left"),
    ),
    claim(
        "settled-centre",
        "SimSiam, linear network",
        "With a learned matrix neither centre nor residual is lost: m_o settles where the shrinkages say.",
        rule(
            "digits to which it does, the worst of the grid",
            3,
            "digits",
            "a tenth of a per cent, well under what a figure shows",
        ),
        flows.settled_m_o,
        lambda: (
            f"At σ² = 0.6 it is {mean_mode.settled_centre(flows.DATA.replace(sigma2=0.6)):.3g} for ‖μ‖ = 5 and "
            f"{mean_mode.settled_centre(flows.DATA.replace(sigma2=0.6, mu=2.0)):.3g} for ‖μ‖ = 2; simulations agree to "
            f"{flows.settled_m_o():.1f} digits."
        ),
        f"cosine loss; {_GRID}; t = 2,000",
    ),
)

CENTRE: tuple[Claim, ...] = PREDICTOR + LINEAR_NETWORKS

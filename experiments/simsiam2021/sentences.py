"""What the theory computes for the claims about SimSiam's networks: a sentence each, its numbers computed each time."""

import math

from stopgrad.deep.method.targets.moving_average import MovingAverage
from stopgrad.experiments.simsiam2021.ablation import TOY, TOY_IMAGES
from stopgrad.linear_theory.exact import centre
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters

_TOY = Hyperparameters(sigma2=TOY.data.gaussian_sigma2, eta=0.0)
_BATCH = TOY.optimisation.batch_size
_AT = f"X = I, X′ = {_TOY.sigma2:g} I"


def without_stop_gradient() -> str:
    return (
        f"Theorem 2 of Tian et al. (squared error, {_AT}): whatever the predictor, W falls at least as "
        f"e^(−{_TOY.a - 1 / _TOY.a:.3g} t). A cosine has no lengths: what is left is the centre, and without an output "
        f"BatchNorm it is there from the start, m_o = 1/√π = {float(centre.initial_m_o()):.3g}."
    )


def smallest_std() -> str:
    bound = math.sqrt(1 - centre.largest_m_o(_BATCH) ** 2)
    return (
        "√d·std ≤ √(1 − m_o²) and goes to 0 with m_o → 1 alone; behind an affine-free output BatchNorm m_o ≤ 1 − 2/N, "
        f"so that even there √(1 − m_o²) ≥ {bound:.2g} (N = {_BATCH})."
    )


def smallest_loss() -> str:
    return "−cos is −1 where prediction and target point one way, which a constant reaches for every pair of views."


def in_dimensions() -> str:
    k, d = 8, TOY.method.embedding_dim
    return (
        f"Behind an affine-free output BatchNorm m_o ≤ 1 − 2/N = {centre.largest_m_o(_BATCH):.3g} (N = {_BATCH}): no "
        f"collapse is complete, one of dimensions is, and the channels' std does not see it: {k} of {d} dimensions, "
        f"uniform, have √d·std = {float(centre.subspace_std(k, d)):.3g}."
    )


def without_predictor() -> str:
    return (
        f"Without predictor W′ = −X′W under squared error (Theorem 2's remark): every mode falls as e^(−{_TOY.sigma2:g}"
        f" t) at {_AT}. Under the symmetrised cosine stop-gradient takes half of the gradient and turns it nowhere, so "
        "a network without predictor is one without stop-gradient, at half the rate."
    )


def fixed_predictor() -> str:
    return (
        "What a predictor does for the centre it does by learning: the best one shrinks residuals by ρ and so enlarges "
        f"the centre; at ρ = ½ and small m_o the extra gradient takes η = {centre.decentring(0.0, 0.5):.2g} of o_p "
        "away. A random one shrinks nothing in particular, and the theory makes no statement of it."
    )


def constant_rate() -> str:
    return (
        "The best predictor of a mode with signal s and noise n is s/(s + n), and moves as long as the encoder does: "
        f"at {_AT} it ends at {1 / _TOY.a:.2g} for every mode. One that learns on keeps up with it; how much that is "
        "worth the theory does not say."
    )


def of_batches() -> str:
    n = _BATCH
    return (
        "Nothing in the flow knows the batch, and the noise of its steps goes with lr ÷ batch, which the linear rule "
        f"holds. BatchNorm knows it: m_o stays below 1 by 2/N, {2 / n:.2g} at N = {n} and {16 / n:.2g} at an eighth."
    )


def without_output_batchnorm() -> str:
    rho, m_o = 0.5, float(centre.initial_m_o())
    return (
        f"Without an output BatchNorm the centre starts at m_o = 1/√π = {m_o:.3g} and nothing bounds it; the best "
        f"predictor takes η = {centre.decentring(m_o, rho):.2g} of o_p away at ρ = {rho:g}, and none where it has won."
    )


def of_dimensions() -> str:
    return (
        "The linear theory has as many modes as the smaller of data and outputs, each by itself: more outputs take "
        "none away, and more than the data has directions add none."
    )


def another_similarity() -> str:
    return (
        "The linear theory is of squared error and cosine. Softmaxes have lengths and a centre, of the logits, which a "
        "constant matches as well: their least cross-entropy is that of a single channel."
    )


def one_direction() -> str:
    return (
        "In expectation both directions have the same gradient, since views are drawn alike: the symmetrised loss has "
        "the same flow, with less noise of the views."
    )


def standing_target() -> str:
    return (
        "A target that stands still for k steps is an EMA in steps: with squared error it has the fixed points of the "
        f"shared one (p = {1 / _TOY.a:.2g} at {_AT}, η = 0), and lags behind where modes grow."
    )


def moving_average() -> str:
    o = TOY.optimisation
    epoch = TOY_IMAGES // o.batch_size * o.lr / (1 - o.momentum)
    beta = (1 - MovingAverage().average_momentum) / epoch
    total = _TOY.a + beta
    slow = (total - math.sqrt(total**2 - 4 * beta * _TOY.sigma2)) / 2
    return (
        "Without predictor and with an average over visits as target, w′ = w̄ − a w and w̄′ = β(w − w̄) (squared "
        f"error): at {_AT} and {epoch:.3g} units of time an epoch w falls at {slow:.2g} in the end, not at σ² = "
        f"{_TOY.sigma2:g}. That delays a collapse in norm. One in direction it does not: the centre is the same in "
        "every average, nothing takes it out of the gradient, and without an output BatchNorm, which the paper's heads "
        f"have, nothing else holds it: it is there from the start, m_o = 1/√π = {float(centre.initial_m_o()):.2g}. "
        "Behind one it starts near 0 and grows slowly, that of a network without average too at this learning rate."
    )


def as_an_accuracy() -> str:
    return "The linear theory has no accuracy; it orders modes that live and die."

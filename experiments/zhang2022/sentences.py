"""What theory computes for the claims about networks: a sentence each, its numbers computed each time."""

from stopgrad.deep.measuring.units import Noise, units
from stopgrad.deep.method.targets.moving_average import MovingAverage
from stopgrad.experiments.suites.grid import change
from stopgrad.experiments.zhang2022.ablation import TOY
from stopgrad.linear_theory.exact.centre import decentring as share
from stopgrad.linear_theory.exact.centre import initial_m_o, largest_m_o, optimal_bias


def without_predictor() -> str:
    h = units(change(TOY, predictor="identity", loss="squared"), Noise(TOY.data.gaussian_sigma2, 1.0))
    return (
        f"Theorem 2 of Tian et al. (squared error, linear): without predictor every mode dies at xσ² + η = "
        f"{h.sigma2 + h.eta:.3g} per unit of input variance; the mean has no σ² of its own and stays."
    )


def moving_average() -> str:
    o = TOY.optimisation
    visit = TOY.data.gaussian_samples // o.batch_size * o.lr / (1 - o.momentum)
    memory = visit / (1 - MovingAverage().average_momentum)
    return (
        "An average over visits is a slow target: nothing in its gradient points away from the centre, which is in "
        f"every average, so it delays a collapse by its memory (here {memory:.3g} units of time) and prevents none. "
        f"What is there when it sets in decides. Without an output BatchNorm the centre is m_o = 1/√π = "
        f"{float(initial_m_o()):.2g} from the start, and an average that starts at the image's own embedding makes the "
        "first epoch a naive network; random starts hold that up, and not for long. Behind a BatchNorm, with affine "
        "parameters too, the centre starts near 0 and grows as slowly as the averages move."
    )


def mirror() -> str:
    return (
        "The predictor gets no gradient, so that the embedding is drawn to a fixed function of itself. A linear one "
        "turns a centre into a centre, which wins. BatchNorm within it divides by the batch's own std, so that targets "
        "keep a spread however narrow embeddings become: m_o stops short of 1, and few dimensions are left. More steps "
        "change nothing in that; a run of the paper's length is another matter."
    )


def symmetric() -> str:
    return (
        "Encoder and predictor are one network, whose output is P: L = −P_a·sg(P_b) has no extra gradient, and P "
        "gathers in one direction. Z behind it need not."
    )


def inverse() -> str:
    return (
        "An exact inverse gives the target Z back, and with it SimSiam's own gradient. One that is learned is not "
        "exact, and costs the toy dimensions that the paper's 65.5 against 66.6 % say nothing of."
    )


def negatives() -> str:
    return "G_e = −Z_n has the centre −o_z, which is the whole of what Z_b = o + r_b pulls to the centre with."


def decentring() -> str:
    half, most = share(0.3, 0.5), share(0.3, 0.8)
    return (
        f"The best linear predictor gives o_e = −η o_p with η = 1 − √(m_o² + ρ²(1 − m_o²)): at m_o = 0.3 it is "
        f"{half:.3g} for ρ = 0.5 and {most:.3g} for ρ = 0.8, and 0 where views agree."
    )


def residual_negative() -> str:
    return (
        "−r_n of another image has mean 0 and no part along o: what pulls to the centre, Z_b = o + r_b, is unopposed."
    )


def decorrelation() -> str:
    return (
        "The best linear predictor shrinks a mode of signal s and noise n by s/(s + n), so that r_e = r_z − r_p is "
        "against strong modes and for weak ones: it keeps the rank. How fast rank goes without it the paper has after "
        "200 epochs, near 1; after eight of the toy's, with 16 directions of content, about half is left."
    )


def directions() -> str:
    return (
        "∇L_o = −∇L_r exactly, since −Z·sg(o) − Z·sg(r) = −Z·sg(Z) has no gradient: one undoes the other. A direction "
        "drawn anew for every image has mean 0 and draws nowhere, but a pull on a collapsed network turns all its "
        "embeddings together: it leaves a complete collapse, deeper here than the paper's 0.98, as it found it."
    )


def covariance() -> str:
    return (
        "Covariances of unit vectors vanish where all are one: a collapse minimises the penalty, so it undoes none, "
        "and a larger step, by learning rate or momentum, goes further the same way. Correlations do not vanish: the "
        "form of the penalty decides. (Paper and Alg. 6 differ in it: the text says correlations.)"
    )


def covariance_affine() -> str:
    return (
        "Affine parameters may shrink every channel, so that a collapse minimises covariances of unit and of raw "
        "embeddings as without BatchNorm; a penalty on raw ones shrinks them further. m_o near 0 at the start, as in "
        "the paper's figure, fits this end of the projector, its outcome fits correlations."
    )


def covariance_free() -> str:
    return (
        "Channels with a std of 1 have a covariance that is their correlation: the penalty of raw embeddings is that "
        "of correlations, and acts. Of unit embeddings covariances are 1/d of that, their squares and the gradient "
        f"1/d² = 1/{TOY.method.embedding_dim**2} of it: here, and here alone, the size of the step decides."
    )


def correlation() -> str:
    return (
        "Correlations do not see how small the spread is; their gradient grows as 1/spread and drives apart, the "
        "faster the deeper the collapse. The centre as such they leave alone, so that m_o does not return to 0."
    )


def behind_bn() -> str:
    return (
        f"Vectors whose channels are centred over N = 256 have m_o ≤ 1 − 2/N = {largest_m_o(256):.3g}, reached by one "
        "vector opposite to all others; what is left is a collapse in dimension. Affine parameters lift the bound."
    )


def bias() -> str:
    return (
        f"The best bias is b* = (1/ρ − 1) o_z, {optimal_bias(0.25):.3g} o_z at ρ = 0.25: it de-centres as the best "
        "linear predictor does, and treats all residuals alike."
    )


def temperature() -> str:
    return (
        "r_e = −(1/τ) C Z_a + O(1/τ²): a force against the covariance that falls as 1/τ, beside o_e = −o_z at any τ. "
        f"The toy has {TOY.data.gaussian_rank} directions of content, most of which a high temperature keeps in so few "
        "steps: the order is the paper's, a factor of two is out of reach."
    )


def escape() -> str:
    return (
        f"Where m_o is near 1, η = 1 − √(m_o² + ρ²(1 − m_o²)) is near 0 ({share(0.99, 0.5):.2g} at m_o = 0.99, "
        "ρ = 0.5): there is hardly any de-centering to get out by."
    )


def as_an_accuracy() -> str:
    return "The linear theory has no accuracy."

"""What the theory computes for the claims about networks: a sentence each, its numbers computed each time."""

from stopgrad.deep.measuring.units import Noise, units
from stopgrad.experiments.li2022 import modes, scatter
from stopgrad.experiments.li2022.ablation import BEARABLE, DIGITS, UNBEARABLE
from stopgrad.experiments.li2022.theory_claims import FEW, INPUTS, SIGMA2, padded
from stopgrad.linear_theory.exact.fixed_points import critical_eta
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters

_ISOTROPIC = Hyperparameters(sigma2=SIGMA2)


def of_data() -> str:
    return (
        "The linear theory knows images by X and X′ alone. Few images scatter the eigenvalues of X and leave X′: at "
        f"η = {BEARABLE:g} {modes.on_few(FEW, INPUTS, SIGMA2, BEARABLE)} of {INPUTS} modes live on {FEW} images and "
        f"{INPUTS} on all, at η = {UNBEARABLE:g} {modes.on_few(FEW, INPUTS, SIGMA2, UNBEARABLE)} and none. What the "
        "backbone makes of few images, which decides X and X′ at the projector's input, it does not say."
    )


def of_generalisation() -> str:
    return (
        "σ² = tr X′/tr X at the projector's input is what the theory has of images: a network that knows its few images"
        " by heart brings their X′ down, and with it a = 1 + σ² and the loss that is left, on these images alone."
    )


def of_size() -> str:
    return (
        "Modes are bounded by the rank of W, and no mode needs another: with fewer dimensions fewer live, and all that "
        "can. That a narrow backbone should leave a smaller share of them alive is not in the theory."
    )


def of_order() -> str:
    return (
        "Over chunks X is the running chunk's: what its images lack decays as e^(−ηt) until they are gone, and what "
        f"they have in excess grows. In the digits' units the whole run has ηt = {_eta_t():.2g}: nothing that one "
        "chunk has taught is forgotten by decay."
    )


def of_block() -> str:
    return (
        f"AUC depends on the number of dimensions: the same spectrum in four times as many is {padded()[0]:.2g} higher."
        " Blocks are compared at the same output width; the linear theory has no blocks."
    )


def of_method() -> str:
    return (
        f"At X = I, X′ = {SIGMA2:g} I the critical decay is {float(critical_eta(_ISOTROPIC)):.3g} whatever the target; "
        "an EMA lets the predictor align first (Observation 8 of Tian et al.), and a set one has no basin to fall into."
    )


def of_forecast() -> str:
    return (
        f"The linear theory has no accuracy. The paper's own points give Pearson {scatter.pearson():.3f} over all and "
        f"{scatter.within():.3f} among models below the gap of {scatter.split():.0f} points."
    )


def of_modes() -> str:
    return (
        f"X = I, X′ = {SIGMA2:g} I in {INPUTS} dimensions: η < x²/(4(x + x′)) lets {INPUTS} modes live at η = "
        f"{BEARABLE:g} and none at {UNBEARABLE:g}; on {FEW} images {modes.on_few(FEW, INPUTS, SIGMA2, BEARABLE)} and "
        f"{modes.on_few(FEW, INPUTS, SIGMA2, UNBEARABLE)}. Each run is held against X of the very points it saw."
    )


def of_network_modes() -> str:
    h = units(DIGITS, Noise(1.0, 1.0))
    return (
        f"At η = {float(h.eta):.2g} every mode lives whose x²/(4(x + x′)) at the projector's input is larger. That "
        "rule is of a squared error; under a cosine, which has no lengths, every mode may live: theory tells no rank."
    )


def as_an_accuracy() -> str:
    return "The linear theory has no accuracy; it orders modes that live and die."


def _eta_t() -> float:
    from stopgrad.deep.measuring.units import time_of_run

    return float(units(DIGITS, Noise(1.0, 1.0)).eta) * time_of_run(DIGITS, 22)

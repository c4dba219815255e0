"""What the representations are worth, in eval mode: kNN accuracy and the metrics of their spectrum."""

from stopgrad.deep.measuring.quantities.quantity import Quantity

_LI = "Li, Efros & Pathak 2022"


def _of_spectrum(name: str, words: str, about: str, source: str) -> Quantity:
    """A metric of the centred features' singular values σ; None for features that do not vary at all."""
    return Quantity(name, lambda seen: seen.spectrum.row()[name], words, about, source, at="evaluation", shown=())


QUANTITIES = (
    Quantity(
        "knn",
        lambda seen: seen.knn,
        "kNN accuracy",
        "Weighted votes of the knn_k nearest by cosine; to be held against its value before training, and raw pixels'.",
        "Wu et al. 2018",
        needs=("labels",),
        at="evaluation",
        shown=("live",),
        short="kNN",
    ),
    Quantity("knn_k", lambda seen: seen.k, "neighbours", needs=("labels",), at="evaluation", shown=()),
    _of_spectrum("rms", "length of a typical feature, centred", "√(Σσ²/N): no metric of the spectrum sees it.", ""),
    _of_spectrum(
        "collapse_auc", "area under the cumulative spectrum", "(d+1)/(2d) flat, 1 of rank 1.", f"{_LI}, Eq. 2"
    ),
    _of_spectrum("rankme", "RankMe", "exp of the entropy of σ.", "Garrido et al. 2023"),
    _of_spectrum("variance_effective_rank", "effective rank", "exp of the entropy of σ².", "Roy & Vetterli 2007"),
    _of_spectrum("participation_ratio", "participation ratio", "(Σσ²)²/Σσ⁴.", ""),
    _of_spectrum("stable_rank", "stable rank", "Σσ²/σ₁².", ""),
    _of_spectrum("alpha_req", "decay exponent α", "Of σ² as a power of the rank.", "Agrawal et al. 2022 (α-ReQ)"),
)

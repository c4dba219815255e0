"""The predictors that are set from correlations of the embeddings, by name: `SET_RULES`, the one list of them.

Training, command line, ablations and figures read it. To add one, write its function and enter a `Rule`, in this file.
Functions import what they call when they are called, so that a command line can list the rules without loading torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

OPTIONS = ("eps", "cutoff", "alpha", "normalisation")
"""What a rule may read, `--predictor-NAME` on the command line."""


@dataclass(frozen=True)
class Rule:
    """From averaged moments of the embeddings to W_p. Raises ValueError for options or moments that do not exist."""

    matrix: Callable
    """(F, **options), or (F, cross, **options), to W_p: F = E[f fᵀ] and cross = E[f_a fᵀ], all finite and (d, d)."""
    help: str
    """What it is, for the command line: its formula and source."""
    options: tuple[str, ...] = ()
    """Which of `OPTIONS` it reads; they are given by keyword."""
    moments: Literal["own", "own and cross"] = "own"
    """F alone, or F and cross."""
    weak_mode_grows: Callable[[float, float], str] | None = None
    """In words, from p₋ and p₊ of a mode: for which ε it grows while too weak to matter to p (squared error, F not
    normalised). None: not known."""
    prospect: str | None = None
    """Where theory expects one thing whatever the options: that, as the second half of a sentence."""

    def __post_init__(self):
        for option in self.options:
            if option not in OPTIONS:
                raise ValueError(f"a rule cannot read {option!r}; there are {', '.join(OPTIONS)}")
        if self.moments not in ("own", "own and cross"):
            raise ValueError(f"moments is {self.moments!r}; it must be 'own' or 'own and cross'")


def reading(option: str) -> tuple[str, ...]:
    """Names of the rules that read one of `OPTIONS`."""
    return tuple(name for name, rule in SET_RULES.items() if option in rule.options)


# ---------------------------------------------------------------- the rules: (d, d) tensors, known to be correlations


def _directpred(F, eps, cutoff, normalisation):
    from stopgrad.linear_theory.predictors.matrices import directpred

    return directpred(F, eps, cutoff, normalisation, check=False)


def _directset(F, alpha, eps, normalisation):
    from stopgrad.linear_theory.predictors.matrices import directset

    return directset(F, alpha, eps, normalisation, check=False)


def _directcopy(F, eps, normalisation):
    from stopgrad.linear_theory.predictors.matrices import directcopy

    return directcopy(F, eps, normalisation, check=False)


def _optimal(F, cross):
    from stopgrad.linear_theory.predictors.matrices import optimal_regression

    return optimal_regression(F, cross, check=False)


def _between(minus: float, plus: float) -> str:
    """A vanishing mode has p = ε: `linear_theory.exact.closed_loop.directset_threshold`."""
    return f"ε lies between p₋ = {minus:.3g} and p₊ = {plus:.3g}"


def _above(minus: float, plus: float) -> str:
    """It has p = ε max s, max s being at rest where √s + εs = p₊: `closed_loop.directpred_threshold`."""
    return f"ε > p₋/(p₊ − p₋)² = {minus / (plus - minus) ** 2:.3g}"


SET_RULES: dict[str, Rule] = {
    "directpred": Rule(
        _directpred,
        "p = √max(s − c, 0) + ε max s in F's eigenbasis (Tian, Chen & Ganguli 2021, Eq. 18)",
        options=("eps", "cutoff", "normalisation"),
        weak_mode_grows=_above,
    ),
    "directset": Rule(
        _directset,
        "F^α + ε (Wang et al. 2021)",
        options=("alpha", "eps", "normalisation"),
        weak_mode_grows=_between,
    ),
    "directcopy": Rule(
        _directcopy,
        "F + ε, without eigenvectors (Wang et al. 2021)",
        options=("eps", "normalisation"),
        weak_mode_grows=_between,
    ),
    "optimal": Rule(
        _optimal,
        "the least-squares prediction of the other view (Tian et al., Table 1)",
        moments="own and cross",
        prospect="the optimal one leaves no gradient along the encoder's own weights: modes do not grow "
        "(Table 1: poor).",
    ),
}

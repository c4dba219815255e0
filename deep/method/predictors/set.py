"""Predictors that are set from the embeddings' correlation: one for each rule of `linear_theory.predictors.rules`.

Each has the options that its rule reads, and those of training: moving averages and how often.
"""

import functools
from dataclasses import asdict, dataclass, make_dataclass
from typing import Annotated, ClassVar, Literal

from stopgrad.deep.kinds import Predictor
from stopgrad.deep.parts import BELOW_ONE, COUNT, NOT_NEGATIVE, POSITIVE, Range
from stopgrad.linear_theory.predictors.rules import SET_RULES, Rule


@dataclass(frozen=True)
class SetByRule(Predictor):
    """Set from F, the correlation of the embeddings, with eigenvalues s."""

    rho: Annotated[float, BELOW_ONE] = 0.3
    """ρ of the moving average F ← ρF + (1 − ρ)E[zzᵀ] over batches."""
    freq: Annotated[int, COUNT] = 1
    """Set at every freq-th step, learned by gradient between; 1: never learned."""
    name: ClassVar[str]
    rule: ClassVar[Rule]
    linear = True
    is_set = True

    @property
    def learns(self) -> bool:
        """Only between settings."""
        return self.freq > 1

    def build(self, d: int):
        """A matrix that follows the embeddings."""
        from stopgrad.deep.method.predictors.set_network import SetPredictor

        options = {name: getattr(self, name) for name in self.rule.options}
        return SetPredictor(self.rule, options, d, self.rho, self.freq)

    def expects(self, setting) -> list[str]:
        """Which weak modes grow, as far as the rule says."""
        return setting.every_mode_dies or _expected(self, setting)

    def __reduce__(self):
        return _again, (self.name, asdict(self))  # its class is made, not written, so pickle cannot find it


@dataclass(frozen=True)
class _Eps:
    eps: Annotated[float, NOT_NEGATIVE] = 0.1
    """ε of p = √s + ε max s (DirectPred) or p = s^α + ε."""


@dataclass(frozen=True)
class _Cutoff:
    cutoff: Annotated[float, Range("finite", lambda v: True)] = 0.0
    """c of p = √max(s − c, 0) (Table 7); the signed threshold."""


@dataclass(frozen=True)
class _Alpha:
    alpha: Annotated[float, POSITIVE] = 1.0
    """Exponent α of p = s^α."""


@dataclass(frozen=True)
class _Normalisation:
    normalisation: Literal["none", "spectral", "frobenius"] = "spectral"
    """What s is divided by first; the released code of DirectPred divides by max s."""


OPTIONS = {"eps": _Eps, "cutoff": _Cutoff, "alpha": _Alpha, "normalisation": _Normalisation}
"""What a rule may read."""


@functools.cache
def _kind(name: str, rule: Rule) -> type[SetByRule]:
    about = {"__doc__": f"{rule.help}.", "__module__": __name__, "name": name, "rule": rule}
    return make_dataclass(
        name.title(), [], bases=(SetByRule, *(OPTIONS[o] for o in rule.options)), frozen=True, namespace=about
    )


def choices() -> dict[str, type[SetByRule]]:
    """{name: the part} of every rule that there is."""
    return {name: _kind(name, rule) for name, rule in SET_RULES.items()}


def set_by(name: str, **options) -> SetByRule:
    """The predictor that is set by the rule of this name: `set_by("directpred", eps=0.2)`."""
    return choices()[name](**options)


def _again(name: str, options: dict) -> SetByRule:
    return set_by(name, **options)


# ---------------------------------------------------------------- what is to be expected


def _expected(predictor: SetByRule, setting) -> list[str]:
    rule, squared = predictor.rule, setting.squared
    eps, cutoff = getattr(predictor, "eps", 0.0), getattr(predictor, "cutoff", 0.0)
    normalised = getattr(predictor, "normalisation", "none") != "none"
    said = [f"The predictor is set from the embeddings ({predictor}), so its alignment is no evidence."]
    if rule.prospect:
        return [f"{said[0][:-1]}; {rule.prospect}"]
    if setting.config.method.objective.isoloss:
        said.append("With IsoLoss a mode's own p does not slow it down: weak modes learn as fast as strong ones.")
    elif rule.weak_mode_grows is None:
        pass  # nothing is known of the rule's weak modes
    elif squared and not normalised:
        said += [_weak_modes(rule, setting.h, eps)] * (cutoff == 0)  # at the uncut spectrum
    elif eps == 0 and cutoff >= 0:
        said.append("With ε = 0 a weak mode learns as slowly as its p is small, and a dead one stays dead.")
    else:
        said.append("The p of weak modes stays above 0, so that they grow.")
    if squared and normalised:
        said.append(
            "Dividing F by its size makes p blind to the norm, which under squared error then grows or, where p > 1/a, "
            "dies; --predictor-normalisation none lets it settle."
        )
    return said


def _weak_modes(rule: Rule, h, eps: float) -> str:
    """Which ε lets a mode too weak to matter to p grow: p₋ < p(0) < p₊."""
    from stopgrad.linear_theory.exact.fixed_points import fixed_points

    points = fixed_points(h.replace(eta_p=None))
    condition = rule.weak_mode_grows(float(points.p_minus), float(points.p_plus))
    return f"A weak mode grows just if {condition}; ε is {eps:.3g}."

"""A claim of a paper and its verdict: a function from recorded runs to holds, fails, inconclusive or not measured.

What is looked at and how large an effect must be is written down before anything is run, in the claim's `Rule`. A
verdict is computed each time it is asked for and follows from the finished runs that the row lists, and from no others.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from stopgrad.deep.config import Config
from stopgrad.deep.words.expectation import Noise, recipe_of, units
from stopgrad.experiments.store.evidence import DIGITS
from stopgrad.experiments.suites.suites import SCALES
from stopgrad.linear_theory.exact.fixed_points import critical_eta
from stopgrad.linear_theory.tools.errors import BadInput

THEORY = "theory"
"""The scale of a claim that needs no run."""
CONFIDENCE, FEWEST_SEEDS = 0.95, 3
FINEST = 0.5 * 10.0**-DIGITS
"""Half the last figure that a record keeps of a number near 1: what is nearer to an end of its range is taken to be so
near, lest a run and its record decide differently, and a cosine of exactly 1 have infinite log odds."""
KEYS = (
    *("id", "paper", "place", "statement", "theory", "scale", "setting", "statistic", "rule", "since"),
    *("estimate", "ci", "p", "p_adjusted", "survives"),
    *("n_seeds", "seeds", "values", "run_ids", "recorded", "verdict", "reason"),
)
Verdict = Literal["holds", "fails", "inconclusive", "not measured"]
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Rule:
    """What decides, fixed in advance. Oriented so that larger numbers speak for the claim."""

    statistic: str
    """What is measured on one seed, in words."""
    above: float
    """The minimum effect: the interval must lie above it."""
    unit: str = ""
    """Of the statistic, for a reader: "modes", "nats"."""
    why: str = ""
    """Why this minimum and no other, in a line."""
    since: str = ""
    """The day (ISO) from which the rule stands as it is: that on which it was written, or last changed."""
    within: tuple[float, float] | None = None
    """The range that the statistic cannot leave: (0, 1) of a share, (-1, 1) of a cosine. Mean, interval and p-value are
    then taken on its log odds (of a cosine twice Fisher's z), and none of them leaves the range either."""

    def __post_init__(self):
        """Raises ValueError for a minimum that is not inside the range."""
        if self.within and not self.within[0] < self.above < self.within[1]:
            raise ValueError(f"the minimum {self.above:g} is not between {' and '.join(map(str, self.within))}")

    def scaled(self, values: float | Sequence[float]) -> np.ndarray:
        """Values of any shape as they are averaged: log odds at least `FINEST` from an end; without `within` unchanged.

        Raises ValueError for a value outside the range.
        """
        values = np.asarray(values, dtype=float)
        if self.within is None:
            return values
        low, high = self.within
        if np.any((values < low - FINEST) | (values > high + FINEST)):
            raise ValueError(f"{values} is not between {low:g} and {high:g}")
        values = np.clip(values, low + FINEST, high - FINEST)
        return np.log((values - low) / (high - values))

    def plain(self, scaled: float) -> float:
        """The value that has these log odds: `scaled` undone."""
        low, high = self.within or (0.0, 1.0)
        return float(scaled if self.within is None else low + (high - low) / (1 + np.exp(-scaled)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement with what would decide it. Adding one is adding an instance to a tuple of `claims.ledger`."""

    id: str
    paper: str
    place: str
    """Where in the paper: "Theorem 2", "Table 3"."""
    statement: str
    theory: Callable[[], str]
    """What the linear theory computes for it: a sentence with numbers computed there and then."""
    rule: Rule
    value: Callable[..., float]
    """One seed's statistic from the `Record` of each arm, in the order of `arms`; without arms from nothing."""
    arms: tuple[str, ...] = ()
    """Arms of the paper's suite that `value` reads; none where theory alone decides."""
    scales: tuple[str, ...] = SCALES
    """Scales at which the statistic means something."""
    needs: tuple[Literal["eta_t", "beta_t"], ...] = ()
    """What must have had time to act, ηt or βt ≥ 1, in every arm whose rate is not exactly 0 (and in one at least)."""
    as_stated: str | None = None
    """The paper's own form where it errs; a claim with this id and "-as-stated" then stands beside this one."""
    setting: str = ""
    """Without arms: the hyperparameters that the statistic runs over."""
    headline: bool = False
    """Whether README's table shows it."""


class Evidence(NamedTuple):
    """The seeds for which every arm's run is finished, and what was read off them."""

    seeds: list[int]
    runs: list[tuple]
    """For each of these seeds one record an arm, in the claim's order."""
    values: list[float]
    complaints: list[str]
    """Why a value could not be taken, for the seeds where it is NaN."""


class Decision(NamedTuple):
    """A verdict with its numbers."""

    verdict: Verdict
    reason: str
    estimate: float | None = None
    ci: list[float] | None = None
    p: float | None = None
    """`p_value`, where the interval decides or fails to."""


# ---------------------------------------------------------------- from a claim to a row


def evaluate(claim: Claim, suite, store) -> Row:
    """The claim's row, with exactly the keys `KEYS`, from what `store` holds of the runs of `suite`.

    Nothing is trained. Without arms neither suite nor store is looked at. `seeds`, `values` and `run_ids` name what the
    verdict rests on and nothing else does: removing a run changes the rows that list it and no others.
    """
    if not claim.arms:
        return _row(claim, THEORY, claim.setting, Evidence([], [], [], []), _by_theory(claim))
    configs = {(name, seed): config for name, seed, config in suite.configs()}
    absent = [arm for arm in claim.arms if arm not in {name for name, _ in configs}]
    if suite.scale not in claim.scales:
        reason = f"The statistic means little at scale {suite.scale}; it is for {', '.join(claim.scales)}."
        decision, evidence = Decision("not measured", reason), Evidence([], [], [], [])
    elif absent:
        reason = f"The suite has no {' and no '.join(absent)} at scale {suite.scale}."
        decision, evidence = Decision("not measured", reason), Evidence([], [], [], [])
    else:
        evidence = gather(claim, configs, store)
        asked = len(set.intersection(*({seed for name, seed in configs if name == arm} for arm in claim.arms)))
        decision = _from_runs(claim, evidence, asked)
    arms = [
        (suite.arms[arm], [run[k] for run in evidence.runs]) for k, arm in enumerate(claim.arms) if arm not in absent
    ]
    setting = "; ".join(describe(arm, records) for arm, records in arms)
    return _row(claim, suite.scale, setting, evidence, decision)


def gather(claim: Claim, configs: dict[tuple[str, int], Config], store) -> Evidence:
    """What is finished of `configs`, {(arm, seed): config}; a seed counts if all the claim's arms have run."""
    seeds, runs, values, complaints = [], [], [], []
    for seed in sorted({seed for name, seed in configs if name in claim.arms}):
        found = [configs.get((arm, seed)) for arm in claim.arms]
        records = tuple(config and store.find(config) for config in found)
        if not all(records):
            continue
        diverged = [arm for arm, record in zip(claim.arms, records) if record.summary["state"] == "diverged"]
        try:
            value, complaint = float(claim.value(*records)), "no finite number"
            claim.rule.scaled(value)  # which refuses one that cannot be
            if diverged:  # its last row may still have numbers
                value, complaint = math.nan, f"{' and '.join(diverged)} diverged"
        except (LookupError, ValueError, ArithmeticError) as error:
            value, complaint = math.nan, f"{type(error).__name__}: {error}"
        seeds.append(seed)
        runs.append(records)
        values.append(value)
        if not math.isfinite(value):
            complaints.append(f"seed {seed}: {complaint}")
    return Evidence(seeds, runs, values, complaints)


def _row(claim: Claim, scale: str, setting: str, evidence: Evidence, decision: Decision) -> Row:
    run_ids = [record.key for records in evidence.runs for record in records]
    recorded = dict.fromkeys(record.recorded for records in evidence.runs for record in records if record.recorded)
    values = (
        *(claim.id, claim.paper, claim.place, claim.statement, _theory(claim), scale, setting),
        *(claim.rule.statistic, rule_in_words(claim), claim.rule.since),
        *(decision.estimate, decision.ci, decision.p, None, None),  # the last two: `multiplicity.adjusted`
        *(len(evidence.seeds), evidence.seeds, evidence.values, list(dict.fromkeys(run_ids))),
        *("; ".join(recorded) or None, decision.verdict, decision.reason),
    )
    return dict(zip(KEYS, values, strict=True))


def _theory(claim: Claim) -> str:
    try:
        return claim.theory()
    except BadInput as error:
        raise BadInput(f"the theory of {claim.id} cannot be computed: {error}") from error


def rule_in_words(claim: Claim) -> str:
    """The decision rule as a sentence."""
    rule, within = claim.rule, claim.rule.within
    above, why = quantity(rule.above, rule.unit), f" ({rule.why})" if rule.why else ""
    if not claim.arms:
        return f"holds above {above}, fails below{why}"
    odds = within and "; mean and interval are of its log odds between {:g} and {:g}, brought back".format(*within)
    return (
        f"holds if the {CONFIDENCE:.0%} t-interval over at least {FEWEST_SEEDS} seeds lies above {above}, fails if "
        f"below, else inconclusive{why}{odds or ''}"
    )


def quantity(value: float, unit: str) -> str:
    """A number with its unit."""
    return f"{value:.4g} {unit}".strip()


# ---------------------------------------------------------------- verdicts


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Student's t-interval for the mean of at least two values."""
    from scipy import stats

    n, mean = len(values), float(np.mean(values))
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1) * np.std(values, ddof=1) / math.sqrt(n))
    return mean - half, mean + half


def p_value(values: Sequence[float], above: float) -> float:
    """Chance of a mean this far to its side of `above`, were the truth there: Student's t, one-sided, at most 0.5."""
    from scipy import stats

    n, distance = len(values), abs(float(np.mean(values)) - above)
    error = float(np.std(values, ddof=1)) / math.sqrt(n)
    return float(stats.t.sf(distance / error if error else distance and math.inf, n - 1))


def decide(low: float, high: float, above: float) -> Verdict:
    """Holds if the interval lies above `above`, fails if below, else (or with a NaN) inconclusive."""
    if low > above:
        return "holds"
    return "fails" if high < above else "inconclusive"


_SEEN = {
    "holds": "lies above the stated minimum of",
    "fails": "lies below the stated minimum of",
    "inconclusive": "does not lie clear of the stated minimum of",
}


def _by_theory(claim: Claim) -> Decision:
    value, rule = float(claim.value()), claim.rule
    if not math.isfinite(value):
        return Decision("inconclusive", f"Computed, but it came out as {value}, which decides nothing.")
    verdict = decide(value, value, rule.above)
    reason = f"Computed: {quantity(value, rule.unit)} {_SEEN[verdict]} {rule.above:.4g}."
    return Decision(verdict, reason, value, [value, value])


def _from_runs(claim: Claim, evidence: Evidence, asked: int) -> Decision:
    n, rule = len(evidence.seeds), claim.rule
    if n < FEWEST_SEEDS:
        seeds = "seed has" if n == 1 else "seeds have"
        reason = f"{n} of {asked} {seeds} all runs finished; a verdict takes at least {FEWEST_SEEDS}."
        return Decision("not measured", reason)
    values = [value for value in evidence.values if math.isfinite(value)]
    scaled, above = rule.scaled(values), float(rule.scaled(rule.above))
    estimate = rule.plain(np.mean(scaled)) if values else None
    ci = [rule.plain(end) for end in interval(scaled)] if len(values) >= 2 else None
    if evidence.complaints:
        reason = f"Some of the {n} seeds give no number, which counts neither way ({'; '.join(evidence.complaints)})."
        return Decision("inconclusive", reason, estimate, ci)
    shortfall = _out_of_regime(claim, evidence)
    if shortfall:
        return Decision("inconclusive", shortfall, estimate, ci)
    verdict = decide(*interval(scaled), above)
    mean = "mean by log odds" if rule.within else "mean"
    reason = (
        f"Over {n} seeds the {mean} is {estimate:.4g}, and its {CONFIDENCE:.0%} interval from {ci[0]:.4g} to "
        f"{ci[1]:.4g} {_SEEN[verdict]} {quantity(rule.above, rule.unit)}."
    )
    return Decision(verdict, reason, estimate, ci, p_value(scaled, above))


# ---------------------------------------------------------------- the regime

_NAMES = {"eta_t": ("ηt", "weight decay"), "beta_t": ("βt", "the EMA")}


class Acted(NamedTuple):
    """How long weight decay and the EMA acted on a run, in units of their own time; a rate that is 0 is left out."""

    eta_t: list[float]
    """ηt, and η_p t where the predictor learns with a decay of its own."""
    beta_t: list[float]


def acted(config: Config, t: float) -> Acted:
    """What a run of length t (in the theory's time) was long enough for."""
    h = units(config, Noise(0.0, 1.0))  # η, η_p and β do not depend on the data
    decays = [h.eta, *([h.predictor_decay] if config.method.predictor.learns else [])]
    return Acted(*([float(rate) * t for rate in rates if rate] for rates in (decays, [h.beta])))


def _out_of_regime(claim: Claim, evidence: Evidence) -> str | None:
    """The sentence to say where a need is not met. A rate of exactly 0 is a setting of its own and not a short run."""
    for need in claim.needs:
        symbol, what = _NAMES[need]
        products: dict[str, list[float]] = {}
        for records in evidence.runs:
            for arm, record in zip(claim.arms, records, strict=True):
                products.setdefault(arm, []).extend(getattr(acted(record.config, record.last("time")), need))
        if not any(products.values()):
            return f"Out of regime: no run that this claim reads has {what} at all."
        for arm, found in products.items():
            if not all(product >= 1 for product in found):
                return f"Out of regime: {symbol} = {np.min(found):.2g} in {arm}; below 1 {what} had no time to act."
    return None


# ---------------------------------------------------------------- settings


def describe(arm, records: Sequence = ()) -> str:
    """An arm in words: in the theory's units (ηt and βt with a finished run's time) and as the recipe has it."""
    t = min((record.last("time") for record in records), default=None)
    return f"{arm.name}{f' ({arm.note})' if arm.note else ''}: {in_theory(arm.config, t)} [{in_recipe(arm.config)}]"


def in_theory(config: Config, t: float | None) -> str:
    """α_p, η, β and, where the time t is known, ηt and βt; η/η_c where the data's σ² is set and not measured."""
    data, gaussian = config.data, config.data.dataset == "gaussian"
    h = units(config, Noise(data.gaussian_sigma2, 1.0) if gaussian else Noise(0.0, 1.0))
    part = f" = {h.eta / critical_eta(h):.3g} η_c" if gaussian and config.method.objective.theory == "squared" else ""
    said = [f"α_p = {h.alpha_p:.3g}"] if config.method.predictor.learns else []
    said.append(f"η = {h.eta:.3g}{part}{_times('ηt', h.eta, t)}")
    if config.method.predictor.learns and h.eta_p is not None:
        said.append(f"η_p = {h.eta_p:.3g}{_times('η_p t', h.eta_p, t)}")
    said.append("no EMA" if h.beta is None else f"β = {h.beta:.3g}{_times('βt', h.beta, t)}")
    return ", ".join(said)


def _times(symbol: str, rate: float, t: float | None) -> str:
    return "" if t is None else f", {symbol} = {rate * t:.3g}"


def in_recipe(config: Config) -> str:
    """Learning rates after scaling, weight decay, EMA momentum, loss, epochs."""
    o, recipe = config.optimisation, recipe_of(config)
    said = [f"lr {recipe.lr:.3g}, momentum {recipe.momentum:g}, weight decay {recipe.weight_decay:.3g}"]
    if recipe.predictor_lr is not None:
        said.append(f"predictor lr {recipe.predictor_lr:.3g}")
    if recipe.predictor_weight_decay is not None:
        said.append(f"predictor weight decay {recipe.predictor_weight_decay:.3g}")
    said.append("target shared" if recipe.ema_momentum is None else f"EMA momentum {recipe.ema_momentum:g}")
    loss = config.method.objective.theory or config.method.objective
    said.append(f"{config.method.predictor} predictor, {loss} loss, {o.epochs} epochs of {config.data.dataset}")
    return ", ".join(said)

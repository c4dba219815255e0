"""A claim of a paper and its verdict: a function from recorded runs to holds, fails, inconclusive or not measured.

What is looked at and how large an effect must be is written down before anything is run, in the claim's `Rule`. A
verdict is computed each time it is asked for and follows from the finished runs that the row lists, and from no others.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from stopgrad.deep.config import Config
from stopgrad.experiments.claims.interval import CONFIDENCE, Range, interval, p_value, plain, scaled
from stopgrad.experiments.claims.regime import Need, describe, out_of_regime
from stopgrad.experiments.store.store import Record
from stopgrad.experiments.suites.grid import SCALES
from stopgrad.linear_theory.tools.errors import BadInput

THEORY = "theory"
"""The scale of a claim that needs no run."""
FEWEST_SEEDS = 3
KEYS = (
    *("id", "paper", "place", "statement", "theory", "scale", "setting", "arms"),
    *("statistic", "rule", "since"),
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
    within: Range = None
    """The range that the statistic cannot leave: (0, 1) of a share, (-1, 1) of a cosine. Mean, interval and p-value are
    then taken on its log odds (of a cosine twice Fisher's z), and none of them leaves the range either."""

    def __post_init__(self):
        """Raises ValueError for a minimum that is not inside the range."""
        if self.within and not self.within[0] < self.above < self.within[1]:
            raise ValueError(f"the minimum {self.above:g} is not between {' and '.join(map(str, self.within))}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement with what would decide it. Adding one is adding an instance to the claims of a `Paper`."""

    id: str
    """A name of its own; in a ledger the paper's key stands before it."""
    place: str
    """Where in the paper: "Theorem 2", "Table 3"."""
    statement: str
    theory: Callable[[], str]
    """What the linear theory computes for it: a sentence with numbers computed there and then."""
    rule: Rule
    value: Callable[..., float]
    """One seed's statistic from {arm: `Record`}, for each of `arms`; without arms from nothing."""
    arms: tuple[str, ...] = ()
    """Arms of the paper's suite that `value` reads; none where theory alone decides."""
    scales: tuple[str, ...] = SCALES
    """Scales at which the statistic means something."""
    needs: tuple[Need, ...] = ()
    """What must have had time to act, ηt or βt ≥ 1, in every arm whose rate is not exactly 0 (and in one at least)."""
    as_stated: str | None = None
    """The paper's own form where it errs; a claim with this id and "-as-stated" then stands beside this one."""
    setting: str = ""
    """Without arms: the hyperparameters that the statistic runs over."""
    headline: bool = False
    """Whether README's table shows it."""
    paper: str = ""
    """The paper's key, which the `Paper` that has this claim fills in."""


class Evidence(NamedTuple):
    """The seeds for which every arm's run is finished, and what was read off them."""

    seeds: list[int]
    runs: list[dict[str, Record]]
    """For each of these seeds {arm: record}, in the claim's order."""
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


def evaluate(claim: Claim, suite, *stores) -> Row:
    """The claim's row, with exactly the keys `KEYS`, from what one of the `stores` holds of the runs of `suite`.

    Nothing is trained. Without arms neither suite nor store is looked at. Of several stores, such as a user's own runs
    and a record, the one with most of the claim's seeds serves, the first of equals: arms that two processors or codes
    have trained differ in more than what sets them apart. `seeds`, `values` and `run_ids` name what the verdict rests
    on and nothing else does: removing a run changes the rows that list it and no others.
    """
    if not claim.arms:
        return _row(claim, THEORY, claim.setting, [], Evidence([], [], [], []), _by_theory(claim))
    configs = {(name, seed): config for name, seed, config in suite.configs()}
    absent = [arm for arm in claim.arms if arm not in {name for name, _ in configs}]
    if suite.scale not in claim.scales:
        reason = f"The statistic means little at scale {suite.scale}; it is for {', '.join(claim.scales)}."
        decision, evidence = Decision("not measured", reason), Evidence([], [], [], [])
    elif absent:
        reason = f"The suite has no {' and no '.join(absent)} at scale {suite.scale}."
        decision, evidence = Decision("not measured", reason), Evidence([], [], [], [])
    else:
        evidence = gather(claim, configs, *stores)
        asked = len(set.intersection(*({seed for name, seed in configs if name == arm} for arm in claim.arms)))
        decision = _from_runs(claim, evidence, asked)
    there = [suite.arms[arm] for arm in claim.arms if arm not in absent]
    arms = [describe(arm, [run[arm.name] for run in evidence.runs]) for arm in there]
    setting = "; ".join(f"{name}: {theory} [{recipe}]" for name, theory, recipe in arms)
    return _row(claim, suite.scale, setting, arms, evidence, decision)


def gather(claim: Claim, configs: dict[tuple[str, int], Config], *stores) -> Evidence:
    """What is finished of `configs`, {(arm, seed): config}; a seed counts if all the claim's arms have run.

    All of it is of one store: that with most such seeds, the first of equals.
    """
    wanted = sorted({seed for name, seed in configs if name in claim.arms})
    whole: dict[int, dict[str, Record]] = {}
    for store in stores:
        if len(whole) < len(wanted):
            whole = max(whole, _whole(claim, configs, wanted, store), key=len)
    seeds, runs, values, complaints = [], [], [], []
    for seed, records in whole.items():
        diverged = [arm for arm, record in records.items() if record.summary["state"] == "diverged"]
        if diverged:  # its last row may still have numbers, and its summary may lack what a whole run's has
            value, complaint = math.nan, f"{' and '.join(diverged)} diverged"
        else:
            try:
                value, complaint = float(claim.value(records)), "no finite number"
                scaled(value, claim.rule.within)  # which refuses one that cannot be
            except (LookupError, ValueError, ArithmeticError) as error:
                value, complaint = math.nan, f"{type(error).__name__}: {error}"
        seeds.append(seed)
        runs.append(records)
        values.append(value)
        if not math.isfinite(value):
            complaints.append(f"seed {seed}: {complaint}")
    return Evidence(seeds, runs, values, complaints)


def _whole(claim: Claim, configs, seeds, store) -> dict[int, dict[str, Record]]:
    """{seed: {arm: record}} where `store` has the runs of all the claim's arms."""
    whole = {}
    for seed in seeds:
        found = {arm: configs.get((arm, seed)) for arm in claim.arms}
        records = {arm: config and store.find(config) for arm, config in found.items()}
        if all(records.values()):
            whole[seed] = records
    return whole


def _row(claim: Claim, scale: str, setting: str, arms: list, evidence: Evidence, decision: Decision) -> Row:
    read = [record for records in evidence.runs for record in records.values()]
    recorded = dict.fromkeys(record.recorded for record in read if record.recorded)
    values = (
        *(claim.id, claim.paper, claim.place, claim.statement, _theory(claim), scale, setting, arms),
        *(claim.rule.statistic, rule_in_words(claim), claim.rule.since),
        *(decision.estimate, decision.ci, decision.p, None, None),  # the last two: `multiplicity.adjusted`
        *(len(evidence.seeds), evidence.seeds, evidence.values, list(dict.fromkeys(record.key for record in read))),
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
    mean, low, high, count = interval(values, rule.within)
    estimate, ci = mean if count else None, [low, high] if count >= 2 else None
    if evidence.complaints:
        reason = f"Some of the {n} seeds give no number, which counts neither way ({'; '.join(evidence.complaints)})."
        return Decision("inconclusive", reason, estimate, ci)
    shortfall = out_of_regime(claim.needs, evidence.runs)
    if shortfall:
        return Decision("inconclusive", shortfall, estimate, ci)
    verdict = decide(low, high, plain(scaled(rule.above, rule.within), rule.within))
    what = "mean by log odds" if rule.within else "mean"
    reason = (
        f"Over {n} seeds the {what} is {estimate:.4g}, and its {CONFIDENCE:.0%} interval from {low:.4g} to "
        f"{high:.4g} {_SEEN[verdict]} {quantity(rule.above, rule.unit)}."
    )
    if verdict == "inconclusive":
        reason += f" A mean {quantity((high - low) / 2, rule.unit)} away from it would have decided."
    return Decision(verdict, reason, estimate, ci, p_value(values, rule.above, rule.within))

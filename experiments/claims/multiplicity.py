"""Many claims are tested at once: what that does to their verdicts. A pure function of the ledger's rows.

A verdict follows from the claim's own 95 % interval; of many such, some err. So the claims of a ledger that were
measured are taken as one family, and beside each p-value stands the one that Benjamini & Yekutieli (2001) adjust for
their number: among the verdicts for which it is at most `LEVEL`, at most that share is expected to be wrong. It holds
however the p-values depend on each other. That of Benjamini & Hochberg (1995) needs them to rise and fall together, and
claims that share runs do not: an arm is the better one here and the worse one there. Holm (1979) would do as well, but
guards against a single error among all, which is more than a ledger asks. No verdict is changed.
"""

from collections.abc import Iterable

from stopgrad.experiments.claims.claim import CONFIDENCE, Row

LEVEL = (1 - CONFIDENCE) / 2
"""At most the chance of an interval above a minimum that the truth lies below; p < LEVEL is what decides a verdict."""
DECIDED = ("holds", "fails")


def adjusted(rows: Iterable[Row]) -> list[Row]:
    """The rows with `p_adjusted` where there is a p, and `survives` where that p decided the verdict."""
    from scipy import stats

    rows = list(rows)
    found = [row["p"] for row in rows if row["p"] is not None]
    raised = iter(stats.false_discovery_control(found, method="by").tolist() if found else [])
    return [row if row["p"] is None else row | _beside(row, next(raised)) for row in rows]


def _beside(row: Row, p: float) -> Row:
    return {"p_adjusted": p, "survives": p <= LEVEL if row["verdict"] in DECIDED else None}


def in_words(rows: Iterable[Row]) -> list[str]:
    """How many verdicts of `adjusted` rows are expected to err, and how many survive: a sentence, none without a p.

    Expected are at most LEVEL of all that were measured, whether they depend on each other or not.
    """
    measured = [row for row in rows if row["p"] is not None]
    decided = [row for row in measured if row["verdict"] in DECIDED]
    if not measured:
        return []
    survive = sum(row["survives"] for row in decided)
    return [
        f"Of {len(measured)} claims measured over seeds {len(decided)} are decided; at {CONFIDENCE:.0%} at most "
        f"{LEVEL * len(measured):.2g} are expected to be decided wrongly, and {survive} survive with p-values adjusted "
        "for their number."
    ]

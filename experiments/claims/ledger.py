"""The ledger: each paper's claims, and their rows as computed now from a store of runs.

A claim is added to the tuple in its paper's module; a paper is added as one line here.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from stopgrad.deep.config import Config
from stopgrad.experiments.claims.claim import Claim, Row, evaluate
from stopgrad.experiments.claims.multiplicity import adjusted
from stopgrad.experiments.store.evidence import Backed, backed
from stopgrad.experiments.store.store import Record, Store
from stopgrad.experiments.suites.suites import suite
from stopgrad.experiments.tian2021 import claims as tian2021_networks
from stopgrad.experiments.tian2021 import theory_claims as tian2021_theory
from stopgrad.linear_theory.tools.door import dumps
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.files import replace_file
from stopgrad.linear_theory.tools.kept import Origin, keep
from stopgrad.linear_theory.tools.origin import code

AS_STATED = "-as-stated"
"""Ends the id of a paper's own wording, beside the claim that corrects it."""


def checked(claims: Iterable[Claim]) -> tuple[Claim, ...]:
    """The claims as a tuple.

    Raises ValueError where two have one id, where a claim that corrects its paper lacks the twin "ID-as-stated" or a
    twin its correction, and where the claims are of several papers.
    """
    claims = tuple(claims)
    ids = Counter(claim.id for claim in claims)
    for name, times in ids.items():
        if times > 1:
            raise ValueError(f"{times} claims are called {name}; an id names one claim")
    papers = sorted({claim.paper for claim in claims})
    if len(papers) > 1:
        raise ValueError(f"the claims are of {' and '.join(papers)}; a ledger is of one paper")
    corrected = {claim.id + AS_STATED for claim in claims if claim.as_stated is not None}
    twins = {name for name in ids if name.endswith(AS_STATED)}
    for name in sorted(corrected - twins):
        raise ValueError(f"{name.removesuffix(AS_STATED)} corrects its paper, so there must be a claim {name} too")
    for name in sorted(twins - corrected):
        raise ValueError(f"{name} needs a claim {name.removesuffix(AS_STATED)} that says in as_stated what it corrects")
    return claims


LEDGER: dict[str, tuple[Claim, ...]] = {
    "tian2021": checked(tian2021_theory.CLAIMS + tian2021_networks.CLAIMS),
}


def claims_of(paper: str) -> tuple[Claim, ...]:
    """The paper's claims. Raises ValueError for a paper that has none."""
    if paper not in LEDGER:
        raise BadInput(f"there are no claims of {paper}; there are of {', '.join(LEDGER)}")
    return LEDGER[paper]


def rows(paper: str, scale: str, store: Store) -> list[Row]:
    """A row for every claim of the paper, at one scale. Nothing is trained.

    Where the store has nothing for a config its recorded run serves, and the row says so under `recorded`. All rows
    together decide `p_adjusted` and `survives`, and nothing else. Raises ValueError for a paper without claims and for
    what the suite, the store or the record refuses.
    """
    claims, runs = claims_of(paper), suite(paper, scale)
    remembered, computed = Remembered(backed(store, runs)), theory_rows(paper, store)
    return adjusted(
        computed[claim.id] if claim.id in computed else evaluate(claim, runs, remembered) for claim in claims
    )


def theory_rows(paper: str, store: Store) -> dict[str, Row]:
    """The rows of the claims that theory alone decides, by id; kept beside the runs until code that computes changes.

    Where the store's folder does not exist, or cannot be written, they are computed and not kept.
    """
    path = Path(store.root) / f".theory-{paper}.json"
    rows, _ = keep(path, code(__name__), lambda: _of_theory(paper), _read, _write)
    return rows


def _of_theory(paper: str) -> dict[str, Row]:
    return {claim.id: evaluate(claim, None, None) for claim in claims_of(paper) if not claim.arms}


def _read(path: Path) -> tuple[dict[str, Row], Origin]:
    whole = json.loads(path.read_text(encoding="utf-8"))
    return whole["rows"], whole["origin"]


def _write(path: Path, rows: dict[str, Row], origin: Origin) -> None:
    with contextlib.suppress(OSError):
        text = dumps({"origin": origin, "rows": rows})
        replace_file(path, lambda draft: draft.write_text(text, encoding="utf-8"))


class Remembered:
    """A store that reads each run once, however many claims look at it."""

    def __init__(self, store: Store | Backed):
        self._find: Callable[[Config], Record | None] = store.find
        self._found: dict[Config, Record | None] = {}

    def find(self, config: Config) -> Record | None:
        """The store's answer when it was first asked."""
        if config not in self._found:
            self._found[config] = self._find(config)
        return self._found[config]

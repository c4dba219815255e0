"""A paper, or a study that is none, as one record: what it says, the runs that would show it, and its pictures."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stopgrad.experiments.claims.claim import Claim
from stopgrad.experiments.suites.grid import Suite

AS_STATED = "-as-stated"
"""Ends the id of a paper's own wording, beside the claim that corrects it."""


@dataclass(frozen=True, kw_only=True)
class Paper:
    """What the house knows of a paper. Raises ValueError where its claims contradict each other.

    Two may not have one id; a claim that corrects its paper needs the twin "ID-as-stated", and a twin its correction.
    """

    key: str
    """What commands call it, and what its claims' ids begin with."""
    citation: str
    """Authors and year; of a study that is no paper what it is."""
    title: str = ""
    arxiv: str = ""
    """"2102.06810"; empty where it is not there."""
    since: str = ""
    """The day (ISO) from which its rules stand, those aside that name their own."""
    suite: Callable[[str], Suite] | None = None
    """Its grid of runs at a scale; None where it has none."""
    claims: tuple[Claim, ...] = ()
    """What it says: claims with arms are about networks, those without are decided by theory alone."""
    tables: Path | None = None
    """Its tables in JSON, each cell with the arm that stands for it, as `read_tables` gives them."""
    scales_differ: str = ""
    """In words, why one scale may come to other results than another, or than the paper."""
    portrayed: Mapping[str, str] = field(default_factory=dict)
    """Arms whose modes can be laid over the portrait in the report's explorer, with what they are called there."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """Pictures by name where they stand in the same file as the record; others are in rooms of `figures`."""

    def __post_init__(self):
        object.__setattr__(self, "claims", tuple(map(self._of_its_own, self.claims)))
        ids = Counter(claim.id for claim in self.claims)
        for name, times in ids.items():
            if times > 1:
                raise ValueError(f"{times} claims are called {name}; an id names one claim")
        corrected = {claim.id + AS_STATED for claim in self.claims if claim.as_stated is not None}
        twins = {name for name in ids if name.endswith(AS_STATED)}
        for name in sorted(corrected - twins):
            raise ValueError(f"{name.removesuffix(AS_STATED)} corrects its paper, so there must be a claim {name} too")
        for name in sorted(twins - corrected):
            corrects = name.removesuffix(AS_STATED)
            raise ValueError(f"{name} needs a claim {corrects} that says in as_stated what it corrects")

    def _of_its_own(self, claim: Claim) -> Claim:
        """The claim with the paper's key before its id, and a day for its rule."""
        if claim.paper not in ("", self.key):
            raise ValueError(f"{claim.id} is a claim of {claim.paper} and not of {self.key}")
        if claim.arms and not self.suite:
            raise ValueError(f"{self.key}-{claim.id} reads runs, and {self.key} has no suite")
        name = claim.id if claim.paper else f"{self.key}-{claim.id}"
        rule = replace(claim.rule, since=claim.rule.since or self.since)
        return replace(claim, id=name, paper=self.key, rule=rule)

    def read_tables(self) -> dict[str, dict]:
        """{name: table}, each with title, setting, source and cells of {row, column, paper: [mean, std], arm or null};
        std is None (null) where the paper prints none. No table where it has no file of them."""
        if not self.tables:
            return {}
        content = json.loads(self.tables.read_text(encoding="utf-8"))
        return {name: {"source": content["source"], **table} for name, table in content["tables"].items()}

    @property
    def cited(self) -> str:
        """The citation, with its number at arXiv where it is there."""
        return f"{self.citation} (arXiv {self.arxiv})" if self.arxiv else self.citation

    @property
    def link(self) -> str:
        """Where it is to be read; empty where that is not known."""
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else ""

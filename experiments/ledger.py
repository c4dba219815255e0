"""The ledger: each paper's claims, and their rows as computed now from a store of runs."""

import contextlib
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from stopgrad.deep.config import Config
from stopgrad.deep.method.backbones.vectors import IdentityBackbone, LinearBackbone
from stopgrad.experiments.claims.claim import Claim, Row, evaluate
from stopgrad.experiments.claims.multiplicity import adjusted
from stopgrad.experiments.papers import PAPERS, chosen, suite
from stopgrad.experiments.store.evidence import Backed, Recorded, backed
from stopgrad.experiments.store.store import Record, Store
from stopgrad.experiments.suites.grid import SCALES, Suite
from stopgrad.linear_theory.tools.door import dumps
from stopgrad.linear_theory.tools.files import replace_file
from stopgrad.linear_theory.tools.kept import Origin, keep, kept
from stopgrad.linear_theory.tools.origin import call, code, digest
from stopgrad.linear_theory.tools.processes import parallel

NETWORKS = {"linear": "linear networks", "mlp": "MLPs", "resnet": "ResNets"}
"""What an arm's network is, from one linear layer on, and of many in words."""


def claims_of(paper: str) -> tuple[Claim, ...]:
    """The paper's claims. Raises BadInput for a paper that there is not, or has none."""
    [one] = chosen([paper], having="claims")
    return one.claims


def rows(paper: str, scale: str, store: Store) -> list[Row]:
    """A row for every claim of the paper, at one scale. Nothing is trained.

    Where the store lacks runs of a claim that the record has, recorded ones serve, for all of the claim's arms, and the
    row says so under `recorded`. All rows together decide `p_adjusted` and `survives`, and nothing else. Raises
    ValueError for a paper without claims and for what the suite, the store or the record refuses.
    """
    claims = claims_of(paper)
    runs = suite(paper, scale) if any(claim.arms for claim in claims) else None
    stores = [Remembered(one) for one in (store, backed(store, runs).record)] if runs else []
    computed = theory_rows(paper, store)  # last, as it takes seconds, and what is above refuses
    return adjusted(computed[claim.id] if claim.id in computed else evaluate(claim, runs, *stores) for claim in claims)


def theory_rows(paper: str, store: Store) -> dict[str, Row]:
    """The rows of the claims that theory alone decides, by id; kept beside the runs until code that computes changes.

    Where the store's folder does not exist, or cannot be written, they are computed and not kept.
    """
    claims, path = _by_theory(paper, store)
    compute = lambda: {claim.id: evaluate(claim, None) for claim in claims}  # noqa: E731
    rows, _ = keep(path, _origin(claims), compute, _read, _write)
    return rows


def keep_theory(papers: Sequence[str], store: Store, workers: int) -> None:
    """Have `theory_rows` of these papers kept, by so many processes, a paper each; one process leaves it to who asks.

    Raises ValueError for a paper without claims, and where a process cannot be started or is killed.
    """

    def stale(paper: str) -> bool:
        claims, path = _by_theory(paper, store)
        return kept(path, _origin(claims), _read)[1] is not None

    left = [(paper, store) for paper in papers if workers > 1 and stale(paper)]
    for _ in parallel(theory_rows, left, workers):
        pass


def _by_theory(paper: str, store: Store) -> tuple[list[Claim], Path]:
    """The paper's claims that theory alone decides, and the file that keeps their rows."""
    return [claim for claim in claims_of(paper) if not claim.arms], Path(store.root) / f".theory-{paper}.json"


def _origin(claims: list[Claim]) -> Origin:
    """What decides the rows of these claims: what they say, and the code of their functions, of no other paper's."""
    said = [(c.id, c.place, c.statement, c.rule, c.setting, c.as_stated) for c in claims]
    found = {call(function)[0] for claim in claims for function in (claim.value, claim.theory)}
    modules = sorted({evaluate.__module__, *found})
    return {"claims": digest(repr(said))} | {k: v for module in modules for k, v in code(module).items()}


def _read(path: Path) -> tuple[dict[str, Row], Origin]:
    whole = json.loads(path.read_text(encoding="utf-8"))
    return whole["rows"], whole["origin"]


def _write(path: Path, rows: dict[str, Row], origin: Origin) -> None:
    with contextlib.suppress(OSError):
        text = dumps({"origin": origin, "rows": rows})
        replace_file(path, lambda draft: draft.write_text(text, encoding="utf-8"))


@functools.cache
def _networks(suite: Callable[[str], Suite], scale: str) -> dict[str, str]:
    """{arm: one of NETWORKS} at this scale; of an arm that the suite lacks there, at the largest that has it."""
    arms = [arm for at in (*SCALES, scale) for arm in suite(at).arms.values()]
    return {arm.name: _network(arm.config) for arm in arms}


def _network(config: Config) -> str:
    method = config.method
    if not method.backbone.vectors:
        return "resnet"
    one_layer = isinstance(method.backbone, (IdentityBackbone, LinearBackbone)) and method.projector_layers == 1
    return "linear" if one_layer else "mlp"


def rests_on(claim: Claim, scale: str) -> str:
    """What decides a claim at a scale: 'theory', or of NETWORKS the least simple among its arms'."""
    if not claim.arms:
        return "theory"
    networks = _networks(PAPERS[claim.paper].suite, scale)
    return max((networks.get(arm, "resnet") for arm in claim.arms), key=[*NETWORKS].index)


class Remembered:
    """A store that reads each run once, however many claims look at it."""

    def __init__(self, store: Store | Backed | Recorded):
        self._find: Callable[[Config], Record | None] = store.find
        self._found: dict[Config, Record | None] = {}

    def find(self, config: Config) -> Record | None:
        """The store's answer when it was first asked."""
        if config not in self._found:
            self._found[config] = self._find(config)
        return self._found[config]

"""`python -m experiments results`: what the scales of a suite say beside each other and beside the paper, as a page."""

import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from stopgrad.experiments import ledger
from stopgrad.experiments.claims import measures
from stopgrad.experiments.claims.claim import Claim, Row
from stopgrad.experiments.claims.interval import interval
from stopgrad.experiments.claims.paper import Paper
from stopgrad.experiments.commands.verify_command import replaced, summary
from stopgrad.experiments.papers import chosen, suite
from stopgrad.experiments.store import evidence
from stopgrad.experiments.store.store import ROOT, Record, Store
from stopgrad.experiments.suites.grid import Suite
from stopgrad.linear_theory.tools.door import Command
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.files import prepare_file, replace_file

LOSSES = {"squared error": "", "cosine loss": "cosine/"}
"""What the name of an arm begins with, by the loss that it is trained with."""
STATISTICS: dict[str, Callable[[Record], float]] = {"probe, %": measures.accuracy, "modes": measures.modes}
DECIDED = ("holds", "fails")
BEGIN, END = "<!-- scales -->", "<!-- /scales -->"
"""The lines of README between which `headlines` stands."""
Runs = dict[str, dict[str, dict[int, Record]]]
"""{scale: {arm: {seed: record}}}"""


@dataclass(frozen=True)
class Results(Command):
    """Put a paper's numbers, theory and what was measured at several scales side by side, as a page in Markdown."""

    paper: str | None = None
    """Whose claims and tables; None: of the first that has runs."""
    scales: tuple[str, ...] = ("cpu", "cifar")
    """The scales to compare, the smallest first."""
    runs: Path = ROOT
    """Folder of the store of runs; recorded runs serve where it has none."""
    out: Path | None = None
    """Write the page into this file, FILE.md; by default it is printed."""
    readme: Path | None = None
    """Write what the largest scale says of the paper's tables into this file as well, between the lines
    `<!-- scales -->` and `<!-- /scales -->`."""
    json: bool = False
    """Print one JSON object: the claims' rows by scale."""

    def run(self) -> dict:
        """{scale: rows of the ledger}, and where the page was written.

        Raises ValueError for a paper without a suite, an unknown scale, and a file that cannot be written.
        """
        if len(set(self.scales)) < 2:
            raise BadInput("--scales takes two scales or more, to be held against each other")
        paper, store = self._chosen, Store(self.runs)
        for scale in self.scales:
            suite(paper.key, scale)  # one that there is not is said before any is computed
        rows = {scale: ledger.rows(paper.key, scale, store) for scale in self.scales}
        if self.out:
            text = page(paper, rows, store)
            replace_file(prepare_file(self.out, ".md"), lambda draft: draft.write_text(text, "utf-8", newline="\n"))
        if self.readme:
            whole = replaced(self.readme, headlines(paper, self.scales, store), BEGIN, END)
            replace_file(self.readme, lambda draft: draft.write_text(whole, "utf-8", newline="\n"))
        return {"rows": rows, "written": [str(path) for path in (self.out, self.readme) if path]}

    def text(self, result: dict) -> str:
        """The page, or where it was written."""
        written = [f"written: {path}" for path in result["written"]]
        return "\n".join(written) or page(self._chosen, result["rows"], Store(self.runs)).rstrip("\n")

    @property
    def _chosen(self) -> Paper:
        paper, *_ = chosen([self.paper] if self.paper else [], having="suite")
        return paper


def headlines(paper: Paper, scales: Iterable[str], store: Store) -> str:
    """The table that README shows: of the paper's tables each cell that the last scale has measured, once each."""
    runs = _finished({scale: suite(paper.key, scale) for scale in scales}, store)
    [*_, last] = runs.values()
    cells = {
        cell["arm"]: (f"{_named(name)}: {cell['row']}", cell)
        for name, table in reversed(paper.read_tables().items())
        for cell in reversed(table["cells"])
        if cell["arm"] and any(prefix + cell["arm"] in last for prefix in LOSSES.values())
        if "(Table" not in cell["row"]  # of a row that is another table's
    }
    return _grid(sorted(cells.values(), key=lambda row: row[0]), runs)


_OF_TABLES = (
    "Accuracy of a linear probe and effective number of modes of F at the end, mean ± half of the 95 % interval over "
    "so many seeds, beside the paper's own accuracy (mean ± standard deviation). Their order may be held against the "
    "paper's, their size may not: other data, a smaller network, a far shorter run."
)


def page(paper: Paper, rows: Mapping[str, list[Row]], store: Store) -> str:
    """The page. `rows` by scale."""
    suites = {scale: suite(paper.key, scale) for scale in rows}
    runs = _finished(suites, store)
    name = "results" if paper is chosen(having="suite")[0] else f"results-{paper.key}"  # the page that README names
    command = f"python -m experiments results --paper {paper.key} --scales {' '.join(rows)} --out docs/{name}.md"
    parts = [
        f"# What holds at which scale: {paper.citation}",
        _filled(f"Printed by `{command}` from the runs of the store and the records in `experiments/results/`."),
        *(_described(scale, suites[scale], runs[scale], rows[scale]) for scale in rows),
        "## Claims at each scale",
        _claims(paper, rows),
        *_differing(paper, rows),
        *_undecided(paper, rows),
    ]
    if tables := paper.read_tables():
        parts += ["## The paper's tables", _filled(_OF_TABLES)]
        parts += [_table(name, table, runs) for name, table in tables.items()]
    return "\n\n".join(parts) + "\n"


def _finished(suites: Mapping[str, Suite], store: Store) -> Runs:
    """What is finished or recorded of the suites, arms of no run left out."""
    found: Runs = {}
    for scale, one in suites.items():
        remembered, arms = ledger.Remembered(evidence.backed(store, one)), found.setdefault(scale, {})
        for arm, seed, config in one.configs():
            if record := remembered.find(config):
                arms.setdefault(arm, {})[seed] = record
    return found


def _described(scale: str, one: Suite, runs: Mapping[str, Mapping[int, Record]], rows: list[Row]) -> str:
    """What a scale is: its networks and runs, where these were computed, what an accuracy is to be compared with."""
    every = {record.key: record for found in runs.values() for record in found.values()}.values()
    count = f"{len(every)} of {len(one.configs())} runs are finished"
    if not every:
        return _filled(f"**{scale}**: {count}.")
    computed = "; ".join(dict.fromkeys(map(_computed, every)))
    seconds = sorted(record.summary["seconds"] for record in every)
    kinds = dict.fromkeys(_network(record) for record in every)
    said = [
        f"**{scale}**: {count}, of {'; '.join(kinds)}; a run takes {seconds[len(seconds) // 2] / 60:.2g} min (median) "
        f"on {computed}.",
        f"Claims of networks: {summary([row for row in rows if row['arms']])}.",
        *_compared_with(every),
    ]
    return _filled(" ".join(said))


def _computed(record: Record) -> str:
    origin = record.summary["provenance"]
    return f"{origin['hardware']} ({origin['instructions']}, torch {origin['torch']})"


def _network(record: Record) -> str:
    data, o = record.config.data, record.config.optimisation
    size = f" at {data.image_size} pixels" if data.image_size else ""
    return f"{record.config.method.backbone} on {data.dataset}{size}, {record.summary['steps']} steps of {o.batch_size}"


def _compared_with(records: Iterable[Record]) -> list[str]:
    """Raw pixels, a network as initialised and a supervised one, where some run was evaluated beside them."""
    for record in records:
        references, knn = record.summary.get("references") or {}, record.summary["knn"] or {}
        said = [
            f"{words} {100 * one['probe']:.1f} % (kNN {100 * one['knn']:.1f} %)"
            for name, words in _REFERENCES.items()
            if (one := references.get(name)) and one.get("probe") is not None
        ]
        if said and knn.get("after") is not None:
            own = f"the run beside them {measures.accuracy(record):.1f} % (kNN {100 * knn['after']:.1f} %)"
            return [f"A linear probe on {', on '.join([*said, own])}."]
    return []


_REFERENCES = {
    "pixels": "raw pixels has",
    "random": "the network as initialised",
    "supervised": "one trained with the labels",
}

# ---------------------------------------------------------------- claims


def _claims(paper: Paper, rows: Mapping[str, list[Row]]) -> str:
    """A line for each claim about networks that some scale decides or leaves open."""
    by_id = {scale: {row["id"]: row for row in found} for scale, found in rows.items()}
    head = ["claim", "place", "minimum", *(f"{scale}: {what}" for scale in rows for what in ("measured", "verdict"))]
    lines = [
        _line([claim.statement.removesuffix("."), claim.place, _minimum(claim), *_cells(claim, by_id)])
        for claim in paper.claims
        if any(by_id[scale][claim.id]["values"] for scale in rows)
    ]
    return "\n".join([_line(head), _line(["---"] * len(head)), *lines])


def _minimum(claim: Claim) -> str:
    return f"{claim.rule.above:.2g} {claim.rule.unit}".strip()


def _cells(claim: Claim, by_id: Mapping[str, Mapping[str, Row]]) -> list[str]:
    cells = []
    for found in by_id.values():
        row = found[claim.id]
        number = "" if row["estimate"] is None else f"{row['estimate']:z.2f}"
        ends = "" if row["ci"] is None else f" ({row['ci'][0]:z.2f} … {row['ci'][1]:z.2f})"
        cells += [number + ends, row["verdict"] if row["values"] else "–"]
    return cells


def _differing(paper: Paper, rows: Mapping[str, list[Row]]) -> list[str]:
    """Of the claims that a scale decides otherwise than another, or than the paper: what theory says, and what was
    seen."""
    by_id = {scale: {row["id"]: row for row in found} for scale, found in rows.items()}
    told = []
    for claim in (claim for claim in paper.claims if claim.arms):
        verdicts = {scale: by_id[scale][claim.id]["verdict"] for scale in rows}
        decided = {verdict for verdict in verdicts.values() if verdict in DECIDED}
        if decided and decided != {"holds"}:
            reasons = {scale: by_id[scale][claim.id]["reason"] for scale, v in verdicts.items() if v in DECIDED}
            seen = " ".join(f"At {scale} it {verdicts[scale]}. {reason}" for scale, reason in reasons.items())
            told.append(_filled(f"- **{claim.place}: {claim.statement}** {seen} Theory: {claim.theory()}", "  "))
    head = "## Where what was measured differs from the paper, or one scale from another"
    return [head, *filter(None, [_filled(paper.scales_differ)]), *told] if told or paper.scales_differ else []


def _undecided(paper: Paper, rows: Mapping[str, list[Row]]) -> list[str]:
    """Of the claims that the largest scale leaves undecided: what was seen, and what would have decided."""
    scale, found = list(rows.items())[-1]
    by_id = {row["id"]: row for row in found}
    told = [
        _filled(f"- **{claim.place}: {claim.statement}** {by_id[claim.id]['reason']}", "  ")
        for claim in paper.claims
        if claim.arms and by_id[claim.id]["verdict"] == "inconclusive"
    ]
    return [f"## What scale {scale} leaves undecided", *told] if told else []


# ---------------------------------------------------------------- tables


def _table(name: str, table: dict, runs: Runs) -> str:
    return f"### {_named(name)}: {table['title']}\n\n{_grid([(cell['row'], cell) for cell in table['cells']], runs)}"


def _named(name: str) -> str:
    return f"Table {name.removeprefix('table')}"


def _grid(rows: list[tuple[str, dict]], runs: Runs) -> str:
    """The cells of a table in lines of their own, each with its row's words: the paper's number and every scale's."""
    columns = [
        (scale, loss, statistic)
        for scale in runs
        for loss, prefix in LOSSES.items()
        for statistic in STATISTICS
        if any(_number(runs[scale].get(prefix + (cell["arm"] or ""), {}), statistic) for _, cell in rows)
    ]
    head = ["", "", "paper", *(f"{scale}, {loss}: {statistic}" for scale, loss, statistic in columns)]
    lines = [
        _line(
            [
                *(row, cell["column"]),
                _printed(*cell["paper"]),
                *(_number(runs[scale].get(LOSSES[loss] + (cell["arm"] or ""), {}), s) for scale, loss, s in columns),
            ]
        )
        for row, cell in rows
    ]
    return "\n".join([_line(head), _line(["---", "---", *["---:"] * (len(head) - 2)]), *lines])


def _printed(mean: float, std: float | None) -> str:
    """The paper's number, with its standard deviation where it prints one."""
    return f"{mean:.2f}" if std is None else f"{mean:.2f} ± {std:.2f}"


def _number(records: Mapping[int, Record], statistic: str) -> str:
    """'43.1 ± 0.8 (3)'; 'diverged' where all have; nothing where there is no run, or none with this number."""
    sound = [record for record in records.values() if record.summary["state"] != "diverged"]
    if records and not sound:
        return "diverged"
    mean, low, high, count = interval([STATISTICS[statistic](record) for record in sound])
    if not count:
        return ""
    return f"{mean:.1f}" + (f" ± {(high - low) / 2:.1f}" if count > 1 else "") + f" ({count})"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _filled(text: str, indent: str = "") -> str:
    return textwrap.fill(text, 120, break_on_hyphens=False, break_long_words=False, subsequent_indent=indent)

"""`python -m experiments verify`: the ledger of claims, every verdict computed from what the store holds now."""

import io
import re
import textwrap
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from stopgrad.experiments import ledger
from stopgrad.experiments.claims.claim import THEORY, Row, Rule
from stopgrad.experiments.claims.multiplicity import in_words
from stopgrad.experiments.claims.paper import AS_STATED, Paper
from stopgrad.experiments.commands.suite_command import exit_status, fetching, select, summed_up
from stopgrad.experiments.launch import launcher
from stopgrad.experiments.papers import chosen, suite
from stopgrad.experiments.store import evidence
from stopgrad.experiments.store.store import ROOT, Store
from stopgrad.experiments.suites.grid import Suite
from stopgrad.linear_theory.tools.door import Command
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.files import replace_file

VERDICTS = {
    "holds": "Holds",
    "fails": "Fails: a finding, not an error",
    "inconclusive": "Inconclusive",
    "not measured": "Not measured",
}
_EXPLAINED = ("inconclusive", "not measured")  # whose numbers do not speak for themselves
_COUNTED = {"holds": ("holds", "hold"), "fails": ("fails", "fail")}
BEGIN, END = "<!-- ledger -->", "<!-- /ledger -->"
"""The lines of README between which `markdown` stands."""
_HEAD = "| claim | place | measured | 95 % interval | minimum | verdict |\n|---|---|---:|---:|---:|---|"


class Verified(dict):
    """{"claims": rows}, which is all there is in JSON, and beside it the rows by paper, `summed_up` of the runs now
    carried out, and the files that were written, by what was done to them."""

    def __init__(self, rows: dict[str, list[Row]], carried_out: dict, written: list[tuple[str, Path]]):
        super().__init__(claims=[row for some in rows.values() for row in some])
        self.rows, self.carried_out, self.written = rows, carried_out, written


@dataclass(frozen=True)
class Verify(Command):
    """Hold the papers' claims against theory and finished runs. Trains nothing unless told to with --run-missing."""

    paper: tuple[str, ...] = ()
    """Whose claims; those of all papers by default."""
    scale: str = "cpu"
    """smoke, quick, cpu, cifar, gpu or paper: which runs of the suites to look at."""
    runs: Path = ROOT
    """Folder of the store of runs."""
    run_missing: bool = False
    """First carry out the runs of the suites that are not finished."""
    record: bool = False
    """Keep a row of each finished run in experiments/results, to be read where the store has nothing."""
    markdown: bool = False
    """Print the ledger as README shows it, and nothing else."""
    readme: Path | None = None
    """Write it into this file, between the lines <!-- ledger --> and <!-- /ledger -->."""
    json: bool = False
    """Print one JSON object, {"claims": [...]}."""

    def run(self) -> Verified:
        """{"claims": a row for each claim}.

        Raises ValueError for an unknown paper or scale, an unreadable store or record, nothing to record, and a file
        without a place for the ledger.
        """
        papers = chosen(self.paper, having="claims")
        suites = [suite(paper.key, self.scale) for paper in papers if paper.suite]
        if self.readme:
            replaced(self.readme, "")  # before hours of --run-missing
        store = Store(self.runs)
        carried_out = self._run_missing(suites, store) if self.run_missing else summed_up([], [])
        recorded = [path for one in suites if self.record and (path := evidence.record(one, store))]
        if self.record and not recorded:
            names = " or ".join(one.name for one in suites)
            raise BadInput(f"no run of {names} at scale {self.scale} is finished; there is nothing to record")
        written = [("recorded", path) for path in recorded]
        rows = {paper.key: ledger.rows(paper.key, self.scale, store) for paper in papers}
        if self.readme:
            text = replaced(self.readme, markdown(self.scale, rows))
            replace_file(self.readme, lambda draft: draft.write_text(text, encoding="utf-8", newline="\n"))
            written.append(("written", self.readme))
        return Verified(rows, carried_out, written)

    def _run_missing(self, suites: list[Suite], store: Store) -> dict:
        runs = select(suites, (), None)
        labels = [f"{arm}, seed {seed}" for arm, seed, _ in runs]
        title = f"{', '.join(one.name for one in suites)}, {self.scale}"
        outcomes = launcher.launch([config for *_, config in runs], store, launcher.choose(), title, labels)
        return summed_up([run[:2] for run in runs], outcomes)

    def text(self, result: Verified) -> str:
        """Each paper's claims in tables, one for each verdict, and a summary; or in Markdown."""
        if self.markdown:
            return markdown(self.scale, result.rows)
        parts = []
        for paper in chosen([*result.rows]):
            rows = result.rows[paper.key]
            grouped = {verdict: [row for row in rows if row["verdict"] == verdict] for verdict in VERDICTS}
            parts += [table(VERDICTS[verdict], group) for verdict, group in grouped.items() if group]
            parts += [f"{paper.citation}: {summary(rows)}", *in_words(rows), *self._missing(paper)]
        written = [f"{done}: {path}" for done, path in result.written]
        return "\n".join([*parts, *_unfinished(result.carried_out), *written])

    def _missing(self, paper: Paper) -> list[str]:
        """What of the paper's suite is not finished, and how to finish it."""
        if not paper.suite:
            return []
        runs, store = suite(paper.key, self.scale), Store(self.runs)
        configs = [config for *_, config in select([runs], (), None)]
        states = store.states(configs)
        count = Counter(states)
        if count["finished"] == len(configs):
            return []
        recorded = evidence.backed(store, runs).record
        known = sum(state != "finished" and recorded.find(c) is not None for c, state in zip(configs, states))
        others = [f"{count[state]} {words}" for state, words in _STATES.items() if count[state]]
        others += [f"{known} of these recorded"] if known else []
        told = f"{count['finished']} of {len(configs)} runs of scale {self.scale} are finished ({', '.join(others)})"
        return [f"{told}; --run-missing carries out the rest."]

    def status(self, result: Verified) -> int:
        """0, whatever the verdicts; 3 where a missing run failed; 128 + the signal where one told it to stop."""
        return exit_status(result.carried_out)


def summary(rows: list[Row]) -> str:
    """'12 claims: 9 hold, 1 fails, 0 inconclusive, 2 not measured'."""
    count = Counter(row["verdict"] for row in rows)
    words = (f"{count[v]} {_COUNTED.get(v, (v, v))[count[v] != 1]}" for v in VERDICTS)
    return f"{len(rows)} claim{'s' if len(rows) != 1 else ''}: {', '.join(words)}"


def markdown(scale: str, rows: dict[str, list[Row]]) -> str:
    """The ledger as README shows it, paper by paper: what decided how many of its rows, and a table of the headlines.

    `rows` by the paper's key. Numbers to two decimals, minima to two figures.
    """
    return "\n\n".join(_of_paper(paper, scale, rows[paper.key]) for paper in chosen([*rows]))


def _of_paper(paper: Paper, scale: str, rows: list[Row]) -> str:
    claims = {claim.id: claim for claim in paper.claims}
    theory = [row for row in rows if row["scale"] == THEORY]
    measured = [claims[row["id"]] for row in rows if row["n_seeds"] and row["verdict"] != "not measured"]
    rest = Counter(ledger.rests_on(claim, scale) for claim in measured)
    networks = [f"on {words} ({rest[kind]})" for kind, words in ledger.NETWORKS.items() if rest[kind]]
    wordings = sum(row["verdict"] == "fails" and row["id"].endswith(AS_STATED) for row in theory)
    alone = (
        f"Theory alone decides {summary(theory)}; of those that fail {wordings} as the paper words them, each beside "
        "its corrected form. Others"
    )
    said = (
        f"**The ledger of {paper.citation}**, `python -m experiments verify --paper {paper.key} --scale {scale}`, has "
        f"{summary(rows)}. {alone if theory else 'They'} rest {' and '.join(networks) or 'on nothing yet'}, among them "
        "these:"
    )
    lines = [_in_markdown(row, claims[row["id"]].rule) for row in rows if claims[row["id"]].headline]
    return "\n".join([textwrap.fill(said, 120, break_on_hyphens=False), "", _HEAD, *lines])


def _in_markdown(row: Row, rule: Rule) -> str:
    """A line of the table."""
    measured = "" if row["estimate"] is None else f"{row['estimate']:z.2f} {rule.unit}".strip()
    ends = " … ".join(f"{end:z.2f}" for end in row["ci"] or ())
    cells = (row["statement"].removesuffix("."), row["place"], measured, ends, f"{rule.above:.2g}", row["verdict"])
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def replaced(path: Path, text: str, begin: str = BEGIN, end: str = END) -> str:
    """What the file says, with `text` between two of its lines. Raises ValueError where it lacks such a pair."""
    whole, between = path.read_text(encoding="utf-8"), f"(?ms)^{begin}\n.*?^{end}$"
    new, pairs = re.subn(between, lambda _: f"{begin}\n{text}\n{end}", whole)
    if pairs != 1:
        raise BadInput(f"{path} has {pairs} pairs of lines {begin} and {end}; the table needs one to stand between")
    return new


def table(title: str, rows: list[Row], width: int | None = None) -> str:
    """The rows as a table: claim, estimate with its interval, seeds, scale, statement, and why nothing was decided."""
    grid = Table(title=f"{title} ({len(rows)})", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    columns: dict[str, Callable[[Row], str]] = {
        "claim": lambda row: row["id"].removeprefix(f"{row['paper']}-"),
        "estimate": lambda row: said(row["estimate"]),
        "95 % interval": lambda row: (
            "" if row["ci"] is None or not row["n_seeds"] else " … ".join(map(said, row["ci"]))
        ),
        "n": lambda row: str(row["n_seeds"] or ""),
        "scale": lambda row: row["scale"],
        "statement": lambda row: " ".join(
            [row["statement"], *([row["reason"]] if row["verdict"] in _EXPLAINED else []), *_recorded(row)]
        ),
    }
    for name in columns:
        right = name in ("estimate", "n")
        grid.add_column(name, justify="right" if right else "left", overflow="fold", no_wrap=right)
    for row in rows:
        grid.add_row(*(read(row) for read in columns.values()))
    console = Console(
        file=io.StringIO(),
        force_terminal=False,
        width=width or max(Console().width, 100),
        highlight=False,
        markup=False,
    )
    console.print(grid)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def _recorded(row: Row) -> list[str]:
    return [f"[{row['recorded']}]"] if row["recorded"] else []


def said(value: float | None) -> str:
    """A number to four figures; nothing where there is none."""
    return "" if value is None else f"{value:.4g}"


def _unfinished(carried_out: dict) -> list[str]:
    """Which of the missing runs could not be carried out, and why."""
    lines = [f"failed: {run['arm']}, seed {run['seed']}: {run['reason']}" for run in carried_out["failed"]]
    if carried_out["stopped"]:
        lines.append(f"{carried_out['stopped']} runs stopped; the same command goes on with them")
    return [*lines, *fetching(carried_out)]


_STATES = {"absent": "not begun", "unfinished": "begun", "stale": "made by other code"}

"""`python -m figures report`: the ledger's rows and the pictures, as one HTML file that needs nothing else.

Which figure shows which claim is said by the figure; how the page looks is `figures.report.page` and templates/.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stopgrad.experiments import ledger
from stopgrad.experiments.claims.claim import THEORY
from stopgrad.experiments.papers import PAPERS, chosen, suite
from stopgrad.experiments.store import evidence
from stopgrad.experiments.store.store import ROOT, Store
from stopgrad.figures.machinery.places import refuse_files
from stopgrad.figures.machinery.registry import FIGURES
from stopgrad.figures.machinery.runs import not_planned
from stopgrad.figures.report.explorer import explorer
from stopgrad.figures.report.page import UNKNOWN, Embedded, Entry, Run, Section, page, picture
from stopgrad.linear_theory.tools.door import Command, dumps
from stopgrad.linear_theory.tools.files import prepare_file, replace_file
from stopgrad.linear_theory.tools.processes import number_of_workers


def figures_of(claim: str) -> tuple[str, ...]:
    """The figures that say that they show the claim of this id."""
    return tuple(name for name, one in FIGURES.items() if claim in one.claims)


def pictures_in(folder: Path, order: Iterable[str] = ()) -> list[Embedded]:
    """The PNG files of `folder` with their captions: first those of `order`, then the others by name.

    A folder that does not exist has none.
    """
    found = {path.stem: path for path in sorted(Path(folder).glob("*.png")) if not path.name.startswith(".")}
    names = dict.fromkeys([*(name for name in order if name in found), *found])
    return [picture(found[name]) for name in names]


def origin_of_run(root: Path, key: str, recorded: Mapping[str, Mapping] | None = None) -> Run:
    """Hardware, code and versions of a run, as far as its summary says, or where there is none its entry in `recorded`,
    {key: provenance}."""
    when = ""
    try:
        origin = json.loads((Path(root) / key / "summary.json").read_text(encoding="utf-8"))["provenance"]
    except (OSError, ValueError, LookupError):
        origin = (recorded or {}).get(key)
        if origin is None:
            return Run(key)
        when = f", recorded on {origin['date']}"
    names = [name for name in ("python", "torch", "numpy") if name in origin]
    threads = f", {origin['threads']} thread{'s' * (origin['threads'] != 1)}" if "threads" in origin else ""
    return Run(
        key,
        f"{origin.get('hardware', UNKNOWN)}{threads}{when}",
        str(origin.get("fingerprint", UNKNOWN))[:16],
        ", ".join(f"{name} {origin[name]}" for name in names) or UNKNOWN,
    )


def command_of(row: Mapping, scale: str) -> str:
    """What repeats the claim."""
    verify = f"python -m experiments verify --paper {row['paper']} --scale {scale}"
    return verify if row["scale"] == THEORY else f"{verify} --run-missing"


def sections(entries: Sequence[Entry], pictures: Sequence[Embedded]) -> list[Section]:
    """A section for each paper of which there are claims or pictures; last the pictures that belong to none."""
    found = []
    for paper in PAPERS.values():
        mine = [entry for entry in entries if entry.row["paper"] == paper.key]
        shown = [one for one in pictures if one.name in FIGURES and FIGURES[one.name].paper == paper.key]
        if mine or shown:
            found.append(Section(paper.key, paper.citation, paper.title, paper.link, mine, shown))
    others = [one for one in pictures if one.name not in FIGURES]
    return [*found, *([Section("others", "Other pictures", pictures=others)] if others else [])]


@dataclass(frozen=True)
class Report(Command):
    """Write the report, one HTML file: what holds and what does not, and for each paper its claims and its figures.

    Beside it, under the same name with .json, the ledger as `python -m experiments verify --json` prints it.
    """

    scale: str = "cpu"
    """Scale of the suites whose runs decide."""
    paper: tuple[str, ...] = ()
    """Whose claims and figures; those of all papers by default."""
    runs: Path = ROOT
    """Folder of the run store."""
    figures: Path = Path("out/figures")
    """Folder with the pictures and their captions."""
    out: Path = Path("out/report.html")
    """The file to be written."""
    workers: int | None = 1
    """Worker processes that compute what theory claims, where it is not kept; None: as many as there are cores."""
    json: bool = False

    def run(self) -> dict:
        refuse_files(runs=self.runs, figures=self.figures)
        out = prepare_file(self.out, ".html")
        papers, store, workers = chosen(self.paper), Store(self.runs), number_of_workers(self.workers)
        ledger.keep_theory([paper.key for paper in papers if paper.claims], store, workers)
        rows = [row for paper in papers if paper.claims for row in ledger.rows(paper.key, self.scale, store)]
        entries = [self._entry(row) for row in rows]
        named = dict.fromkeys(name for entry in entries for name in entry.figures)
        wanted = {name for name, one in FIGURES.items() if one.paper in {paper.key for paper in papers}} | named.keys()
        pictures = [one for one in pictures_in(self.figures, FIGURES) if not self.paper or one.name in wanted]
        absent = [name for name in named if name not in {one.name for one in pictures}]
        never = {name: why for name in absent if (why := not_planned(FIGURES[name].compute, self.scale))}
        suites = [suite(paper.key, self.scale) for paper in papers if paper.suite]
        left = [run for one in suites for run in evidence.read(evidence.path_of(one))]
        recorded = {run.key: run.summary["provenance"] for run in left}
        keys = dict.fromkeys(key for row in rows for key in row["run_ids"])
        html = page(
            sections(entries, pictures),
            scale=self.scale,
            runs={key: origin_of_run(self.runs, key, recorded) for key in keys},
            never=never,
            explorer=explorer(papers, self.scale, store),
            command=" ".join(
                ["python -m figures report --scale", self.scale, *(self.paper and ("--paper", *self.paper))]
            ),
        )
        replace_file(
            out, lambda draft: draft.write_text(html, encoding="utf-8", errors="backslashreplace", newline="\n")
        )
        ledger_file = out.with_suffix(".json")
        replace_file(ledger_file, lambda draft: draft.write_text(dumps({"claims": rows}) + "\n", encoding="utf-8"))
        return {
            "report": str(out),
            "ledger": str(ledger_file),
            "bytes": out.stat().st_size,
            "claims": len(entries),
            "verdicts": dict(Counter(entry.verdict for entry in entries)),
            "scale": self.scale,
            "figures": [one.name for one in pictures],
            "missing_figures": [name for name in absent if name not in never],
            "not_in_the_suite": list(never),
        }

    def _entry(self, row: Mapping) -> Entry:
        [claim] = [claim for claim in ledger.claims_of(row["paper"]) if claim.id == row["id"]]
        shown, rests = figures_of(claim.id), ledger.rests_on(claim, self.scale)
        return Entry(row, claim.rule.above, claim.rule.unit, shown, command_of(row, self.scale), rests)

    def text(self, result: dict) -> str:
        verdicts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(result["verdicts"].items()))
        missing, never = (", ".join(result[key]) for key in ("missing_figures", "not_in_the_suite"))
        return (
            f"{result['report']}: {result['claims']} claims ({verdicts}), {len(result['figures'])} figures,"
            f" {result['bytes'] / 1e6:.1f} MB"
            + (f"\nnot drawn yet: {missing}; python -m figures all --scale {result['scale']}" if missing else "")
            + (f"\nnot in the suite at scale {result['scale']}: {never}" if never else "")
        )

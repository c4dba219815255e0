"""`python -m figures report`: the ledger's rows and the pictures, as one HTML file that needs nothing else.

What belongs to which claim is data here (`SHOWN`); how the page looks is `figures.report.page` and templates/.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from stopgrad.experiments.claims import ledger
from stopgrad.experiments.claims.claim import THEORY, Claim
from stopgrad.experiments.store import evidence
from stopgrad.experiments.store.store import ROOT, Store
from stopgrad.experiments.suites.suites import suite
from stopgrad.figures.machinery.places import refuse_files
from stopgrad.figures.machinery.registry import FIGURES
from stopgrad.figures.machinery.runs import FromRuns, not_planned
from stopgrad.figures.report.page import UNKNOWN, Embedded, Entry, Run, page, picture
from stopgrad.linear_theory.tools.door import Command, dumps
from stopgrad.linear_theory.tools.files import prepare_file, replace_file

LINEAR = "linear/"
"""What the name of an arm begins with when its network is one linear layer; all others are ResNets."""

PAPERS = {
    "tian2021": {"name": "Tian, Chen & Ganguli 2021", "link": "https://arxiv.org/abs/2102.06810"},
}

SHOWN = {
    "tian2021": (
        (r"\bTable (\d+)", r"tian-table\1"),
        (r"\bFig(?:ure|\.)? ?(\d+)", r"tian-fig\1"),
        (r"\bTheorem 2\b", "tian-fig10"),
        (r"\bTheorem 2\b", "linear-digits-modes"),
        (r"\bTheorem 3\b", "tian-fig9"),
        (r"\bTheorem 3\b", "linear-digits-alignment"),
        (r"\bCollapse basin\b|\bCriterion at η = 0\b|\bObservation #?[13]\b", "tian-fig3"),
        (r"\bObservation #?[45]\b", "tian-fig4"),
        (r"\bObservation #?(?:[35789]|10)\b", "tian-fig5"),
        (r"\bEq\. 18\b", "talk-directpred-spectrum"),
    ),
}
"""What shows a claim: (pattern looked for in its place and id, figure); names that are no figure are left out."""


def figures_of(row: Mapping, arms: Iterable[str], known: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """The figures that show the claim of `row`: those that SHOWN names, else those drawn from the runs of all its arms.

    `known`: {figure: the arms whose runs it shows, none for a figure of the theory}.
    """
    text = f"{row['place']} {row['id']}"
    rules = SHOWN.get(row["paper"], ())
    named = (match.expand(figure) for pattern, figure in rules for match in re.finditer(pattern, text))
    found = tuple(dict.fromkeys(name for name in named if name in known))
    arms = set(arms)
    return found or tuple(name for name, shown in known.items() if arms and arms <= set(shown))


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


def rests_on(claim: Claim) -> str:
    """'theory', 'linear' or 'resnet': what a claim is decided by, as a suite's arms are named."""
    if not claim.arms:
        return "theory"
    return "linear" if all(arm.startswith(LINEAR) for arm in claim.arms) else "resnet"


def command_of(row: Mapping, scale: str) -> str:
    """What repeats the claim."""
    verify = f"python -m experiments verify --paper {row['paper']} --scale {scale}"
    return verify if row["scale"] == THEORY else f"{verify} --run-missing"


@dataclass(frozen=True)
class Report(Command):
    """Write the report: what holds and what does not, each claim with its numbers, every figure; one HTML file.

    Beside it, under the same name with .json, the ledger as `python -m experiments verify --json` prints it.
    """

    scale: str = "cpu"
    """Scale of the suite whose runs decide."""
    paper: str = "tian2021"
    """Whose claims."""
    runs: Path = ROOT
    """Folder of the run store."""
    figures: Path = Path("out/figures")
    """Folder with the pictures and their captions."""
    out: Path = Path("out/report.html")
    """The file to be written."""
    json: bool = False

    def run(self) -> dict:

        refuse_files(runs=self.runs, figures=self.figures)
        out = prepare_file(self.out, ".html")
        rows = ledger.rows(self.paper, self.scale, Store(self.runs))
        claims = {claim.id: claim for claim in ledger.claims_of(self.paper)}
        pictures = pictures_in(self.figures, FIGURES)
        known = dict.fromkeys([*FIGURES, *(one.name for one in pictures)], ())
        known |= {name: one.compute.arms for name, one in FIGURES.items() if isinstance(one.compute, FromRuns)}
        entries = [self._entry(row, claims[row["id"]], known) for row in rows]
        keys = dict.fromkeys(key for row in rows for key in row["run_ids"])
        named = dict.fromkeys(name for entry in entries for name in entry.figures)
        absent = [name for name in named if name not in {one.name for one in pictures}]
        never = [name for name in absent if name in FIGURES and not_planned(FIGURES[name].compute, self.scale)]
        left = evidence.read(evidence.path_of(suite(self.paper, self.scale)))
        recorded = {run.key: run.summary["provenance"] for run in left}
        html = page(
            entries,
            pictures,
            papers={self.paper: PAPERS.get(self.paper, {"name": self.paper, "link": ""})},
            scale=self.scale,
            runs={key: origin_of_run(self.runs, key, recorded) for key in keys},
            never=never,
            command=f"python -m figures report --paper {self.paper} --scale {self.scale}",
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
            "not_in_the_suite": never,
        }

    def _entry(self, row: Mapping, claim: Claim, known: Mapping) -> Entry:
        shown = figures_of(row, claim.arms, known)
        return Entry(row, claim.rule.above, claim.rule.unit, shown, command_of(row, self.scale), rests_on(claim))

    def text(self, result: dict) -> str:
        verdicts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(result["verdicts"].items()))
        missing, never = (", ".join(result[key]) for key in ("missing_figures", "not_in_the_suite"))
        return (
            f"{result['report']}: {result['claims']} claims ({verdicts}), {len(result['figures'])} figures,"
            f" {result['bytes'] / 1e6:.1f} MB"
            + (f"\nnot drawn yet: {missing}; python -m figures all --scale {result['scale']}" if missing else "")
            + (f"\nnot in the suite at scale {result['scale']}: {never}" if never else "")
        )

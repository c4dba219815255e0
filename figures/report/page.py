"""The report as one page: claims, figures and where the runs come from in, HTML that needs nothing else out.

A pure function of its arguments: the same rows and pictures give the same bytes. Layout, style and script are the files
in templates/; every text is escaped by the template engine. The page forbids itself any request (its own
Content-Security-Policy), so what is not in the file cannot be shown.
"""

import base64
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from stopgrad.experiments.claims.claim import KEYS, THEORY
from stopgrad.experiments.claims.multiplicity import LEVEL, in_words
from stopgrad.figures.report import chart as report_chart
from stopgrad.figures.report.chart import Numbers, number

if TYPE_CHECKING:
    import jinja2

VERDICTS = {
    "holds": "The whole 95 % interval lies above the minimum effect.",
    "fails": "The whole 95 % interval lies below the minimum effect: a finding, kept as it came out.",
    "inconclusive": "The interval contains the minimum effect, or the runs are out of the regime the claim is about.",
    "not measured": "No verdict: too few finished seeds, or the statistic means nothing at this scale.",
}
FAMILIES = {
    "resnet": ("ResNet", "ResNets"),
    "mlp": ("MLP", "MLPs"),
    "linear": ("linear network", "linear networks"),
    "theory": ("theory alone", "theory alone"),
}
"""What decides a claim: of one, and of many."""
TEMPLATES = Path(__file__).parent / "templates"
UNKNOWN = "not recorded"
TWIN = "-as-stated"
_INDEX = re.compile(r"(?<![A-Za-z0-9_])([A-Za-zΑ-Ωα-ω])_([A-Za-z0-9]{1,3})(?![A-Za-z0-9_])")
_POWER = re.compile(r"(?<=[\w)])\^(?:\(([^()<>&]+)\)|\{([^{}<>&]+)\}|([−-]?\w+))")
_ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Embedded:
    """A figure as the page shows it: its bytes in base64, its size in pixels, and its caption in parts."""

    name: str
    title: str
    text: tuple[str, ...]
    details: str
    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Run:
    """Where a run comes from, as far as its folder says."""

    key: str
    hardware: str = UNKNOWN
    code: str = UNKNOWN
    versions: str = UNKNOWN

    @property
    def origin(self) -> tuple[str, str, str]:
        """What runs of one line in the page have in common."""
        return self.hardware, self.code, self.versions


@dataclass(frozen=True)
class Entry:
    """One row of the ledger as the page shows it. Raises ValueError for a row that is not whole."""

    row: Mapping
    threshold: float | None = None
    unit: str = ""
    figures: tuple[str, ...] = ()
    command: str = ""
    family: str = "resnet"
    """What decides it, one of FAMILIES."""

    def __post_init__(self):
        missing = [key for key in KEYS if key not in self.row]
        if missing:
            raise ValueError(f"claim {self.row.get('id', '?')!r} of the ledger lacks {', '.join(missing)}")
        if self.row["verdict"] not in VERDICTS:
            raise ValueError(
                f"claim {self.id!r} has verdict {self.row['verdict']!r}; it is one of {', '.join(VERDICTS)}"
            )
        if (self.family == "theory") != (self.row["scale"] == THEORY) or self.family not in FAMILIES:
            raise ValueError(f"claim {self.id!r} of scale {self.row['scale']!r} cannot rest on {self.family!r}")
        if not _ID.fullmatch(self.id) or self.id.startswith(("page-", "figure-")):
            raise ValueError(
                f"{self.id!r} cannot be a claim's id: letters, digits, '-', '_' and '.', none of the page's own"
            )

    @property
    def id(self) -> str:
        """The claim's name, and its anchor in the page."""
        return str(self.row.get("id", ""))

    @property
    def verdict(self) -> str:
        """One of VERDICTS."""
        return self.row["verdict"]

    @property
    def as_stated(self) -> bool:
        """Whether this is a paper's own wording of a claim that stands corrected beside it."""
        return self.id.endswith(TWIN)

    @property
    def statement(self) -> str:
        """What is claimed, without the mark of a paper's own wording, which the page sets itself."""
        return self.row["statement"].removeprefix("As stated: ")

    @property
    def basis(self) -> str:
        """What decides it, with the scale of its runs, in words."""
        name = FAMILIES[self.family][0]
        return name if self.family == "theory" else f"{name}, scale {self.row['scale']}"

    @property
    def numbers(self) -> Numbers:
        """What can be drawn of it."""
        ends = [finite(end) for end in self.row["ci"] or ()]
        whole = len(ends) == 2 and None not in ends and self.family != "theory"  # theory's interval is a point
        values = [v for _, v in self.per_seed if v is not None]
        return Numbers(finite(self.row["estimate"]), tuple(ends) if whole else None, self.threshold, values)

    @property
    def per_seed(self) -> list[tuple[object, float | None]]:
        """(seed, its value or None) in the row's order."""
        return [(seed, finite(value)) for seed, value in zip(self.row["seeds"], self.row["values"], strict=True)]

    @property
    def arms(self) -> list[tuple[str, str, str]]:
        """The setting arm by arm: (name, in the theory's units, as the recipe has it); empty where it has no arms."""
        return [tuple(arm) for arm in self.row["arms"]]

    @property
    def small_plot(self):
        """The claim's line of the forest plot."""
        return report_chart.forest(self.numbers)

    @property
    def plot(self):
        """The claim's own drawing."""
        return report_chart.interval(self.numbers)


@dataclass(frozen=True)
class Section:
    """What the page says of one paper or study."""

    key: str
    name: str
    """Authors and year."""
    title: str = ""
    link: str = ""
    entries: Sequence[Entry] = ()
    pictures: Sequence[Embedded] = ()


def finite(value) -> float | None:
    """`value` as a float; None where it is absent, NaN or infinite."""
    return None if value is None or not math.isfinite(value) else float(value)


def picture(path: Path) -> Embedded:
    """Read a PNG and the caption beside it (.txt: 'name: title', paragraphs, then source, parameters and command).

    Raises OSError where the picture cannot be read.
    """
    from PIL import Image

    with Image.open(path) as image:
        width, height = image.size
    beside = path.with_suffix(".txt")
    caption = (
        beside.read_text(encoding="utf-8", errors="replace")
        if beside.exists()
        else f"{path.stem}\n\nNo caption was written.\n"
    )
    head, *parts = caption.strip().split("\n\n")
    text, details = parts, ""
    if parts and parts[-1].startswith("Source:"):
        text, details = parts[:-1], parts[-1]
    uri = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    title = head.removeprefix(f"{path.stem}:").strip()
    return Embedded(path.stem, title, tuple(" ".join(p.split()) for p in text), details, uri, width, height)


def page(
    sections: Sequence[Section],
    *,
    scale: str,
    runs: Mapping[str, Run],
    command: str,
    explorer: Mapping,
    never: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """The whole page. Raises ValueError where two claims share an id.

    `runs`: what is known of each run id, by it; `command`: what makes this page; `explorer`: of that module. A figure
    that a claim names and no section has is said to be missing; or, where it is in `never`, why the suite has no runs
    for it, {name: words}.
    """
    entries = [entry for section in sections for entry in section.entries]
    twice = [name for name, count in Counter(entry.id for entry in entries).items() if count > 1]
    if twice:
        raise ValueError(f"two claims of the ledger share the id {', '.join(twice)}")
    pictures = {one.name: one for section in sections for one in section.pictures}
    shown_by = {name: [entry for entry in entries if name in entry.figures] for name in pictures}
    return (
        _environment()
        .get_template("report.html")
        .render(
            entries=entries,
            by_id={entry.id: entry for entry in entries},
            pictures=pictures,
            shown_by=shown_by,
            sections=sections,
            scale=scale,
            runs=runs,
            command=command,
            never=never,
            explorer=explorer,
            families=FAMILIES,
            verdicts=VERDICTS,
            counts={verdict: sum(entry.verdict == verdict for entry in entries) for verdict in VERDICTS},
            summary=summary(sections, scale),
            failing=[entry for entry in entries if entry.verdict == "fails"],
            places=list(dict.fromkeys(entry.row["place"] for entry in entries)),
            twin=TWIN,
            level=LEVEL,
            css=_text("report.css"),
            scripts=[_text(f"{name}.js") for name in ("report", "explorer", "explorer_page")],
        )
    )


def summary(sections: Sequence[Section], scale: str) -> list[str]:
    """What holds and what does not, in sentences."""
    entries = [entry for section in sections for entry in section.entries]
    count = Counter(entry.verdict for entry in entries)
    rests = Counter(entry.family for entry in entries)
    decided = Counter(entry.family for entry in entries if entry.verdict in ("holds", "fails"))
    kinds = [kind for kind in FAMILIES if rests[kind]] or ["theory"]
    parts = [f"{rests[kind]} on {FAMILIES[kind][1]} ({decided[kind]} decided)" for kind in kinds]
    parts[0] = parts[0].replace(" on ", " rest on " if rests[kinds[0]] != 1 else " rests on ", 1)
    said = [
        f"Of {len(entries)} claims {_some(count['holds'], 'holds', 'hold')}, {_some(count['fails'], 'fails', 'fail')}, "
        f"{_some(count['inconclusive'], 'is', 'are')} inconclusive and {_some(count['not measured'], 'is', 'are')} not "
        f"measured at scale {scale}.",
        " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1]))) + ".",
    ]
    twins = sum(entry.verdict == "fails" and entry.as_stated for entry in entries)
    if twins:
        said.append(f"Where a paper’s own wording fails ({twins}), the corrected claim stands beside it.")
    for section in sections:  # p-values are adjusted for the number of a paper's own claims
        name = f"{section.name}: " if len(entries) > len(section.entries) else ""
        said += [name + sentence for sentence in in_words(entry.row for entry in section.entries)]
    return said


def _some(count: int, one: str, more: str) -> str:
    return f"{count} {one if count == 1 else more}"


def formula(text: str) -> Markup:
    """`text` escaped, with the indices and exponents of symbols (W_p, e^(-t), R^2) set as such."""
    return Markup(_POWER.sub(r"<sup>\1\2\3</sup>", _INDEX.sub(r"\1<sub>\2</sub>", str(escape(text)))))


def by_origin(keys: Iterable[str], runs: Mapping[str, Run]) -> list[list[Run]]:
    """The runs of `keys` in groups of one hardware, code and versions; a run not in `runs` is of unknown origin."""
    groups: dict[tuple, list[Run]] = {}
    for key in keys:
        run = runs.get(key, Run(key))
        groups.setdefault(run.origin, []).append(run)
    return list(groups.values())


def _environment() -> "jinja2.Environment":
    import jinja2  # here, since every list of figures would wait for it

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "by_origin": by_origin, "formula": formula}
    return environment


def _text(name: str) -> Markup:
    return Markup((TEMPLATES / name).read_text(encoding="utf-8").strip())

"""A made-up ledger of every verdict, and its report page."""

import math
import shutil

from PIL import Image

from stopgrad.experiments.claims.multiplicity import adjusted
from stopgrad.experiments.store.store import Store
from stopgrad.figures.report import report
from stopgrad.figures.report.explorer import explorer
from stopgrad.figures.report.page import Entry, Run, Section, page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NO_RUNS = explorer([], "smoke", Store("nowhere"))
UNITS = ("α_p = 10, η = 0.0004, ηt = 4.2, no EMA", "lr 0.025, weight decay 0.0004, 10 epochs of digits")
ARMS = [(f"{name} (a note)", *UNITS) for name in ("ema", "plain")]
HOSTILE = "While K > 0 & λ < 1: <script>alert('W_p')</script> \"aligns\""


def row(name, verdict, values=(), ci=None, **more):
    """A row of the ledger as `experiments.claims.claim.evaluate` makes it."""
    values = list(values)
    return {
        "id": f"tian2021-{name}",
        "paper": "tian2021",
        "place": "Theorem 2",
        "statement": f"What {name} says of W_p.",
        "theory": "At η = 0.04 the stable fixed point is p = 0.889.",
        "scale": "cpu",
        "setting": "; ".join("{}: {} [{}]".format(*arm) for arm in ARMS),
        "arms": ARMS,
        "statistic": "−ln of trace(F) at the end over its start",
        "rule": "holds if the 95% t-interval lies above 0.1",
        "since": "2026-11-22",
        "estimate": sum(values) / len(values) if ci and values else None,
        "ci": ci,
        "p": None,
        "p_adjusted": None,
        "survives": None,
        "n_seeds": len(values),
        "seeds": list(range(len(values))),
        "values": values,
        "run_ids": [f"{name}-{seed}" for seed in range(len(values))],
        "recorded": None,
        "verdict": verdict,
        "reason": f"Seen in {name}.",
    } | more


ALONE = {"scale": "theory", "setting": "η from 0 to 0.3", "arms": [], "n_seeds": 0}
ROWS = adjusted(
    [
        row("stop-gradient", "holds", [4.91234567, 5.3, 5.6], [4.1, 6.5], p=0.0004),
        row("predictor", "holds", [3.0, 3.25, 3.5], [2.5, 4.0], p=0.002, place="Theorem 2, remark"),
        row(
            "predictor-as-stated",
            "fails",
            estimate=-0.31,
            ci=[-0.31, -0.31],
            statement="As stated: W goes to 0.",
            **ALONE,
        ),
        row("hostile", "fails", [-0.5, -0.375, -0.25], [-0.6, -0.15], p=0.02, statement=HOSTILE, place="Theorem 3 <&>"),
        row("rescue", "inconclusive", [0.05, math.nan, 0.2], [0.01, 0.24], estimate=0.125, place="Table 3"),
        row("few", "not measured", [0.3, 0.4], place="Table 5"),
        row("accuracy", "not measured", place="Table 8", setting="", arms=[]),
        row("observation-4", "holds", estimate=2.058e-5, ci=[2.058e-5, 2.058e-5], place="#4 of Table 4", **ALONE),
    ]
)
CAPTION = "{0}: A title of <b> & W_p\n\nWhat is drawn, p < q.\n\nMore.\n\nSource: here\nParameters:\n  eta = 0\n"


def entries(rows=ROWS):
    shown = {"tian2021-observation-4": ("tian-fig4",), "tian2021-rescue": ("tian-table3", "tian-table7")}
    rest = {"tian2021-few": "linear", "tian2021-rescue": "linear"}
    return [
        Entry(
            *(one, 0.1, "nats", shown.get(one["id"], ()), report.command_of(one, "cpu")),
            "theory" if one["scale"] == "theory" else rest.get(one["id"], "resnet"),
        )
        for one in rows
    ]


def draw(folder, names=("tian-fig4", "tian-fig10")):
    """Small pictures with captions in `folder`."""
    folder.mkdir(exist_ok=True)
    for k, name in enumerate(names):
        Image.new("RGB", (60 + k, 30), (10 * k, 90, 160)).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(CAPTION.format(name), encoding="utf-8")
    return folder


def made(folder, rows=ROWS, brought=NO_RUNS):
    """The page of `rows` with two pictures, and the explorer with what is `brought` to it."""
    runs = {key: Run(key, "a processor", "c0de", "torch 2") for one in rows for key in one["run_ids"]}
    pictures = report.pictures_in(draw(folder), ["tian-fig4"])
    about = ("tian2021", "Tian & al. 2021", "On <this>", "https://arxiv.org/abs/2102.06810")
    more = {"runs": runs, "command": "python -m figures report", "never": {"tian-table7": "not in the suite"}}
    more |= {"explorer": brought}
    return page([Section(*about, entries(rows), pictures)], scale="cpu", **more)

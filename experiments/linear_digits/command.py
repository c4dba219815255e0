"""`python -m experiments linear-digits`: the comparison on the digits, kept piece by piece, and its data file."""

import time
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from stopgrad.experiments.linear_digits.setting import LEADING, VARIANTS, Setting
from stopgrad.experiments.store.run_store import RunStore
from stopgrad.linear_theory.tools.door import Command, dumps
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.files import replace_file, write_netcdf

KEPT = "Finished pieces of work, taken up again by the next run of the same command. They may be deleted.\n"
MODULES = ("stopgrad.experiments.linear_digits.comparison",)
"""What computes the units; all that it reaches goes into their keys."""


@dataclass(frozen=True)
class LinearDigits(Setting, Command):
    """Hold Lemma 1, with X and X′ measured, against a linear Siamese network trained on scikit-learn's digits."""

    seeds: int = 3
    """Networks trained for each variant, each with its own start and its own views."""
    out: Path = Path("out/linear_digits")
    """Folder for the data file, the summary and what is finished already."""
    json: bool = False

    def run(self) -> dict:
        """Measure, integrate, train and compare; what is finished in `out` already is not done again.

        Returns the summary. Raises ValueError for a setting out of range, OSError where `out` cannot be written.
        """
        from stopgrad.experiments.linear_digits.study import compare

        began = time.perf_counter()
        setting = Setting(**{field.name: getattr(self, field.name) for field in fields(Setting)}).validate()
        if self.seeds < 1:
            raise BadInput(f"seeds is {self.seeds}; it must be at least 1")
        store = RunStore(self.out / "finished", MODULES, ("numpy", "scikit-learn", "scipy", "torch"))
        store.folder.mkdir(parents=True, exist_ok=True)
        replace_file(store.folder / "README.txt", lambda draft: draft.write_text(KEPT, encoding="utf-8"))
        dataset, summary = compare(setting, self.seeds, store)
        paths = {"data": str(self.out / "linear_digits.nc"), "summary": str(self.out / "linear_digits.json")}
        summary = {**summary, **paths, "seconds": time.perf_counter() - began}
        write_netcdf(dataset, Path(paths["data"]))
        replace_file(Path(paths["summary"]), lambda draft: draft.write_text(dumps(summary) + "\n", encoding="utf-8"))
        return summary

    def text(self, result: dict) -> str:
        """The agreement, one line a variant, and where the data are."""
        width = max(map(len, VARIANTS))
        lines = [
            f"{name:{width}}  {said(found['relative_gap'])} of the mode at that moment, "
            f"{said(found['gap_over_peak'])} of its largest value"
            for name, found in result["agreement"].items()
        ]
        head = f"Largest gap of the leading {LEADING} modes to Lemma 1, median and worst of {self.seeds} seeds:"
        return "\n".join([head, *lines, f"data: {result['data']}", f"summary: {result['summary']}"])


def said(gap: dict) -> str:
    """'median, worst' of a gap in per cent."""
    return "diverged" if np.isnan(gap["worst"]) else f"{gap['median']:6.1%}, {gap['worst']:5.1%}"

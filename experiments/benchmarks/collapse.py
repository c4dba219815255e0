"""What does `python -m deep collapse` cost on a large file? Its time and memory beside numpy.linalg.svd's.

Each reads the same .npy of float32 features in a process of its own; memory is the most that was resident of it, Python
and its packages included.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from stopgrad.experiments.benchmarks.ode import machine
from stopgrad.linear_theory.tools.door import Command, main
from stopgrad.linear_theory.tools.errors import BadInput

MEMORY_BAR = 1e9
"""Bytes resident at most, for a million samples of 512 dimensions."""
_ROWS = 8192

_RESIDENT = """
import json
import os
status = open("/proc/self/status").readlines() if os.path.exists("/proc/self/status") else []
told = [line for line in status if line.startswith("VmHWM")]
print(json.dumps([found, 1024 * int(told[0].split()[1]) if told else None]))
"""
PROGRAMS = {
    "stopgrad": "from stopgrad.deep.collapse_command import Collapse\nimport sys\n"
    "found = Collapse(features=sys.argv[1], quiet=True).run()['collapse_auc']\n" + _RESIDENT,
    "numpy.linalg.svd": "import sys\nimport numpy as np\nz = np.load(sys.argv[1])\nz -= z.mean(0)\n"
    "from stopgrad.linear_theory import collapse_auc\n"
    "found = float(collapse_auc(np.linalg.svd(z, compute_uv=False)))\n" + _RESIDENT,
}
"""What each does: a program that prints the AUC and the most bytes that were resident (Linux; else null)."""


@dataclass(frozen=True)
class Benchmark(Command):
    """Time `collapse` on features of a falling spectrum in a file, and numpy.linalg.svd on the same."""

    samples: int = 1_000_000
    """N."""
    dim: int = 512
    """d; the file has 4·N·d bytes."""
    threads: int = 1
    """Threads of the linear algebra."""
    engines: tuple[str, ...] = tuple(PROGRAMS)
    """Which to time; the SVD holds the features twice."""
    folder: Path | None = None
    """Where the file is written and removed; None: where the system keeps temporary files."""
    json: bool = False
    """Print one JSON object: engine to row."""

    def run(self) -> dict:
        """One row an engine. Raises BadInput for an unknown engine and for sizes that have no spectrum."""
        if unknown := [name for name in self.engines if name not in PROGRAMS]:
            raise BadInput(f"there is no engine {unknown[0]!r}; there are {', '.join(PROGRAMS)}")
        if self.samples < 2 or self.dim < 1 or self.threads < 1:
            raise BadInput("there must be two samples, one dimension and one thread at least")
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            path = Path(place) / "features.npy"
            write_features(path, self.samples, self.dim)
            rows = {name: timed(name, path, self.threads) for name in dict.fromkeys(self.engines)}
        if (self.samples, self.dim) == (1_000_000, 512) and (own := rows.get("stopgrad")) and own["bytes"]:
            own |= {"bar": MEMORY_BAR, "bar_met": own["bytes"] <= MEMORY_BAR}
        sizes = {"samples": self.samples, "dim": self.dim}
        return {name: row | sizes | {"machine": machine() | {"threads": self.threads}} for name, row in rows.items()}

    def text(self, result: dict) -> str:
        """A line an engine."""
        lines = [f"{self.samples:,} × {self.dim} float32, {self.threads} thread(s)"]
        for name, row in result.items():
            held = "" if row["bytes"] is None else f", {row['bytes'] / 1e9:.2f} GB resident"
            bar = f" (bar {row['bar'] / 1e9:g} GB: {'met' if row['bar_met'] else 'missed'})" if "bar" in row else ""
            lines.append(f"{name}: {row['seconds']:.1f} s{held}{bar}, AUC {row['collapse_auc']:.6f}")
        return "\n".join(lines)


def write_features(path: Path, samples: int, dim: int) -> None:
    """Gaussian features with λ_i ~ 1/i and a mean, (samples, dim) float32, written in parts."""
    rng, scale = np.random.default_rng(0), np.arange(1, dim + 1, dtype=np.float32) ** -0.5
    file = np.lib.format.open_memmap(path, "w+", np.float32, (samples, dim))
    console = Console(stderr=True)
    for start in track(range(0, samples, _ROWS), "writing", console=console, transient=True):
        stop = min(start + _ROWS, samples)
        file[start:stop] = 1 + rng.standard_normal((stop - start, dim), dtype=np.float32) * scale
    file.flush()


def timed(name: str, path: Path, threads: int) -> dict:
    """Seconds of an engine's whole process, its AUC, and the most bytes that were resident."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = os.environ | dict.fromkeys(names, str(threads))
    before = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAMS[name], str(path)], env=environment, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - before
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr}")
    found, resident = json.loads(done.stdout.splitlines()[-1])
    return {"seconds": seconds, "bytes": resident, "collapse_auc": found}


def door(argv: list[str] | None = None) -> int:
    """Run the benchmark from the command line; returns the exit status."""
    return main("stopgrad.experiments.benchmarks.collapse", __doc__, {"run": Benchmark}, argv)


if __name__ == "__main__":
    sys.exit(door())

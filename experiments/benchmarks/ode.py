"""How fast is the integrator? This module, run with `python -m`, holds it against the ODE engines people use.

Every engine solves the same task in this process: the mode flow at σ² = 0.1, τ = α_p = 1 from (p0, p0²) to t = 50, for
η = linspace(0, 0.3, 256) × p0 = linspace(0.01, 1, 256). Its error is the largest of |p| and |s| errors over all points
against a reference some 10⁵ times tighter than the 1e-6 allowed.
"""

import importlib.metadata
import io
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from stopgrad.deep.storage.provenance import cpu_name
from stopgrad.experiments.benchmarks import engines as peers
from stopgrad.experiments.benchmarks.rounds import QUIET, Rounds, interleaved
from stopgrad.linear_theory.tools.door import Command, main
from stopgrad.linear_theory.tools.errors import BadInput

ALLOWED_ERROR = 1e-6
REFERENCE_TOLERANCE = 1e-13
OURS = "stopgrad"


@dataclass(frozen=True)
class Engine:
    """An engine's function, its setting in words, the packages it runs on, and by how much ours should be faster.

    `sample`: it is so slow that it solves this many of the points only.
    """

    build: Callable[[peers.Task], peers.Run]
    setting: str
    packages: tuple[str, ...]
    bar: float | None = None
    sample: int | None = None


def _adaptive(method: str, rtol: float) -> str:
    return f"{method}, rtol {rtol:g}"


ENGINES = {
    OURS: Engine(peers.stopgrad, f"trajectory, tolerance {peers.STOPGRAD_TOLERANCE:g}", ("torch",)),
    "diffrax_lockstep": Engine(
        peers.diffrax_lockstep,
        _adaptive("Tsit5, one system, jit", peers.DIFFRAX_LOCKSTEP_TOLERANCE),
        ("diffrax", "jax"),
        bar=12,
    ),
    "diffrax_vmap": Engine(
        peers.diffrax_vmap, _adaptive("Tsit5, vmap, jit", peers.DIFFRAX_VMAP_TOLERANCE), ("diffrax", "jax")
    ),
    "torchode": Engine(
        peers.torchode, _adaptive("Dopri5, eager", peers.TORCHODE_TOLERANCE), ("torchode", "torch"), bar=60
    ),
    "scipy_rk45": Engine(
        peers.scipy_rk45, _adaptive("RK45, one system", peers.SCIPY_RK45_TOLERANCE), ("scipy", "numpy"), bar=30
    ),
    "scipy_dop853": Engine(
        peers.scipy_dop853, _adaptive("DOP853, one system", peers.SCIPY_DOP853_TOLERANCE), ("scipy", "numpy"), bar=30
    ),
    "scipy_loop_extrapolated": Engine(
        peers.scipy_loop,
        _adaptive("DOP853, loop over a sample", peers.SCIPY_LOOP_TOLERANCE),
        ("scipy", "numpy"),
        sample=64,
    ),
    "numba_dopri5": Engine(
        peers.numba_dopri5, _adaptive("Dopri5, scalar, prange", peers.NUMBA_DOPRI5_TOLERANCE), ("numba",)
    ),
    "numba_rk4_simd": Engine(
        peers.numba_rk4_simd,
        f"RK4, {peers.RK4_STEPS} steps, blocks of {peers.SIMD_BLOCK}, prange",
        ("numba",),
        bar=1,
    ),
}


def machine() -> dict:
    """The hardware and system that the rows were measured on."""
    return {
        "cpu": cpu_name(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def worst_error(found, reference, chosen=slice(None)) -> float:
    """The largest |difference| of p and s, NaN if one is; `reference` is read at the points `chosen`."""
    return float(np.max([np.max(np.abs(y - truth[chosen])) for y, truth in zip(found, reference)]))


def _reason(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed; `make bench` installs it"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def first_call(name: str, task: peers.Task, reference) -> tuple[peers.Run | None, dict]:
    """Build an engine and call it once: the call, and the part of its row known so far.

    A peer that is missing or broken gives (None, {"skipped": why}); an error of ours is raised.
    """
    engine = ENGINES[name]
    chosen = task.spread(engine.sample)
    try:
        run = engine.build(task.take(chosen))
        start = time.perf_counter()
        found = run()
        seconds = time.perf_counter() - start
    except Exception as error:
        if name == OURS:
            raise
        return None, {"skipped": _reason(error)}
    error = worst_error(found, reference, chosen)
    return run, {
        "setting": engine.setting,
        "points": chosen.size,
        "extrapolated": chosen.size < task.p0.size,
        "worst_error": error,
        "accurate": error <= ALLOWED_ERROR,
        "first_call_seconds": seconds,
        "versions": {package: importlib.metadata.version(package) for package in engine.packages},
    }


def timed(name: str, row: dict, timing: Rounds, seconds_a_point_of_ours: list[float] | None) -> dict:
    """The speed part of a row: medians over rounds, the ratio to ours taken within each round."""
    seconds, bar = timing.seconds[name], ENGINES[name].bar
    ratio = None
    if name != OURS and seconds_a_point_of_ours:
        ratio = statistics.median(s / row["points"] / ours for s, ours in zip(seconds, seconds_a_point_of_ours))
    return {
        "points_per_second": row["points"] / statistics.median(seconds),
        "seconds": statistics.median(seconds),
        "best_seconds": min(seconds),
        "round_seconds": seconds,
        "stopgrad_times_faster": ratio,
        "bar": bar,
        "bar_met": None if bar is None or ratio is None else ratio >= bar,
        "other_load": timing.other_load,
        "quiet": timing.quiet,
        "rounds_attempted": timing.attempted,
    }


@dataclass(frozen=True)
class Benchmark(Command):
    """Time the integrator against other ODE engines on one task."""

    rounds: int = 5
    """Rounds to keep; each times every engine once more."""
    grid: int = 256
    """Values of η and of p0; the bars are meant for 256."""
    engines: tuple[str, ...] = tuple(ENGINES)
    """Which engines to time."""
    json: bool = False
    """Print one object, engine to row, and nothing else."""

    def run(self) -> dict:
        """One row an engine. Raises ValueError for an unknown engine, no rounds or a grid below 2."""
        if unknown := [name for name in self.engines if name not in ENGINES]:
            raise BadInput(f"there is no engine {unknown[0]!r}; there are {', '.join(ENGINES)}")
        if self.rounds < 1:
            raise BadInput(f"rounds is {self.rounds}; it must be at least 1")
        if self.grid < 2:
            raise BadInput(f"grid is {self.grid}; it must be at least 2")
        progress, here = Console(stderr=True), machine()
        task = peers.grid_task(self.grid)
        reference = peers.scipy_one_system(task, "DOP853", REFERENCE_TOLERANCE)
        looser = peers.scipy_one_system(task, "DOP853", 10 * REFERENCE_TOLERANCE)

        names = tuple(dict.fromkeys(self.engines))
        first = {
            name: first_call(name, task, reference)
            for name in track(names, "first calls", console=progress, transient=True)
        }
        runs = {name: run for name, (run, _) in first.items() if run}
        timing = interleaved(runs, self.rounds, progress=lambda i, w: track(i, w, console=progress, transient=True))
        ours = [s / task.p0.size for s in timing.seconds[OURS]] if OURS in runs else None
        origin = {"reference_uncertainty": worst_error(looser, reference), "machine": here}
        return {
            name: row | timed(name, row, timing, ours) | origin if run else row for name, (run, row) in first.items()
        }

    def text(self, result: dict) -> str:
        """The rows as a table, with what they were measured on below it."""
        measured = [row for row in result.values() if "skipped" not in row]
        paper = Console(file=io.StringIO(), force_terminal=False, width=200)
        paper.print(_table(result, f"mode flow to t = 50, {self.grid**2:,} points"))
        if measured:
            paper.print("\n".join(_footnotes(measured)), soft_wrap=True, highlight=False)
        return "\n".join(line.rstrip() for line in paper.file.getvalue().splitlines())


def _table(result: dict, title: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.MARKDOWN)
    table.add_column("engine", no_wrap=True)
    table.add_column("setting", no_wrap=True)
    for column in ("points/s", "median ms", "best ms", "first call s", "worst error", "ours is faster", "bar"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, row in result.items():
        if "skipped" in row:
            table.add_row(name, f"skipped: {row['skipped']}")
            continue
        ratio, bar, met = row["stopgrad_times_faster"], row["bar"], row["bar_met"]
        table.add_row(
            name,
            row["setting"],
            f"{row['points_per_second']:,.0f}",
            f"{row['seconds'] * 1e3:.2f}",
            f"{row['best_seconds'] * 1e3:.2f}",
            f"{row['first_call_seconds']:.2f}",
            f"{row['worst_error']:.1e}{'' if row['accurate'] else f' > {ALLOWED_ERROR:g}'}",
            "" if ratio is None else f"{ratio:.3g}×",
            "" if bar is None else f"≥ {bar:g}×{ {True: ' met', False: ' missed', None: ''}[met] }",
        )
    return table


def _footnotes(measured: list[dict]) -> list[str]:
    row = measured[0]
    versions = {name: version for r in measured for name, version in r["versions"].items()}
    place = row["machine"]
    highest = max(row["other_load"])
    load = "is not known here" if highest != highest else f"was at most {highest:.0%} of the machine in any of them"
    caution = "" if row["quiet"] else f"; above {QUIET:.0%} or unknown, these times are not to be trusted"
    return [
        f"{place['cpu']}, {place['cpus']} CPUs, {place['torch_threads']} torch threads, {place['system']}, "
        f"Python {place['python']}, " + ", ".join(f"{name} {version}" for name, version in versions.items()),
        f"{len(row['other_load'])} interleaved rounds kept of {row['rounds_attempted']}; other load {load}{caution}",
        "adaptive peers: the loosest rtol (atol = rtol/100) that keeps the worst error of the full grid within 1e-6",
        f"reference: SciPy DOP853, rtol {REFERENCE_TOLERANCE:g}; ten times looser it moves by "
        f"{row['reference_uncertainty']:.0e}",
    ]


def door(argv: list[str] | None = None) -> int:
    """Run the benchmark from the command line; returns the exit status."""
    return main("stopgrad.experiments.benchmarks.ode", __doc__, {"run": Benchmark}, argv)


if __name__ == "__main__":
    sys.exit(door())

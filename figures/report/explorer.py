"""The report's explorer: knobs of one mode of the theory, and runs that can be laid over its portrait.

What moves is computed in the browser by templates/explorer.js, which tests hold to `linear_theory`; here are the knobs,
once, and the measurements that the page brings with it.
"""

import json
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from stopgrad.deep.measuring.units import Noise, units
from stopgrad.deep.storage.table import Columns
from stopgrad.experiments.claims.paper import Paper
from stopgrad.experiments.papers import suite
from stopgrad.experiments.store.evidence import backed
from stopgrad.experiments.store.store import Record, Store


class Knob(NamedTuple):
    """A slider: the number it moves, between which values, and where it stands at first."""

    name: str
    symbol: str
    words: str
    low: float
    high: float
    step: float
    start: float
    log: bool = False
    """Whether the slider moves the number's decades; `step` is then one of them."""

    @property
    def positions(self) -> tuple[float, float, float]:
        """Lowest, highest and first position of the slider."""
        values = (self.low, self.high, self.start)
        return tuple(float(np.log10(v)) for v in values) if self.log else values


KNOBS = (
    Knob("eta", "η", "weight decay, per unit of time", 0.0, 0.3, 0.001, 0.04),
    Knob("sigma2", "σ²", "variance of the augmentation", 0.0, 2.0, 0.01, 0.1),
    Knob("tau", "τ", "target over online network", 0.05, 1.0, 0.01, 1.0),
    Knob("alpha_p", "α_p", "learning rate of the predictor", 0.1, 10.0, 0.01, 1.0, log=True),
    Knob("eps", "ε", "of DirectPred", 0.0, 1.0, 0.01, 0.1),
    Knob("p0", "p(0)", "start of the predictor", -2.0, 4.0, 0.01, 0.15),
    Knob("s0", "s(0)", "start of the features", 0.0, 16.0, 0.01, 0.3),
)
READINGS = {
    "critical": "Critical weight decay τ²/4(1 + σ²)",
    "plus": "Stable rest (p₊, s₊)",
    "minus": "Saddle (p₋, s₋)",
    "rates": "Rates at the stable rest",
    "fate": "From the start, the mode",
    "border": "At p(0) it lives above s =",
    "directpred": "With DirectPred it rests at",
    "lifts": "DirectPred lifts vanishing modes from ε =",
}
"""What is told in numbers, by the name under which the script fills it in."""
SIGMA2 = 0.1
"""What a ResNet's σ² is taken for, as in the overview: its run says it of the projector's input alone."""
MODES, POINTS = 8, 60
"""At most of a run."""


def explorer(papers: Iterable[Paper], scale: str, store: Store) -> dict:
    """What the page needs: knobs, readings, and as text of JSON all that its script reads.

    With what can be laid over the portrait: of each arm that one of `papers` says, its first finished run.
    """
    runs = {str(k): run for k, run in enumerate(run for paper in papers for run in laid_over(paper, scale, store))}
    data = {"knobs": [knob._asdict() for knob in KNOBS], "runs": runs}
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    names = {key: run["name"] for key, run in runs.items()}
    return {"knobs": KNOBS, "readings": READINGS, "runs": names, "data": Markup(text)}


def laid_over(paper: Paper, scale: str, store: Store) -> list[dict]:
    """Each run's name, its place among the knobs, and the path of its modes: [[[p, s], …], …]."""
    if not paper.portrayed:
        return []
    whole, found = suite(paper.key, scale), []
    behind = backed(store, whole)
    for name, words in paper.portrayed.items():
        configs = [config for arm, _, config in whole.configs() if arm == name]
        run = next(filter(None, map(behind.find, configs)), None)
        if run is not None and (modes := paths(run.columns, _sigma2(run))):
            found.append({"name": f"{words} (seed {run.config.seed})", "values": place(run), "modes": modes})
    return found


def place(run: Record) -> dict[str, float]:
    """The values of the knobs at which the run was made, as far as they reach."""
    h = units(run.config, Noise(_sigma2(run), 1.0))
    values = {"eta": h.eta, "sigma2": h.sigma2, "tau": 1.0, "alpha_p": h.alpha_p}
    ends = {knob.name: (knob.low, knob.high) for knob in KNOBS}
    return {name: float(np.clip(value, *ends[name])) for name, value in values.items()}


def paths(columns: Columns, sigma2: float) -> list[list[list[float]]]:
    """(p_j, s_j) of the leading modes over the run, s_j = q_j/(1 + σ²) of the views' correlation, whose eigenvalue is
    q_j; empty where the run has no more than its end."""
    names = ("predictor_spectrum", "eigenvalues")
    if not set(names) <= columns.arrays.keys():
        return []
    (p_step, p), (q_step, q) = (columns.arrays[name] for name in names)
    step, of_p, of_q = np.intersect1d(p_step, q_step, return_indices=True)
    if len(step) < 3:
        return []
    kept = np.unique(np.linspace(0, len(step) - 1, POINTS).round().astype(int))
    modes = min(MODES, p.shape[1], q.shape[1])
    both = np.stack([p[of_p[kept], :modes], q[of_q[kept], :modes] / (1 + sigma2)], axis=-1)
    whole = both[np.isfinite(both).all((1, 2))].swapaxes(0, 1)
    return [[[float(f"{v:.4g}") for v in point] for point in mode] for mode in whole]


def _sigma2(run: Record) -> float:
    data = run.config.data
    return float(data.gaussian_sigma2) if data.dataset == "gaussian" else SIGMA2

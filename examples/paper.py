"""A paper in one file: an arm, a claim, a figure, and so a section in the report.

`python examples/paper.py` runs, verifies, draws and reports it at the scale smoke. To keep a paper, let such a file
stay anywhere in the checkout and enter its module in experiments/papers.py, here `"examples.paper",`.
"""

from stopgrad.deep.presets.theory import LINEAR_GAUSSIAN
from stopgrad.experiments.claims.claim import Claim, Rule
from stopgrad.experiments.claims.measures import modes
from stopgrad.experiments.claims.paper import Paper
from stopgrad.experiments.suites.grid import Arm, Suite, change
from stopgrad.figures.machinery import style
from stopgrad.figures.machinery.picture import FromRuns, Picture
from stopgrad.linear_theory.exact.fixed_points import critical_eta
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters

KEY = "mine2026"


def suite(scale):
    config = change(LINEAR_GAUSSIAN, epochs=2 if scale == "smoke" else 40, gaussian_samples=512, monitor_every=1)
    return Suite(KEY, scale, {"linear": Arm("linear", config, seeds=(0, 1, 2))})


def compute(runs):
    import xarray as xr  # here, so that a list of figures need not wait for it

    return xr.Dataset({"modes": ("seed", [modes(run) for run in runs.of("linear").values()])})


@style.styled
def draw_modes(data):
    """The caption: how many modes of F are left at the end, a point a seed."""
    figure, axes = style.new_figure()
    axes[0, 0].plot(data.modes, "o")
    axes[0, 0].set(xlabel="seed", ylabel="modes of $F$")
    return figure


CLAIM = Claim(
    id="modes",
    place="Theorem 1",
    statement="A linear network keeps more than one mode.",
    theory=lambda: f"Modes live below η = {float(critical_eta(Hyperparameters())):.3g}.",
    rule=Rule("modes of F at the end", above=1.0, unit="modes", why="one is complete collapse"),
    arms=("linear",),
    value=lambda runs: modes(runs["linear"]),  # {arm: run}, all of one seed
)
MODES = Picture(FromRuns(KEY, ("linear",), compute), draw_modes, "Modes kept", "here", KEY, claims=(f"{KEY}-modes",))
PAPER = Paper(
    key=KEY, citation="A. Author 2026", since="2026-11-28", suite=suite, claims=(CLAIM,), figures={"my-modes": MODES}
)

if __name__ == "__main__":
    from stopgrad.experiments.papers import PAPERS

    PAPERS[KEY] = PAPER  # what the line in experiments/papers.py does, before any command reads the list

    from stopgrad.experiments.__main__ import COMMANDS as EXPERIMENTS
    from stopgrad.figures.__main__ import COMMANDS as FIGURES
    from stopgrad.linear_theory.tools.door import main

    flags = ["--paper", KEY, "--scale", "smoke"]
    main("experiments", "", EXPERIMENTS, ["run", "--launcher", "inprocess", *flags])
    main("experiments", "", EXPERIMENTS, ["verify", *flags])
    main("figures", "", FIGURES, ["all", *flags])
    main("figures", "", FIGURES, ["report", *flags])

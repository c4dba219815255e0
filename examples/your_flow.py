"""Change one equation and draw its phase diagram: what if the predictor decays the faster, the larger it is?

`python examples/your_flow.py [PICTURE.png [CELLS]]` prints where one start ends, and writes the picture.
"""

import sys
from dataclasses import dataclass

import numpy as np

from stopgrad.figures.machinery.style import save
from stopgrad.figures.shared.phase import draw_phase
from stopgrad.linear_theory import Axis, FlowProblem, Mode, boundary, integrate, phase_diagram, threshold


@dataclass(frozen=True)
class Knobs:
    """The hyperparameters: any record of numbers will do."""

    sigma2: float = 0.1  # augmentation variance
    eta: float = 0.04  # weight decay
    kappa: float = 0.0  # how much faster a large predictor decays


def flow(state: Mode, h: Knobs) -> Mode:
    """Eq. 11-12 of Tian et al. 2021 at α_p = τ = x = 1, but p decays at the rate η(1 + κ p²)."""
    p, s = state
    pull = 1 - (1 + h.sigma2) * p
    return Mode(p=s * pull - h.eta * (1 + h.kappa * p**2) * p, s=2 * s * (p * pull - h.eta))


def diagram(cells: int):
    """Fates over κ and η, with the border between them. A mode is alive if it has settled at s > 0.01."""
    problem = FlowProblem(flow, start=Mode(p=0.4, s=0.16), h=Knobs(), outcome=threshold("s", 0.01))
    kappa, eta = Axis("kappa", np.linspace(0, 20, cells)), Axis("eta", np.linspace(0.01, 0.25, cells))
    return phase_diagram(kappa, eta, problem).merge(boundary(kappa, eta, problem))


def main(picture="your_flow.png", cells=128):
    end = integrate(flow, Mode(0.4, 0.16), Knobs(kappa=np.array([0.0, 20.0])), t=500.0)
    print("from p = 0.4, s = 0.16 a mode comes to")
    for kappa, p, s in zip((0, 20), *end.state):
        print(f"  p = {p:.3f}, s = {s:.3f} with κ = {kappa} (estimated error {end.worst_error:.0e})")
    data = diagram(int(cells))
    text = f"{float((data.fate == 0).mean()):.0%} of {data.fate.size} cells are alive"
    save(draw_phase(data, "s"), picture, text)
    print(f"{text}; {picture} shows where")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Embeddings drawn in one direction: the two losses of Zhang et al. 2022's Conjecture 1, and their control (Fig. 4)."""

from dataclasses import dataclass
from typing import Literal

from stopgrad.deep.kinds import Objective
from stopgrad.deep.method.objectives.vectors import centre, drawn_to, idle_parts, random_directions, residual
from stopgrad.linear_theory.tools.lengths import directions

_SEEN = {
    "centre": "Every embedding is drawn to their mean direction: m_o rises towards 1, a complete collapse.",
    "residual": "Every embedding is drawn away from their mean direction, by exactly the opposite of the gradient "
    "towards it: m_o falls, no complete collapse; on the rank the paper says nothing.",
    "random": "Directions drawn anew at each step average out: m_o is to be expected between what --toward centre and "
    "--toward residual make of it, by where it was before (Zhang et al. 2022, Fig. 4).",
    "view": "Each embedding is drawn to the other view's, and nothing holds the embeddings of different images apart: "
    "a collapse is to be expected, whatever the predictor (naive Siamese network).",
}


@dataclass(frozen=True)
class Direction(Objective):
    """Embeddings drawn to their centre, to their residual, in a random direction, or to the other view.

    L_o = −Z_a·sg(o_z) and L_r = −Z_a·sg(r_a), whose gradients are opposite, since their sum −Z_a·sg(Z_a) has none. The
    control draws each image's embeddings, of both views alike, in a direction of its own: a unit vector as Z is, whose
    parts o and r are no longer, uniform on the sphere, drawn anew at each step. It is a function of (step, image), so
    that a resumed run repeats it; the run's seed is not in it.

    All act on the embeddings, not on predictions: a predictor that learns is trained in other phases of a schedule.

    >>> Direction(toward="random").whole_batch, Direction(toward="centre").whole_batch
    (False, True)
    """

    toward: Literal["centre", "residual", "random", "view"] = "centre"
    """Where Z_a is drawn to: o_z, its own r_a, a random direction (Fig. 4), or Z_b, as in a naive Siamese network."""
    compares = False

    @property
    def whole_batch(self):
        """A centre is that of all images."""
        return self.toward in ("centre", "residual")

    def __call__(self, outputs):
        """−Z·sg(direction), averaged over images and both views."""
        Z = directions(outputs.z)
        goals = {
            "centre": lambda: centre(Z),
            "residual": lambda: residual(Z),
            "random": lambda: random_directions(outputs.step, outputs.index.to(Z.device), Z.shape[-1]).to(Z),
            "view": lambda: Z.flip(0),
        }
        return drawn_to(Z, goals[self.toward]())

    def unbalanced(self) -> str | None:
        """Theorem 1 is of the gradient through the predictor."""
        return f"--objective {self} does not send its gradient through the predictor"

    def expects(self, setting) -> list[str]:
        """What the paper saw, and that the predictor learns nothing."""
        return [_SEEN[self.toward], *setting.bounded, *idle_parts(setting.config)]

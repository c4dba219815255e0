"""The triplet loss with a random negative, and its gradient taken apart (Zhang et al. 2022, Table 3).

L = −Z_a·sg(Z_b − Z_n): the negative adds the extra gradient −Z_n to the basic one Z_b, with the centre −o_z and the
residual −r_n.
"""

from dataclasses import dataclass
from typing import Literal

from stopgrad.deep.kinds import Objective
from stopgrad.deep.method.objectives.vectors import centre, drawn_to, other_images, residual
from stopgrad.linear_theory.tools.lengths import directions

_SEEN = {
    "both": "A negative holds the embeddings apart: no collapse is to be expected (Zhang et al. 2022, Table 3).",
    "centre": "Taking the mean direction off the target holds the embeddings apart: no complete collapse is to be "
    "expected, and better ones than with a whole negative (Zhang et al. 2022, Table 3).",
    "residual": "The residual of a negative does not hold the mean direction down: a complete collapse is to be "
    "expected (Zhang et al. 2022, Table 3).",
}


@dataclass(frozen=True)
class Triplet(Objective):
    """Each view is drawn to the other and away from that of another image of the batch.

    What is drawn is the prediction P_a, with `--predictor identity` the embedding itself; Z are the target's
    embeddings. The negative of an image is any other of the batch, drawn anew at each step: a function of the step
    and of the image's place in the batch, so that a resumed run repeats it.

    >>> Triplet(keep="residual").unbalanced() is None  # all gradients go through the predictor
    True
    """

    keep: Literal["both", "centre", "residual"] = "both"
    """What P_a is drawn to: Z_b − Z_n, Z_b − o_z, or Z_b − r_n, n being the negative; o_z is that of view b's batch."""
    whole_batch = True

    def __call__(self, outputs):
        """−P·sg(goal), averaged over images and both views."""
        Z = directions(outputs.target.flip(0))
        n = other_images(outputs.step, Z.shape[-2]).to(Z.device)
        pushes = {
            "both": lambda: Z[:, n],
            "centre": lambda: centre(Z),
            "residual": lambda: residual(Z)[:, n],
        }
        return drawn_to(directions(outputs.p), Z - pushes[self.keep]())

    def unbalanced(self) -> str | None:
        """Whatever the predictions are drawn to, the gradient goes through the predictor alone: Theorem 1 holds."""
        return None

    def expects(self, setting) -> list[str]:
        """What the paper saw."""
        return [_SEEN[self.keep], *(setting.bounded if self.keep == "residual" else [])]

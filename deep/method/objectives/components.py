"""SimSiam's gradient taken apart (Zhang et al. 2022, Table 4).

The negative gradient of SimSiam's loss at a prediction P_a is Z_b = P_b + G_e: the basic gradient P_b, under which a
symmetric network collapses, and the extra gradient G_e = Z_b − P_b, whose parts are the centre o_e = o_z − o_p and the
residual r_e = r_z − r_p.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from stopgrad.deep.kinds import Objective
from stopgrad.deep.method.objectives.vectors import centre, drawn_to, idle_target, residual
from stopgrad.deep.method.targets.symmetric import SymmetricTarget
from stopgrad.linear_theory.tools.lengths import directions

_SEEN = {
    "centre": "Of the extra gradient only the centre is left, which holds the mean direction down: no complete "
    "collapse is to be expected, but nothing de-correlates, so the rank falls (Zhang et al. 2022, Table 4 and Fig. 6).",
    "residual": "Of the extra gradient only the residual is left, which de-correlates: no collapse is to be expected, "
    "and hardly a difference from both (Zhang et al. 2022, Table 4).",
    "none": "Without the extra gradient predictions are drawn to each other: they collapse, as with a predictor on "
    "both sides (Zhang et al. 2022, Table 4), while the embeddings may stay apart.",
}


@dataclass(frozen=True)
class Components(Objective):
    """SimSiam with its extra gradient or a part of it: centre, residual, or none.

    >>> Components(keep="centre").whole_batch
    True
    """

    keep: Literal["both", "centre", "residual", "none"] = "both"
    """What P_a is drawn to: Z_b (SimSiam), o_z + r_p, o_p + r_z, or P_b; a centre is that of one view's batch."""
    whole_batch = True

    @property
    def compares(self):
        """Without any part of the extra gradient, predictions are all that is left."""
        return self.keep != "none"

    @property
    def theory(self):
        """With both parts it is the cosine loss itself."""
        return "cosine" if self.keep == "both" else None

    def __call__(self, outputs):
        """−P·sg(goal), averaged over images and both views; the goal is not normalised again."""
        P, Z = directions(outputs.p), directions(outputs.target.flip(0))
        other = P.flip(0)
        goals = {
            "both": lambda: Z,
            "centre": lambda: centre(Z) + residual(other),
            "residual": lambda: centre(other) + residual(Z),
            "none": lambda: other,
        }
        return drawn_to(P, goals[self.keep]())

    def complaints(self, config) -> Iterator[str]:
        """Where predictions are the target, there is nothing to take apart."""
        predictor, target = config.method.predictor, config.method.target
        alike = (predictor.absent and target.learns) or isinstance(target, SymmetricTarget)
        if self.keep != "both" and alike:
            yield (
                f"--keep {self.keep} is a part of what a predictor on one side adds to the gradient; with --predictor "
                f"{predictor} and --target {target} it adds nothing"
            )

    def unbalanced(self) -> str | None:
        """Whatever the predictions are drawn to, the gradient goes through the predictor alone: Theorem 1 holds."""
        return None

    def expects(self, setting) -> list[str] | None:
        """What the paper saw; with both parts it is the predictor that decides."""
        return None if self.keep == "both" else [_SEEN[self.keep], *setting.bounded, *idle_target(setting.config)]

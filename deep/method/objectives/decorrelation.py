"""The regulariser that takes correlations between channels away, by itself (Zhang et al. 2022, Alg. 6 and Fig. 5b)."""

from dataclasses import dataclass
from typing import Literal

from stopgrad.deep.kinds import Objective
from stopgrad.deep.method.objectives.vectors import idle_parts
from stopgrad.linear_theory.tools.lengths import directions

_SEEN = {
    "covariance": "Embeddings that are all one have no covariance, so a complete collapse is among the minima: from a "
    "healthy start channels de-correlate, a collapsed one need not recover.",
    "correlation": "Correlations do not see the size of a channel, so a collapse does not lower them: channels "
    "de-correlate, whatever is left of them.",
}


def covariance(Z):
    """C = Z_cᵀZ_c/(B − 1), Z_c = Z − mean over the batch: (…, B, d) to (…, d, d)."""
    centred = Z - Z.mean(dim=-2, keepdim=True)
    return centred.mT @ centred / (Z.shape[-2] - 1)


def correlation(Z):
    """The same of channels divided by their standard deviation; a channel that is constant correlates with none."""
    rows = directions((Z - Z.mean(dim=-2, keepdim=True)).mT)
    return rows @ rows.mT


def off_diagonal(C):
    """Σ_{i≠j} C_ij²/d: (…, d, d) to (…)."""
    others = C - C.diagonal(dim1=-2, dim2=-1).diag_embed()
    return others.square().sum(dim=(-2, -1)) / C.shape[-1]


FORMS = {"covariance": covariance, "correlation": correlation}


@dataclass(frozen=True)
class Decorrelation(Objective):
    """Squared covariances, or correlations, between channels of the embeddings, and nothing else.

    Alg. 6 of Zhang et al. 2022 as printed is the covariance form, VICReg's covariance term, averaged over both views;
    the text there speaks of correlations, which is the other form. It acts on the embeddings, not on predictions.

    >>> Decorrelation(form="correlation", embeddings="raw").whole_batch
    True
    """

    form: Literal["covariance", "correlation"] = "covariance"
    """Σ_{i≠j} C_ij²/d of the covariance (divided by B − 1), or of the correlation, which no channel's size changes."""
    embeddings: Literal["normalised", "raw"] = "normalised"
    """Of Z = z/‖z‖, or of z itself."""
    compares = False
    whole_batch = True

    def __call__(self, outputs):
        """The penalty of z (2, B, d), averaged over both views."""
        Z = directions(outputs.z) if self.embeddings == "normalised" else outputs.z
        return off_diagonal(FORMS[self.form](Z)).mean()

    def unbalanced(self) -> str | None:
        """Theorem 1 is of the gradient through the predictor."""
        return f"--objective {self} does not send its gradient through the predictor"

    def expects(self, setting) -> list[str]:
        """What it can undo, and that the predictor learns nothing."""
        return [_SEEN[self.form], *idle_parts(setting.config)]

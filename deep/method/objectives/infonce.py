"""InfoNCE: the other view of an image is to be found among those of a batch (van den Oord et al. 2018).

Zhang et al. 2022 compare it with SimSiam: −∂L/∂Z_a = (Z_b − Σ λ_i Z_i)/τ with λ = softmax(Z_a·Z_i/τ), so the negatives
add the extra gradient −Σ λ_i Z_i, whose centre is −o_z at every τ, and whose residual is −(1/τ) C Z_a + O(1/τ²), C
being the covariance of the Z_i: de-centering and de-correlation.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from stopgrad.deep.kinds import Objective
from stopgrad.deep.parts import POSITIVE
from stopgrad.linear_theory.tools.lengths import directions


def infonce_loss(queries, positives, keys, temperature: float):
    """−log exp(q_i·k_i/τ)/Σ_j exp(q_i·k_j/τ), averaged: unit vectors (…, B, d).

    `positives` are the same vectors as `keys`: what passes a gradient where j = i, and where j ≠ i.
    """
    import torch

    matching = (queries * positives).sum(dim=-1) / temperature
    own = torch.eye(keys.shape[-2], dtype=torch.bool, device=keys.device)
    logits = torch.where(own, matching[..., None], queries @ keys.mT / temperature)
    return (logits.logsumexp(dim=-1) - matching).mean()


@dataclass(frozen=True)
class InfoNCE(Objective):
    """Find the other view of an image among those of all images of the batch.

    What looks is the prediction P_a, with `--predictor identity` the embedding itself; what it looks among are the
    target's embeddings of the other view, one positive and B − 1 negatives.

    >>> InfoNCE(temperature=0.1).stopped_keys
    'none'
    """

    temperature: Annotated[float, POSITIVE] = 0.2
    """τ: cosines are divided by it before the softmax."""
    stopped_keys: Literal["none", "negatives", "all"] = "none"
    """Which of the target's embeddings pass no gradient: none of them (SimCLR), the negatives, or all."""
    whole_batch = True

    def __call__(self, outputs):
        """The loss of p and target, (2, B, d) each, averaged over both views."""
        queries, keys = directions(outputs.p), directions(outputs.target.flip(0))
        positives = keys.detach() if self.stopped_keys == "all" else keys
        negatives = keys if self.stopped_keys == "none" else keys.detach()
        return infonce_loss(queries, positives, negatives, self.temperature)

    def complaints(self, config) -> Iterator[str]:
        """A target that does not learn passes no gradient anyway."""
        target = config.method.target
        if self.stopped_keys == "negatives" and not target.learns:
            yield f"--stopped-keys negatives needs a target that learns, which is --target shared, not {target}"

    def unbalanced(self) -> str | None:
        """Theorem 1 is of the gradient through the predictor alone."""
        learns_twice = "the embedding learns through the target too (--stopped-keys all)"
        return None if self.stopped_keys == "all" else learns_twice

    def expects(self, setting) -> list[str]:
        """No collapse, with any predictor and none."""
        return [
            "Images of a batch push each other apart: no complete collapse is to be expected, with any predictor or "
            "none. The higher the temperature, the weaker their de-correlation beside their de-centering."
        ]

"""The predictor on both sides."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from stopgrad.deep.kinds import Target


@dataclass(frozen=True)
class SymmetricTarget(Target):
    """The online network and the predictor: h on both sides (Zhang et al. 2022).

    Their Fig. 2b: −P_a · sg(P_b), which is the loss of a Siamese network without predictor whose encoder is h∘f.

    >>> from stopgrad.deep import Config, change
    >>> change(Config(), target="symmetric", predictor="mlp").method.target.expects(None)[0][:45]
    'With the predictor on both sides the two are '
    """

    def __call__(self, batch, seen, online):
        """Each view's own prediction."""
        return replace(seen, target=seen.p)

    def complaints(self, config) -> Iterator[str]:
        """There must be something to put on both sides."""
        if config.method.predictor.absent:
            yield f"--target symmetric puts the predictor on both sides; with {config.method.predictor} use shared"

    def expects(self, setting) -> list[str]:
        """What Zhang et al. saw."""
        return [
            "With the predictor on both sides the two are alike again, and nothing holds predictions apart: Zhang et "
            "al. saw a collapse (Table 2). Watch P: the embedding before the predictor may be spared."
        ]

"""SimSiam as an alternation: a target that stands still for some steps."""

from dataclasses import dataclass
from typing import Annotated

from stopgrad.deep.kinds import Target
from stopgrad.deep.parts import COUNT


@dataclass(frozen=True)
class Alternating(Target):
    """The online network as it was when last refreshed, every k steps (SimSiam's multi-step alternation).

    Chen & He 2021, Section 5.2: η is taken from the network of the outer loop, and k steps of SGD are done with it; k =
    1 is SimSiam. For a refresh once an epoch give the steps of an epoch.

    >>> from stopgrad.deep import Config, change
    >>> change(Config(), target="alternating", alternation=100).method.target
    Alternating(alternation=100)
    """

    alternation: Annotated[int, COUNT] = 10
    """k, the steps after which the target becomes the present network."""
    learns = False
    spared = True

    def build(self, online, predictor, method):
        """A copy of the online network to begin with."""
        from stopgrad.deep.method.targets.networks import AlternatingTarget

        return AlternatingTarget(online, self.alternation)

    def expects(self, setting) -> list[str] | None:
        """What Chen & He saw, where a predictor learns."""
        if self.alternation == 1 or not setting.config.method.predictor.learns:
            return None
        return setting.every_mode_dies or [
            "A target that stands still for some steps: Chen & He saw no collapse with 10 steps, 100 or an epoch "
            "(68.7, 68.9 and 67.0 % on ImageNet, against 68.1 %)."
        ]

"""The expectation over augmentation, taken by a moving average over the visits to an image."""

from dataclasses import dataclass
from typing import Annotated, Literal

from stopgrad.deep.kinds import Target
from stopgrad.deep.parts import BELOW_ONE


@dataclass(frozen=True)
class MovingAverage(Target):
    """A moving average of each image's embeddings (SimSiam's Section 5.3).

    η ← mη + (1 − m)z after every visit, z being the mean over the visit's views: SimSiam's proof of concept without
    predictor (Chen & He 2021), Table 1 of Zhang et al. 2022. An image's first target is its own embedding, so that the
    first epoch is that of a network without predictor, or a random direction, as in the code of Zhang et al., which
    averages the second view's embeddings. It takes images · d numbers.

    >>> from stopgrad.deep.config import Config, change
    >>> change(Config(), target="moving_average", average_start="random", predictor="identity").method.target
    MovingAverage(average_momentum=0.8, average_start='random')
    >>> import torch
    >>> from stopgrad.deep import Method
    >>> from stopgrad.deep.method.outputs import Outputs
    >>> target = MovingAverage(average_momentum=0.75).build(None, None, Method(embedding_dim=2))
    >>> for z in ([0.0, 4.0], [4.0, 0.0]):  # image 1, seen twice, by one view each time
    ...     seen = torch.tensor([[z]])
    ...     target.after_step(None, Outputs(seen, seen, index=torch.tensor([1])))
    >>> target.means
    tensor([[nan, nan],
            [1., 3.]])
    """

    average_momentum: Annotated[float, BELOW_ONE] = 0.8
    """m of η ← mη + (1 − m)z, once a visit."""
    average_start: Literal["embedding", "random"] = "embedding"
    """What an image's average starts from: its own first embedding, or a random unit vector, the same in every run."""
    learns = False
    spared = True

    def build(self, online, predictor, method):
        """What remembers an average for each image."""
        from stopgrad.deep.method.targets.networks import MovingAverageTarget

        return MovingAverageTarget(method.embedding_dim, self.average_momentum, self.average_start)

    def expects(self, setting) -> list[str]:
        """What both papers saw without a predictor; with one nothing is known."""
        if not setting.config.method.predictor.absent:
            return []
        said = [
            "Without predictor, a moving average of each image's embeddings is slow enough to have kept Chen & He's "
            "network (55.0 % on ImageNet) and Zhang et al.'s (46.6 % on CIFAR-100, Table 1) from collapse, not from "
            "loss of accuracy."
        ]
        if setting.config.method.projector_output_bn == "none":
            said.append(
                "Without an output BatchNorm their mean is in every average from the start: small networks gather."
            )
        return said

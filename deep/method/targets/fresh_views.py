"""The expectation over augmentation, taken by the mean of fresh views."""

from dataclasses import dataclass, replace
from typing import Annotated

from stopgrad.deep.kinds import Target
from stopgrad.deep.parts import COUNT


@dataclass(frozen=True)
class FreshViews(Target):
    """The mean embedding of n further views of the image (Zhang et al. 2022).

    E_T[f(T(x))], which SimSiam's predictor was said to stand for (Chen & He 2021, Section 5), as near as n views bring
    it: Table 1 of Zhang et al., n = 10 and 25, without predictor. The mean is of embeddings as they are, not of their
    directions, as the expectation is; it is the same target for every view that is predicted.

    >>> FreshViews(target_views=25).views  # beside the two that are predicted
    25
    """

    target_views: Annotated[int, COUNT] = 10
    """n, the views of an image whose mean embedding is the target."""
    learns = False
    spared = True

    @property
    def views(self) -> int:
        """All of them are its own."""
        return self.target_views

    def __call__(self, batch, seen, online):
        """Without gradient; the views go through one by one, as any other."""
        import torch

        with torch.no_grad():
            mean = torch.stack([online(x) for x in batch.views[-self.target_views :]]).mean(dim=0)
        return replace(seen, target=mean.expand_as(seen.z))

    def expects(self, setting) -> list[str] | None:
        """Without a predictor what Zhang et al. saw; with one the mean of views only takes noise from the target."""
        predictor = setting.config.method.predictor
        if not predictor.absent:
            return None
        return [*predictor.expects(setting), "Zhang et al. saw it with the mean of 10 and of 25 views (Table 1)."]

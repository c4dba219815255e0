"""What a step learns from: views of some images, and which images these are, seen for which time, at which step."""

from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True, eq=False)
class Batch:
    """B images of a step (all, or a part's or a process's share of them) through any number of views."""

    views: tuple[torch.Tensor, ...]
    """Each (B, …), on the training device; none as long as they are still to be made."""
    index: torch.Tensor
    """int64 (B,), on the CPU: which of the training images."""
    visit: torch.Tensor
    """int64 (B,), on the CPU: how often the run has come to each before; no (index, visit) occurs twice in a run."""
    step: int = 0
    """The optimiser's step, from 0."""

    @classmethod
    def of(cls, *views: torch.Tensor) -> "Batch":
        """Views, (B, …) each, of the images 0 … B − 1 at their first visit: a batch that comes from no run."""
        index = torch.arange(len(views[0]))
        return cls(views, index, torch.zeros_like(index))

    def __len__(self) -> int:
        return len(self.index)

    def to(self, dtype: torch.dtype) -> "Batch":
        """The same batch with views of this dtype."""
        return replace(self, views=tuple(view.to(dtype) for view in self.views))

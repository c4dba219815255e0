"""What a method gives for a batch."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace

import torch


@dataclass(frozen=True, eq=False)
class Outputs:
    """V views' embeddings, predictions and target embeddings of B images, and what was lost on them."""

    z: torch.Tensor
    """(V, B, d): embeddings of the views that the online network saw."""
    p: torch.Tensor
    """(V, B, d): predictions."""
    index: torch.Tensor | None = None
    """int64 (B,): which images; None where nobody said."""
    target: torch.Tensor | None = None
    """(V, B, d): the target embedding of each view; None until the target has been asked."""
    loss: torch.Tensor | None = None
    """The objective, 0-d; None until it has been asked."""
    terms: dict[str, torch.Tensor] = field(default_factory=dict)
    """Further losses by name, 0-d, each of a part that learns by itself."""
    scalars: dict[str, torch.Tensor] = field(default_factory=dict)
    """Further numbers by name, 0-d, to be recorded."""
    step: int = 0
    """The optimiser's step that they are of, from 0."""

    @property
    def total(self) -> torch.Tensor:
        """What the optimiser descends: loss and terms."""
        return sum(self.terms.values(), self.loss)

    def map(self, change: Callable[[torch.Tensor, int], torch.Tensor]) -> "Outputs":
        """The same with `change(tensor, dim)` of all that has a batch, `dim` being the axis of its images."""
        there = {name: getattr(self, name) for name in _AXIS if getattr(self, name) is not None}
        return replace(self, **{name: change(value, _AXIS[name]) for name, value in there.items()})

    def detached(self) -> "Outputs":
        """The same numbers without their graph."""
        kept = {name: {k: v.detach() for k, v in getattr(self, name).items()} for name in ("terms", "scalars")}
        return replace(self.map(lambda value, dim: value.detach()), loss=self.loss.detach(), **kept)

    @staticmethod
    def joined(parts: list["Outputs"]) -> "Outputs":
        """The outputs of a batch that was computed in equal parts: images one after the other, numbers averaged."""
        if len(parts) == 1:
            return parts[0]
        return Outputs(**{f.name: _joined([getattr(part, f.name) for part in parts], f.name) for f in fields(Outputs)})


_AXIS = {"z": 1, "p": 1, "target": 1, "index": 0}


def _joined(values: list, name: str):
    if isinstance(values[0], dict):
        return {key: torch.stack([value[key] for value in values]).mean() for key in values[0]}
    if not torch.is_tensor(values[0]):
        return values[0]  # None, or the step, which all parts share
    return torch.cat(values, dim=_AXIS[name]) if name in _AXIS else torch.stack(values).mean()

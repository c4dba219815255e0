"""Objectives: the loss of embeddings, predictions and targets. One file each, and a line in `deep.seats.OBJECTIVES`."""

from typing import TYPE_CHECKING, Literal

from stopgrad.deep.parts import Part

if TYPE_CHECKING:
    import torch

    from stopgrad.deep.method.outputs import Outputs


class Objective(Part):
    """From what a batch gave to a loss: a function of it and of the fields, without weights or memory."""

    views = 2
    """Views that the online network sees; a target may ask for more."""
    whole_batch = False
    """Whether it compares images with each other: then no batch comes in parts, and processes gather theirs first."""
    isoloss = False
    """Whether the gradient at the prediction acts on the embedding itself."""
    theory: Literal["squared", "cosine"] | None = None
    """Which of the losses that the linear theory speaks of it is; None: neither."""

    def __call__(self, outputs: "Outputs") -> "torch.Tensor":
        """The loss, a 0-d tensor, of `outputs`, whose z, p and target are (V, B, d); its own loss is not there yet."""
        raise NotImplementedError

    def scalars(self, outputs: "Outputs") -> dict[str, "torch.Tensor"]:
        """More numbers to be recorded with a step, 0-d tensors by name."""
        return {}

    def unbalanced(self) -> str | None:
        """Why Theorem 1 of Tian, Chen & Ganguli 2021 does not hold under it, in a sentence's words; None: it does."""
        return f"nothing is known of it under --objective {self}"

    def expects(self, setting) -> list[str] | None:
        """What is to be expected whatever the predictor, in sentences; None: that is for the predictor to say.

        `setting` is a `deep.words.expectation.Setting`.
        """
        return []

"""Predictors: from an embedding to the prediction of another view's. One file each, and a line in `deep.seats`."""

from typing import TYPE_CHECKING

from stopgrad.deep.parts import Part

if TYPE_CHECKING:
    from torch import nn


class Predictor(Part):
    """Learned, set, frozen or absent."""

    learns = True
    """Whether the optimiser has something in it to train."""
    is_set = False
    """Whether it follows from the embeddings, at every step or at some."""
    linear = False
    """Whether p = W_p z."""
    balanced = False
    """Whether p = W_p z (+ b) learns by its own gradient alone, as Theorem 1 of Tian, Chen & Ganguli 2021 has it."""
    absent = False
    """Whether p = z."""

    def build(self, d: int) -> "nn.Module":
        """A `deep.method.networks.PredictorNetwork` or its like, for embeddings of d dimensions."""
        raise NotImplementedError

    def expects(self, setting) -> list[str]:
        """What is to be expected with stop-gradient at the target, in sentences; none where nothing is known.

        `setting` is a `deep.words.expectation.Setting`.
        """
        return []

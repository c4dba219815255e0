"""Which images a run visits at which step: one order a file, and a line in `deep.seats.ORDERS`."""

from typing import TYPE_CHECKING

from stopgrad.deep.parts import Part

if TYPE_CHECKING:
    import torch

    from stopgrad.deep.data.orders.setting import Setting


class Order(Part):
    """In which order a run visits its images."""

    def at(self, setting: "Setting", step: int) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Indices of a step's images and the visits' numbers, int64 (batch_size,) each, on the CPU.

        A pure function, asked for any step from 0. A visit's number says how often the image's turn has come before, so
        that no (index, visit) occurs twice: each visit has views of its own. An image may occur twice in a step.
        Raises ValueError, at step 0 too, for a setting in which the order is impossible.
        """
        raise NotImplementedError

"""The usual order: every image once an epoch."""

from dataclasses import dataclass

from stopgrad.deep.data.orders import Order


@dataclass(frozen=True)
class Shuffled(Order):
    """All images, shuffled anew each epoch; what fills no whole batch is left out of it."""

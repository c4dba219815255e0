"""Which images a run visits at which step: one order a file, and a line in `deep.seats.ORDERS`."""

from stopgrad.deep.parts import Part


class Order(Part):
    """In which order a run visits its images."""

"""Which images a run visits at which step: one order a file, and a line in `deep.seats.ORDERS`."""

"""Which images a run visits at which step: one order a file."""

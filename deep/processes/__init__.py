"""Several processes at one run, and signals that end it."""

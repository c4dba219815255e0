"""Targets: what predictions are compared with. One file each, and a line in `deep.seats.TARGETS`."""

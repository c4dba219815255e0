"""Backbones: from a view to its representation. One file each, and a line in `deep.seats.BACKBONES`."""

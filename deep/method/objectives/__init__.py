"""Objectives: the loss of embeddings, predictions and targets. One file each, and a line in `deep.seats.OBJECTIVES`."""

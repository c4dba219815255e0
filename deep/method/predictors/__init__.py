"""Predictors: from an embedding to the prediction of another view's. One file each, and a line in `deep.seats`."""

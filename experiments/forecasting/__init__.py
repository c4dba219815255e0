"""Forecasting accuracies from metrics that need no labels."""

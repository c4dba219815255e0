"""Predictors set from the features' correlation: rules by name, and as functions of a matrix."""

"""Spectra of representations: collapse, effective rank, alignment."""

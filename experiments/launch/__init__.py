"""Carrying out many runs."""

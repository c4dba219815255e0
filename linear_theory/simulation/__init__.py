"""Integrating a flow, and what became of it."""

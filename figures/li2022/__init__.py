"""The figures of Li, Efros & Pathak 2022."""

FIGURES = ("spectra", "maps", "orders", "forecast", "tables")
"""Files of this room that have figures; each names its own in a dictionary FIGURES."""

"""The figures of Zhang et al. 2022."""

FIGURES = ("outcomes", "phases", "centre", "theory", "tables")
"""Files of this room that have figures; each names its own in a dictionary FIGURES."""

"""The figures of the ladder from theory to SimSiam."""

FIGURES = ("laws", "critical", "isoloss", "fate")
"""Files of this room that have figures; each names its own in a dictionary FIGURES."""

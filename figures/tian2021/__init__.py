"""The figures of Tian et al. 2021."""

FIGURES = ("overview", "runs", "theory", "networks", "tables")
"""Files of this room that have figures; each names its own in a dictionary FIGURES."""

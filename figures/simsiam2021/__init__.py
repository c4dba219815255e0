"""The figures of Chen & He 2021."""

FIGURES = ("collapse", "tables")
"""Files of this room that have figures; each names its own in a dictionary FIGURES."""

"""Pictures of the theory alone."""

FIGURES = ("cosine", "linear_digits", "talks")
"""Files of this room that have figures; each names its own in a dictionary FIGURES."""

"""Pictures and the report: data in, matplotlib Figure out."""

import linear_theory.drawing  # noqa: F401 (before matplotlib)

"""The forecast of a run's fate as a record: a study of our own."""

from stopgrad.experiments.claims.paper import Paper
from stopgrad.experiments.fate import claims
from stopgrad.experiments.fate.draws import fate

PAPER = Paper(
    key="fate",
    citation="the forecast of runs’ fates",
    title="Collapse or not, and how many modes, from a recipe and a tenth of its run",
    since="2026-11-29",
    suite=fate,
    claims=claims.CLAIMS,
)

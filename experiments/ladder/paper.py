"""The ladder as a record: a study of our own, with a suite and claims like any paper's."""

from stopgrad.experiments.claims.paper import Paper
from stopgrad.experiments.ladder import claims
from stopgrad.experiments.ladder.rungs import ladder

PAPER = Paper(
    key="ladder",
    citation="the ladder from theory to SimSiam",
    title="How far Lemma 1 carries, an ingredient at a time",
    since="2026-11-29",
    suite=ladder,
    claims=claims.CLAIMS,
)

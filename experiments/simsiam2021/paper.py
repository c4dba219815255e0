"""Chen & He 2021 (SimSiam) as a record."""

from pathlib import Path

from stopgrad.experiments.claims.paper import Paper
from stopgrad.experiments.simsiam2021 import claims, theory_claims
from stopgrad.experiments.simsiam2021.ablation import ablation

PAPER = Paper(
    key="simsiam2021",
    citation="Chen & He 2021",
    title="Exploring simple Siamese representation learning",
    arxiv="2011.10566",
    since="2026-11-29",
    suite=ablation,
    claims=theory_claims.CLAIMS + claims.CLAIMS,
    tables=Path(__file__).with_name("tables.json"),
)

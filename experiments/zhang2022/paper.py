"""Zhang et al. 2022 as a record."""

from pathlib import Path

from stopgrad.experiments.claims.paper import Paper
from stopgrad.experiments.zhang2022 import claims, theory_claims
from stopgrad.experiments.zhang2022.ablation import ablation

PAPER = Paper(
    key="zhang2022",
    citation="Zhang et al. 2022",
    title="How does SimSiam avoid collapse without negative samples? A unified understanding with self-supervised "
    "contrastive learning",
    arxiv="2203.16262",
    since="2026-11-29",
    suite=ablation,
    claims=theory_claims.CLAIMS + claims.CLAIMS,
    tables=Path(__file__).with_name("tables.json"),
)

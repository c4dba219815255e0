"""Li, Efros & Pathak 2022 as a record."""

from pathlib import Path

from stopgrad.experiments.claims.paper import Paper
from stopgrad.experiments.li2022 import claims, theory_claims
from stopgrad.experiments.li2022.ablation import ablation

PAPER = Paper(
    key="li2022",
    citation="Li, Efros & Pathak 2022",
    title="Understanding collapse in non-contrastive Siamese representation learning",
    arxiv="2209.15007",
    since="2026-11-29",
    suite=ablation,
    claims=theory_claims.CLAIMS + claims.CLAIMS,
    tables=Path(__file__).with_name("tables.json"),
)

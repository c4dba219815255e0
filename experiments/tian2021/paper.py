"""Tian, Chen & Ganguli 2021 as a record."""

from pathlib import Path

from stopgrad.experiments.claims.paper import Paper
from stopgrad.experiments.tian2021 import claims, theory_claims
from stopgrad.experiments.tian2021.ablation import ablation

PAPER = Paper(
    key="tian2021",
    citation="Tian, Chen & Ganguli 2021",
    title="Understanding self-supervised learning dynamics without contrastive pairs",
    arxiv="2102.06810",
    since="2026-11-22",
    suite=ablation,
    claims=theory_claims.CLAIMS + claims.CLAIMS,
    tables=Path(__file__).with_name("tables.json"),
    portrayed={
        "linear/baseline": "linear network",
        "linear/alpha-8": "linear network, α_p = 8",
        "linear/beyond-critical-decay": "linear network beyond the critical weight decay",
        "baseline": "ResNet, squared error",
    },
)

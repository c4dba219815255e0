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
    scales_differ=(
        "Scale cpu is digits under the squared error, the theory's own loss, in the theory's units; scale cifar is the "
        "papers' recipe under the cosine loss on a fifth of CIFAR-10 in small, a 35th of the paper's steps with a "
        "predictor that is 20 times as fast as the rest, without which it learns too little in so few. Accuracies are "
        "therefore some thirty points below the paper's and lie little above raw pixels; what takes time, as all seeds "
        "of a symmetric predictor to collapse, has happened on some seeds and not on others, so that means over seeds "
        "are wide; and a learned predictor keeps fewer modes beside one that is set, which needs no time."
    ),
    portrayed={
        "linear/baseline": "linear network",
        "linear/alpha-8": "linear network, α_p = 8",
        "linear/beyond-critical-decay": "linear network beyond the critical weight decay",
        "baseline": "ResNet, squared error",
    },
)

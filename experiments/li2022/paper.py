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
    scales_differ=(
        "Scale cpu is digits in a few hundred steps, scale cifar a fifth of CIFAR-10 at 16 pixels in a few thousand, "
        "through ResNet-18s of a quarter of the paper's width and less. What Li et al. see on ImageNet is not seen on "
        "CIFAR-10: whatever share of the images is repeated and in whatever order they come, networks of one width "
        "spread their representations alike, and are alike in accuracy as far as three seeds can tell. What they name "
        "as its cause is not there either. A tenth of the images is not learned by heart in so few steps, training and "
        "validation loss stay together, and no network shows signs of being too small for images so few; so "
        "this neither supports nor refutes what happens where it is."
    ),
)

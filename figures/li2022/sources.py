"""How captions name Li, Efros & Pathak 2022, and the numbers that are read off its figures."""

CITED = "Li, Efros & Pathak 2022 (arXiv 2209.15007)"
MEASURED = f"trained here; beside {CITED}"
SHARES = (1, 5, 10, 20, 50, 100)
"""Of ImageNet, in per cent."""
ORDERS = {
    "baseline": ("multiple pass", "blue"),
    "cumulative": ("cumulative", "orange"),
    "single-pass": ("single pass", "vermillion"),
    "hybrid-40": ("hybrid, 40 %", "green"),
}
"""Drawn in this order: in words, and a colour."""
PAPER_ORDERS = {
    "ResNet-18": {"baseline": 30.0, "cumulative": 33.0, "single-pass": 44.5, "hybrid-40": 48.3},
    "ResNet-34": {"baseline": 16.8, "cumulative": 22.2, "single-pass": 45.0, "hybrid-40": 50.3},
    "ResNet-50": {"baseline": 68.1, "cumulative": 67.7, "single-pass": 55.9, "hybrid-40": 67.6},
}
"""Linear probe on ImageNet, in per cent."""


def claims_of(names: str) -> tuple[str, ...]:
    """Ids of the paper's claims with these names, blanks between."""
    return tuple(f"li2022-{name}" for name in names.split())

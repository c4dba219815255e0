"""What the theory says of the projector's last layer, held against it: Theorem 1's balance, and an EMA target's A1."""

from stopgrad.deep.measuring.quantities.quantity import Quantity


def _balance(seen):
    last = seen.siamese.online.projector.last
    return seen.balance.at(seen.time, last.weight, last.bias, seen.Wp)


QUANTITIES = (
    Quantity(
        "balance_residual",
        _balance,
        "balance residual (Theorem 1)",
        "How far W̃W̃ᵀ − W_pᵀW_p/α_p is from e^{−2ηt} of its start, relative to its two terms.",
        "Tian, Chen & Ganguli 2021, Theorem 1",
        needs=("balance", "Wp"),
        shown=("summary",),
        recorded=(),
    ),
    Quantity(
        "target_correlation",
        lambda seen: seen.follows["target_correlation"],
        "cos(W_a, W) of target and online network",
        "Of the last layer [W b]; 1 under assumption A1, W_a = τW.",
        "Tian, Chen & Ganguli 2021, Fig. 7",
        needs=("follows",),
        shown=(),
        recorded=("lowest",),
    ),
    Quantity(
        "target_ratio",
        lambda seen: seen.follows["target_ratio"],
        "τ = ⟨W_a, W⟩/⟨W, W⟩",
        "Where A1 does not hold, its least-squares estimate.",
        "Tian, Chen & Ganguli 2021, A1",
        needs=("follows",),
        shown=(),
        recorded=(),
    ),
)

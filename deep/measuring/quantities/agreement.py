"""How far two views, and prediction and target, agree in direction."""

from stopgrad.deep.measuring.quantities.quantity import Drawn, Quantity

QUANTITIES = (
    Quantity(
        "cosine_views",
        lambda seen: (seen.Z[0] * seen.Z[1]).sum(dim=-1).mean(),
        "cos(z₁, z₂)",
        "Mean cosine of the two views' embeddings.",
        shown=(),
        math=r"$\cos(z_1, z_2)$",
        drawn=Drawn("a", "vermillion"),
        recorded=(),
    ),
    Quantity(
        "cosine_prediction",
        lambda seen: (seen.P * seen.T.flip(0)).sum(dim=-1).mean(),
        "cos(prediction, target)",
        "Mean of cos(p₁, t₂) and cos(p₂, t₁).",
        shown=("summary",),
        recorded=(),
    ),
)

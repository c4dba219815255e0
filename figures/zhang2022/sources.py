"""How captions name Zhang et al. 2022, the numbers that are read off its figures, and the families of its arms."""

CITED = "Zhang et al. 2022 (arXiv 2203.16262)"
COMPUTED = f"computed here; beside {CITED}"
MEASURED = f"trained here; beside {CITED}"


def claims_of(names: str) -> tuple[str, ...]:
    """Ids of the paper's claims with these names, blanks between."""
    return tuple(f"zhang2022-{name}" for name in names.split())


BN = {
    "no output BatchNorm": "",
    "affine-free output BatchNorm": "bn/",
    "output BatchNorm with affine parameters": "affine/",
}
"""The projector's end, and what the name of an arm begins with."""

INVERSE_ACCURACY = 65.5
"""Figure 3, at the end of 1,000 epochs; ±0.3."""
FIG4_ENDS = {"centre": (0.98, 0.07), "residual": (0.05, 1.0)}
"""m_o and m_r at the end of a phase."""
FIG4_RANDOM = (0.17, 0.75)
"""m_o of the control, by what came before."""
FIG5A_ZERO = -0.44
"""η_p, ±0.01."""
FIG5B_ENDS = (0.10, 0.98)
"""m_r at the end of the collapse, and some ten steps into the regulariser."""
FIG5C = {0.05: 0.09, 0.07: 0.46, 0.10: 0.80, 0.15: 0.83, 0.20: 0.83, 0.30: 0.56, 0.40: 0.33, 1.0: 0.08}
"""The cosine by temperature, ±0.01."""
FIG6_COVARIANCE = {"simsiam": 0.00036, "keep-centre": 0.0040, "infonce-0.1": 0.00020}
"""At the end of 200 epochs, by the arm of ours that is nearest."""
FIG6_DIMENSIONS = 256
"""Of which a covariance of 0.0040 is that of a line, 1/256."""

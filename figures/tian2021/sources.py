"""How captions name Tian, Chen & Ganguli 2021."""

CITED = "Tian, Chen & Ganguli 2021 (arXiv 2102.06810)"
COMPUTED = f"computed here; theory of {CITED}"
MEASURED = f"trained here; beside {CITED}"
THEOREM_2 = tuple(
    f"tian2021-{name}"
    for name in (
        *("theory-stop-gradient", "theory-stop-gradient-as-stated", "theory-no-predictor"),
        *("theory-no-predictor-as-stated", "theorem2-stop-gradient", "theorem2-stop-gradient-linear"),
        *("theorem2-stop-gradient-cosine", "theorem2-predictor", "theorem2-predictor-cosine"),
        *("accuracy-stop-gradient", "accuracy-predictor"),
    )
)
"""The claims about what happens without stop-gradient or predictor."""

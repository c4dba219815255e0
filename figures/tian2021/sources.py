"""How captions name Tian, Chen & Ganguli 2021."""

CITED = "Tian, Chen & Ganguli 2021 (arXiv 2102.06810)"
COMPUTED = f"computed here; theory of {CITED}"
MEASURED = f"trained here; beside {CITED}"

"""Why Siamese networks without negatives do not collapse, and when they do: exact linear theory and real training.

Four wings, each importing only from those after it: `figures`, `experiments`, `deep`, `linear_theory`. In a checkout
their folders stand beside this one; installed, they are inside it.
"""

from pathlib import Path

_HERE = Path(__file__).resolve().parent
if not (_HERE / "linear_theory").is_dir():
    __path__.append(str(_HERE.parent))

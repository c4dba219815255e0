"""Published ways to measure features, by name: what is centred, normalised, and what stands for log 0."""

from stopgrad.linear_theory.spectra.spectrum import CONVENTIONS, Convention
from stopgrad.linear_theory.tools.errors import BadInput

PRESETS = CONVENTIONS | {
    "stable-pretraining": Convention("stable-pretraining", "embedding", centred=False, rankme_eps=1e-5),
}
"""A convention more is a line more; `Convention` says what each of its fields means."""


def convention_of(preset: "str | Convention") -> Convention:
    """The preset of this name; a convention of one's own passes. Raises BadInput for a name that there is not.

    >>> convention_of("garrido2023").centred
    False
    """
    if isinstance(preset, Convention):
        return preset
    if preset not in PRESETS:
        raise BadInput(f"there is no preset {preset}; there are {', '.join(PRESETS)}")
    return PRESETS[preset]

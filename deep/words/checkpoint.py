"""A checkpoint as a person reads it: a table for each space, and how a linear predictor is aligned."""

from collections.abc import Sequence

from stopgrad.deep.words import collapse

_MODES = 8
"""Modes whose alignment is printed; --json has all."""


def text(found: dict) -> str:
    """One checkpoint, as `run` of the command has it."""
    said = [_head(found)]
    for row in found["spaces"].values():
        said += ["", collapse.text(row)]
    return "\n".join([*said, *_last(found)])


def compared(found: Sequence[dict]) -> str:
    """Several checkpoints: a table for each space that two have, and what is to be said of each."""
    said = [line for one in found for line in (_head(one), *_last(one))]
    for space in dict.fromkeys(space for one in found for space in one["spaces"]):
        rows = [one["spaces"][space] for one in found if space in one["spaces"]]
        if len(rows) > 1:
            said += ["", f"{space}:", collapse.compared(rows)]
    return "\n".join(said)


def _head(found: dict) -> str:
    images = f"{found['data']}, images of {found['image_size']} pixels"
    return f"{found['checkpoint']}: {found['network']} ({found['layout']}); {images}"


def _last(found: dict) -> list[str]:
    return [*([_aligned(found["alignment"])] if found["alignment"] else []), *found["notes"]]


def _aligned(one: dict) -> str:
    """Of the modes of F, the strongest first."""
    cosines = " ".join(f"{value:.2f}" for value in one["cosine"][:_MODES])
    more = " …" if len(one["cosine"]) > _MODES else ""
    return (
        f"linear predictor: cos(u_j, W_p u_j) {cosines}{more} for the eigenvectors u_j of F = E[zzᵀ], the strongest "
        f"first; commutator {one['misalignment']:.3g} of √2 at most, asymmetry {one['asymmetry']:.3g}"
    )

"""The online network as its own target."""

from dataclasses import dataclass, replace

from stopgrad.deep.kinds import Target


@dataclass(frozen=True)
class Shared(Target):
    """The online network itself (SimSiam)."""

    in_theory = "shared"

    def __call__(self, batch, seen, online):
        """The embeddings themselves."""
        return replace(seen, target=seen.z)

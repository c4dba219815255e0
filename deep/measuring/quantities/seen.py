"""What there is to measure at a step; each result on the way is computed once, when a quantity first asks for it.

No module of the quantities loads torch: whoever only lists or reads them does not wait for it.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from stopgrad.linear_theory.predictors.matrices import correlation, identity_like
from stopgrad.linear_theory.spectra.alignment import misalignment
from stopgrad.linear_theory.tools.eigen import eigh, eigvalsh
from stopgrad.linear_theory.tools.lengths import directions, magnitude

DECOMPOSED_UP_TO = 512
"""Largest d whose spectra are taken at every measurement: `eigh` grows as d³, past a step's time soon after."""
_NAN = float("nan")


@dataclass(frozen=True, eq=False)
class Cloud:
    """Vectors (N, d), and centre and spread of their directions, `unit`."""

    vectors: Any
    unit: Any

    @cached_property
    def centre(self):
        """o: (d,)."""
        return self.unit.mean(dim=0)

    @cached_property
    def rest(self):
        """r: (N, d)."""
        return self.unit - self.centre

    @cached_property
    def variance(self):
        """Of each channel: (d,)."""
        return self.rest.square().mean(dim=0)

    @cached_property
    def square(self):
        """‖C‖²_F of the covariance C, which itself is for its eigenvalues only."""
        return squared(self.rest)

    @cached_property
    def _decomposed(self):
        sound, (C,) = _sound(correlation(self.unit, centred=True, check=False))
        return sound, eigvalsh(C).flip(0).clamp(min=0)

    @property
    def spectrum(self):
        """Eigenvalues of C, falling, none below 0: (d,); those of the identity where C is not finite."""
        return self._decomposed[1]

    def known(self, value):
        """NaN in place of what was taken from the spectrum of a C that is not finite."""
        return value.where(self._decomposed[0], _NAN)


@dataclass(frozen=True, eq=False)
class Modes:
    """F and W_p, (d, d), both the identity where one is not finite: `eigh` and the measures of alignment refuse NaN, by
    an exception that would hide the diagnosis."""

    F: Any
    """In units of `scale`, in which embeddings too short to be squared are not."""
    Wp: Any
    scale: Any
    sound: Any
    """Whether all entries are finite: a 0-d tensor."""

    @cached_property
    def eigen(self):
        """Eigenvalues of F, rising, and its eigenvectors in columns."""
        return eigh(self.F)

    @cached_property
    def misalignment(self):
        """The commutator free of scale."""
        return misalignment(self.Wp, self.F)

    def known(self, value):
        """NaN in place of what was taken from matrices that are not finite."""
        return value.where(self.sound, _NAN)


@dataclass(frozen=True, eq=False)
class Seen:
    """Both views' embeddings, predictions and target embeddings, (2, B, d) in float32 or wider, over all processes.

    What is of a run, from `siamese` on, is None where none is at hand; a quantity says what it needs.
    """

    z: Any
    p: Any
    target: Any
    Wp: Any = None
    """(d, d), the matrix of a linear predictor; None for another."""
    correlation: Any = None
    """(d, d), the correlation whose modes are meant, if not that of z."""
    full: bool = False
    """Decompose matrices of any size."""
    siamese: Any = None
    """The network, before the step changes its weights."""
    config: Any = None
    """The run's `Config`."""
    step: int | None = None
    """Steps done."""
    epoch: int | None = None
    """Epochs done."""
    time: float | None = None
    """The theory's: Σ c·lr/(1 − m) over the steps so far."""
    rates: Any = None
    """`optimisation.Rates` of the step."""
    loss: Any = None
    """Of the whole batch: a 0-d tensor."""
    seconds: float | None = None
    """Wall-clock time of the run so far."""
    balance: Any = None
    """`weights.BalanceResidual` of the run; None where Theorem 1 does not apply."""

    @cached_property
    def Z(self):
        """Directions of z, (2, B, d)."""
        return directions(self.z)

    @cached_property
    def P(self):
        """Directions of p, (2, B, d)."""
        return directions(self.p)

    @cached_property
    def T(self):
        """Directions of the target embeddings, (2, B, d)."""
        return directions(self.target)

    @cached_property
    def clouds(self) -> dict[str, Cloud]:
        """Of z, of p, and of the target embeddings, t: both views' vectors together."""
        pairs = {"z": (self.z, self.Z), "p": (self.p, self.P), "t": (self.target, self.T)}
        return {side: Cloud(vectors.flatten(0, 1), unit.flatten(0, 1)) for side, (vectors, unit) in pairs.items()}

    @property
    def other_images(self) -> bool:
        """Whether there are two images or more."""
        return self.z.shape[1] > 1

    @property
    def decomposed(self) -> bool:
        """Whether matrices of this size are decomposed now."""
        return self.full or self.z.shape[-1] <= DECOMPOSED_UP_TO

    @property
    def F(self):
        """The correlation whose modes are meant: (d, d)."""
        return self.modes.known(self.modes.F * self.modes.scale)

    @cached_property
    def modes(self) -> Modes:
        """F and W_p, as far as they are finite."""
        unit, F = 1.0, self.correlation
        if F is None:
            unit = magnitude(self.z, (0, 1, 2)).clamp(max=1).reshape(())
            F = correlation((self.z / unit).flatten(0, 1), check=False)
        sound, (F, Wp) = _sound(F, identity_like(F) if self.Wp is None else self.Wp)
        return Modes(F, Wp, unit**2, sound)

    @cached_property
    def follows(self) -> dict | None:
        """`weights.follow_target` of the projectors' last layers; None for a target that is no network of its own."""
        network = getattr(getattr(self.siamese, "target", None), "network", None)
        if network is None:
            return None
        from stopgrad.deep.measuring.weights import follow_target

        mine, theirs = self.siamese.online.projector.last, network.projector.last
        return follow_target(mine.weight, mine.bias, theirs.weight, theirs.bias)


def squared(rows):
    """‖rowsᵀ rows/N‖²_F of (N, d), by the smaller of two products."""
    return ((rows @ rows.mT if len(rows) < rows.shape[1] else rows.mT @ rows) / len(rows)).square().sum()


def _sound(*matrices):
    """Whether all entries are finite, a 0-d tensor, and the matrices, or identities where they are not."""
    sound = matrices[0].isfinite().all()
    for matrix in matrices[1:]:
        sound = sound & matrix.isfinite().all()
    return sound, [matrix.where(sound, identity_like(matrix)) for matrix in matrices]

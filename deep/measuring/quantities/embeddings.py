"""Norm, centre and spread of embeddings Z and predictions P: what a collapse would show.

Of both views' normalised vectors together, Z = z/‖z‖ = o + r (Zhang et al. 2022), so that m_o, m_r, the channels' std
and the ranks all describe one covariance C, of trace 1 − m_o²; norms are in the trace.
"""

from stopgrad.deep.measuring.quantities.quantity import Drawn, Quantity
from stopgrad.linear_theory.spectra.spectrum import variance_effective_rank

_ZHANG = "Zhang et al. 2022, §3"


def _participation(cloud):
    return cloud.variance.sum() ** 2 / cloud.square.where(cloud.square > 0, 1)


def _covariance(cloud):
    return (cloud.square - cloud.variance.square().sum()).clamp(min=0) / cloud.unit.shape[-1]


def _rank(cloud):
    some = cloud.spectrum[0] > 0  # a cloud of rank 0 has no spectrum to take the entropy of
    rank = variance_effective_rank(cloud.spectrum.where(some, 1).sqrt()).to(cloud.spectrum.dtype) * some
    return cloud.known(rank)


def _of(side: str) -> list[Quantity]:
    """The quantities of z or of p."""
    name, own, dashed = side.upper(), side == "z", side == "p"
    summary = ("summary",)

    def quantity(key, of, words, about, source="", shown=(), recorded=(), **more):
        more |= {"shown": shown, "recorded": recorded}
        return Quantity(f"{key}_{side}", lambda seen: of(seen.clouds[side]), words, about, source, **more)

    return [
        quantity(
            "trace",
            lambda cloud: cloud.vectors.square().sum(dim=-1).mean(),
            "trace of F" if own else "trace of E[ppᵀ]",
            f"E‖{side}‖²{', the trace of F' if own else ''}: it dies in a collapse in norm.",
            shown=summary if own else (),
            math="trace",
            drawn=Drawn("d", "green", dashed, relative=True),
            recorded=("first", "mean") if own else (),
        ),
        quantity(
            "m_o",
            lambda cloud: cloud.centre.norm(),
            f"m_o of {name}",
            f"‖o‖, the length of the mean of {name}'s directions: no evidence by itself.",
            _ZHANG,
            shown=summary if own else (),
        ),
        quantity(
            "m_r",
            lambda cloud: cloud.rest.norm(dim=-1).mean(),
            f"m_r of {name}",
            f"E‖r‖, the mean distance of {name}'s directions from their mean.",
            _ZHANG,
        ),
        quantity(
            "std",
            lambda cloud: cloud.variance.sqrt().mean() * cloud.vectors.shape[-1] ** 0.5,
            f"channel std × √d of {name}",
            "Mean over channels of their std (population), times √d: 1 for a uniform direction, 0 for a single one. It "
            "cannot see a dimensional collapse.",
            "Chen & He 2021, Fig. 2",
            shown=summary,
            math=r"std $\times \sqrt{d}$",
            drawn=Drawn("d", "vermillion", dashed),
        ),
        quantity(
            "participation",
            _participation,
            f"participation ratio of {name}, centred",
            f"(tr C)²/‖C‖²_F: at most rank_{side}, and free of a decomposition.",
        ),
        quantity(
            "covariance",
            _covariance,
            f"covariance between channels of {name}",
            "Σ_{i≠j} C_ij²/d, here of directions and C being the mean over all 2B.",
            "Bardes, Ponce & LeCun 2022 (VICReg)",
        ),
        quantity(
            "rank",
            _rank,
            f"effective rank of {name}, centred",
            "exp of the entropy of C's normalised eigenvalues.",
            "Roy & Vetterli 2007",
            ("live", "summary"),
            short=f"rank {name}",
            needs=("decomposed",),
            math="effective rank",
            drawn=Drawn("d", "blue", dashed),
            recorded=("first",) if own else (),
        ),
        quantity(
            "spectrum",
            lambda cloud: cloud.known(cloud.spectrum),
            f"spectrum of {name}, centred",
            "Eigenvalues of C, falling; their sum is 1 − m_o².",
            needs=("decomposed",),
        ),
    ]


QUANTITIES = (
    Quantity(
        "rank_ceiling",
        lambda seen: seen.z.new_full((), min(seen.z.shape[1] - 1, seen.z.shape[2])),
        "rank of a batch whose views agree, at most",
        "min(B − 1, d); views that do not agree may have up to twice as much.",
        shown=(),
        recorded=(),
    ),
    *_of("z"),
    *_of("p"),
)

"""Norm, centre and spread of embeddings Z and predictions P: what a collapse would show.

Of both views' normalised vectors together, Z = z/‖z‖ = o + r (Zhang et al. 2022), so that m_o, m_r, the channels' std
and the ranks all describe one covariance C, of trace 1 − m_o²; norms are in the trace.
"""

from stopgrad.deep.measuring.quantities.quantity import Drawn, Quantity
from stopgrad.deep.measuring.quantities.seen import squared
from stopgrad.linear_theory.exact.centre import unbiased_m_o_squared
from stopgrad.linear_theory.spectra.spectrum import variance_effective_rank

_ZHANG = "Zhang et al. 2022, §3"


def _participation(cloud):
    return cloud.variance.sum() ** 2 / cloud.square.where(cloud.square > 0, 1)


def _covariance(cloud):
    return (cloud.square - cloud.variance.square().sum()).clamp(min=0) / cloud.unit.shape[-1]


def _correlation(cloud):
    varies = cloud.variance > 0
    channels = varies.sum()
    whole = squared(cloud.rest / cloud.variance.sqrt().where(varies, 1))
    return (whole - channels).clamp(min=0) / (channels * (channels - 1)).clamp(min=1)


def _unbiased(cloud):
    first, second = cloud.unit.chunk(2)
    alike = ((first + second) / 2).square().sum(dim=-1).mean()  # of an image's two views, each with itself too
    return unbiased_m_o_squared(cloud.centre.square().sum(), len(first), alike)


def _std_of_bound(cloud):
    some = cloud.variance > 0
    return cloud.variance.sqrt().mean() * some.numel() ** 0.5 / cloud.variance.sum().sqrt().where(some.any(), 1)


def _cross_view(cloud):
    first, second = cloud.rest.chunk(2)
    spread = cloud.variance.sum()
    return (first * second).sum(dim=-1).mean() / spread.where(spread > 0, 1)


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
            "m_o_squared",
            _unbiased,
            f"m_o² of {name}, de-biased",
            f"Mean cosine of two different images, (B m_o² − (1 + c)/2)/(B − 1), c being that of an image's two views: "
            f"‖E {name}‖² without what chance adds, so that it may be below 0. B counts images, not views.",
            needs=("other_images",),
        ),
        quantity(
            "rho",
            _cross_view,
            f"cross-view correlation ρ of {name}",
            "E[r₁·r₂]/E‖r‖² of the two views' residuals: 1 where they agree, 0 where nothing but the centre is common.",
            needs=("other_images",),
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
            "std_of_bound",
            _std_of_bound,
            f"channel std of {name} over its bound",
            "std over √(1 − m_o²)/√d: 1 where all channels vary alike, √(k/d) where only k of them do.",
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
            "Σ_{i≠j} C_ij²/d of directions, C being the mean over all N = 2B. Zhang et al. 2022, Alg. 6, divide by "
            "N − 1, so that theirs is (N/(N − 1))² as large. A collapse brings it to 0 as well.",
            "Bardes, Ponce & LeCun 2022 (VICReg)",
        ),
        quantity(
            "correlation",
            _correlation,
            f"correlation between channels of {name}",
            "Mean square of the correlation coefficients of two channels, over those that vary: about 1/(N − 1) for N "
            "independent vectors, 1 for a line; unlike the covariance it does not vanish with the spread.",
            "Zhang et al. 2022, Alg. 6 by its name",
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

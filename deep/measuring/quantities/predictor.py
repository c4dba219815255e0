"""The modes of F = E[zzᵀ], uncentred, and how a linear predictor W_p stands to them.

Tian, Chen & Ganguli 2021, Fig. 2, show W_p becoming symmetric, its negative eigenvalues vanish, and its eigenvectors
align with those of F.
"""

from stopgrad.deep.measuring.quantities.quantity import Drawn, Quantity
from stopgrad.linear_theory.flows.matrices import symmetric_part
from stopgrad.linear_theory.spectra.alignment import asymmetry, eigenvector_alignment
from stopgrad.linear_theory.spectra.eigen import eigvalsh
from stopgrad.linear_theory.tools.lengths import MATRIX, length

_FIG2 = "Tian, Chen & Ganguli 2021, Fig. 2"


def _commutator(modes):
    return modes.misalignment * (length(modes.Wp, MATRIX) * length(modes.F, MATRIX)) * modes.scale


def _predictor_spectrum(modes):
    U = modes.eigen[1]
    return (U * (modes.Wp @ U)).sum(dim=0).flip(0)


def _negative(modes):
    values = eigvalsh(symmetric_part(modes.Wp))
    size = values.abs().sum()
    return values.clamp(max=0).abs().sum() / size.where(size > 0, 1)


def _quantity(name, of, words, about, source, needs=("Wp",), shown=(), recorded=(), **more) -> Quantity:
    """Of the matrices as far as they are finite; NaN where they are not."""
    more |= {"needs": needs, "shown": shown, "recorded": recorded}
    return Quantity(name, lambda seen: seen.modes.known(of(seen.modes)), words, about, source, **more)


QUANTITIES = (
    _quantity("commutator", _commutator, "‖[F, W_p]‖", "Frobenius norm.", "Tian, Chen & Ganguli 2021, Theorem 3"),
    _quantity(
        "misalignment",
        lambda modes: modes.misalignment,
        "‖[F, W_p]‖/(‖F‖‖W_p‖)",
        "The commutator free of scale, between 0 and √2.",
        "Tian, Chen & Ganguli 2021, Theorem 3",
        shown=("summary",),
    ),
    _quantity(
        "asymmetry",
        lambda modes: asymmetry(modes.Wp),
        "asymmetry of W_p",
        "‖(W_p − W_pᵀ)/2‖/‖W_p‖: √½ for independent entries, 0 for a symmetric matrix.",
        _FIG2,
        shown=("summary",),
        recorded=("first",),
        math=r"skew part of $W_p$",
    ),
    _quantity(
        "predictor_negative",
        _negative,
        "negative part of W_p",
        "Σ|min(λ, 0)|/Σ|λ| over the eigenvalues λ of W_p's symmetric part: 0 where it is positive semi-definite.",
        _FIG2,
        needs=("Wp", "decomposed"),
        recorded=("first",),
        math=r"negative part of $W_p$",
    ),
    _quantity(
        "eigenvalues",
        lambda modes: modes.eigen[0].flip(0) * modes.scale,
        "eigenvalues of F",
        "s_j, falling. F is not centred: the first mode is mostly the embeddings' mean.",
        _FIG2,
        needs=("decomposed",),
        math=r"eigenvalue $s_j$ of $F = E[zz^\top]$",
        drawn=Drawn("b"),
        recorded=("last",),
    ),
    _quantity(
        "alignment",
        lambda modes: eigenvector_alignment(modes.Wp, modes.F).cosine,
        "alignment of modes 2–5: cos(u, W_p u)",
        "cos(u_j, W_p u_j) of F's eigenvectors u_j, in the order of the eigenvalues; 1 where they are W_p's too.",
        _FIG2,
        needs=("Wp", "decomposed"),
        shown=("live", "summary"),
        short="alignment of modes 2–5",
        math=r"alignment $\cos(u_j,\, W_p u_j)$",
        form="+.2f",
        entries=(1, 5),
        drawn=Drawn("c"),
        recorded=("last",),
    ),
    _quantity(
        "predictor_spectrum",
        _predictor_spectrum,
        "spectrum of W_p on F's eigenvectors",
        "p_j = u_jᵀW_p u_j.",
        _FIG2,
        needs=("Wp", "decomposed"),
        math=r"$p_j = u_j^\top W_p\, u_j$",
    ),
)

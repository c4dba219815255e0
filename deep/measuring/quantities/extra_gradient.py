"""The extra gradient of a prediction, taken apart into centre and residual (Zhang et al. 2022).

−∂L_cos/∂P_a = Z_b = P_b + G_e: P_b alone collapses, and what is added is G_e = Z_b − P_b = o_e + r_e, of directions.
Z is here of the target embeddings, by which the gradient comes: those of z where one network makes both. o_z and o_p
are the centres over both views, o_e = o_z − o_p and r_e = r_z − r_p. Without a predictor, and without a target of its
own, G_e is 0; the cosine of what is 0 is 0.
"""

from stopgrad.deep.measuring.quantities.quantity import Quantity
from stopgrad.linear_theory.tools.lengths import directions

ETA = tuple(k / 10 for k in range(-20, 21))
"""The η of the curves."""
_ZHANG = "Zhang et al. 2022"
_FIG5A = f"{_ZHANG}, Fig. 5a"


def _centres(seen):
    return seen.clouds["t"].centre, seen.clouds["p"].centre


def _zero(own, other):
    """The η at which other − own − η own is at right angles to own."""
    square = own.square().sum()
    return ((other - own) * own).sum() / square.where(square > 0, 1)


def _curve(own, other):
    """cos(other − own − η own, own) over `ETA`: (η,)."""
    eta = own.new_tensor(ETA)[:, None]
    return directions(other - own - eta * own) @ directions(own)


def _ratio(o_z, o_p):
    size = o_z.norm()
    return o_p.norm() / size.where(size > 0, 1)


def _quantity(name, of, words, about, source=_ZHANG, shown=(), **more) -> Quantity:
    """Of the two centres."""
    return Quantity(name, lambda seen: of(*_centres(seen)), words, about, source, shown=shown, recorded=(), **more)


def _curves(name, of, words, about) -> Quantity:
    return _quantity(name, of, words, f"{about} At η = {ETA[0]:g}, {ETA[1]:g}, … {ETA[-1]:g}.", _FIG5A, needs=_FEW)


_FEW = ("decomposed",)  # of large embeddings at evaluations only, as all rows of numbers

QUANTITIES = (
    _quantity(
        "o_e",
        lambda o_z, o_p: (o_z - o_p).norm(),
        "centre of the extra gradient",
        "‖o_e‖, o_e = o_z − o_p; Z of the target embeddings.",
    ),
    Quantity(
        "r_e",
        lambda seen: (seen.clouds["t"].rest - seen.clouds["p"].rest).norm(dim=-1).mean(),
        "residual of the extra gradient",
        "E‖r_e‖, r_e = r_z − r_p; Z of the target embeddings.",
        _ZHANG,
        shown=(),
        recorded=(),
    ),
    _quantity(
        "eta_p",
        lambda o_z, o_p: _zero(o_p, o_z),
        "η_p: share of o_p in o_e",
        "⟨o_e, o_p⟩/‖o_p‖², where cos(o_e − η o_p, o_p) is 0: below 0 the extra gradient takes the centre away. It "
        "means nothing where o_p is as short as chance makes it.",
        _FIG5A,
        shown=("summary",),
        math=r"$\eta_p$",
    ),
    _quantity(
        "eta_z",
        lambda o_z, o_p: _zero(o_z, o_p),
        "η_z: share of o_z in o_p − o_z",
        "⟨o_p − o_z, o_z⟩/‖o_z‖², where cos(o_p − o_z − η o_z, o_z) is 0; (1 + η_p)(1 + η_z) = cos²(o_z, o_p).",
        _FIG5A,
        math=r"$\eta_z$",
    ),
    _quantity(
        "centre_ratio",
        _ratio,
        "‖o_p‖/‖o_z‖",
        "How much longer the predictor makes the centre; Z of the target embeddings.",
        math=r"$\|o_p\|/\|o_z\|$",
    ),
    _quantity(
        "centre_cosine",
        lambda o_z, o_p: directions(o_z) @ directions(o_p),
        "cos(o_z, o_p)",
        "How far the predictor turns the centre; Z of the target embeddings.",
        math=r"$\cos(o_z, o_p)$",
    ),
    _curves(
        "centre_curve_p",
        lambda o_z, o_p: _curve(o_p, o_z),
        "cos(o_e − η o_p, o_p) over η",
        "It falls through 0 at η_p.",
    ),
    _curves(
        "centre_curve_z",
        lambda o_z, o_p: _curve(o_z, o_p),
        "cos(o_p − o_z − η o_z, o_z) over η",
        "It falls through 0 at η_z.",
    ),
)

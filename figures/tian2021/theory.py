"""The figures of Tian, Chen & Ganguli 2021 (arXiv 2102.06810) about single modes: 3, 4, 5 and 10.

Each `compute_figN` returns the data as an xarray.Dataset whose attributes are the parameters; each `draw_figN` turns
such a dataset into a picture. All dynamics are `linear_theory`'s flows; here are only grids and initial values.
"""

from typing import TYPE_CHECKING

import numpy as np

from stopgrad.figures.machinery import style
from stopgrad.figures.machinery.data import record
from stopgrad.figures.machinery.picture import Picture
from stopgrad.figures.tian2021.sources import CITED, THEOREM_2
from stopgrad.linear_theory.exact.basin import critical_s0
from stopgrad.linear_theory.exact.fixed_points import fixed_points
from stopgrad.linear_theory.exact.nonisotropic import Online, predictorless_flow, tied_flow
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.modes import (
    EmaMode,
    Mode,
    ScalarNetwork,
    ema_mode_flow,
    mode_flow,
    parabola_flow,
    scalar_network_flow,
)
from stopgrad.linear_theory.spectra.alignment import alignment_operator_mode

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

DEFAULTS = Hyperparameters()


# ------------------------------------------------------------------------------------- Figure 3: phase portraits


def compute_fig3(etas=(0.0, 0.01, 0.1, 1.0), h=DEFAULTS, p=(-0.6, 1.4, 81), s=(0.0, 1.4, 57)) -> "xr.Dataset":
    """The field of Eq. 11–12 over the (p, s) plane (start, stop, count of either axis) with its fixed points.

    `parabola` is s = x p²/α_p, invariant under the flow; `separatrix` the stable manifold of p₋: below it, collapse.
    """
    etas, p, s = np.array(etas), np.linspace(*p), np.linspace(*s)
    curve = np.linspace(p[0], p[-1], 10 * len(p) - 9)
    field = mode_flow(Mode(p=p, s=s[:, None]), h.replace(eta=etas[:, None, None]))
    points = fixed_points(h.replace(eta=etas))
    return record(
        {
            "dp": (("eta", "s", "p"), field.p),
            "ds": (("eta", "s", "p"), field.s),
            "p_plus": ("eta", points.p_plus),
            "s_plus": ("eta", points.s_plus),
            "p_minus": ("eta", points.p_minus),
            "s_minus": ("eta", points.s_minus),
            "parabola": ("curve", h.x * curve**2 / h.alpha_p),
            "separatrix": (("eta", "curve"), critical_s0(curve, h.replace(eta=etas[:, None]))),
        },
        {"eta": etas, "p": p, "s": s, "curve": curve},
        h,
    )


@style.styled
def draw_fig3(data: "xr.Dataset") -> "Figure":
    """Flow of the predictor's eigenvalue p and the features' eigenvalue s (Eq. 11-12) for four weight decays.
    Thin lines with arrows: trajectories. Dashed: the invariant parabola. Shaded: the initial states that collapse,
    bounded by the true separatrix, the stable manifold of the saddle, which the paper does not draw: off the
    parabola the basin is not p < p-. Without weight decay whole lines are fixed (s = 0 is unstable where drawn
    hollow) and collapse means s -> 0 with p at rest anywhere. Above the critical weight decay all states collapse.

    The paper does not state sigma^2; here it is 0.1. The panel eta = 0.1 is added, since at 0.01 the saddle lies
    so near the collapsed state that it needs the inset."""
    figure, axes = style.new_figure(1, data.sizes["eta"], panel=(3.2, 3.3), sharey=True)
    bottom, top = 0.0, float(data.s.max())
    for axis, one in zip(axes[0], (data.isel(eta=i) for i in range(data.sizes["eta"]))):
        axis.streamplot(data.p.values, data.s.values, one.dp.values, one.ds.values, **style.STREAM)
        _draw_basin(axis, one)
        if one.eta == 0:
            _draw_fixed_lines(axis, data.p, float(one.p_plus), top)
        if 0 < one.p_minus < 0.05:
            _draw_zoom(axis, one)
        axis.set(xlim=(data.p.min(), data.p.max()), ylim=(bottom, top), xlabel=style.label("p"))
        axis.set_title(style.setting("eta", one.eta))
    axes[0, 0].set_ylabel(style.label("s"))
    style.legend_below(figure)
    return figure


def _draw_basin(axis, one: "xr.Dataset"):
    """The collapse basin under the separatrix, the parabola, and the fixed points that are points."""
    ceiling = one.separatrix.fillna(np.inf).clip(max=float(one.s.max()))
    axis.fill_between(one.curve, 0, ceiling, label="collapses", **style.DOOMED)
    axis.plot(one.curve, one.parabola, "--", color="black", linewidth=1.2, label=r"invariant parabola $s=p^2/\alpha_p$")
    axis.plot(one.curve, one.separatrix, color=style.OKABE_ITO["vermillion"], label="separatrix")
    if one.eta > 0:
        axis.plot([0, one.p_plus], [0, one.s_plus], label="stable fixed point", **style.STABLE)
        axis.plot(one.p_minus, one.s_minus, label="saddle", **style.UNSTABLE)


def _draw_zoom(axis, one: "xr.Dataset"):
    """An inset around a saddle that is too near the collapsed state to be told from it."""
    p, s = float(one.p_minus), float(one.s_minus)
    inset = axis.inset_axes([0.07, 0.5, 0.5, 0.42], xlim=(-2 * p, 10 * p), ylim=(0, 9 * s))
    inset.set(xticks=[], yticks=[], in_layout=False)
    inset.text(0.96, 0.9, f"near\n$p_-$ = {p:.3g}", fontsize=8, ha="right", va="top", transform=inset.transAxes)
    _draw_basin(inset, one)
    inset.spines[["top", "right"]].set_visible(True)


def _draw_fixed_lines(axis, p, p_plus, top):
    """Without weight decay whole lines are fixed: p = τ/a, stable, and s = 0, unstable where 0 < p < τ/a."""
    line = {"color": "black", "linewidth": 3.5, "clip_on": False, "zorder": 4, "solid_capstyle": "butt"}
    axis.plot([p_plus, p_plus], [0, top], label="stable fixed line", **line)
    for start, end in ((float(p.min()), 0), (p_plus, float(p.max()))):
        axis.plot([start, end], [0, 0], **line)
    axis.plot([0, p_plus], [0, 0], **line)
    axis.plot([0, p_plus], [0, 0], **(line | {"color": "white", "linewidth": 1.8}))


# --------------------------------------------------------------------------------- Figure 4: p′ on the parabola

STABILITY = {1: "stable", -1: "unstable", 0: "stable from one side"}


def compute_fig4(fractions=(0.0, 0.5, 1.3), h=DEFAULTS, p=(-0.25, 1.15, 281)) -> "xr.Dataset":
    """p′ of Eq. 16 at η = `fractions` of the critical weight decay, its zeros and their stability (1, −1, 0)."""
    critical = float(fixed_points(h).critical_eta)
    etas, p = np.array(fractions) * critical, np.linspace(*p)
    points = fixed_points(h.replace(eta=etas))
    zeros = np.stack([0 * etas, points.p_minus, points.p_plus], axis=-1)
    decays = h.replace(eta=etas[:, None])
    left, right = (np.sign(parabola_flow(zeros + side, decays)) for side in (-1e-4, 1e-4))
    return record(
        {
            "dp": (("eta", "p"), parabola_flow(p, decays)),
            "zero": (("eta", "point"), zeros),
            "stability": (("eta", "point"), (left - right) / 2),
        },
        {"eta": etas, "p": p},
        h,
        critical_eta=critical,
    )


@style.styled
def draw_fig4(data: "xr.Dataset") -> "Figure":
    """dp/dt on the parabola s = p^2/alpha_p (Eq. 16) without weight decay, at half the critical weight decay and
    above it. Triangles show where p moves. Without weight decay the collapsed state repels from above and attracts
    from below; any weight decay makes it stable; above the critical one nothing else is left."""
    figure, axes = style.new_figure(1, data.sizes["eta"], panel=(3.2, 2.9), sharey=True)
    marks = {1: style.STABLE, -1: style.UNSTABLE, 0: style.HALF_STABLE}
    for axis, one in zip(axes[0], (data.isel(eta=i) for i in range(data.sizes["eta"]))):
        axis.axhline(0, **style.RULE)
        axis.plot(data.p, one.dp, color=style.OKABE_ITO["blue"])
        _draw_direction(axis, one)
        for kind, word in STABILITY.items():
            zeros = one.zero.where(one.stability == kind).dropna("point")
            if zeros.size:
                axis.plot(zeros, 0 * zeros, label=word, **marks[kind])
        multiple = rf" = {float(one.eta) / data.critical_eta:.3g} $\eta_c$" if one.eta > 0 else ""
        axis.set_title(rf"$\eta$ = {float(one.eta):.3g}{multiple}")
        axis.set(xlabel=style.label("p"), ylim=(-0.3, 0.18))
    axes[0, 0].set_ylabel(r"$\dot p$ on the parabola $s=p^2/\alpha_p$")
    style.legend_below(figure)
    return figure


def _draw_direction(axis, one: "xr.Dataset"):
    """Small triangles on the p axis that point where p moves, clear of the fixed points."""
    p, dp = one.p.values[8::16], one.dp.values[8::16]
    clear = np.nanmin(np.abs(p - one.zero.values[:, None]), axis=0) > 0.05
    for marker, chosen in ((">", clear & (dp > 0)), ("<", clear & (dp < 0))):
        axis.plot(p[chosen], 0 * p[chosen], marker, color=style.FLOW, markersize=6)


# ------------------------------------------------------------------- Figure 5: weight decay and EMA rate in time


def compute_fig5(
    etas=(0.0, 0.01, 0.04, 0.1, 0.2),
    betas=(0.05, 0.1, 0.4, 1.0, 4.0),
    h=Hyperparameters(beta=0.4),
    p0=0.1,
    t=(0, 100, 201),
) -> "xr.Dataset":
    """Eq. 11–13 from (p0, p0²/α_p) with τ(0) = 0: `etas` at h.beta (row 0), `betas` at h.eta (row 1); K along the way.

    `t`: start, stop and count of the recorded times.
    """
    from stopgrad.linear_theory.simulation.integrate import integrate

    times = np.linspace(*t)
    eta = np.stack([np.array(etas), np.full(len(betas), h.eta)])
    beta = np.stack([np.full(len(etas), h.beta), np.array(betas)])
    varied = h.replace(eta=eta, beta=beta)
    path = integrate(ema_mode_flow, EmaMode(p0, h.x * p0**2 / h.alpha_p, 0.0), varied, t=times).state
    K = alignment_operator_mode(Mode(path.p, path.s), varied.replace(tau=path.tau))
    dims = ("time", "row", "curve")
    values = {"K": K, "p": path.p, "s": path.s, "tau": path.tau}
    return record(
        {k: (dims, v) for k, v in values.items()} | {"eta": (dims[1:], eta), "beta": (dims[1:], beta)},
        {"time": times},
        h,
        p0=p0,
        s0=h.x * p0**2 / h.alpha_p,
        tau0=0.0,
        etas=etas,
        betas=betas,
    )


@style.styled
def draw_fig5(data: "xr.Dataset") -> "Figure":
    """One mode with a dynamic target ratio (Eq. 11-13), started on the parabola with tau(0) = 0. Columns: the
    eigenvalue K of the alignment operator, p, s and tau. Above: five weight decays; below: five EMA rates. Weight
    decay keeps K away from negative values and, too strong, collapses the mode; a slow target does the first as
    well but delays growth. While a mode collapses tau exceeds 1: W shrinks faster than its average forgets, and
    tau tends to beta/(beta - eta).

    The paper's unit map: learning rate 0.01 and EMA momentum 0.996 give beta = 0.4, and a weight decay of 0.0004
    that multiplies the weights outright (w -= 0.0004 w) gives eta = 0.04. PyTorch's coupled weight_decay=4e-4
    (w -= lr 0.0004 w) is eta = 4e-4, a hundred times less: unless decay was decoupled, eta = 0.04 is not what the
    paper's networks were trained with. p(0) and sigma^2 are not stated in the paper; here they are 0.1 and 0.1."""
    columns = ("K", "p", "s", "tau")
    figure, axes = style.new_figure(2, len(columns), panel=(3.1, 2.5), sharex=True, sharey="col")
    for row, varied in enumerate(("eta", "beta")):
        for axis, name in zip(axes[row], columns):
            one = data.isel(row=row)
            axis.axhline(0, **style.RULE)
            for curve, colour in enumerate(style.ordered(data.sizes["curve"])):
                text = style.setting(varied, float(one[varied][curve]))
                axis.plot(data.time, one[name].isel(curve=curve), color=colour, label=text)
            axis.set_ylabel(style.label(name))
        held = style.setting("beta" if varied == "eta" else "eta", data.attrs["beta" if varied == "eta" else "eta"])
        axes[row, -1].legend(title=held, loc="center left", bbox_to_anchor=(1.02, 0.5))
    for axis in axes[-1]:
        axis.set_xlabel(style.label("time"))
    return figure


# ------------------------------------------------------------------- Figure 10: fields of the scalar network


def compute_fig10(lambda_s=1.0, lambda_d=0.5, alpha_p=1.0, beta=1.0, span=(-1.5, 1.5, 61)) -> "xr.Dataset":
    """The field of Eq. 104–106 in three planes: (w, w_p) at w_a = 1; (w, w_a) with w_p = w; (w, w_a) with w_p = 1."""
    h = Hyperparameters(sigma2=lambda_s / lambda_d - 1, eta=0.0, alpha_p=alpha_p, beta=beta, x=lambda_d)
    across, up = np.meshgrid(np.linspace(*span), np.linspace(*span))
    free = scalar_network_flow(ScalarNetwork(up, across, 1.0), h)
    tied, absent = tied_flow(Online(across, up), h), predictorless_flow(Online(across, up), h)
    fields = {"free": (free.w, free.wp), "tied": (tied.w, tied.wa), "absent": (absent.w, absent.wa)}
    return record(
        {
            f"{name}_{way}": (("up", "across"), v)
            for name, field in fields.items()
            for way, v in zip(("dx", "dy"), field)
        },
        {"up": np.linspace(*span), "across": np.linspace(*span)},
        h,
        lambda_s=lambda_s,
        lambda_d=lambda_d,
        alive=float(fixed_points(h).p_plus),
    )


@style.styled
def draw_fig10(data: "xr.Dataset") -> "Figure":
    """Fields of the scalar network (Eq. 104-106), no weight decay, lambda_s = 1, lambda_d = 1/2. Left: predictor
    against encoder with the target held at 1; a curve of stable fixed points. Middle: predictor tied to the
    encoder; from w > 0 all reach (1/2, 1/2), from w <= 0 all collapse. Right: no predictor; all collapse."""
    figure, axes = style.new_figure(1, 3, panel=(3.6, 3.8))
    titles = {"free": r"free: $w_a=1$ held", "tied": r"tied predictor: $w_p=w$", "absent": r"no predictor: $w_p=1$"}
    low, high = float(data.across.min()), float(data.across.max())
    for axis, (name, title) in zip(axes[0], titles.items()):
        axis.streamplot(
            data.across.values, data.up.values, data[f"{name}_dx"].values, data[f"{name}_dy"].values, **style.STREAM
        )
        axis.set(xlabel=style.label("w"), ylabel=style.label("wp" if name == "free" else "wa"))
        axis.set(xlim=(low, high), ylim=(low, high))
        axis.set_title(title)
    free, tied, absent = axes[0]
    # w_p′ = α_p w R and w′ = w_p R for one residual R, so R = 0 is a curve of fixed points.
    residual = data.free_dy / data.across.where(data.across != 0)
    free.contour(data.across, data.up, residual, [0], colors="black", linewidths=3.5)
    free.plot([], [], color="black", linewidth=3.5, label="stable fixed line")
    free.plot(0, 0, label="saddle", **style.UNSTABLE)
    for axis, name, edge in ((tied, "tied", 0.0), (absent, "absent", high)):
        axis.axvspan(low, edge, label="collapses", zorder=0, **style.DOOMED)
        for way, colour, line, moving in (("dx", "vermillion", "-", "w"), ("dy", "blue", "--", "wa")):
            look = {"colors": style.OKABE_ITO[colour], "linestyles": line, "linewidths": 1.6}
            axis.contour(data.across, data.up, data[f"{name}_{way}"], [0], **look)
            axis.plot([], [], line, color=style.OKABE_ITO[colour], label=f"{style.label(moving, short=True)} at rest")
    tied.plot(data.alive, data.alive, label="stable fixed point", **style.STABLE)
    tied.plot(0, 0, label="stable from one side", **style.HALF_STABLE)
    absent.plot(0, 0, **style.STABLE)
    style.legend_below(figure, ncols=4)
    return figure


FIGURES = {
    "tian-fig3": Picture(
        compute_fig3,
        draw_fig3,
        "Phase portraits of one mode",
        f"{CITED}, Figure 3",
        "tian2021",
        claims=(
            "tian2021-theory-basin",
            "tian2021-theory-basin-as-stated",
            "tian2021-theory-no-decay",
            "tian2021-theory-no-decay-as-stated",
            "tian2021-theory-obs1",
            "tian2021-theory-obs3",
            "tian2021-observation1-linear",
        ),
    ),
    "tian-fig4": Picture(
        compute_fig4,
        draw_fig4,
        "Speed of p on the invariant parabola",
        f"{CITED}, Figure 4",
        "tian2021",
        claims=(
            "tian2021-theory-obs4",
            "tian2021-theory-obs5",
            "tian2021-observation5-linear",
            "tian2021-observation5-resnet",
        ),
    ),
    "tian-fig5": Picture(
        compute_fig5,
        draw_fig5,
        "Weight decay and EMA rate in time",
        f"{CITED}, Figure 5",
        "tian2021",
        claims=(
            "tian2021-theory-obs3",
            "tian2021-theory-obs5",
            "tian2021-theory-obs7",
            "tian2021-theory-obs8",
            "tian2021-theory-obs9",
            "tian2021-theory-obs10",
            "tian2021-theory-weight-decay-units",
            "tian2021-theory-weight-decay-units-as-stated",
            "tian2021-observation5-linear",
            "tian2021-observation5-resnet",
            "tian2021-observation8-linear",
            "tian2021-observation9-linear",
        ),
    ),
    "tian-fig10": Picture(
        compute_fig10,
        draw_fig10,
        "One-dimensional network: why the predictor matters",
        f"{CITED}, Figure 10",
        "tian2021",
        claims=THEOREM_2,
    ),
}

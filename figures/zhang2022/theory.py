"""What theory says beside Zhang et al. 2022: InfoNCE's residual against de-correlation (Figure 5c), and the fate of the
centre in linear networks."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from stopgrad.figures.machinery import style
from stopgrad.figures.machinery.picture import Picture
from stopgrad.figures.zhang2022.sources import CITED, COMPUTED, FIG5C, claims_of
from stopgrad.linear_theory.exact.contrast import contrast_alignment, grip
from stopgrad.linear_theory.exact.mean_mode import centre_border, settled_centre
from stopgrad.linear_theory.flows.mean import Centre
from stopgrad.linear_theory.simulation.fate import UNDECIDED
from stopgrad.linear_theory.sweeps.axes import make_axis
from stopgrad.linear_theory.sweeps.centre_problem import CENTRE_PROBLEMS
from stopgrad.linear_theory.sweeps.phase_diagram import phase_diagram

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

# ---------------------------------------------------- Figure 5c: InfoNCE's residual and de-correlation

WAYS = {
    "keys of the other view, less the centre of both": ("other", "both"),
    "keys of the other view, less their own centre": ("other", "keys"),
    "keys of both views": ("both", "both"),
}


def compute_fig5c(
    modes=(64, 256, 1024), rhos=(0.2, 0.4, 0.6, 0.8), at=(256, 0.4), exponent=0.5, batch=256, tau=(0.03, 1.5, 121)
) -> "xr.Dataset":
    """cos(r_e, −offdiag(C) r_a) in closed form over τ, for spectra s_j ∝ j^(−`exponent`) of a sum of 1.

    `by_modes` (modes, tau) at the ρ of `at`, `by_rho` (rho, tau) at its number of modes, `by_way` (way, tau) at both;
    `rank` (modes,), exp of the spectrum's entropy; `grip` (rho,), the τ below which the positive holds the softmax.
    `tau`: first, last and count, geometric.
    """
    import xarray as xr

    axis = np.geomspace(*tau)

    def spectrum(count):
        s = np.arange(1.0, count + 1) ** -exponent
        return s / s.sum()

    def curve(count, rho, way=("other", "both")):
        return contrast_alignment(spectrum(count), axis, batch, rho, *way)

    entropy = [-(s * np.log(s)).sum() for s in map(spectrum, modes)]
    return xr.Dataset(
        {
            "by_modes": (("modes", "tau"), [curve(count, at[1]) for count in modes]),
            "by_rho": (("rho", "tau"), [curve(at[0], rho) for rho in rhos]),
            "by_way": (("way", "tau"), [curve(*at, way) for way in WAYS.values()]),
            "rank": ("modes", np.exp(entropy)),
            "grip": ("rho", [grip(rho, batch) for rho in rhos]),
        },
        {"modes": list(modes), "rho": list(rhos), "way": list(WAYS), "tau": axis},
        {"modes_held": at[0], "rho_held": at[1], "exponent": exponent, "batch": batch},
    )


@style.styled
def draw_fig5c(data: "xr.Dataset") -> "Figure":
    """Cosine of the residual r_e of InfoNCE's extra gradient with the gradient of the de-correlation loss, against the
    temperature. Lines: closed form for Gaussian residuals with eigenvalues of C that fall as j^(-1/2), 256 images a
    batch; squares: digitised from the paper. Left: over the number of modes, with their effective rank; middle: over
    the correlation rho of residuals across views, dotted where the positive pair begins to hold the softmax; right:
    over which embeddings are keys, and whose centre is told from r_e.

    The rise is the positive letting go of the softmax, and moves with rho. The fall at large temperatures is of the
    centre that is taken off: with the keys' own there is none. Not explained is how steeply the paper's curve falls."""
    figure, axes = style.new_figure(1, 3, panel=(4.2, 3.6), sharex=True, sharey=True)
    left, middle, right = axes[0]
    for count, rank, colour in zip(data.modes.values, data["rank"].values, style.ordered(data.sizes["modes"])):
        words = f"{count} modes, rank {rank:.0f}"
        left.plot(data.tau, data.by_modes.sel(modes=count), color=colour, label=words)
    for rho, start, colour in zip(data.rho.values, data.grip.values, style.ordered(data.sizes["rho"])):
        middle.plot(data.tau, data.by_rho.sel(rho=rho), color=colour, label=rf"$\rho$ = {rho:g}")
        middle.axvline(start, color=colour, linestyle=":", linewidth=1)
    for way, colour, dashes in zip(data.way.values, ("black", "vermillion", "blue"), ("-", "--", "-.")):
        look = {"color": style.OKABE_ITO[colour], "linestyle": dashes, "label": way}
        right.plot(data.tau, data.by_way.sel(way=way), **look)
    held = (
        rf"$\rho$ = {data.rho_held:g}",
        f"{data.modes_held} modes",
        rf"{data.modes_held} modes, $\rho$ = {data.rho_held:g}",
    )
    titles = ("the spectrum", "the positive", "the keys and the centre")
    for axis, title, setting in zip(axes[0], titles, held):
        axis.plot(list(FIG5C), list(FIG5C.values()), "s", color=style.PAPER["color"], markersize=5, zorder=5,
                  label="the paper")  # fmt: skip
        axis.axhline(0, **style.RULE)
        axis.set(xscale="log", xlabel=r"temperature $\tau$", ylim=(-0.06, 1.05))
        axis.set_xticks([0.05, 0.1, 0.2, 0.5, 1.0], ["0.05", "0.1", "0.2", "0.5", "1"])
        axis.minorticks_off()
        axis.set_title(f"{title} ({setting})")
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=1 if axis is right else 2)
    left.set_ylabel(r"$\cos(r_e,\ -\nabla$ de-correlation)")
    return figure


# ---------------------------------------------------- the centre of a linear network: who lives

PROBLEMS = {
    "cosine-none": "cosine loss, no predictor",
    "cosine-bias": "cosine loss, a bias alone",
    "cosine-linear": "cosine loss, linear predictor",
    "squared-linear": "squared error, linear predictor",
}
LIVES = {
    -1: ("not decided", style.FATES["undecided"]),
    0: ("nothing", "#3D3D3D"),
    1: ("the centre alone", style.FATES["collapsed"]),
    2: ("residual modes alone", style.OKABE_ITO["sky"]),
    3: ("both", style.FATES["alive"]),
}
LEVELS = (0.1, 0.3, 0.5, 0.7)


def compute_centre(eta=0.15, mu=(0.25, 4.0, 32), sigma2=(0.05, 1.5, 24)) -> "xr.Dataset":
    """`survivors` (problem, sigma2, mu) of flows that start at 1, −1 where that is not decided in the time.

    `centre_from` (problem, sigma2): the ‖μ‖ from which on the centre wins, or can live; NaN where there is no such
    border. `residual_to` (problem,): the σ² from which on no residual mode can. `settled` (sigma2, mu): m_o in closed
    form under the cosine loss with a linear predictor. eta: weight decay under the squared error; the cosine loss has
    none, which moves no direction. mu, sigma2: first, last and count of the axes, ‖μ‖ geometric.
    """
    import xarray as xr

    x, y = make_axis("mu", *mu, log=True), make_axis("sigma2", *sigma2)
    one = Centre(1.0, 1.0, 0.0, 1.0, 1.0)
    problems = {}
    for name in PROBLEMS:
        problem = CENTRE_PROBLEMS[name]
        h = problem.h.replace(eta=eta) if name.startswith("squared") else problem.h
        problems[name] = dataclasses.replace(problem, start=one, h=h)
    diagrams = [phase_diagram(x, y, problem) for problem in problems.values()]
    found = [one.survivors.where(one.fate != UNDECIDED, -1).to_dataset(name="survivors") for one in diagrams]
    plain, squared = problems["cosine-none"].h, problems["squared-linear"].h
    borders = np.full((len(PROBLEMS), len(y.values)), np.nan)
    borders[list(PROBLEMS).index("cosine-none")] = np.sqrt(plain.x - plain.x_mean)  # where its mode has the larger x
    borders[list(PROBLEMS).index("squared-linear")] = centre_border(squared.replace(sigma2=y.values))
    critical = squared.x * squared.tau**2 / (4 * eta) - 1  # η = τ²x/4(1 + σ²)
    settled = settled_centre(problems["cosine-linear"].h.replace(mu=x.values, sigma2=y.values[:, None]))
    return (
        xr.concat(found, "problem", combine_attrs="drop")
        .assign_coords(problem=list(PROBLEMS))
        .assign(
            centre_from=(("problem", "sigma2"), borders),
            residual_to=("problem", [critical if name == "squared-linear" else np.nan for name in PROBLEMS]),
            settled=(("sigma2", "mu"), settled),
        )
        .assign_attrs(eta=eta, x=squared.x, x_mean=squared.x_mean, directions=squared.directions)
    )


@style.styled
def draw_centre(data: "xr.Dataset") -> "Figure":
    """What is left of linear embeddings of images with a mean mu, over its length and the augmentation strength: one
    mode of the mean and 64 like residual ones, of variance 1, integrated until it is decided. A mode lives under the
    cosine loss if it has a hundredth of the embeddings' energy, under the squared error if its weights have not
    decayed. Solid: borders in closed form; where the mean has the larger second moment (first panel), where centre and
    residual can live (last one, with weight decay). White: m_o in closed form where a linear predictor has settled.

    Without predictor the mode of the largest second moment wins, and the collapse is complete if it is the mean's. A
    bias takes the mean out of the loss, and the residual modes win however long it is. A linear predictor shrinks every
    mode by s/(s + n), the mean least, and under the cosine loss none dies."""
    from matplotlib.colors import BoundaryNorm, ListedColormap
    from matplotlib.patches import Patch

    figure, axes = style.new_figure(1, data.sizes["problem"], panel=(3.5, 3.5), sharex=True, sharey=True)
    colours = ListedColormap([colour for _, colour in LIVES.values()])
    line = {"color": "black", "linewidth": 1.8, "clip_on": True}
    for axis, name in zip(axes[0], data.problem.values):
        one = data.sel(problem=name)
        norm = BoundaryNorm(np.arange(min(LIVES), max(LIVES) + 2) - 0.5, len(LIVES))
        axis.pcolormesh(
            data.mu, data.sigma2, one.survivors, cmap=colours, norm=norm, rasterized=True, shading="nearest"
        )
        axis.plot(one.centre_from, data.sigma2, **line)
        if np.isfinite(one.residual_to):
            axis.axhline(one.residual_to, **line)
        if name == "cosine-linear":
            drawn = axis.contour(data.mu, data.sigma2, data.settled, LEVELS, colors="white", linewidths=1.2)
            axis.clabel(drawn, fmt=r"$m_o$ = %g", fontsize=8)
        axis.set(xscale="log", xlabel=r"length of the mean $\|\mu\|$")
        axis.set(xlim=(data.mu.min(), data.mu.max()), ylim=(data.sigma2.min(), data.sigma2.max()))
        axis.set_xticks([0.3, 0.5, 1, 2, 4], ["0.3", "0.5", "1", "2", "4"])
        axis.minorticks_off()
        decay = rf", $\eta$ = {data.eta:g}" if str(name).startswith("squared") else ""
        axis.set_title(f"{PROBLEMS[str(name)]}{decay}", fontsize=9.5)
        axis.spines[["top", "right"]].set_visible(True)
    axes[0, 0].set_ylabel(style.label("sigma2"))
    there = np.unique(data.survivors)
    patches = [Patch(facecolor=colour, label=words) for value, (words, colour) in LIVES.items() if value in there]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches))
    return figure


FIGURES = {
    "zhang-fig5c": Picture(
        compute_fig5c,
        draw_fig5c,
        "InfoNCE de-correlates at temperatures between the positive's grip and its own fall",
        f"{COMPUTED}, Figure 5c",
        "zhang2022",
        claims=claims_of("temperature theory-figure5c-fall theory-figure5c-centre theory-figure5c-centre-as-stated"),
    ),
    "zhang-centre": Picture(
        compute_centre,
        draw_centre,
        "When the centre wins, dies, or lives beside the residual",
        f"computed here; the linear theory of what {CITED} calls the centre",
        "zhang2022",
        claims=claims_of(
            "naive bias linear bias-rank theory-one-shrinkage theory-centre-fate theory-centre-wins theory-bias-saves "
            "theory-bias-rank theory-bias-rank-as-stated theory-settled-centre"
        ),
    ),
}

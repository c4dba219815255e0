"""Three computed phase diagrams for a talk: each `compute_…` gives a dataset that `phase.draw_phase` can draw.

Every cell is integrated and judged by where it went. The line over it comes from another route: a closed form where
there is one (then the two can disagree, and would be seen to), a finer scan of simulated fates where there is none.
"""

from typing import TYPE_CHECKING

import numpy as np

from stopgrad.figures.machinery import style
from stopgrad.figures.machinery.data import record
from stopgrad.figures.machinery.picture import Picture
from stopgrad.figures.tian2021.sources import COMPUTED
from stopgrad.linear_theory.exact.closed_loop import Amplitudes, closed_loop_flow, directpred_threshold, growth_rate
from stopgrad.linear_theory.exact.fixed_points import critical_eta
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.predictors.matrices import directpred_spectrum
from stopgrad.linear_theory.simulation.fate import ALIVE, COLLAPSED, FATES, UNDECIDED
from stopgrad.linear_theory.sweeps.axes import make_axis
from stopgrad.linear_theory.sweeps.boundary import trace_boundary
from stopgrad.linear_theory.sweeps.mode_problem import Problem, Start
from stopgrad.linear_theory.sweeps.phase_diagram import phase_diagram

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

DEFAULTS = Hyperparameters()
GUIDE = {"color": "black", "linestyle": ":", "linewidth": 1.6}


def border_eta(p0, h: Hyperparameters):
    """The weight decay above which a start at p0 > 0 on the parabola s = x p²/α_p collapses, τ being fixed.

    There p0 = p₋: η uses up the growth rate x p0(τ − a p0). No p₋ is above τ/(2a), so that a start beyond it lives up
    to the critical weight decay.
    """
    return np.where(2 * h.a * p0 < h.tau, growth_rate(p0, h.replace(eta=0.0)), critical_eta(h))


def critical_x(h: Hyperparameters):
    """The input variance 4ηa/τ² below which no start survives: the critical weight decay, read for x."""
    return h.x * h.eta / critical_eta(h)


def _line(kind: str, **axes) -> dict:
    """The variables boundary_<axis> that `figures.shared.phase` draws as a line."""
    return {f"boundary_{name}": ("boundary", values, {"kind": kind}) for name, values in axes.items()}


# ------------------------------------------------------------------- weight decay against augmentation strength


def compute_decay_augmentation(p0=0.15, h=DEFAULTS, sigma2=(0.0, 2.3, 200), eta=(0.002, 0.26, 200)) -> "xr.Dataset":
    """Fates at fixed τ from p0 on the parabola. `sigma2`, `eta`: first, last and count of the axes.

    `critical_eta`, along the boundary, is η_c: between the two lines this start collapses and a stronger one survives.
    """
    diagram = phase_diagram(make_axis("sigma2", *sigma2), make_axis("eta", *eta), Problem(h, Start(p0)))
    fine = h.replace(sigma2=np.linspace(*sigma2[:2], 401))
    line = _line("analytic", sigma2=fine.sigma2, eta=border_eta(p0, fine))
    return diagram.assign(**line, critical_eta=("boundary", critical_eta(fine)))


@style.styled
def draw_decay_augmentation(data: "xr.Dataset") -> "Figure":
    """The fate of one mode at fixed tau, started at p0 on the invariant parabola, for every weight decay and
    augmentation strength. Colours: simulated. Solid: theory, eta = x p0 (tau - (1 + sigma^2) p0), where the start
    lies on the unstable fixed point p-. Dotted: the critical weight decay tau^2 x/(4(1 + sigma^2)), which the first
    line meets as a tangent; between the two the same hyperparameters keep a mode that starts with a larger p0.

    Right: time until p and the square root of s stay within 1 % of their limit (of tau/a). It diverges at the
    border, where the start rests on the unstable fixed point, most widely at the critical weight decay."""
    from stopgrad.figures.shared import phase

    figure = phase.draw_phase(data)
    axis = figure.axes[0]
    axis.plot(data.boundary_sigma2, data.critical_eta, **GUIDE)
    _draw_note(axis, 0.3, 0.2, "alive", color="white")
    _draw_note(axis, 0.015, 0.565, "only a\nstronger start\nsurvives", ha="left")
    _draw_note(axis, 0.64, 0.82, r"every start collapses: $\eta > \eta_c = \tau^2 x/4(1 + \sigma^2)$")
    return figure


# ---------------------------------------------------------------------------------- EMA rate against weight decay


def compute_ema_decay(
    p0=0.3, h=DEFAULTS, beta=(0.01, 3.0, 200), eta=(0.002, 0.25, 200), scan=(80, 500)
) -> "xr.Dataset":
    """Fates from p0 on the parabola with a target that starts at zero, τ(0) = 0, and follows at the rate β.

    `beta`, `eta`: first, last and count of the axes, β logarithmic; `scan`: counts of the finer ones on which the
    boundary is sought. `fixed_target` is the border at τ = 1 throughout, the limit β → ∞.
    """
    problem = Problem(h, Start(p0, tau0=0.0))
    diagram = phase_diagram(make_axis("beta", *beta, log=True), make_axis("eta", *eta), problem)
    diagram.attrs.pop("tau", None)  # τ moves

    def fate(beta, eta):
        found = problem.follow({"beta": beta, "eta": eta}).fate
        return np.where(found == UNDECIDED, -1, found)

    # A scan this fine is one call of compiled code, and needs no bisection: that would be many calls with few points.
    fine = np.linspace(*eta[:2], scan[1])
    width = 1.001 * (fine[1] - fine[0])
    edge = trace_boundary(fate, np.geomspace(*beta[:2], scan[0]), fine, width=width)
    line = _line("numeric", beta=edge.x, eta=np.where(edge.status == "found", edge.middle, np.nan))
    more = {"boundary_width": width, "fixed_target": float(border_eta(p0, h.replace(tau=1.0)))}
    return diagram.assign(**line).assign_attrs(more)


@style.styled
def draw_ema_decay(data: "xr.Dataset") -> "Figure":
    """The fate of one mode whose target starts at zero, tau(0) = 0, and follows the online network at the rate beta
    ((1 - momentum)/learning rate). Colours: simulated. Dashed: the border between
    simulated fates, from a scan finer than the picture's. Dotted: that of the same start with tau = 1 throughout,
    which a fast target tends to.

    While tau is small nothing holds p and s up against the decay; the slower the target, the longer. Right: time
    until p and the square root of s stay within 1 % of their limit."""
    from stopgrad.figures.shared import phase

    figure = phase.draw_phase(data)
    axis = figure.axes[0]
    axis.axhline(data.fixed_target, **GUIDE)
    _draw_note(axis, 0.3, 0.85, r"border with $\tau = 1$ throughout ($\beta \to \infty$)")
    _draw_note(axis, 0.3, 0.5, "the target comes\ntoo late")
    _draw_note(axis, 0.72, 0.3, "alive", color="white")
    return figure


# ------------------------------------------------------------------------------ DirectPred's ε against the spectrum


def compute_directpred_spectrum(
    h=DEFAULTS, x=(0.02, 1.0, 120), epsilon=(0.02, 50.0, 120), leading_r0=0.1, r0=1e-5, t=4000.0
) -> "xr.Dataset":
    """Fates of vanishing modes of input variance x beside a leading mode of variance 1, W_p set by Eq. 18.

    `x`, `epsilon`: first, last and count of the axes, ε logarithmic. At time `t` a mode is alive if its amplitude
    r = √s has grown tenfold from r0, collapsed if it has shrunk tenfold, undecided between. `s` is where it then is.

    Modes meet in the largest q alone, which is that of the mode of largest x: each is followed beside the leading one.
    """

    from stopgrad.linear_theory.simulation.integrate import integrate

    x, epsilon = np.linspace(*x), np.geomspace(*epsilon)
    pairs = h.replace(x=np.stack([np.ones_like(x), x], axis=-1))
    run = integrate(
        closed_loop_flow,
        Amplitudes(np.array([leading_r0, r0])),
        pairs,
        directpred_spectrum,
        "views",
        epsilon[:, None, None],
        t=t,
        tolerance=1e-6,
        event_dims=1,
    )
    r = run.state.r[..., 1]
    fine = h.replace(x=np.linspace(critical_x(h), 1.0, 401))
    lower, upper = directpred_threshold(fine, top=h.replace(x=1.0))
    fate = np.select([r > 10 * r0, r < r0 / 10], [ALIVE, COLLAPSED], UNDECIDED).astype(np.int8)
    flags = {"flag_values": np.arange(len(FATES), dtype=np.int8), "flag_meanings": " ".join(FATES)}
    axes = ("epsilon", "x")
    line = _line("analytic", x=np.append(fine.x[::-1], fine.x), epsilon=np.append(lower[::-1], upper))
    return record(
        {"fate": (axes, fate, flags), "s": (axes, r * r), **line},
        {"epsilon": epsilon, "x": x},
        h.replace(alpha_p=None),
        leading_r0=leading_r0,
        r0=r0,
        t=t,
    )


@style.styled
def draw_directpred_spectrum(data: "xr.Dataset") -> "Figure":
    """W_p is set from the features' spectrum: p = sqrt(q) + epsilon q_max with q = (1 + sigma^2) s. A leading mode
    of input variance 1 lives; all others start near zero, and the picture says which of them, by their input
    variance x, grow. Modes meet in q_max alone, so any spectrum may be read off the horizontal axis. Colours:
    simulated; alive is a tenfold growth, collapsed a tenfold decay of sqrt(s), undecided (under the line) neither.
    Line: theory, epsilon q_max = p- below and p+ above, p- and p+ being those of the mode itself and q_max that of
    the settled leading mode. Below x = 4 eta (1 + sigma^2)/tau^2, where the two branches meet, no epsilon helps.

    Right: s of the mode at the end. Epsilon pays for every mode it wakes: all features shrink with it."""
    from stopgrad.figures.shared import phase

    figure = phase.draw_phase(data, "s")
    axis = figure.axes[0]
    _draw_note(axis, 0.45, 0.1, r"$\varepsilon$ too weak: $\varepsilon q_{\max} < p_-$")
    _draw_note(axis, 0.01, 0.92, r"too strong:" "\n" r"$\varepsilon q_{\max} > p_+$", ha="left")
    _draw_note(axis, 0.62, 0.6, "the mode grows", color="white")
    return figure


def _draw_note(axis, across: float, up: float, text: str, **look):
    """A remark at a place given in shares of the panel's width and height."""
    axis.text(across, up, text, transform=axis.transAxes, **{"fontsize": 9, "ha": "center", "va": "center"} | look)


FIGURES = {
    "talk-decay-augmentation": Picture(
        compute_decay_augmentation,
        draw_decay_augmentation,
        "How much weight decay do augmentations leave room for?",
        f"{COMPUTED}, Eq. 11-12 and 16",
        "tian2021",
    ),
    "talk-ema-decay": Picture(
        compute_ema_decay,
        draw_ema_decay,
        "A slow target lowers the weight decay that a mode survives",
        f"{COMPUTED}, Eq. 11-13",
        "tian2021",
    ),
    "talk-directpred-spectrum": Picture(
        compute_directpred_spectrum,
        draw_directpred_spectrum,
        "Which modes does DirectPred's epsilon bring to life?",
        f"{COMPUTED}, Eq. 12 and 18",
        "tian2021",
        claims=(
            "tian2021-theory-directpred-window",
            "tian2021-theory-directpred-window-normalised",
        ),
    ),
}

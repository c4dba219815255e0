"""The cosine loss in three pictures: Bao's regimes, his linear SimSiam, and Halvagal's eight panels.

Each `compute_…` gives the data, theory and networks beside each other; each `draw_…` a picture of them.
"""

from typing import TYPE_CHECKING

import numpy as np

from stopgrad.figures.machinery import style
from stopgrad.figures.machinery.data import record
from stopgrad.figures.machinery.picture import Picture
from stopgrad.linear_theory.exact.sixth_order import REGIMES, emergence, regime, sixth_order_rests
from stopgrad.linear_theory.flows.cosine import Views, sample_cosine_flow
from stopgrad.linear_theory.flows.cosine_modes import finite_width_mode_flow
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.matrices import Network, Switches
from stopgrad.linear_theory.flows.modes import Mode
from stopgrad.linear_theory.flows.set_loop import Eigenvalues, LoopHyperparameters, SetLoop
from stopgrad.linear_theory.flows.sixth_order import (
    HeldNorms,
    Level,
    ShrinkingLevel,
    shrinking_flow,
    sixth_order_flow,
)

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

BAO = "computed here; beside Bao 2023 (arXiv 2309.16109)"
HALVAGAL = "computed here; beside Halvagal, Laborieux & Zenke 2023 (arXiv 2212.04858)"
_MARKS = {"marker": "o", "linestyle": "none", "markersize": 3, "markerfacecolor": "white", "markeredgewidth": 0.8}


# ---------------------------------------------------------------- Bao's regimes


def compute_bao_regimes(
    norms=(8.0, 4.0, 2.0), p0=0.1, h=None, p=(-0.15, 0.72, 349), t=(0.0, 100.0, 161)
) -> "xr.Dataset":
    """p′ over p for three N_Φ with N_Ψ = N_Φ/2, its rests, the regimes over (N_Φ, ρ), and p where norms shrink."""
    from stopgrad.linear_theory.simulation.integrate import integrate

    h = HeldNorms(eta=0.02) if h is None else h
    norms, p, t = np.array(norms), np.linspace(*p), np.linspace(*t)
    held = h.replace(n_phi=norms, n_psi=norms / 2)
    found = sixth_order_rests(held)
    wide, decay = np.geomspace(1, 16, 61), np.geomspace(1e-3, 0.3, 61)
    plane = h.replace(n_phi=wide[None, :], n_psi=wide[None, :] / 2, eta=decay[:, None])
    largest = h.replace(n_phi=norms[0], n_psi=norms[0] / 2)
    fixed = integrate(sixth_order_flow, Level(p0), largest, t=t[1:], compiled=False).state.p
    moving = integrate(shrinking_flow, ShrinkingLevel(p0, 1.0), largest, t=t[1:], compiled=False).state
    columns = held.replace(n_phi=norms[:, None], n_psi=norms[:, None] / 2)
    return record(
        {
            "dp": (("norm", "p"), sixth_order_flow(Level(p[None, :]), columns).p * columns.n_phi * columns.n_psi),
            "p_minus": ("norm", found.p_minus),
            "p_plus": ("norm", found.p_plus),
            "regime": ("norm", regime(p0, held)),
            "plane": (("decay", "n_phi"), regime(p0, plane)),
            "critical": ("n_phi", sixth_order_rests(h.replace(n_phi=wide, n_psi=wide / 2)).critical_eta),
            "held": ("time", np.r_[1.0, fixed / p0]),
            "shrinking": ("time", np.r_[1.0, moving.p / p0]),
            "left": ("time", np.r_[1.0, moving.left]),
            "emergence": ((), float(emergence(largest))),
        },
        {"norm": norms, "p": p, "n_phi": wide, "decay": decay, "time": t},
        h,
        p0=p0,
    )


@style.styled
def draw_bao_regimes(data: "xr.Dataset") -> "Figure":
    """One mode of the cosine loss where the norms of embeddings and predictions are held, p' = [p^2 - a (T p^3 + 2 p^6)
    / N_Psi^2] / (N_Phi N_Psi) - rho p with N_Psi = N_Phi / 2. Left: p', times N_Phi N_Psi, for three norms; filled:
    stable rests, hollow: unstable. Middle: the regimes of a mode that starts at p0, over norm and weight decay; the
    line is the critical weight decay. Right: the same mode in the regime of collapse, over its start. Where norms are
    held it dies; where weight decay shrinks them, as it does, a stable rest emerges (dotted line), and beside the
    shrinking weights (dashed) the mode grows: it is lost in norm and not in direction."""
    from matplotlib.colors import ListedColormap

    figure, axes = style.new_figure(1, 3, panel=(4.0, 3.4))
    left, middle, right = axes[0]
    left.axhline(0, **style.RULE)
    for one, colour in zip((data.isel(norm=k) for k in range(data.sizes["norm"])), style.ordered(data.sizes["norm"])):
        words = f"$N_\\Phi$ = {float(one.norm):g}: {REGIMES[int(one.regime)]}"
        left.plot(data.p, one.dp, color=colour, label=words)
        left.plot(one.p_minus, 0, **style.UNSTABLE)
        left.plot(one.p_plus, 0, **style.STABLE)
    left.plot(0, 0, **style.STABLE)
    left.axvline(data.attrs["p0"], color="0.4", linestyle=":", linewidth=1.2)
    left.set(xlabel=style.label("p"), ylabel=r"$p'\, N_\Phi N_\Psi$", ylim=(-0.16, 0.12), xlim=data.p.values[[0, -1]])
    left.legend(loc="lower left")
    colours = ListedColormap([style.FATES["collapsed"], style.MISSING, style.FATES["alive"]])
    middle.pcolormesh(data.n_phi, data.decay, data.plane, cmap=colours, vmin=0, vmax=2, shading="nearest", alpha=0.75)
    middle.plot(data.n_phi, data.critical, color="black")
    middle.plot(data.norm, 0 * data.norm + data.attrs["eta"], "s", color="black", markersize=4)
    middle.set(xscale="log", yscale="log", xlabel=r"norm of embeddings $N_\Phi$", ylabel=r"weight decay $\rho$")
    middle.set(ylim=data.decay.values[[0, -1]], xlim=data.n_phi.values[[0, -1]])
    for x, y, words in ((9, 0.12, "collapse"), (2.0, 0.06, "acute"), (1.3, 0.003, "stable")):
        middle.text(x, y, words, ha="center", fontsize=9.5)
    right.plot(data.time, data.held, color=style.OKABE_ITO["vermillion"], label="norms held")
    right.plot(data.time, data.shrinking, color=style.OKABE_ITO["blue"], label="norms as weight decay leaves them")
    right.plot(data.time, data.left, "--", color="0.4", linewidth=1.2, label=r"$e^{-\rho t}$: all weights")
    right.axvline(data.emergence, color="0.4", linestyle=":", linewidth=1.2)
    right.set(yscale="log", xlabel=style.label("time"), ylabel="$p / p_0$", xlim=data.time.values[[0, -1]])
    right.legend(loc="lower left")
    return figure


# ---------------------------------------------------------------- Bao's linear SimSiam


def compute_bao_simsiam(n=32, sigma2=0.25, eta=0.01, lr=0.5, steps=200, batch=768, seeds=(0, 1, 2)) -> "xr.Dataset":
    """A linear SimSiam by SGD on fresh Gaussian views, symmetric W_p and balanced, and its modes by the flow."""
    from stopgrad.linear_theory.simulation.integrate import integrate

    p0, every = np.linspace(0.4, 1.1, n), max(1, steps // 20)
    times = lr * np.arange(0, steps + 1, every)
    h = Hyperparameters(sigma2=sigma2, eta=eta)
    flow = integrate(
        finite_width_mode_flow, Mode(p0, p0 * p0), h, t=times[1:], event_dims=1, tolerance=1e-7, compiled=False
    ).state
    runs = [_simsiam(p0, h, lr, steps, batch, seed, every) for seed in seeds]
    sgd = {name: np.stack([run[name] for run in runs], axis=-1) for name in runs[0]}
    return record(
        {
            "flow": (("time", "mode"), np.vstack([p0, flow.p])),
            "sgd": (("time", "mode", "seed"), sgd["p"]),
            "asymmetry": (("time", "seed"), sgd["asymmetry"]),
            "norm_Wp": (("time", "seed"), sgd["norm_Wp"]),
            "norm_W": (("time", "seed"), sgd["norm_W"]),
        },
        {"time": times, "mode": np.arange(1, n + 1), "seed": list(seeds)},
        h,
        learning_rate=lr,
        batch=batch,
    )


def _simsiam(p0, h: Hyperparameters, lr, steps, batch, seed, every) -> dict:
    """Eigenvalues of W_p in the axes of its start, its asymmetry, and the norms, at every so many steps."""
    rng, n = np.random.default_rng(seed), len(p0)
    U, V = (np.linalg.qr(rng.normal(size=(n, n)))[0] for _ in range(2))
    state = Network(U @ np.diag(p0) @ U.T, U @ np.diag(p0) @ V.T, np.zeros((n, n)))
    kept: dict[str, list] = {"p": [], "asymmetry": [], "norm_Wp": [], "norm_W": []}
    for step in range(steps + 1):
        Wp, W, _ = state
        if step % every == 0:
            values = (
                *((U.T @ Wp @ U).diagonal(), np.linalg.norm(Wp - Wp.T) / np.linalg.norm(Wp + Wp.T)),
                *(np.linalg.norm(Wp) / np.linalg.norm(p0), np.linalg.norm(W) / np.linalg.norm(p0)),
            )
            for name, value in zip(kept, values):
                kept[name].append(value)
        x = rng.normal(size=(batch, n))
        views = Views(*(x + h.sigma2**0.5 * rng.normal(size=x.shape) for _ in range(2)))
        moves = sample_cosine_flow(state, views, h)
        state = Network(*(v + lr * dv for v, dv in zip(state, moves)))
    return {name: np.array(values) for name, values in kept.items()}


@style.styled
def draw_bao_simsiam(data: "xr.Dataset") -> "Figure":
    """A linear SimSiam under the cosine loss, trained by SGD on fresh Gaussian views, from a symmetric predictor and a
    balanced encoder. Left: the predictor's eigenvalues (every fourth mode; marks: SGD, a seed each; lines: the mode
    equations to first order in 1/width), over the share e^(-rho t) that weight decay leaves of all weights: modes
    become alike, and none dies. Middle: norms of both layers against e^(-rho t), which is exact for the flow; finite
    steps add to them. Right: asymmetry of the predictor, ||W_p - W_p^T|| / ||W_p + W_p^T||: noise of batches alone."""
    figure, axes = style.new_figure(1, 3, panel=(4.0, 3.3))
    left, middle, right = axes[0]
    decay = np.exp(-data.attrs["eta"] * data.time)
    chosen = data.mode.values[::4]
    for mode, colour in zip(chosen, style.ordered(len(chosen))):
        left.plot(data.time, data.flow.sel(mode=mode) / decay, color=colour, linewidth=1.3)
        for seed in data.seed.values:
            left.plot(data.time, data.sgd.sel(mode=mode, seed=seed) / decay, color=colour, **_MARKS)
    left.set(xlabel=style.label("time"), ylabel=r"eigenvalues of $W_p$, over $e^{-\rho t}$")
    for name, words, colour in (("norm_Wp", "$W_p$", "blue"), ("norm_W", "$W$", "vermillion")):
        middle.plot(data.time, data[name].isel(seed=0), color=style.OKABE_ITO[colour], label=f"norm of {words}, SGD")
    middle.plot(data.time, decay, ":", color="black", label=r"$e^{-\rho t}$")
    middle.set(xlabel=style.label("time"), ylabel="norm over its start", ylim=(0, 1.05))
    middle.legend(loc="lower left")
    for seed in data.seed.values:
        right.plot(data.time, data.asymmetry.sel(seed=seed), color="0.45", linewidth=1)
    right.set(xlabel=style.label("time"), ylabel="asymmetry of $W_p$", ylim=(0, None))
    return figure


# ---------------------------------------------------------------- Halvagal's eight panels

PANELS = {
    "predictor": "SimSiam, set predictor",
    "no-stop-gradient": "without stop-gradient",
    "no-predictor": "without predictor",
    "isoloss": "IsoLoss",
}


def compute_halvagal(modes=10, pixels=15, t=(0.0, 30.0, 16), lr=0.05, samples=3000, h=None, seed=2) -> "xr.Dataset":
    """Eigenvalues of E[z zᵀ] by the flow and of a linear network trained full-batch, for both losses and four ways."""
    from stopgrad.linear_theory.simulation.integrate import integrate

    h = LoopHyperparameters() if h is None else h
    rng, times = np.random.default_rng(seed), np.linspace(*t)
    W = rng.normal(size=(modes, pixels)) / 4
    clean = rng.normal(size=(samples, pixels))
    clean -= clean.mean(axis=0)
    clean = clean @ np.linalg.inv(np.linalg.cholesky(clean.T @ clean / samples)).T  # of covariance I, as in the theory
    views = Views(clean, clean + h.sigma2_target**0.5 * rng.normal(size=clean.shape))
    flow, network = np.empty((2, 4, len(times), modes)), np.empty((2, 4, len(times), modes))
    for i, loss in enumerate(("squared", "cosine")):
        for j, kind in enumerate(PANELS):
            start = np.linalg.svd(W, compute_uv=False) ** 2
            path = integrate(
                SetLoop(loss, kind, finite=True), Eigenvalues(start), h, t=times[1:], event_dims=1, tolerance=1e-6,
                compiled=False,
            ).state.s  # fmt: skip
            flow[i, j] = np.vstack([start, path])
            network[i, j] = _halvagal(W, views, loss, kind, h, times, lr)
    dims = ("loss", "kind", "time", "mode")
    return record(
        {"flow": (dims, flow), "network": (dims, network)},
        {"loss": ["squared", "cosine"], "kind": [*PANELS], "time": times, "mode": np.arange(1, modes + 1)},
        Hyperparameters(),
        exponent=h.exponent,
        sigma2_target=h.sigma2_target,
        learning_rate=lr,
        samples=samples,
    )


def _halvagal(W, views: Views, loss, kind, h: LoopHyperparameters, times, lr) -> np.ndarray:
    """Eigenvalues of W Wᵀ at the times, under gradient descent."""
    n, kept, steps = len(W), [], np.round(np.diff(times, prepend=0.0) / lr).astype(int)
    free, stop = Hyperparameters(eta=0.0), "none" if kind == "no-stop-gradient" else "target"
    for count in steps:
        for _ in range(count):
            values, U = np.linalg.eigh(W @ W.T)
            p = np.ones(n) if kind == "no-predictor" else np.maximum(values, 0) ** h.exponent
            Wp = (U * p) @ U.T
            if loss == "cosine":
                moves = sample_cosine_flow(
                    Network(Wp, W, W), views, free, Switches(stop_gradient=stop, predictor="fixed")
                ).W
            else:
                error = views.x2 @ W.T - views.x1 @ W.T @ Wp.T
                back = (views.x1 @ W.T @ Wp.T - views.x2 @ W.T).T @ views.x2 * (stop == "none")
                moves = (Wp.T @ error.T @ views.x1 + back) / len(views.x1)
            if kind == "isoloss":
                moves = (U / p) @ U.T @ moves  # the error past the predictor
            W = W + lr * moves
        kept.append(np.sort(np.linalg.eigvalsh(W @ W.T))[::-1])
    return np.array(kept)


@style.styled
def draw_halvagal(data: "xr.Dataset") -> "Figure":
    """Eigenvalues of the embeddings' correlation where the predictor is set as a power of it, W_P = U lambda^alpha U^T,
    under squared error (above) and the cosine loss (below), for four ways to train. Lines: theory, for the cosine to
    first order in 1/width; marks: a linear network of ten outputs, full-batch gradient descent on a sample of Gaussian
    images. Squared error: every eigenvalue goes to 1, weak ones late, under IsoLoss soon; without stop-gradient all
    die. Cosine: all become alike and their sum stays (dashed: the mean at the start); without stop-gradient weak ones
    die and the strong grow, and a mode on the edge between them goes another way in so narrow a network than in theory.
    Without predictor nothing moves but by noise."""
    figure, axes = style.new_figure(2, 4, panel=(2.9, 2.5), sharex=True)
    colours = style.ordered(data.sizes["mode"])
    for row, loss in zip(axes, data.loss.values):
        for axis, kind in zip(row, data.kind.values):
            one = data.sel(loss=loss, kind=kind)
            for k, colour in enumerate(colours):
                axis.plot(data.time, one.flow.isel(mode=k), color=colour, linewidth=1.2)
                axis.plot(data.time, one.network.isel(mode=k), color=colour, **_MARKS)
            level = 1.0 if loss == "squared" else float(one.flow.isel(time=0).mean())
            axis.axhline(level, color="0.5", linestyle="--", linewidth=0.9)
            axis.set(yscale="log", ylim=(1e-3, 12))
            axis.set_title(PANELS[str(kind)])
            axis.tick_params(labelleft=axis is row[0])
        row[0].set_ylabel(f"{loss}\neigenvalue $\\lambda$")
    for axis in axes[-1]:
        axis.set_xlabel(style.label("time"))
    return figure


FIGURES = {
    "cosine-regimes": Picture(
        compute_bao_regimes, draw_bao_regimes, "Norms select the regime, and weight decay leaves it", BAO, "tian2021"
    ),
    "cosine-simsiam": Picture(
        compute_bao_simsiam, draw_bao_simsiam, "A linear SimSiam under the cosine loss", BAO, "tian2021"
    ),
    "cosine-halvagal": Picture(
        compute_halvagal, draw_halvagal, "What losses and stop-gradient do to eigenvalues", HALVAGAL, "tian2021"
    ),
}

"""The figures of Tian, Chen & Ganguli 2021 (arXiv 2102.06810) about whole weight matrices: 7, 8 and 9.

They test the paper's assumptions A1 and A3 and its Theorem 3 on networks with random initial weights; every curve is
a mean over `runs` initialisations, with the range of all runs kept in the data.
"""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stopgrad.figures.machinery import style
from stopgrad.figures.machinery.data import record
from stopgrad.figures.machinery.picture import Picture
from stopgrad.figures.tian2021.sources import CITED
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.matrices import (
    Aligned,
    Correlations,
    Network,
    Switches,
    network_flow,
    predictor_flow,
    symmetric_part,
    symmetrised_flow,
)
from stopgrad.linear_theory.spectra.alignment import commutator_norm, misalignment
from stopgrad.linear_theory.tools.lengths import MATRIX, directions, length

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

DEFAULTS = Hyperparameters()


# ------------------------------------------------------------------- Figure 7: is the target proportional (A1)?


def compute_fig7(
    gammas=(0.9, 0.99, 0.996, 0.999), etas=(0.0, 0.01, 0.1), sigma=0.03, lr=0.01, n=10, runs=10, seed=0, t=(0, 100, 51)
) -> "xr.Dataset":
    """cos(W_a, W) along Lemma 1 with an EMA target, W_a(0) = 0, X = I, X′ = σ² I; β = (1 − γ_a)/lr.

    The paper gives σ = 0.03 without saying whether it is the augmentation's or the initial weights' standard
    deviation, so both are computed: `reading` 0 takes σ² = sigma² and weights of variance 1/n, `reading` 1 takes the
    default σ² and weights of standard deviation sigma. t = 0 is left out: the cosine with W_a = 0 does not exist.
    """
    from stopgrad.linear_theory.simulation.integrate import integrate

    times = np.linspace(*t)[1:]
    dims = ("reading", "eta", "gamma", "run", "i", "j")
    deviation = np.array([n**-0.5, sigma])
    axes = _over(dims, reading=deviation, eta=etas, gamma=(1 - np.array(gammas)) / lr)
    sigma2 = _over(dims, reading=[sigma**2, DEFAULTS.sigma2])["reading"]
    h = Hyperparameters(sigma2=sigma2, eta=axes["eta"], beta=axes["gamma"])
    shape = (2, len(etas), len(gammas), runs, n, n)
    Wp, W = (_spread(axes["reading"] * g, shape) for g in _normal(seed, 2, runs, n, n))
    flow = partial(network_flow, switches=Switches(target="ema"))
    data = Correlations(np.eye(n), sigma2 * np.eye(n))
    # At this tolerance cosines are 3e-7 off, in half of the time that 1e-6 takes.
    _, W, Wa = integrate(flow, Network(Wp, W, 0 * W), data, h, t=times, tolerance=1e-4, event_dims=2).state
    return record(
        {"correlation": (("time", *dims[:4]), _cosine(W, Wa))},
        {"time": times, "eta": np.array(etas), "gamma": np.array(gammas)},
        Hyperparameters(),
        sigma=sigma,
        sigma2=sigma2.ravel(),
        initial_deviation=deviation,
        beta=axes["gamma"].ravel(),
        lr=lr,
        n=n,
        runs=runs,
        seed=seed,
    )


@style.styled
def draw_fig7(data: "xr.Dataset") -> "Figure":
    """Cosine of W_a and W (Frobenius inner product) under Lemma 1 with an EMA target, W_a(0) = 0, X = I and
    X' = sigma^2 I. Lines: mean over 10 initialisations; bands: their range. A1 holds exactly at 1.

    The paper gives sigma = 0.03 without saying of what. Upper row: the augmentation's standard deviation, with
    initial weights of variance 1/n. Lower row: the initial weights' standard deviation, with sigma^2 = 0.1."""
    figure, axes = style.new_figure(2, data.sizes["eta"], panel=(3.3, 2.4), sharex=True, sharey=True)
    rows = (r"$\sigma$: augmentation", r"$\sigma$: initial weights")
    for (row, column), axis in np.ndenumerate(axes):
        one = data.correlation.isel(reading=row, eta=column)
        for gamma, colour in zip(data.gamma, style.ordered(data.sizes["gamma"])):
            runs = one.sel(gamma=gamma)
            axis.fill_between(data.time, runs.min("run"), runs.max("run"), color=colour, alpha=0.25, linewidth=0)
            axis.plot(data.time, runs.mean("run"), color=colour, label=rf"$\gamma_a$ = {float(gamma):g}")
        axis.set_title(f"{style.setting('eta', data.eta[column])}   {rows[row]} = {data.sigma:g}")
    for axis in axes[-1]:
        axis.set_xlabel(style.label("time"))
    for axis in axes[:, 0]:
        axis.set_ylabel(r"correlation of $W_a$ and $W$")
    style.legend_below(figure)
    return figure


# ----------------------------------------------------- Figure 8: does a free predictor become symmetric (A3)?


class _Predictor(NamedTuple):
    Wp: Any


def _balanced_predictor_flow(state: _Predictor, h: Hyperparameters) -> _Predictor:
    """Eq. 62 with F = W_pᵀ W_p, the balance of Theorem 1 at α_p = 1."""
    return _Predictor(predictor_flow(state.Wp, state.Wp.mT @ state.Wp, h))


def compute_fig8(
    taus=(0.2, 0.4, 0.6, 0.8, 1.0), etas=(0.001, 0.01, 0.05), h=DEFAULTS, n=10, runs=10, seed=0, t=(0, 100, 101)
) -> "xr.Dataset":
    """Norms of the symmetric and the skew part of W_p along Eq. 62 with F = W_pᵀ W_p, from weights of variance 1/n."""
    from stopgrad.linear_theory.simulation.integrate import integrate

    times = np.linspace(*t)
    dims = ("eta", "tau", "run", "i", "j")
    (Wp,) = _normal(seed, 1, runs, n, n) / np.sqrt(n)
    start = _Predictor(_spread(Wp, (len(etas), len(taus), *Wp.shape)))
    Wp = integrate(
        _balanced_predictor_flow,
        start,
        h.replace(**_over(dims, eta=etas, tau=taus)),
        t=times,
        tolerance=5e-5,
        event_dims=2,
    ).state.Wp
    parts = {"symmetric": symmetric_part(Wp), "skew": Wp - symmetric_part(Wp)}
    return record(
        {k: (("time", *dims[:3]), _norm(v)) for k, v in parts.items()},
        {"time": times, "eta": np.array(etas), "tau": np.array(taus)},
        h,
        n=n,
        runs=runs,
        seed=seed,
    )


@style.styled
def draw_fig8(data: "xr.Dataset") -> "Figure":
    """Frobenius norms of the symmetric and the skew part of W_p under Eq. 62, not symmetrised, with
    F = W_p^T W_p (Theorem 1's balance at alpha_p = 1) and a fixed tau. Lines: mean over 10 initialisations with
    weights of variance 1/n; bands: their range. The skew part (logarithmic axis, mean only: single runs spread
    over decades) falls throughout in all of them; so does the symmetric part where tau is too small for the weight
    decay."""
    figure, axes = style.new_figure(data.sizes["eta"], 2, panel=(4.2, 2.2), sharex=True, sharey="col")
    parts = {"symmetric": r"$\|W_p+W_p^\top\|/2$", "skew": r"$\|W_p-W_p^\top\|/2$"}
    for (row, column), axis in np.ndenumerate(axes):
        name = list(parts)[column]
        for tau, colour in zip(data.tau, style.ordered(data.sizes["tau"])):
            runs = data[name].isel(eta=row).sel(tau=tau)
            if name == "symmetric":
                axis.fill_between(data.time, runs.min("run"), runs.max("run"), color=colour, alpha=0.2, linewidth=0)
            axis.plot(data.time, runs.mean("run"), color=colour, label=style.setting("tau", tau))
        axis.set_title(f"{style.setting('eta', data.eta[row])}:  {name} part")
        axis.set(ylabel=parts[name], **({"yscale": "log", "ylim": (5e-4, 5)} if name == "skew" else {}))
    for axis in axes[-1]:
        axis.set_xlabel(style.label("time"))
    style.legend_below(figure)
    return figure


# ------------------------------------------------------------ Figure 9: do the eigenspaces align (Theorem 3)?


def compute_fig9(
    taus=(0.2, 0.6, 1.0), etas=(0.001, 0.01, 0.05), h=DEFAULTS, n=10, runs=10, p0=0.1, seed=0, t=(0, 200, 101)
) -> "xr.Dataset":
    """‖[F, W_p]‖ along Eq. 7–8, absolute and divided by ‖F‖ ‖W_p‖.

    W_p(0) and F(0) are Wishart matrices with mean eigenvalues p0 and p0²/α_p and unrelated eigenvectors.
    """
    from stopgrad.linear_theory.simulation.integrate import integrate

    times = np.linspace(*t)
    dims = ("eta", "tau", "run", "i", "j")
    Wp, F = (G @ G.mT / n * scale for G, scale in zip(_normal(seed, 2, runs, n, n), (p0, p0**2 / h.alpha_p)))
    start = Aligned(*(_spread(v, (len(etas), len(taus), *v.shape)) for v in (Wp, F)))
    varied = h.replace(**_over(dims, eta=etas, tau=taus))
    Wp, F = integrate(symmetrised_flow, start, varied, t=times, tolerance=1e-7, event_dims=2).state
    return record(
        {
            "absolute": (("time", *dims[:3]), commutator_norm(Wp, F)),
            "relative": (("time", *dims[:3]), misalignment(Wp, F)),
        },
        {"time": times, "eta": np.array(etas), "tau": np.array(taus)},
        h,
        n=n,
        runs=runs,
        p0=p0,
        s0=p0**2 / h.alpha_p,
        seed=seed,
    )


@style.styled
def draw_fig9(data: "xr.Dataset") -> "Figure":
    """Misalignment of F and W_p under the symmetrised flow (Eq. 7-8) at fixed tau: the norm of their commutator,
    which Theorem 3 bounds, and the same divided by the norms of F and W_p. Lines: geometric mean over 10
    initialisations; bands: their range. Logarithmic axis, cut at 1e-6.

    The absolute norm shoots up for small eta and large tau, because F and W_p grow; the mean of the scale-free one
    falls throughout, though not in every single run. Where everything collapses (largest eta, smallest tau) the
    absolute norm vanishes although the eigenspaces do not align: the scale-free one stays."""
    figure, axes = style.new_figure(data.sizes["eta"], data.sizes["tau"], panel=(3.1, 2.1), sharex=True, sharey=True)
    kinds = {
        "absolute": (r"absolute: $\|[F,W_p]\|$", style.OKABE_ITO["blue"]),
        "relative": (r"scale-free: $\|[F,W_p]\|/(\|F\|\,\|W_p\|)$", style.OKABE_ITO["vermillion"]),
    }
    for (row, column), axis in np.ndenumerate(axes):
        for name, (text, colour) in kinds.items():
            runs = data[name].isel(eta=row, tau=column)
            axis.fill_between(data.time, runs.min("run"), runs.max("run"), color=colour, alpha=0.2, linewidth=0)
            axis.plot(data.time, np.exp(np.log(runs).mean("run")), color=colour, label=text)
        axis.set(yscale="log", ylim=(1e-6, 3))
        axis.set_title(f"{style.setting('eta', data.eta[row])},  {style.setting('tau', data.tau[column])}")
    for axis in axes[-1]:
        axis.set_xlabel(style.label("time"))
    for axis in axes[:, 0]:
        axis.set_ylabel("misalignment")
    style.legend_below(figure)
    return figure


# ------------------------------------------------------------------------------------------------- helpers


def _over(dims: Sequence[str], **axes) -> dict[str, np.ndarray]:
    """Each axis' values, shaped to broadcast over the dimensions `dims`."""
    return {k: np.reshape(v, [-1 if d == k else 1 for d in dims]) for k, v in axes.items()}


def _normal(seed, *shape):
    """Standard normal numbers, the same on every machine."""
    return np.random.default_rng(seed).normal(size=shape)


def _norm(matrices):
    """Frobenius norm over the last two axes."""
    return length(matrices, MATRIX)


def _cosine(one, other):
    """⟨A, B⟩/(‖A‖‖B‖) of matrices in the last two axes."""
    one, other = (directions(m.reshape(*m.shape[:-2], -1)) for m in (one, other))
    return (one * other).sum(-1)


def _spread(values, shape):
    """`values` repeated to `shape`, in memory of its own."""
    return np.array(np.broadcast_to(values, shape))


FIGURES = {
    "tian-fig7": Picture(
        compute_fig7,
        draw_fig7,
        "Is the target proportional to the online network (assumption A1)?",
        f"{CITED}, Figure 7",
        "tian2021",
        claims=("tian2021-target-proportional",),
    ),
    "tian-fig8": Picture(
        compute_fig8,
        draw_fig8,
        "Does a free predictor become symmetric (assumption A3)?",
        f"{CITED}, Figure 8",
        "tian2021",
        claims=("tian2021-theory-symmetry",),
    ),
    "tian-fig9": Picture(
        compute_fig9,
        draw_fig9,
        "Do the eigenspaces of F and W_p align (Theorem 3)?",
        f"{CITED}, Figure 9",
        "tian2021",
        claims=(
            "tian2021-theory-alignment",
            "tian2021-theory-alignment-sufficient",
            "tian2021-theory-alignment-sufficient-as-stated",
            "tian2021-alignment-linear-network",
            "tian2021-alignment-resnet",
        ),
    ),
}

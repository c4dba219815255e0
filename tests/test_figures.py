"""The pictures: their data against theory, what is drawn against the data, layout, colours, cache, captions, door."""

import functools
import itertools
import json

import matplotlib
import numpy as np
import pytest
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm, to_hex, to_rgb
from matplotlib.text import Text
from scipy.integrate import solve_ivp

import figures.__main__ as door
from figures import data, phase, style, talks, tian2021, tian2021_networks
from linear_theory.door import main
from linear_theory.fixed_points import fixed_points
from linear_theory.hyperparameters import Hyperparameters
from linear_theory.integrate import integrate
from linear_theory.mode_flow import Mode, ScalarNetwork, mode_flow, scalar_network_flow

SMALL = {
    "tian-fig3": functools.partial(tian2021.compute_fig3, p=(-0.6, 1.4, 21), s=(0.0, 1.4, 15)),
    "tian-fig4": tian2021.compute_fig4,
    "tian-fig5": functools.partial(tian2021.compute_fig5, t=(0, 40, 21)),
    "tian-fig7": functools.partial(tian2021_networks.compute_fig7, n=3, runs=3, t=(0, 20, 6)),
    "tian-fig8": functools.partial(tian2021_networks.compute_fig8, n=4, runs=3, t=(0, 20, 6)),
    "tian-fig9": functools.partial(tian2021_networks.compute_fig9, n=4, runs=3, t=(0, 40, 6)),
    "tian-fig10": functools.partial(tian2021.compute_fig10, span=(-1.5, 1.5, 21)),
    "talk-decay-augmentation": functools.partial(
        talks.compute_decay_augmentation, 0.3, sigma2=(0.0, 2.3, 14), eta=(0.01, 0.26, 13)
    ),
    "talk-ema-decay": functools.partial(
        talks.compute_ema_decay, beta=(0.03, 1.0, 12), eta=(0.04, 0.25, 11), scan=(9, 43)
    ),
    "talk-directpred-spectrum": functools.partial(
        talks.compute_directpred_spectrum, x=(0.05, 1.0, 14), epsilon=(0.02, 50.0, 15), t=1000.0
    ),
}


@pytest.fixture(scope="module")
def small():
    """One small dataset a figure, computed once."""
    return functools.cache(lambda name: SMALL[name]())


def phase_data(log=False, kind="analytic", fates=("alive", "collapsed", "undecided"), n=24) -> xr.Dataset:
    """A phase diagram of the parabola, its fate read off the exact unstable branch."""
    h = Hyperparameters(sigma2=0.1)
    eta, p0 = np.linspace(0.0, 0.3, n), np.geomspace(0.003, 1.5, n) if log else np.linspace(-0.2, 1.0, n + 1)
    edge = fixed_points(h.replace(eta=eta)).p_minus
    away = p0[:, None] - edge
    fate = np.where(np.abs(away) < 0.01, 2, np.where(away > 0, 0, 1)).astype(np.int8)
    flags = {"flag_values": np.arange(len(fates), dtype=np.int8), "flag_meanings": " ".join(fates)}
    dims = ("p0", "eta")
    return xr.Dataset(
        {
            "fate": (dims, fate, flags),
            "time_to_converge": (
                dims,
                np.where(fate < 2, 5 + 3 / (0.01 + np.abs(np.nan_to_num(away, nan=1.0))), np.nan),
            ),
            "p": (dims, np.where(fate == 0, 0.8, 0.0) - 0.1 * (p0[:, None] < 0)),
            "surviving_modes": (dims, np.where(fate == 0, 5, 0)),
            "K_sign": (dims, np.where(eta > 0.1, 1.0, -1.0) + 0 * away),
            "boundary_eta": ("boundary", eta, {"kind": kind}),
            "boundary_p0": ("boundary", edge),
        },
        {"eta": eta, "p0": p0},
        attrs={"sigma2": 0.1, "tau": 1.0, "alpha_p": 1.0, "s0_rule": "x p0^2/alpha_p", "worst_error": 1e-9},
    )


# ------------------------------------------------------------------------------------- the data against theory


def test_fig3_field_fixed_points_and_separatrix():
    etas = (0.0, 0.01, 0.1, 1.0)
    d = tian2021.compute_fig3(etas, p=(-0.6, 1.4, 21), s=(0.0, 1.4, 15))
    p, s, eta = d.p, d.s, d.eta
    xr.testing.assert_allclose(d.dp, (s * (1 - 1.1 * p) - eta * p).transpose(*d.dp.dims), rtol=1e-13, atol=1e-13)
    xr.testing.assert_allclose(d.ds, (2 * s * (p * (1 - 1.1 * p) - eta)).transpose(*d.ds.dims), rtol=1e-13, atol=1e-13)
    root = np.sqrt(1 - 4.4 * np.array(etas[:3]))
    np.testing.assert_allclose(d.p_plus[:3], (1 + root) / 2.2, rtol=1e-12)
    np.testing.assert_allclose(d.p_minus[:3], (1 - root) / 2.2, rtol=1e-12, atol=1e-16)
    assert (
        np.isnan(d.p_plus[3]) and d.separatrix.sel(eta=1.0).isnull().all() | np.isinf(d.separatrix.sel(eta=1.0)).all()
    )


@pytest.mark.parametrize("eta", [0.01, 0.1])
def test_fig3_separatrix_divides_the_fates(eta):
    d = tian2021.compute_fig3((eta,), p=(-0.6, 1.4, 21), s=(0.0, 1.4, 3)).isel(eta=0)
    edge = d.separatrix.sel(curve=[-0.5, -0.2, 0.0], method="nearest")
    h = Hyperparameters(eta=eta)
    below, above = (
        integrate(mode_flow, Mode(edge.curve.values.copy(), factor * edge.values), h, t=12 / eta).state.s
        for factor in (0.99, 1.01)
    )
    assert np.all(below < 1e-4) and np.all(np.abs(above - float(d.s_plus)) < 1e-2)
    assert float(d.separatrix.interp(curve=d.p_minus)) == pytest.approx(float(d.s_minus), rel=0.02)


@pytest.mark.parametrize("sigma2", [0.0, 0.1, 0.5])
def test_fig4_zeros_and_their_stability(sigma2):
    d = tian2021.compute_fig4(h=Hyperparameters(sigma2=sigma2))
    assert d.critical_eta == pytest.approx(1 / (4 * (1 + sigma2)))
    assert d.stability.values[0, [0, 2]].tolist() == [0, 1]  # no weight decay: half-stable, stable
    assert d.stability.values[1].tolist() == [1, -1, 1]
    assert d.stability.values[2, 0] == 1 and np.isnan(d.zero.values[2, 1:]).all()
    roots = np.sort(np.roots([-(1 + sigma2), 1, -float(d.eta[1]), 0]))
    np.testing.assert_allclose(d.zero.values[1], roots, rtol=1e-10, atol=1e-12)


def test_fig5_agrees_with_the_scalar_network():
    """Golden fact G16: (p, s, τ) and (w_p, w, w_a) are one system."""
    d = tian2021.compute_fig5(t=(0, 30, 4))
    for row, curve in itertools.product(range(2), range(5)):
        one = d.isel(row=row, curve=curve)
        h = Hyperparameters(sigma2=0.1, eta=float(one.eta), beta=float(one.beta))
        reference = solve_ivp(
            lambda _, y, h=h: np.array(scalar_network_flow(ScalarNetwork(*y), h)),
            (0, 30), [0.1, 0.1, 0.0], method="DOP853", rtol=1e-11, atol=1e-13, t_eval=d.time.values,
        ).y  # fmt: skip
        np.testing.assert_allclose(one.p, reference[0], atol=1e-7)
        np.testing.assert_allclose(one.s, reference[1] ** 2, atol=1e-7)
        np.testing.assert_allclose(one.tau, reference[2] / reference[1], atol=1e-6)
    assert (d.tau.isel(time=0) == 0).all() and d.attrs["p0"] == 0.1


def test_fig5_ends_where_theory_says():
    """K → τp/2 at p₊ (G9) where the mode lives; τ → β/(β − η) where it dies."""
    d = tian2021.compute_fig5(etas=(0.01, 0.2), betas=(1.0, 4.0), t=(0, 150, 2)).isel(time=-1)
    p_plus = fixed_points(Hyperparameters(eta=0.01)).p_plus
    assert float(d.p[0, 0]) == pytest.approx(float(p_plus), abs=1e-5)
    assert float(d.K[0, 0]) == pytest.approx(float(p_plus) / 2, abs=1e-5)
    assert float(d.p[0, 1]) < 1e-6 and float(d.tau[0, 1]) == pytest.approx(2.0, abs=1e-5)


def test_fig7_agrees_with_scipy_on_every_point():
    n, runs, gammas, etas, lr = 3, 2, (0.99, 0.999), (0.0, 0.1), 0.01
    d = tian2021_networks.compute_fig7(gammas, etas, lr=lr, n=n, runs=runs, seed=5, t=(0, 8, 3))
    draws = np.random.default_rng(5).normal(size=(2, runs, n, n))
    for reading, (eta, g, run) in itertools.product(range(2), itertools.product(range(2), range(2), range(runs))):
        sigma2, deviation = ((0.03**2, n**-0.5), (0.1, 0.03))[reading]
        Wp, W = deviation * draws[:, run]

        def lemma1(_, y, sigma2=sigma2, eta=etas[eta], beta=(1 - gammas[g]) / lr):
            Wp, W, Wa = y.reshape(3, n, n)
            R = Wa - (1 + sigma2) * Wp @ W
            return np.concatenate([m.ravel() for m in (R @ W.T - eta * Wp, Wp.T @ R - eta * W, beta * (W - Wa))])

        start = np.concatenate([Wp.ravel(), W.ravel(), 0 * W.ravel()])
        y = solve_ivp(lemma1, (0, 8), start, method="DOP853", rtol=1e-10, atol=1e-12, t_eval=d.time.values).y
        W, Wa = y.reshape(3, -1, len(d.time))[1:]
        cosine = (W * Wa).sum(0) / np.sqrt((W * W).sum(0) * (Wa * Wa).sum(0))
        here = d.correlation.isel(reading=reading, eta=eta, gamma=g, run=run)
        np.testing.assert_allclose(here, cosine, atol=2e-4)
    assert 0 not in d.time and "beta" in d.attrs


def test_fig8_every_surviving_direction_ends_at_p_plus():
    """The end state is symmetric with eigenvalues 0 and p₊ only, so ‖W_p‖² is a whole number of p₊²."""
    d = tian2021_networks.compute_fig8(taus=(0.2, 0.7, 1.0), etas=(0.05,), n=3, runs=3, t=(0, 300, 4)).isel(eta=0)
    h = Hyperparameters(eta=0.05, tau=np.array([0.7, 1.0]))
    alive = (d.symmetric.isel(time=-1, tau=[1, 2]).values / fixed_points(h).p_plus[:, None]) ** 2
    np.testing.assert_allclose(alive, np.round(alive), atol=1e-4)
    assert np.all(d.symmetric.isel(time=-1, tau=0) < 1e-6)  # τ = 0.2 < 2√(ηa): collapse
    assert np.all(d.skew.isel(time=-1) < 1e-4) and np.all(d.skew.diff("time") <= 1e-12)


def test_fig9_scale_free_misalignment_sees_what_the_norm_does_not():
    d = tian2021_networks.compute_fig9(n=4, runs=4, t=(0, 100, 21))
    assert float(d.relative.max()) <= np.sqrt(2)
    collapsed = d.sel(eta=0.05, tau=0.2).isel(time=-1)
    assert np.all(collapsed.absolute < 1e-6) and np.all(collapsed.relative > 1e-2)
    growing = d.sel(eta=0.001, tau=1.0)
    assert np.all(growing.absolute.max("time") > 2 * growing.absolute.isel(time=0))
    assert np.all(growing.relative.isel(time=-1) < 1e-3 * growing.relative.isel(time=0))


@pytest.mark.parametrize(
    "name, centre, expected",
    [("tied", 0.5, np.array([-3 - 5**0.5, -3 + 5**0.5]) / 4), ("absent", 0.0, -1 + np.array([-1, 1]) * 0.5**0.5)],
)
def test_fig10_linearisations(name, centre, expected):
    """Golden fact G15, from central differences of the drawn field."""
    step = 1e-4
    d = tian2021.compute_fig10(span=(centre - step, centre + step, 3))
    field = np.stack([d[f"{name}_dx"].values, d[f"{name}_dy"].values])
    jacobian = np.stack([(field[:, 1, 2] - field[:, 1, 0]), (field[:, 2, 1] - field[:, 0, 1])], axis=1) / (2 * step)
    np.testing.assert_allclose(np.sort(np.linalg.eigvals(jacobian)), expected, atol=1e-6)
    assert np.abs(field[:, 1, 1]).max() < 1e-14


def test_fig10_shading_is_what_happens():
    """Tied: w ≤ 0 collapses and w > 0 reaches (½, ½); the shaded half-plane and the dot say so."""
    d = tian2021.compute_fig10(span=(-1.5, 1.5, 4))
    w, wa = (np.ravel(v) for v in np.meshgrid([-1.5, -0.4, 0.2, 1.5], [-1.5, 0.3, 1.5]))
    h = Hyperparameters(sigma2=1.0, eta=0.0, beta=1.0, x=0.5)
    end = integrate(scalar_network_flow, ScalarNetwork(w, w, wa), h, t=120.0).state
    assert d.alive == pytest.approx(0.5)
    np.testing.assert_allclose(end.w[w > 0], 0.5, atol=1e-6)
    assert np.all(np.abs(end.w[w < 0]) < 0.02) and np.all(end.w[w < 0] <= 0)


@pytest.mark.parametrize("p0, sigma2", [(0.15, 0.0), (0.15, 1.9), (0.45, 0.0), (0.45, 3.0), (1.4, 0.5)])
def test_border_eta_is_where_p0_meets_p_minus(p0, sigma2):
    h = Hyperparameters(sigma2=sigma2, tau=0.9, x=1.3)
    border = talks.border_eta(p0, h)
    below, above = (fixed_points(h.replace(eta=border * factor)).p_minus for factor in (1 - 1e-6, 1 + 1e-6))
    assert below < p0 and not p0 > above  # NaN above the critical weight decay


def test_talk_decay_augmentation_fates_are_those_of_theory(small):
    d = small("talk-decay-augmentation")
    p_minus = fixed_points(Hyperparameters(eta=d.eta.values[:, None], sigma2=d.sigma2.values)).p_minus
    decided = (d.fate < 2).values
    np.testing.assert_array_equal((d.fate == 0).values[decided], (d.attrs["p0"] > p_minus)[decided])
    line = np.interp(d.sigma2, d.boundary_sigma2, d.boundary_eta)
    np.testing.assert_array_equal((d.fate == 0).values[decided], (d.eta.values[:, None] < line)[decided])
    assert decided.mean() > 0.99 and 0.2 < float((d.fate == 0).mean()) < 0.8
    tangent = d.boundary_eta == d.critical_eta
    assert tangent.any() and (d.boundary_eta <= d.critical_eta).all() and not tangent.all()


def test_talk_ema_border_divides_the_fates_of_the_scalar_network(small):
    d = small("talk-ema-decay")
    line = np.interp(np.log(d.beta), np.log(d.boundary_beta), d.boundary_eta)
    below = d.eta.values[:, None] - line
    clear = (np.abs(below) > d.attrs["boundary_width"]) & (d.fate < 2).values
    np.testing.assert_array_equal((d.fate == 0).values[clear], (below < 0)[clear])
    assert clear.mean() > 0.9 and np.all(np.diff(d.boundary_eta) > 0)
    assert float(d.boundary_eta.max()) < d.attrs["fixed_target"] and "tau" not in d.attrs
    for k, side in itertools.product((0, 4, 8), (-1, 1)):
        eta, beta = float(d.boundary_eta[k]) + side * d.attrs["boundary_width"], float(d.boundary_beta[k])
        h = Hyperparameters(eta=eta, beta=beta)
        end = solve_ivp(
            lambda _, y, h=h: np.array(scalar_network_flow(ScalarNetwork(*y), h)),
            (0, 1500), [0.3, 0.3, 0.0], method="DOP853", rtol=1e-9, atol=1e-12,
        ).y[:, -1]  # fmt: skip
        assert end[0] == pytest.approx(0.0 if side > 0 else float(fixed_points(h.replace(beta=None)).p_plus), abs=1e-3)


def test_talk_directpred_fates_limits_and_line(small):
    """The settled leading mode from a quadratic, and what grows beside it from the sign of x p(1 − a p) − η at ε q."""
    d, h = small("talk-directpred-spectrum"), Hyperparameters()
    p_top = float(fixed_points(h).p_plus)

    def growth(epsilon, x):
        root = np.array([np.roots([e, 1, -p_top]).max() for e in np.ravel(epsilon)]).reshape(np.shape(epsilon))
        p = epsilon * root**2
        return p, x * p * (1 - h.a * p) - h.eta

    p, rate = growth(d.epsilon.values[:, None], d.x.values)
    decided = (d.fate < 2).values
    np.testing.assert_array_equal((d.fate == 0).values[decided], (rate > 0)[decided])
    assert decided.mean() > 0.9 and np.all(np.abs(rate)[~decided] < 0.004)
    edge = np.isfinite(d.boundary_epsilon.values)
    np.testing.assert_allclose(growth(d.boundary_epsilon.values[edge], d.boundary_x.values[edge])[1], 0, atol=1e-9)
    own = np.broadcast_to(fixed_points(h.replace(x=d.x.values)).p_plus, rate.shape)
    settled = rate > 0.03
    np.testing.assert_allclose(d.s.values[settled], ((own - p)[settled] ** 2) / h.a, rtol=1e-4, atol=1e-6)


# ---------------------------------------------------------------------------------------- what is drawn, and how


def _texts(figure):
    figure.set_dpi(100)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [
        (t.get_text(), t.get_window_extent(canvas.get_renderer()))
        for t in figure.findobj(Text)
        if t.get_visible() and t.get_text().strip()
    ]
    return [(text, box) for text, box in boxes if box.width > 1], figure.bbox.expanded(1.002, 1.002)


@pytest.mark.parametrize("name", SMALL)
def test_a_picture_survives_the_data_file_and_nothing_overlaps(name, small, tmp_path):
    data.write(small(name), tmp_path / "d.nc")
    figure = door.FIGURES[name].draw(data.read(tmp_path / "d.nc"))
    assert matplotlib.rcParams["axes.titlelocation"] != "left"  # the style stays inside the drawing
    for axis in figure.axes:
        assert axis.get_title(loc="left") or axis.get_ylabel()
    texts, canvas = _texts(figure)
    for text, box in texts:
        inside = canvas.x0 <= box.x0 and box.x1 <= canvas.x1 and canvas.y0 <= box.y0 and box.y1 <= canvas.y1
        assert inside or _is_hidden_tick(text), f"{text!r} leaves the picture"
    words = [(t, b) for t, b in texts if any(c.isalpha() for c in t) and "mathdefault" not in t]
    for (one, a), (other, b) in itertools.combinations(words, 2):
        assert not a.overlaps(b), f"{one!r} overlaps {other!r}"


def _is_hidden_tick(text):
    """Tick labels outside the axis limits exist but are not drawn."""
    return "mathdefault" in text or text.replace("−", "-").lstrip("-").replace(".", "").isdigit()


def test_lines_hold_the_data(small):
    d = small("tian-fig5")
    figure = tian2021.draw_fig5(d)
    p_axis = figure.axes[1]
    drawn = [line.get_ydata() for line in p_axis.lines if len(line.get_xdata()) == d.sizes["time"]]
    np.testing.assert_array_equal(np.stack(drawn, axis=1), d.p.isel(row=0))
    legend = [t.get_text() for t in figure.axes[3].get_legend().get_texts()]
    assert legend == [style.setting("eta", e) for e in d.eta.values[0]]


def _as_seen(colour, deficiency):
    """CIE Lab of a colour as seen with a colour-vision deficiency (Machado, Oliveira & Fernandes 2009, severity 1)."""
    matrices = {
        "normal": np.eye(3),
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    }
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(matrices[deficiency]) @ linear, 0, 1)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    ratio = np.array(to_xyz) @ seen / np.array([0.95047, 1.0, 1.08883])
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("deficiency", ["normal", "protan", "deutan", "tritan"])
def test_fates_and_steps_are_told_apart(deficiency):
    for one, other in itertools.combinations(style.FATES.values(), 2):
        assert np.linalg.norm(_as_seen(one, deficiency) - _as_seen(other, deficiency)) > 25
    lightness = [_as_seen(c, deficiency)[0] for c in style.ordered(5)]
    assert np.all(np.diff(lightness) > 8)


def test_labels():
    assert style.label("eta") == r"weight decay $\eta$"
    assert style.label("eta", short=True) == r"$\eta$"
    assert style.label("my_new_axis") == "my new axis"
    assert style.setting("alpha_p", 2.0) == r"$\alpha_p$ = 2"
    assert all(text.count("$") % 2 == 0 for text in (*style.LABELS.values(), *style.SYMBOLS.values()))


# ----------------------------------------------------------------------------------------------- phase diagrams


def test_phase_draws_fate_boundary_and_variable():
    d = phase_data()
    figure = phase.draw_phase(d)
    left, right = figure.axes[:2]
    mesh = next(c for c in left.collections if isinstance(c, QuadMesh))
    np.testing.assert_array_equal(np.reshape(mesh.get_array(), d.fate.shape), d.fate)
    for value, word in enumerate(("alive", "collapsed", "undecided")):
        assert to_hex(mesh.cmap(mesh.norm(value))).upper() == style.FATES[word]
    (line,) = left.lines
    np.testing.assert_array_equal(line.get_ydata(), d.boundary_p0)
    legend = [t.get_text() for t in left.get_legend().get_texts()]
    assert legend[-1] == "boundary (analytic)" and legend[0].startswith("alive") and len(legend) == 4
    assert left.get_xlabel() == style.label("eta") and left.get_ylabel() == style.label("p0")
    assert isinstance(next(c for c in right.collections if isinstance(c, QuadMesh)).norm, LogNorm)
    assert r"$\sigma^2$ = 0.1" in figure.get_suptitle() and r"$\eta$" not in figure.get_suptitle()


def test_phase_axes_logarithmic_linear_and_foreign():
    assert phase.draw_phase(phase_data(log=True)).axes[0].get_yscale() == "log"
    assert phase.draw_phase(phase_data()).axes[0].get_yscale() == "linear"
    d = phase_data(log=True)
    d["p0"].attrs["scale"] = "linear"
    assert phase.draw_phase(d).axes[0].get_yscale() == "linear"
    d = phase_data(kind="numeric").rename(eta="label_noise", boundary_eta="boundary_label_noise")
    axis = phase.draw_phase(d).axes[0]
    assert axis.get_xlabel() == "label noise" and axis.lines[0].get_linestyle() == "--"


def test_phase_cells_sit_on_their_values():
    for log in (False, True):
        coordinate = phase_data(log=log).p0
        edges, v = phase._edges(coordinate), coordinate.values
        assert np.all((edges[:-1] < v) & (v < edges[1:]))
        middle = np.sqrt(edges[:-1] * edges[1:]) if log else (edges[:-1] + edges[1:]) / 2
        np.testing.assert_allclose(middle, v, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("variable", ["p", "surviving_modes", "K_sign", "time_to_converge"])
@pytest.mark.parametrize("log", [False, True])
def test_phase_any_variable(variable, log):
    d = phase_data(log=log)
    figure = phase.draw_phase(d, variable)
    mesh = next(c for c in figure.axes[1].collections if isinstance(c, QuadMesh))
    np.testing.assert_array_equal(np.ma.filled(np.reshape(mesh.get_array(), d.fate.shape), np.nan), d[variable])
    assert style.label(variable) in [axis.get_ylabel() for axis in figure.axes]
    FigureCanvasAgg(figure).draw()


def test_phase_is_tolerant_of_what_is_absent():
    d = phase_data()
    assert len(phase.draw_phase(d[["fate"]]).axes) == 1
    only_p = phase.draw_phase(d[["p"]])
    FigureCanvasAgg(only_p).draw()
    assert only_p.axes[0].get_xlabel() == style.label("eta")
    blank = d.assign(time_to_converge=d.time_to_converge * np.nan)
    FigureCanvasAgg(phase.draw_phase(blank)).draw()


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda d: (d[["boundary_p0"]], None), "no variable has two dimensions"),
        (lambda d: (d, "nonsense"), "no variable 'nonsense'"),
        (lambda d: (d.assign(fate=d.fate.assign_attrs(flag_meanings="alive")), None), "equally long"),
        (lambda d: (d.isel(eta=[0]), None), "at least two values"),
    ],
)
def test_phase_refuses(change, words):
    with pytest.raises(ValueError, match=words):
        phase.draw_phase(*change(phase_data()))


# ------------------------------------------------------------------------------------ files, captions, the cache


def test_save_writes_picture_and_caption_or_nothing(tmp_path):
    figure, axes = style.new_figure()
    axes[0, 0].plot([0, 1])
    path = tmp_path / "deep" / "one.png"
    written = style.save(figure, path, "what it shows", pdf=True)
    assert (
        sorted(p.name for p in path.parent.iterdir())
        == ["one.pdf", "one.png", "one.txt"]
        == sorted(p.name for p in written)
    )
    assert path.read_bytes()[:4] == b"\x89PNG" and path.with_suffix(".txt").read_text() == "what it shows"
    before = path.read_bytes()
    assert style.save(figure, path, "what it shows") and path.read_bytes() == before
    with pytest.raises(ValueError, match=r"NAME\.png"):
        style.save(figure, tmp_path / "one.jpg", "")

    def torn(draft):
        draft.write_bytes(b"half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        style.replace_file(path, torn)
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 3


def test_caption_names_source_parameters_and_command():
    text = style.caption(
        "a: b",
        "One. " * 50,
        source="Paper, Figure 1",
        parameters={"eta": 0.04, "t": np.linspace(0, 9, 30), "rule": "s0"},
        reproduce="python -m figures make a",
    )
    for part in (
        "Source: Paper, Figure 1",
        "eta = 0.04",
        "t = 0 to 9 (30 values)",
        "rule = s0",
        "python -m figures make a",
    ):
        assert part in text
    assert max(map(len, text.splitlines())) <= 100


def _answer(value=1.0):
    _answer.calls += 1
    return xr.Dataset({"v": ("x", [value, np.nan])}, attrs={"value": value})


def test_cache_computes_once_and_says_why_again(tmp_path, monkeypatch):
    _answer.calls, path = 0, tmp_path / "data" / "a.nc"
    new, why = data.cached(path, _answer)
    assert why == "there are no data yet" and "origin" not in new.attrs
    again, why = data.cached(path, _answer)
    assert why is None and _answer.calls == 1
    xr.testing.assert_identical(again, new)
    assert data.cached(path, functools.partial(_answer, value=2.0))[1] == "parameters changed"
    assert data.cached(path, functools.partial(_answer, value=2.0))[1] is None
    path.write_bytes(path.read_bytes()[:100])
    assert data.cached(path, _answer)[1] == "the data file is damaged"
    monkeypatch.setattr(data, "version", lambda name: "0")
    assert data.cached(path, _answer)[1] == "numpy, scipy, torch changed"
    assert _answer.calls == 4


def test_cache_key_follows_the_code_that_computes_and_no_other(tmp_path):
    for name in ("linear_theory", "figures"):
        (tmp_path / name).mkdir()
    files = {
        "figures/mine.py": "from figures import style\nfrom linear_theory.low import f\n"
        "def compute():\n    return f()\ndef draw_it(d):\n    return 1\n",
        "figures/style.py": "COLOUR = 1\n",
        "linear_theory/low.py": "from linear_theory.lower import g\nf = g\n",
        "linear_theory/lower.py": "def g():\n    'old words'\n    return 1\n",
        "linear_theory/other.py": "x = 1\n",
    }

    def key(**changes):
        for path, text in (files | {k.replace("__", "/") + ".py": v for k, v in changes.items()}).items():
            (tmp_path / path).write_text(text)

        def compute():
            return None

        compute.__module__ = "figures.mine"
        return data.origin(compute, root=tmp_path)

    first = key()
    assert set(first) == {
        "parameters",
        "figures.mine",
        "linear_theory.low",
        "linear_theory.lower",
        "numpy",
        "scipy",
        "torch",
    }
    mine = files["figures/mine.py"]
    assert key(figures__style="COLOUR = 2\n", linear_theory__other="x = 2\n") == first
    assert key(figures__mine=mine.replace("return 1", "return 2") + "# a remark\n") == first
    assert key(linear_theory__lower="def g():\n    'new words'\n    return 1\n") == first
    assert key(figures__mine=mine.replace("f()", "f() + 1")) != first
    changed = key(linear_theory__lower="def g():\n    return 2\n")
    assert [name for name in first if first[name] != changed[name]] == ["linear_theory.lower"]


def test_every_figure_reaches_the_theory_it_draws():
    for name, one in door.FIGURES.items():
        if not isinstance(one.compute, door.Recorded):
            assert "linear_theory.hyperparameters" in data.origin(one.compute), name
            assert "figures.style" not in data.origin(one.compute)
        assert one.title and one.source and len(one.text) > 80 and one.text.isascii()


# --------------------------------------------------------------------------------------------------- the door


@pytest.fixture
def run(capsys):
    def command(*argv):
        status = main("figures", door.__doc__, door.COMMANDS, list(map(str, argv)))
        out, err = capsys.readouterr()
        return status, out, err

    return command


@pytest.fixture
def two_figures(monkeypatch, small):
    """A registry of one computed figure and one whose experiment may not have run."""
    computed = door.Picture(SMALL["tian-fig4"], tian2021.draw_fig4, "computed", "a paper", "What it shows.")
    recorded = door.Picture(
        door.Recorded("run/d.nc", "make it"), tian2021.draw_fig4, "recorded", "a run", "What it was."
    )
    monkeypatch.setattr(door, "FIGURES", {"computed": computed, "recorded": recorded})
    return small("tian-fig4")


def test_list(run):
    status, out, _ = run("list", "--json")
    assert status == 0 and set(SMALL) <= set(json.loads(out))
    assert "tian-fig3" in run("list")[1]


def test_make_all_and_what_is_missing(run, two_figures, tmp_path):
    out, results = tmp_path / "out", tmp_path / "results"
    where = ("--out", out, "--results", results)
    status, printed, _ = run("all", *where, "--json")
    assert status == 0 and json.loads(printed) == {"computed": str(out / "computed.png"), "recorded": None}
    assert "make it" in run("all", *where)[1]
    status, printed, err = run("make", "recorded", *where)
    assert (status, printed) == (2, "") and err.count("\n") == 1 and "make it" in err

    stamps = {p: p.stat().st_mtime_ns for p in out.rglob("*.*")}
    assert {p.name for p in stamps} == {"computed.png", "computed.txt", "computed.nc"}
    data.write(two_figures, results / "run" / "d.nc")
    assert json.loads(run("all", *where, "--json")[1])["recorded"] == str(out / "recorded.png")
    assert all(p.stat().st_mtime_ns == stamp for p, stamp in stamps.items())  # finished work is not done twice

    (out / "computed.png").unlink()
    status, printed, err = run("make", "computed", *where, "--pdf", "--json")
    assert json.loads(printed) == {"computed": str(out / "computed.png")} and err == ""
    assert (out / "computed.pdf").is_file() and (out / "data" / "computed.nc").stat().st_mtime_ns in stamps.values()
    assert "python -m figures make computed" in (out / "computed.txt").read_text()


def test_phase_command(run, tmp_path):
    data.write(phase_data(), tmp_path / "d.nc")
    status, printed, _ = run("phase", tmp_path / "d.nc", "--out", tmp_path / "x.png", "--variable", "p", "--json")
    assert status == 0 and json.loads(printed) == {"d": str(tmp_path / "x.png")}
    assert "sigma2 = 0.1" in (tmp_path / "x.txt").read_text()


@pytest.mark.parametrize(
    "argv, words",
    [
        (("make", "nonsense"), "the figures are"),
        (("phase", "{dir}/none.nc", "--out", "{dir}/x.png"), "no such file"),
        (("phase", "{dir}/text.nc", "--out", "{dir}/x.png"), "cannot be read"),
        (("phase", "{dir}/d.nc", "--out", "{dir}/x.png", "--variable", "q"), "no variable 'q'"),
        (("phase", "{dir}/d.nc", "--out", "{dir}/x.gif"), "NAME.png"),
        (("phase", "{dir}/d.nc", "--out", "{dir}/text.nc/x.png"), "text.nc"),
        (("make", "tian-fig4", "--out", "{dir}/text.nc"), "text.nc"),
    ],
)
def test_refusals_are_one_sentence(run, tmp_path, argv, words):
    data.write(phase_data(), tmp_path / "d.nc")
    (tmp_path / "text.nc").write_text("no NetCDF")
    before = sorted(tmp_path.iterdir())
    status, out, err = run(*(a.format(dir=tmp_path) for a in argv))
    assert (status, out) == (2, "") and words in err and err.count("\n") == 1 and err.startswith("error: ")
    assert sorted(tmp_path.iterdir()) == before

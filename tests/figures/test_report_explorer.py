"""The report's explorer: knobs and runs that the page brings, and in Chromium the numbers of the theory, to 1e-9."""

import itertools
import json

import numpy as np
import pytest
from ledgers import CHROMIUM, made
from scipy.integrate import solve_ivp

from stopgrad.experiments.launch.launcher import InProcess, launch
from stopgrad.experiments.papers import PAPERS, suite
from stopgrad.experiments.store.store import Store
from stopgrad.figures.report.explorer import KNOBS, explorer, laid_over, paths
from stopgrad.linear_theory.exact.basin import critical_s0
from stopgrad.linear_theory.exact.closed_loop import directpred_basin, directpred_limit, directpred_threshold
from stopgrad.linear_theory.exact.fixed_points import discriminant, fixed_points
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.modes import Mode, mode_flow
from stopgrad.linear_theory.predictors.matrices import directpred_spectrum

# ---------------------------------------------------------------- what the page brings


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """One run of a linear network."""
    kept = Store(tmp_path_factory.mktemp("explorer") / "runs")
    [config, *_] = [config for arm, _, config in suite("tian2021", "smoke").configs() if arm == "linear/baseline"]
    launch([config], kept, InProcess("cpu"), "explorer", ["run"])
    return kept


def test_knobs_begin_within_their_ends():
    for knob in KNOBS:
        low, high, start = knob.positions
        assert low <= start <= high and 0 < knob.step < high - low and knob.low <= knob.start <= knob.high
    assert len({knob.name for knob in KNOBS}) == len(KNOBS)


def test_a_run_is_laid_over_where_it_was_made(store):
    [run] = laid_over(PAPERS["tian2021"], "smoke", store)
    assert run["name"] == "linear network (seed 0)"
    assert run["values"] == pytest.approx({"eta": 0.08, "sigma2": 0.1, "tau": 1.0, "alpha_p": 1.0})
    columns = next(store.records()).columns
    step, q = columns.arrays["eigenvalues"]
    p = columns.arrays["predictor_spectrum"].values
    for j, mode in enumerate(run["modes"]):
        assert len(mode) == len(step) and mode[-1] == pytest.approx([p[-1, j], q[-1, j] / 1.1], rel=1e-3)
    assert json.loads(explorer(PAPERS.values(), "smoke", store)["data"])["runs"] == {"0": run}


def test_a_run_of_which_the_end_alone_is_kept_is_not_laid_over(store):
    columns = next(store.records()).columns
    assert paths(columns._replace(arrays={name: columns.arrays[name] for name in ("eigenvalues",)}), 0.1) == []
    ends = {name: type(one)(one.step[-1:], one.values[-1:]) for name, one in columns.arrays.items()}
    assert paths(columns._replace(arrays=ends), 0.1) == []
    assert laid_over(PAPERS["tian2021"], "smoke", Store(store.root / "nowhere")) == []


# ---------------------------------------------------------------- in the browser

GRID = [
    dict(zip(("eta", "sigma2", "tau", "alpha_p", "eps"), values))
    for values in itertools.product(
        (0.0, 0.001, 0.04, 0.16, 0.25, 0.3), (0.0, 0.1, 2.0), (0.05, 0.8, 1.0), (0.1, 1.0, 10.0), (0.0, 0.1, 1.0)
    )
]
"""Both ends of each knob, its start, and between them the critical weight decay itself (η = ¼ at σ² = 0, τ = 1)."""


@pytest.fixture(scope="module")
def page(tmp_path_factory, store):
    sync = pytest.importorskip("playwright.sync_api", reason="needs the extra `browser`")
    if CHROMIUM is None:
        pytest.skip("needs Chromium on the PATH (Debian: apt install chromium)")
    folder = tmp_path_factory.mktemp("explorer")
    (folder / "report.html").write_text(
        made(folder / "figures", brought=explorer(PAPERS.values(), "smoke", store)), encoding="utf-8"
    )
    with sync.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        one = browser.new_page(viewport={"width": 1366, "height": 768})
        one.goto((folder / "report.html").as_uri())
        yield one
        browser.close()


def record(values):
    return Hyperparameters(**{name: value for name, value in values.items() if name != "eps"})


def ask(page, expression, argument=None):
    """What the page computes; numbers that JSON lacks come as text."""
    text = "(_, value) => typeof value !== 'number' || Number.isFinite(value) ? value : String(value)"
    return json.loads(page.evaluate(f"(given) => JSON.stringify({expression}, {text})", argument))


def numbers(values):
    return np.array(values, dtype=float)


def test_fixed_points_rates_and_directpred_are_pythons(page):
    told = ask(
        page,
        """given.map((h) => { const { plus, minus } = theory.eigenvalues(h); return [theory.discriminant(h),
        theory.criticalEta(h), ...Object.values(theory.restPoints(h)), ...plus, ...minus,
        ...Object.values(theory.directpred(h))]; })""",
        GRID,
    )
    for values, found in zip(GRID, told):
        h = record(values)
        rest, eps = fixed_points(h), values["eps"]
        expected = [
            *(discriminant(h), rest.critical_eta, rest.p_plus, rest.s_plus, rest.p_minus, rest.s_minus),
            *(*rest.eigenvalues_plus, *rest.eigenvalues_minus),
            *(directpred_limit(h, eps) ** 2, directpred_basin(h, eps) ** 2, directpred_threshold(h)[0]),
        ]
        np.testing.assert_allclose(numbers(found), expected, rtol=1e-9, atol=1e-13, err_msg=str(values))


def test_the_border_is_pythons(page):
    grid = [values for values in GRID if values["eps"] == 0]
    p0 = [[float(p) * v["tau"] / (1 + v["sigma2"]) for p in np.linspace(-1.5, 2.5, 17)] for v in grid]
    told = ask(page, "given.map(([h, ps]) => theory.border(ps, h))", list(zip(grid, p0)))
    for values, ps, found in zip(grid, p0, told):
        expected = critical_s0(ps, record(values), tolerance=1e-12)
        np.testing.assert_allclose(numbers(found), expected, rtol=1e-9, atol=1e-13, err_msg=str(values))


def test_paths_are_those_of_the_flow(page):
    times = [0.5, 2.0, 10.0, 40.0]
    grid = [values for values in GRID if values["eps"] == 0]
    told = ask(page, f"given.map((h) => theory.path([0.3, 0.4], {times}, h))", grid)
    for values, found in zip(grid, told):
        h = record(values)
        there = solve_ivp(
            lambda _, y, h=h: mode_flow(Mode(*y), h), (0, 40), (0.3, 0.4), "DOP853", times, rtol=1e-12, atol=1e-13
        ).y.T
        np.testing.assert_allclose(numbers(found), there, atol=1e-9, err_msg=str(values))


def test_directpreds_curve_is_its_spectrum(page):
    for eps in (0.0, 0.3):
        found = ask(page, "[0, 0.2, 1.5].map((s) => theory.setP(s, given))", {"sigma2": 0.5, "eps": eps})
        expected = [directpred_spectrum(np.array([1.5 * s]), eps)[0] for s in (0, 0.2, 1.5)]
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def reading(page, name):
    return page.locator(f"[data-reading='{name}']").text_content()


def test_the_keyboard_moves_a_knob_and_all_that_is_told(page):
    page.locator("[name=eta]").focus()
    before = reading(page, "plus"), page.locator(".portrait > svg").inner_html()
    page.keyboard.press("End")
    assert reading(page, "plus") == "none: beyond the critical weight decay" != before[0]
    assert reading(page, "fate") == "collapses" and reading(page, "border") == "none: every start collapses"
    assert page.locator(".portrait > svg").inner_html() != before[1]
    assert page.locator("[name=eta]").get_attribute("aria-valuetext") == "0.3"
    page.locator(".knobs [type=reset]").click()
    assert (reading(page, "plus"), page.locator(".portrait > svg").inner_html()) == before


def test_the_start_follows_the_pointer_and_tells_its_fate(page):
    page.locator("[name=eta]").fill("0.2")
    portrait = page.locator(".portrait > svg")
    box = portrait.bounding_box()
    for up, fate in ((0.88, "collapses"), (0.3, "lives")):
        portrait.click(position={"x": 0.3 * box["width"], "y": up * box["height"]})
        p, s = (float(page.locator(f"[name={name}]").input_value()) for name in ("p0", "s0"))
        border = float(critical_s0(p, Hyperparameters(sigma2=0.1, eta=0.2)))
        assert (s > border) == (fate == "lives") and reading(page, "fate").startswith(fate)
        assert page.locator(".explorer").get_attribute("data-fate") == fate
    page.locator(".knobs [type=reset]").click()


def test_a_measured_run_is_laid_over_at_its_own_values(page):
    page.select_option(".explorer select", "0")
    assert page.locator(".portrait path.measured").count() == page.locator(".portrait circle.measured").count() == 8
    assert page.locator("[name=eta]").input_value() == "0.08"
    page.locator(".knobs [type=reset]").click()
    assert page.locator(".portrait .measured").count() == 0


@pytest.mark.parametrize("width", [360, 768, 1366])
def test_it_fits(page, width):
    page.set_viewport_size({"width": width, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    portrait, knobs = (page.locator(f".{name}").bounding_box() for name in ("portrait", "knobs"))
    below = knobs["y"] >= portrait["y"] + portrait["height"]
    assert below == (width < 896) and portrait["width"] >= min(0.9 * width, 600) - 1

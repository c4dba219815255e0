"""The pictures of Zhang et al. 2022: what is read off runs, what theory draws, and the paper's own numbers."""

import numpy as np
import pytest
import torch
from figure_examples import from_made_up, made_up_runs, small
from matplotlib.text import Text

from stopgrad.deep.config import change
from stopgrad.deep.measuring.monitor import measure
from stopgrad.deep.measuring.quantities.extra_gradient import ETA
from stopgrad.experiments.papers import PAPERS, suite
from stopgrad.experiments.zhang2022.ablation import TOY, arms
from stopgrad.experiments.zhang2022.kinds import phases as phases_of
from stopgrad.figures.machinery.measures import Runs
from stopgrad.figures.machinery.registry import FIGURES
from stopgrad.figures.zhang2022 import centre, outcomes, phases, sources, tables, theory
from stopgrad.linear_theory.exact.centre import decentring
from stopgrad.linear_theory.exact.contrast import contrast_alignment

MINE = [name for name, one in FIGURES.items() if one.paper == "zhang2022"]


def words(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_visible() and text.get_text()]


def test_every_claim_that_a_picture_names_is_there_and_headlines_are_shown():
    claims = {claim.id: claim for claim in PAPERS["zhang2022"].claims}
    named = {name for one in MINE for name in FIGURES[one].claims}
    assert named <= set(claims)
    assert {name for name, claim in claims.items() if claim.headline and claim.arms} <= named


# ---------------------------------------------------------------- the tables


@pytest.mark.parametrize(
    ("table", "numbers"),
    [
        ("table1", [46.57, 1, 1]),
        ("table2", [66.62, 1, 1, 1]),
        ("table3", [36.21, 47.41, 1]),
        ("table4", [66.62, 48.08, 66.15, 1]),
    ],
)
def test_numbers_of_the_paper(table, numbers):
    cells = tables.TABLES[table]["cells"]
    assert [cell["paper"] for cell in cells] == [[number, None] for number in numbers]
    assert [cell["collapses"] for cell in cells] == [number == 1 for number in numbers]
    assert {cell["arm"] for cell in cells} <= set(suite("zhang2022", "gpu").arms)


def test_a_number_without_a_printed_spread_has_none_in_data_and_picture():
    data = small("zhang-table3")
    assert data.spread.isnull().all() and data.paper.values.tolist() == [36.21, 47.41, 1]
    shown = words(FIGURES["zhang-table3"].draw(data))
    assert {"36.21", "47.41", "1"} <= set(shown) and not any("nan" in text for text in shown)
    assert "± std" not in " ".join(shown)


def test_the_outcomes_are_the_tables_and_what_runs_ended_in():
    data = small("zhang-outcomes")
    named = {cell["arm"] for table in tables.TABLES.values() for cell in table["cells"]}
    beside = {cell["arm"] for cell in outcomes.BESIDE.values()}
    assert outcomes.BESIDE.keys() <= named and not beside & named
    assert sorted(data.arm.values) == sorted(named | beside | {"inverse"})
    for arm, cell in outcomes.BESIDE.items():  # the paper's cell once more
        one, other = (data.isel(cell=data.arm.values.tolist().index(name)) for name in (arm, cell["arm"]))
        assert (one.paper, one.collapses, one.place) == (other.paper, other.collapses, other.place)
    taken = made_up_runs(["naive"], suite="zhang2022")
    one = data.isel(cell=data.arm.values.tolist().index("naive"))
    for name, scalar in (("m_o", "m_o_z"), ("m_o_p", "m_o_p"), ("rank", "rank_z")):
        assert one.value.sel(statistic=name).values.tolist() == [r.last(scalar) for r in taken.of("naive").values()]
    assert one.collapses and float(one.paper) == 1 and np.isnan(one.m_o)
    shown = words(outcomes.draw_outcomes(data))
    assert shown.count("collapse") == int(data.collapses.sum()) and shown.count("not measured") == 3
    assert shown.count("at scale cifar") == 3 and "66.62 %" in shown


# ---------------------------------------------------------------- over steps


def test_phases_are_those_of_the_config():
    grid = arms(600, 6)
    config = change(TOY, **grid["directions"][0])
    found = phases_of(config, 640)
    objective = config.method.objective
    for text, start, end in found:
        for step in (start, end - 1):
            assert phases.name_of(text) == objective.at(step).toward
    assert [start for _, start, _ in found] == [0, 150, 300, 450, 600] and found[-1][2] == 640
    undo = phases_of(change(TOY, **grid["undo-covariance"][0]), 640)
    assert [(phases.name_of(text), *steps) for text, *steps in undo] == [
        ("SimSiam", 0, 200),
        ("collapsing loss", 200, 400),
        ("regulariser", 400, 640),
    ]
    assert phases_of(TOY, 640) == []


def test_trajectories_are_the_runs_own_and_nan_where_there_is_none():
    taken = made_up_runs(["simsiam", "keep-centre"], suite="zhang2022", missing=("keep-centre",))
    data = phases.trajectories(taken, ["simsiam", "keep-centre", "naive"], ("m_r_z", "unknown"))
    for seed, run in taken.of("simsiam").items():
        one = data.m_r_z.sel(arm="simsiam", seed=seed)
        np.testing.assert_array_equal(one, run.columns.scalars["m_r_z"])
        np.testing.assert_array_equal(one.step, run.columns.step)
    assert data.m_r_z.sel(arm=["keep-centre", "naive"]).isnull().all() and data.unknown.isnull().all()
    assert data.planned.values.tolist() == [True, True, False]


def test_fig4_draws_every_seed_and_names_the_phases():
    data = small("zhang-fig4")
    figure = phases.draw_fig4(data)
    for seed in data.seed.values:
        curve = data.m_o_z.sel(arm="directions", seed=seed)
        assert any(np.array_equal(line.get_ydata(), curve) for line in figure.axes[0].lines)
    shown = words(figure)
    assert shown.count("centre") == 4 and "not measured:\nno run of affine/directions" in shown


def test_fig6_is_the_share_of_the_largest_covariance():
    data = from_made_up("zhang-fig6")
    run = made_up_runs(["simsiam"], suite="zhang2022").of("simsiam")[1]
    measured = data.covariance_z.sel(arm="simsiam", seed=1)
    np.testing.assert_allclose(measured, run.columns.scalars["covariance_z"] * TOY.method.embedding_dim)
    line = torch.outer(torch.tensor([1.0, -1.0] * 8), torch.ones(4))  # all on a line, askew to every channel
    found = measure(line.expand(2, 16, 4), line.expand(2, 16, 4), line.expand(2, 16, 4)).scalars
    assert float(found["covariance_z"]) * 4 == pytest.approx(1 - 1 / 4)


# ---------------------------------------------------------------- the centre


def test_fig5a_is_the_measured_curve():
    """From η_p and ‖o_p‖/‖o_z‖ alone, as the array of the run has it."""
    torch.manual_seed(3)
    z = torch.randn(2, 32, 6, dtype=torch.float64) + 0.7
    p = z @ torch.randn(6, 6, dtype=torch.float64) + 0.3
    found = measure(z, p, z, full=True)
    run = made_up_runs(["simsiam"], suite="zhang2022", seeds=(0,)).of("simsiam")[0]
    run.last = lambda name: float(found.scalars[name])
    planned = made_up_runs(["simsiam"], suite="zhang2022", seeds=(0,)).arms
    taken = Runs("zhang2022", "cpu", planned, {"simsiam": {0: run}})
    data = centre.compute_fig5a(taken, eta=(ETA[0], ETA[-1], len(ETA)))
    one = data.sel(arm="simsiam", seed=0)
    np.testing.assert_allclose(one.curve, found.arrays["centre_curve_p"].numpy(), atol=1e-9)
    m_o, rho = (float(found.scalars[name]) for name in ("m_o_z", "rho_z"))
    assert float(one.theory) == pytest.approx(-decentring(m_o, max(rho, 0)))
    assert data.curve.sel(arm="digits/simsiam").isnull().all()


def test_fig5a_shows_the_zero_the_theory_and_the_paper():
    data = small("zhang-fig5a")
    one = data.sel(arm="simsiam")
    shown = " ".join(words(centre.draw_fig5a(data)))
    assert f"{float(one.eta_p.mean()):.3f}" in shown and f"{float(one.theory.mean()):.3f}" in shown
    assert f"{sources.FIG5A_ZERO}" in shown and "not in the suite\nat this scale" in shown


def test_eta_puts_each_run_where_theory_and_measurement_have_it():
    data = small("zhang-eta")
    assert set(data.arm.values) == set(FIGURES["zhang-eta"].compute.arms)
    figure = centre.draw_eta(data)
    drawn = np.concatenate([line.get_xydata() for line in figure.axes[0].lines if line.get_linestyle() == "None"])
    expected = np.stack([-data.theory.values.ravel(), -data.eta_p.values.ravel()], axis=1)
    expected = expected[np.isfinite(expected).all(axis=1)]
    assert {tuple(np.round(row, 9)) for row in expected} == {tuple(np.round(row, 9)) for row in drawn}
    assert "not measured: affine/bias" in words(figure)


# ---------------------------------------------------------------- theory


def test_fig5c_is_the_closed_form_at_each_curves_own_setting():
    data = small("zhang-fig5c")
    s = np.arange(1.0, 65) ** -0.5
    np.testing.assert_allclose(data.by_modes.sel(modes=64), contrast_alignment(s / s.sum(), data.tau, 256, 0.4))
    for name, at in (("by_modes", {"modes": 256}), ("by_way", {"way": next(iter(theory.WAYS))})):
        np.testing.assert_allclose(data[name].sel(at), data.by_rho.sel(rho=0.4))
    assert (np.diff(data["rank"]) > 0).all() and float(data["rank"][0]) < 64


def test_the_centres_fate_is_that_of_theorys_borders():
    data = small("zhang-centre")
    nothing, alone, residual, both = range(4)
    beyond = data.mu > data.centre_from
    free = data.survivors.sel(problem="cosine-none")
    expected = np.where(beyond.sel(problem="cosine-none").transpose("sigma2", "mu"), alone, residual)
    assert ((free == expected) | (free == -1)).all() and (free == alone).any() and (free == residual).any()
    assert (data.survivors.sel(problem="cosine-bias") == residual).all()
    squared = data.survivors.sel(problem="squared-linear")
    centre_lives = beyond.sel(problem="squared-linear").transpose("sigma2", "mu").values
    residual_lives = (data.sigma2 < data.residual_to.sel(problem="squared-linear")).values[:, None]
    np.testing.assert_array_equal(squared, alone * centre_lives + residual * residual_lives)
    assert both in squared and nothing in squared


# ---------------------------------------------------------------- what every picture must leave whole


def test_axes_that_a_column_shares_show_all_rows():
    """Figure 2 of Chen & He: in the lower row the loss is at its minimum, where the upper one has no line."""
    data = from_made_up("simsiam-fig2")
    lower = [arm for arm in data.arm.values if str(arm).startswith("bare/")]
    data["loss"] = data.m_o_z.where(~data.arm.isin(lower), data.m_o_z - 5)
    figure = FIGURES["simsiam-fig2"].draw(data)
    drawn = [(axis.get_ylim(), line.get_ydata()) for axis in figure.axes for line in axis.lines]
    assert min(np.nanmin(y) for _, y in drawn) < -4
    assert all(low <= np.nanmin(y) and np.nanmax(y) <= high for (low, high), y in drawn)


def test_marks_that_are_not_there_take_no_room():
    figure = FIGURES["zhang-eta"].draw(small("zhang-eta"))
    unclipped = [line for line in figure.axes[0].lines if not line.get_clip_on()]
    assert unclipped and all(len(line.get_xdata()) for line in unclipped)

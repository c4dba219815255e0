"""What is read off a run whose objectives change: each phase from its own start, of a record as of a store."""

import math
from dataclasses import dataclass

import numpy as np
import pytest

from stopgrad.deep.config import Config, change
from stopgrad.deep.storage.table import Columns
from stopgrad.experiments.store import series
from stopgrad.experiments.zhang2022.ablation import TOY, TOY_STEPS, arms
from stopgrad.experiments.zhang2022.kinds import at_ends
from stopgrad.experiments.zhang2022.phases import OF_PHASES

CLAIMS = {claim.id: claim for claim in OF_PHASES}


@dataclass(frozen=True)
class Measured:
    """A run with a config and columns, and nothing else."""

    config: Config
    columns: Columns


def measured(arm: str, steps: range, **scalars) -> Measured:
    """A run of an arm whose scalars are functions of the step."""
    config = change(TOY, **arms(TOY_STEPS, TOY.optimisation.epochs)[arm][0])
    step = np.array([*steps, TOY_STEPS - 1])
    return Measured(
        config, Columns(step, {name: np.array([f(int(k)) for k in step]) for name, f in scalars.items()}, {})
    )


def test_a_phase_ends_with_the_last_measurement_before_the_next_ones_first_step():
    """Phases of 200: where 200 is measured its state is that of the phase before; else the last one before counts."""
    assert at_ends(measured("directions", range(0, 800, 20), m_o_z=float), "m_o_z") == [0, 200, 400, 600, 799]
    assert at_ends(measured("directions", range(0, 800, 30), m_o_z=float), "m_o_z") == [0, 180, 390, 600, 799]
    assert at_ends(measured("undo-covariance", range(0, 800, 20), m_o_z=float), "m_o_z") == [0, 260, 520, 799]


def test_figure_4_compares_each_phase_with_its_own_start():
    """A control that stays in a full collapse, and one that stays healthy, speak for neither and against neither."""

    def m_o(step):
        return np.interp(step, [0, 200, 400, 600, 799], [0.5, 0.99, 0.98, 0.1, 0.25])

    run = measured("directions", range(0, 800, 20), m_o_z=m_o)
    value = {name: CLAIMS[name].value({"directions": run}) for name in ("gradient-centre", "gradient-residual")}
    assert value["gradient-centre"] == pytest.approx((0.99 - 0.5) - (0.25 - 0.1))
    assert value["gradient-residual"] == pytest.approx((0.98 - 0.1) - (0.99 - 0.98))


def test_what_a_regulariser_regains_is_a_share_of_what_was_lost():
    spread = lambda step: np.interp(step, [260, 520, 799], [0.9, 0.1, 0.5])  # noqa: E731
    run = measured("undo-covariance", range(0, 800, 20), m_o_z=lambda k: math.sqrt(1 - spread(k)))
    assert CLAIMS["undo-covariance"].value({"undo-covariance": run}) == pytest.approx(0.5)
    run = measured("undo-covariance", range(0, 800, 20), rank_z=lambda k: 10 * spread(k))
    assert CLAIMS["undo-covariance-bn"].value({"bn/undo-covariance": run}) == pytest.approx(math.log(5))
    assert CLAIMS["lost-bn"].value({"bn/undo-covariance": run}) == pytest.approx(math.log(9))


def test_a_record_keeps_how_far_a_collapse_is_from_complete(tmp_path):
    """1 − m_o² to a thousandth, where three figures of m_o would leave nothing of it."""
    run = measured(
        "from-collapse", range(0, 800, 20), m_o_z=lambda k: 1 - 4e-3 / (1 + k / 100), m_r_z=lambda k: 0.1234567
    )
    kept = series.read(series.write(tmp_path / "a.nc", {"a": run.columns}))["a"]
    claim, again = CLAIMS["escape"], Measured(run.config, kept)
    assert claim.value({"from-collapse": again}) == pytest.approx(claim.value({"from-collapse": run}), abs=2e-3)
    assert claim.value({"from-collapse": run}) < -0.5
    assert kept.scalars["m_r_z"] == pytest.approx(0.1234567, rel=1e-3)

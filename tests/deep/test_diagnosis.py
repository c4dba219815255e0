"""The verdict in words: each word from statistics like those of real runs, none from m_o or the loss alone."""

import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from stopgrad.deep.measuring.diagnosis import WORDS, diagnose, warnings
from stopgrad.deep.measuring.monitor import measure, to_host
from stopgrad.deep.measuring.quantities.quantities import QUANTITIES

START = {
    "trace_z": 10.0,
    "trace_p": 4.0,
    "m_o_z": 0.55,
    "m_o_p": 0.55,
    "std_z": 0.83,
    "std_p": 0.83,
    "rank_z": 43.0,
    "rank_p": 30.0,
    "cosine_views": 0.53,
    "cosine_prediction": -0.01,
}
HEALTHY = {"trace_z": 30.0, "trace_p": 22.0, "std_z": 0.9, "std_p": 0.85, "rank_z": 15.0, "cosine_views": 0.73} | {
    "cosine_prediction": 0.72
}


def row(**changes):
    return START | HEALTHY | changes


# Statistics of real runs: networks as in the module's table of thresholds.
CASES = [
    ("healthy", {}),
    # a linear predictor on its way: the mean direction dominates Z and more so P
    ("healthy", {"m_o_z": 0.985, "m_o_p": 0.999, "std_z": 0.172, "std_p": 0.043, "rank_z": 34.7, "trace_p": 1380.0}),
    ("healthy", {"m_o_z": 0.969, "m_o_p": 0.998, "std_z": 0.244, "std_p": 0.055, "cosine_prediction": 0.97}),
    ("healthy", {"m_o_z": 0.9, "std_z": 0.41, "std_p": 0.28, "rank_z": 7.9}),
    ("healthy", {"trace_z": 0.5}),
    ("complete collapse (direction)", {"m_o_z": 0.997, "m_o_p": 0.997, "std_z": 0.075, "std_p": 0.075, "rank_z": 51.0}),
    ("complete collapse (direction)", {"std_z": 0.06, "std_p": 0.02, "rank_z": 53.0, "cosine_prediction": 0.99}),
    ("complete collapse (norm)", {"trace_z": 0.002, "trace_p": 2e-4, "m_o_z": 0.5, "std_z": 0.84, "std_p": 0.84}),
    ("complete collapse (norm)", {"trace_z": 0.0, "std_z": 0.0, "std_p": 0.0, "rank_z": 0.0}),
    ("complete collapse (norm)", {"trace_z": 0.03, "m_o_z": 0.975, "std_z": 0.18, "rank_z": 1.4}),
    ("dimensional collapse", {"m_o_z": 0.03, "std_z": 0.98, "std_p": 0.98, "rank_z": 4.7}),
    ("dimensional collapse", {"m_o_z": 0.82, "std_z": 0.53, "rank_z": 4.0, "cosine_prediction": 0.5}),
    ("predictor collapse", {"m_o_p": 0.998, "std_z": 0.875, "std_p": 0.065, "cosine_prediction": -0.02}),
    ("predictor collapse", {"trace_p": 0.001}),
    ("not converged", {"std_z": 0.8, "rank_z": 9.0, "cosine_views": 0.76, "cosine_prediction": 0.29}),
    ("diverged", {"trace_z": math.nan}),
    ("diverged", {"trace_p": math.inf}),
]


@pytest.mark.parametrize("kind", [torch.tensor, np.array, lambda v: np.array(v, ">f8"), lambda v: np.array(v, object)])
def test_a_number_may_be_an_array_without_dimensions(kind):
    def given(numbers):
        return {name: kind(v) for name, v in numbers.items()}

    for now in (row(), row(std_z=0.06, std_p=0.02), row(trace_z=0.002, rank_z=1.5)):
        found, expected = diagnose(given(START), given(now), [given(START)]), diagnose(START, now)
        assert found.word == expected.word and found.sentence == expected.sentence
        assert found.evidence == pytest.approx(expected.evidence)
        for sign, same in zip(warnings(given(now), [given(START)]), warnings(now, [START]), strict=True):
            assert sign.kind == same.kind and sign.values == pytest.approx(same.values)


@pytest.mark.parametrize(("word", "changes"), CASES)
def test_each_word(word, changes):
    found = diagnose(START, row(**changes))
    assert found.word == word
    assert found.sentence.endswith(".") and "{" not in found.sentence


def test_every_word_has_a_case():
    assert {word for word, _ in CASES} == set(WORDS)


@given(st.sampled_from(CASES), st.floats(0, 1), st.floats(0, 1), st.floats(-1, 1))
def test_m_o_and_the_loss_decide_nothing(case, m_o_z, m_o_p, loss):
    word, changes = case
    assert diagnose(START, row(**changes) | {"m_o_z": m_o_z, "m_o_p": m_o_p, "loss": loss}).word == word
    without = {name: value for name, value in row(**changes).items() if not name.startswith("m_o")}
    assert diagnose(START, without).word == word


@given(st.floats(1e-6, 1e6), st.sampled_from(CASES))
def test_units_of_the_embedding_decide_nothing(unit, case):
    word, changes = case
    start, now = ({**r, "trace_z": unit * r["trace_z"]} for r in (START, row(**changes)))
    assert diagnose(start, now).word == word


def test_a_random_network_of_low_rank_is_judged_by_the_floor():
    start = START | {"rank_z": 5.0}
    assert diagnose(start, row(rank_z=2.6)).word == "healthy"
    assert diagnose(start, row(rank_z=1.4)).word == "dimensional collapse"


def test_ranks_that_are_measured_now_and_then():
    bare = {name: value for name, value in row().items() if name != "rank_z"}
    start = {name: value for name, value in START.items() if name != "rank_z"}
    assert diagnose(start, bare).word == "healthy"
    assert diagnose(START, bare, [START, row(rank_z=4.0), bare]).word == "dimensional collapse"
    found = diagnose(start, bare, [start, START, row(rank_z=12.0), bare])
    assert found.word == "healthy" and found.evidence["rank_z"] == 12 and found.evidence["rank_z_start"] == 43


def test_a_row_that_lacks_its_numbers_has_diverged_and_a_start_must_have_them():
    """A table leaves NaN out."""
    assert diagnose(START, {"step": 7}).word == "diverged"
    with pytest.raises(ValueError, match="first row must have finite trace_z"):
        diagnose({"step": 0}, row())


# ---------------------------------------------------------------- few images


READ = {name: one for name, one in QUANTITIES.items() if name in START or name.startswith("rank")}
"""The quantities of which verdict and warnings are made; all of them take several times as long."""


def cloud(batch, d, rank=None, agree=0.95, seed=0):
    """A row of white noise in `rank` of d dimensions, the two views of an image correlated by `agree`."""
    return dict(_cloud(batch, d, rank, agree, seed))


@functools.cache
def _cloud(batch, d, rank, agree, seed):
    g = torch.Generator().manual_seed(seed)
    rank = rank or d
    shared, own = torch.randn(batch, rank, generator=g), torch.randn(2, batch, rank, generator=g)
    z = functional.pad(agree * shared + (1 - agree**2) ** 0.5 * own, (0, d - rank)) * (d / rank) ** 0.5
    with pytest.MonkeyPatch.context() as replaced:
        replaced.setattr("stopgrad.deep.measuring.quantities.quantities.QUANTITIES", READ)
        return to_host(measure(z, z, z))[0]


@pytest.mark.parametrize("agree", [0.0, 0.9, 1.0])
@pytest.mark.parametrize(
    ("batch", "d"), [(2, 64), (3, 64), (4, 64), (5, 64), (8, 64), (64, 1), (64, 2), (64, 3), (2, 2)]
)
def test_white_noise_is_healthy_however_few_the_images(batch, d, agree):
    ceiling = min(batch - 1, d)
    for seed in range(20):
        start, now = cloud(batch, d, agree=0.0, seed=seed), cloud(batch, d, agree=agree, seed=seed + 100)
        assert now["rank_ceiling"] == ceiling
        found = diagnose(start, now)
        assert found.word == "healthy"
        assert ("too few images to tell" in found.sentence) == (ceiling <= 2)
        assert not any("rank" in sign.kind for sign in warnings(now, [start]))


@pytest.mark.parametrize("batch", [5, 6, 16, 64])
def test_few_directions_are_seen_from_five_images_on(batch):
    start, now = cloud(batch, 64), cloud(batch, 64, rank=1)
    now["std_z"] = now["std_p"] = 0.5
    assert diagnose(start, now).word == "dimensional collapse"
    assert "rank low" in [sign.kind for sign in warnings(now, [start])]


@pytest.mark.parametrize(("batch", "d"), [(4, 3), (4, 4), (5, 3), (5, 4), (6, 3)])
def test_white_noise_in_few_dimensions_is_seldom_called_a_collapse(batch, d):
    """Half the ceiling was too high a floor: twelve of these 150."""
    start = cloud(batch, d, agree=0.0)
    ranks = [cloud(batch, d, agree=1.0, seed=seed) | {"std_z": 0.8, "std_p": 0.8} for seed in range(150)]
    assert sum(diagnose(start, now).word == "dimensional collapse" for now in ranks) <= 6


def test_the_floor_rises_with_what_a_batch_can_span():
    assert diagnose(START | {"rank_z": 2.8}, row(rank_z=1.3, rank_ceiling=3)).word == "healthy"
    assert diagnose(START | {"rank_z": 2.8}, row(rank_z=1.2, rank_ceiling=3)).word == "dimensional collapse"
    found = warnings(row(rank_z=1.2, rank_ceiling=3), [START | {"rank_z": 2.8}])
    assert [(sign.kind, sign.values["floor"]) for sign in found] == [("rank low", 1.25)]
    assert found[0].words().endswith("fell below 1.25")
    fixed = row(std_z=0.8, rank_z=1.0, rank_ceiling=1, cosine_views=0.76, cosine_prediction=0.29)
    assert "too few images to tell" in diagnose(START | {"rank_z": 2.0}, fixed).sentence


# ---------------------------------------------------------------- warnings


def said(rows):
    return [[sign.kind for sign in warnings(r, rows[:k])] for k, r in enumerate(rows)]


def test_a_healthy_run_warns_of_nothing():
    assert not any(said([START, row(), row(trace_z=200.0)]))


def test_each_warning_is_said_once():
    rows = [START, row(trace_z=0.9), row(trace_z=0.5), row(trace_z=2.0), row(trace_z=0.05), row(trace_z=0.04)]
    assert said(rows) == [[], ["norm falls"], [], [], ["norm collapsed"], []]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"std_z": 0.17, "std_p": 0.17}, {"direction narrows": "std × √d of Z fell below 0.18"}),
        ({"std_z": 0.1, "std_p": 0.1}, {"direction narrows": "below 0.18", "direction collapsed": "below 0.12"}),
        ({"rank_z": 5.0}, {"rank collapsed": "effective rank of Z fell below 12% of its start, 43"}),
        ({"rank_z": 1.5}, {"rank collapsed": "12%", "rank low": "below 2"}),
        ({"std_p": 0.05}, {"predictions narrow": "std × √d of P fell below 15% of that of Z"}),
        ({"trace_p": math.nan}, {"not finite": "no longer a finite number"}),
    ],
)
def test_what_is_warned_of(changes, words):
    found = {sign.kind: sign for sign in warnings(row(**changes), [START, row()])}
    assert found.keys() == words.keys()
    assert all(words[kind] in sign.words() for kind, sign in found.items())
    now = row(**changes)
    assert all(value == now[name] for s in found.values() for name, value in s.values.items() if name in now)


def test_warnings_of_rows_without_ranks():
    bare = {name: value for name, value in row().items() if not name.startswith("rank")}
    assert warnings(bare, [bare]) == [] and warnings(bare, []) == [] and warnings({"step": 3}, [START]) == []


# ---------------------------------------------------------------- small networks


def run(predictor, loss="cosine", stop=True, steps=250, lr=0.05):
    """First and last row of a small network, 16 content dimensions in noise, as in Zhang et al.'s settings."""
    torch.manual_seed(1000)
    encoder = nn.Sequential(nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 32, bias=False))
    learned = predictor != "fixed"
    h = {"identity": nn.Identity, "linear": lambda: nn.Linear(32, 32, bias=False)}.get(predictor, _mlp)()
    weights = [*encoder.parameters(), *(h.parameters() if learned else ())]
    optimiser, rows = torch.optim.SGD(weights, lr=lr, momentum=0.9, weight_decay=1e-4), []
    for step in range(steps + 1):
        content = functional.pad(torch.randn(128, 16), (0, 48))
        z = torch.stack([encoder(content + 0.5 * torch.randn(128, 64)) for _ in range(2)])
        p = torch.stack([h(v) for v in z])
        target = (z.detach() if stop else z).flip(0)
        if step in (0, steps):
            rows.append(to_host(measure(z, p, z, h.weight if predictor == "linear" else None))[0])
        apart = (p - target).square().sum(-1).mean() / 2
        value = apart if loss == "squared" else -functional.cosine_similarity(p, target, dim=-1).mean()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
    return rows


def _mlp():
    return nn.Sequential(nn.Linear(32, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 32))


@pytest.mark.parametrize(
    ("word", "settings"),
    [
        ("healthy", {"predictor": "mlp"}),
        ("healthy", {"predictor": "linear", "loss": "squared", "lr": 0.01}),
        ("complete collapse (direction)", {"predictor": "identity"}),
        ("complete collapse (direction)", {"predictor": "mlp", "stop": False}),
        ("complete collapse (norm)", {"predictor": "linear", "loss": "squared", "stop": False, "lr": 0.01}),
        ("not converged", {"predictor": "fixed"}),
        ("diverged", {"predictor": "linear", "loss": "squared", "lr": 10.0, "steps": 60}),
    ],
)
def test_small_networks(word, settings):
    assert diagnose(*run(**settings)).word == word

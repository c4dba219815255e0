"""A run in the theory's units: hand-computed recipes, the noise of known data, and what is said of every method."""

import contextlib
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from stopgrad.deep.config import Config, Data, Method, Optimisation, change, check
from stopgrad.deep.data import datasets, views
from stopgrad.deep.data.batch import Batch
from stopgrad.deep.measuring.units import Noise, measure_noise, recipe_of, time_of_run, units
from stopgrad.deep.parts import flat
from stopgrad.deep.presets import PRESETS
from stopgrad.deep.training.training import Plan
from stopgrad.deep.words.expectation import expectation
from stopgrad.linear_theory.exact.cosine_recipe import predict
from stopgrad.linear_theory.exact.fixed_points import fixed_points
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.matrices import Correlations
from stopgrad.linear_theory.predictors.rules import SET_RULES
from stopgrad.linear_theory.samples.views import gaussian_views, measure_correlations

GAUSSIAN = PRESETS["linear-gaussian"]
NOISE = Noise(0.1, 1.0)


def gaussian(noise=NOISE, **fields):
    """The theory's own preset with fields of method and optimisation replaced, and what is said of it."""
    return expectation(check(change(GAUSSIAN, **fields)), noise, 16)


# ---------------------------------------------------------------- units


def test_units_of_tians_recipe_by_hand():
    """lr .03, momentum .9, c = 4: a step takes 4 · .03/.1 = 1.2; η = 4e-4/4; β = .004/1.2 (G19: β · dt = 1 - γ)."""
    config = PRESETS["byol-stl10-tian"]
    h = units(config, Noise(0.2, 0.5))
    assert recipe_of(config).time_per_step == pytest.approx(1.2)
    assert (h.sigma2, h.x, h.eta, h.alpha_p, h.eta_p) == (0.2, 0.5, pytest.approx(1e-4), 1, None)
    assert h.beta == pytest.approx(0.004 / 1.2)
    assert recipe_of(config).loss == "cosine"


def test_units_of_a_faster_predictor_by_hand():
    """Batch 512 doubles both rates, .1 and .3: a step takes .1/.5; η_p = α_p · wd_p."""
    o = Optimisation(
        batch_size=512, lr=0.05, predictor_lr=0.15, weight_decay=0.01, predictor_weight_decay=0.02, momentum=0.5
    )
    config = check(Config(optimisation=o, method=Method.of(loss="squared")))
    h = units(config, NOISE)
    assert recipe_of(config).time_per_step == pytest.approx(0.2) and recipe_of(config).predictor_lr == 0.3
    assert (h.alpha_p, h.eta, h.predictor_decay) == pytest.approx((3, 0.01, 0.06))
    assert h.beta is None and recipe_of(config).loss == "squared"


def test_equal_rates_and_decays_are_the_theorys_one_eta():
    for config in (PRESETS["linear-theory"], PRESETS["linear-gaussian"], PRESETS["simsiam-imagenet"]):
        h = units(config, NOISE)
        assert h.eta_p is None and h.alpha_p == 1 and h.eta == config.optimisation.weight_decay


@pytest.mark.parametrize("scale", [1.0, 4.0])
@pytest.mark.parametrize("warmup", [0.0, 3.0])
def test_time_of_a_cosine_run(warmup, scale):
    """Σ c lr/(1 - m): a warm-up of w steps is worth (w + 1)/2 of them, the cosine over n half of them and a half."""
    o = Optimisation(epochs=10, batch_size=256, lr=0.05, momentum=0.8, warmup_epochs=warmup)
    config = Config(optimisation=o, method=Method.of(loss_scale=scale))
    w, n = 20 * int(warmup), 200 - 20 * int(warmup)
    worth = ((w + 1) / 2 if w else 0) + (n + 1) / 2
    assert time_of_run(config, 20) == pytest.approx(scale * 0.05 / 0.2 * worth, rel=1e-12)


def test_time_of_a_run_is_what_the_clock_counts():
    for config in (PRESETS["default"], PRESETS["linear-theory"], PRESETS["byol-cifar10-tian"]):
        plan = Plan(config.optimisation, 12, config.method.loss_scale)
        counted = sum(plan.duration(step) for step in range(plan.steps))
        assert time_of_run(config, 12) == pytest.approx(counted, rel=1e-12)
    restarted = change(config, order="hybrid", single_pass=0.5, restart_lr=True, warmup_epochs=0.0)
    again = change(restarted, epochs=restarted.optimisation.epochs // 2)
    counted = time_of_run(change(again, order="shuffled"), 12)  # of a whole cosine over the second half
    plan = Plan(restarted.optimisation, 12, restarted.method.loss_scale)
    counted += sum(plan.duration(step) for step in range(plan.steps // 2))
    assert time_of_run(restarted, 12) == pytest.approx(counted, rel=1e-12)
    constant = PRESETS["linear-gaussian"]
    assert time_of_run(constant, 16) == pytest.approx(40 * 16 * 0.02)
    assert time_of_run(replace(constant, optimisation=replace(constant.optimisation, epochs=0)), 16) == 0


# ---------------------------------------------------------------- measured noise


@pytest.mark.parametrize(("decay", "sigma2"), [(0.0, 0.1), (1.0, 0.5), (0.5, 0.0)])
def test_noise_of_the_gaussian_set(decay, sigma2):
    """X = diag(j^-decay), X′ = σ² I: σ² d/tr X and tr X²/tr X, here for the 4,000 points that were drawn."""
    data = Data(dataset="gaussian", gaussian_dim=8, gaussian_decay=decay, gaussian_sigma2=sigma2, gaussian_samples=4000)
    dataset = datasets.load(data, seed=3)
    (batch,) = views.batches(dataset, data, 3, [Batch((), torch.arange(4000), torch.zeros(4000).long())], "cpu")
    found = measure_noise(*batch.views)
    x = np.arange(1, 9) ** -decay
    assert found.sigma2 == pytest.approx(sigma2 * 8 / x.sum(), rel=0.05)
    assert found.x == pytest.approx((x**2).sum() / x.sum(), rel=0.1)


def test_noise_of_correlated_features():
    A, B = np.random.default_rng(0).normal(size=(2, 6, 6))
    draw = gaussian_views(Correlations(A @ A.T, 0.1 * B @ B.T))
    found = measure_noise(*draw(torch.Generator().manual_seed(0), 40_000))
    X, Xp = measure_correlations(draw, 200_000, seed=1)
    assert found.sigma2 == pytest.approx(np.trace(Xp) / np.trace(X), rel=0.03)
    assert found.x == pytest.approx(np.trace(X @ X) / np.trace(X), rel=0.03)


def test_small_batches_do_not_bias_the_typical_eigenvalue():
    """Ten samples of 40 equal eigenvalues: the estimated X's own square would give x = 1 + 40/10 and more."""
    draw, g = gaussian_views(Correlations(np.eye(40), 0.1 * np.eye(40))), torch.Generator().manual_seed(0)
    found = [measure_noise(*draw(g, 10)) for _ in range(400)]
    assert np.mean([f.x for f in found]) == pytest.approx(1, abs=0.1)
    assert np.mean([f.sigma2 for f in found]) == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize(
    "pair",
    [
        (torch.zeros(4, 3), torch.zeros(4, 3)),
        (torch.eye(3), -torch.eye(3)),
        (torch.full((4, 3), torch.nan), torch.ones(4, 3)),
    ],
)
def test_views_without_common_variance_have_no_units(pair):
    found = measure_noise(*pair)
    assert math.isnan(found.x)
    [said] = expectation(GAUSSIAN, found, 16)
    assert "no variance in common" in said and "nan" not in said


# ---------------------------------------------------------------- what is said

PREDICTORS = ("mlp", "linear", "symmetric", "identity", "fixed", "bias", *SET_RULES)
SWITCHES = {
    "stop_gradient": ("target", "none", "mirrored"),
    "target": ("shared", "ema"),
    "loss": ("cosine", "squared"),
    "isoloss": (False, True),
    "predictor_normalisation": ("none", "spectral"),
}


def possible(**fields):
    """Every combination of the other switches that goes with these fields, and what is said of it."""
    names = [name for name in SWITCHES if name in flat(Method.of(predictor=fields["predictor"]))]
    for values in itertools.product(*(SWITCHES[name] for name in names)):
        switches = dict(zip(names, values))
        with contextlib.suppress(ValueError):
            for sigma2 in (0.0, 0.1):
                yield switches, gaussian(Noise(sigma2, 0.7), momentum=0.9, **switches, **fields)


@pytest.mark.parametrize("predictor", PREDICTORS)
@pytest.mark.parametrize("decay", [0.0, 0.01, 5.0])
def test_every_method_is_told_in_a_few_sound_sentences(predictor, decay):
    told = list(possible(predictor=predictor, weight_decay=decay))
    assert len(told) >= 16
    for switches, said in told:
        loss, stop, target = switches["loss"], switches["stop_gradient"], switches["target"]
        assert 2 <= len(said) <= 8 and len(set(said)) == len(said)
        text = " ".join(said)
        assert not any(word in text.split() for word in ("nan", "inf", "nan,", "inf,", "nan.", "None"))
        assert all(sentence[0].isupper() or sentence[0] == "ε" for sentence in said)
        assert all(sentence.endswith(".") and sentence.count("(") == sentence.count(")") for sentence in said)
        learned = predictor in ("linear", "symmetric") and stop == "target"
        assert ("indicative" in text) == ((loss == "cosine" and not learned) or predictor in ("mlp", "fixed", "bias"))
        assert ("alignment is no evidence" in text) <= (predictor in PREDICTORS[6:])
        assert ("p₊ =" in text) <= (learned or predictor in PREDICTORS[6:])
        assert ("α_p =" in said[0]) == (predictor in ("mlp", "linear", "symmetric", "bias"))
        assert "η_p" not in said[0] and ("β =" in said[0]) == (target == "ema")


def test_the_units_are_said_first_with_what_decay_does_in_the_run():
    said = gaussian(target="ema", predictor_lr=0.04, epochs=100)[0]
    for part in (
        "t = 32 ",
        "α_p = 2;",
        "η = 0.01, ηt = 0.32 (the start still shows",
        "η_p = 0.02",
        "β = 0.2, βt = 6.4",
    ):
        assert part in said
    assert "hardly acts" in gaussian(epochs=1)[0] and "is forgotten" in gaussian(epochs=2000)[0]
    assert gaussian(weight_decay=np.float64(0.02)) == gaussian(weight_decay=0.02)  # as found by a computation
    rising = PRESETS["simsiam-imagenet"]
    assert "α_p = 1 where the learning rate is highest" in expectation(rising, NOISE, 10)[0]


def test_a_learned_linear_predictor_gets_the_sentences_of_the_unit_map():
    said, recipe = gaussian(), recipe_of(GAUSSIAN)
    theory = {one.kind: one.words() for one in predict(recipe, 0.1, 640, 1.0)}
    assert said[1:] == [theory[kind] for kind in ("outcome", "basin", "alignment", "speed")]
    assert "p₊ = 0.899" in said[1] and any("stable there up to lr" in s for s in said)
    cosine = gaussian(loss="cosine")
    theory = {one.kind: one.words() for one in predict(replace(recipe, loss="cosine"), 0.1, 640, 1.0)}
    assert cosine[1:] == [theory[kind] for kind in ("norm", "directions", "death", "rest", "turn")]
    assert "indicative" not in " ".join(cosine) and "no weight decay is critical" in cosine[1]
    assert "indicative" in gaussian(loss="cosine", backbone="linear")[-1]


def test_a_deep_network_gets_a_caveat_and_the_theorys_own_setting_none():
    assert "indicative" not in " ".join(gaussian())
    for changed in ({"backbone": "linear"}, {"projector_layers": 2}, {"projector_output_bn": "affine"}):
        assert gaussian(**changed)[-1].startswith("The theory is of one linear layer")
    assert gaussian(predictor="optimal", loss="cosine")[-1].startswith("The theory is of squared error;")


@pytest.mark.parametrize(("sigma2", "x", "eta"), [(0.1, 1.0, 0.0), (0.1, 1.0, 0.05), (0.5, 0.3, 0.01)])
def test_rates_of_collapse_are_those_of_theorem_2(sigma2, x, eta):
    """λ = min over p of λ_min(H), H = X′(p² + 1) + X(p - 1)² + η (G13); without predictor X′ + η."""
    noise, t = Noise(sigma2, x), 12.8
    p = np.linspace(0, 2, 200_001)
    rate = (sigma2 * x * (p**2 + 1) + x * (p - 1) ** 2 + eta).min()
    free = next(s for s in gaussian(noise, stop_gradient="none", weight_decay=eta) if "Theorem 2" in s)
    assert f"λ = x(a − 1/a) + η = {rate:.3g}." in free and f"{math.exp(-rate * t):.2g} or less" in free
    naive = next(s for s in gaussian(noise, predictor="identity", weight_decay=eta) if "Theorem 2" in s)
    assert f"λ = xσ² + η = {sigma2 * x + eta:.3g}." in naive and f" {math.exp(-(sigma2 * x + eta) * t):.2g}," in naive
    neither = gaussian(Noise(0.0, x), stop_gradient="none", weight_decay=0.0)[1]
    assert "needs augmentation or weight decay" in neither


def test_collapses_are_named_after_what_dies():
    for fields in ({"stop_gradient": "none"}, {"predictor": "identity"}):
        assert "dies" in gaussian(**fields)[1] and "in direction" in gaussian(loss="cosine", **fields)[1]
        bounded = gaussian(loss="cosine", projector_output_bn="affine_free", **fields)
        assert "rules a complete collapse out" in bounded[2]
    assert "more slowly behind the EMA" in gaussian(predictor="identity", target="ema")[1]
    assert "Mirror SimSiam" in gaussian(stop_gradient="mirrored")[1]
    assert "Without a predictor" in gaussian(stop_gradient="mirrored", predictor="identity")[1]


def test_weak_modes_behind_a_set_predictor():
    """G17 at σ² = 0, η = .04: ε above .0496934 for DirectPred; between p₋ = .0417 and p₊ = .958 for DirectSet."""
    fields = {"predictor_normalisation": "none", "weight_decay": 0.04, "predictor_eps": 0.05}
    points = fixed_points(Hyperparameters(sigma2=0.0, eta=0.04))
    assert float(points.p_minus / (points.p_plus - points.p_minus) ** 2) == pytest.approx(0.0496934, rel=1e-6)
    assert "= 0.0497; ε is 0.05." in gaussian(Noise(0.0, 1.0), predictor="directpred", **fields)[2]
    assert "p₋ = 0.0417 and p₊ = 0.958; ε is 0.05." in gaussian(Noise(0.0, 1.0), predictor="directset", **fields)[2]
    assert "blind to the norm" in gaussian(predictor="directpred")[3]
    assert "stays dead" in gaussian(predictor="directpred", predictor_eps=0.0)[2]
    assert "IsoLoss" in gaussian(predictor="directset", isoloss=True)[2]
    assert "every mode collapses" in gaussian(predictor="directpred", weight_decay=0.3)[1]


def test_a_symmetric_predictor_is_warned_of_where_it_failed():
    warned = [any("Table 3" in s for s in gaussian(predictor="symmetric", **fields)) for fields in (
        {}, {"loss": "cosine"}, {"target": "ema"}, {"predictor_lr": 0.2}, {"predictor_weight_decay": 0.1}
    )]  # fmt: skip
    assert warned == [True, True, False, False, False]
    assert "lost in direction" in gaussian(predictor="symmetric", loss="cosine")[3]

"""Suites: every config at every scale is possible, paired, in the regime it promises; bad names are refused."""

from dataclasses import asdict, replace

import pytest

from stopgrad.deep.config import from_json, to_json
from stopgrad.deep.measuring.units import recipe_of
from stopgrad.deep.presets import changes
from stopgrad.deep.presets.tian2021 import BYOL_STL10_TIAN
from stopgrad.experiments.claims.regime import acted
from stopgrad.experiments.commands.suite_command import select
from stopgrad.experiments.papers import PAPERS, chosen, suite
from stopgrad.experiments.store.evidence import identity, path_of, read
from stopgrad.experiments.suites.grid import SCALES, change, in_units
from stopgrad.experiments.tian2021.ablation import REFERENCES, SCALE
from stopgrad.linear_theory.exact.unit_map import to_theory
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.predictors.rules import SET_RULES

CPU = suite("tian2021", "cpu")
CLAIMS = [claim for claim in PAPERS["tian2021"].claims if claim.arms]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", [paper.key for paper in chosen(having="suite")])
def test_every_config_is_possible_and_no_arm_is_there_twice(name, scale):
    found = suite(name, scale)
    assert found.scale == scale and found.name == name
    configs = [to_json(config) for _, _, config in found.configs()]
    assert len(configs) == sum(len(arm.seeds) for arm in found.arms.values())
    for arm in found.arms.values():
        assert repr(from_json(to_json(arm.config))) == repr(arm.config)  # plain numbers, and not NumPy's
        assert arm.config.seed == 0 and len(arm.seeds) >= (1 if arm.name == REFERENCES else 3)  # no verdict rests on it


def test_configs_go_seed_by_seed_and_differ_in_the_seed_alone():
    triples = CPU.configs()
    seeds = [seed for _, seed, _ in triples]
    assert seeds == sorted(seeds)
    for arm, seed, config in triples:
        assert replace(config, seed=0) == CPU.arms[arm].config and config.seed == seed


def test_quick_is_a_part_of_cpu_whose_runs_both_scales_share():
    quick = suite("tian2021", "quick")
    everywhere = {(name, seed): config for name, seed, config in CPU.configs()}
    assert all(everywhere[name, seed] == config for name, seed, config in quick.configs())
    assert len(quick.configs()) < len(everywhere) / 3
    decided = [
        claim
        for claim in PAPERS["tian2021"].claims
        if claim.arms and "quick" in claim.scales and set(claim.arms) <= set(quick.arms)
    ]
    assert {"Theorem 1", "Theorem 2", "Theorem 3", "Observation 1", "Observation 5"} <= {
        claim.place for claim in decided
    }


def test_what_is_worth_most_comes_first():
    found = suite("tian2021", "cifar")
    assert {name for group in found.worth for name in group} <= set(found.arms)
    names = [name for name, _, _ in found.configs()]
    places = [[k for k, name in enumerate(names) if name in group] for group in found.worth]
    assert [k for group in places for k in group] == list(range(sum(map(len, places))))
    seeds = [seed for _, seed, _ in found.configs()]
    assert all([seeds[k] for k in group] == sorted(seeds[k] for k in group) for group in places)


def test_arms_are_paired_with_the_baseline():
    """Same data, same order of images, same length: the seed decides initialisation and views in all alike."""
    for name, arm in CPU.arms.items():
        family = "cosine/" if name.startswith("cosine/") else "linear/" if name.startswith("linear/") else ""
        base = CPU.arms[f"{family}baseline"].config
        assert arm.config.data == base.data and arm.config.monitor == base.monitor
        allowed = {"weight_decay", "predictor_weight_decay", "predictor_lr"}
        other = asdict(arm.config.optimisation).items() - asdict(base.optimisation).items()
        assert {key for key, _ in other} <= allowed


@pytest.mark.parametrize("name", [paper.key for paper in chosen(having="suite")])
def test_the_cpu_grid_is_small_and_what_it_leaves_aside_is_recorded(name):
    found = suite(name, "cpu")
    asked, whole = select([found], (), None), select([found], (), None, whole=True)
    assert len(asked) <= 100 and whole == found.configs()
    aside = [run for run in whole if run not in asked]
    assert {arm for arm, *_ in aside} == set(found.aside) and {arm for arm, *_ in asked}.isdisjoint(found.aside)
    assert aside == (select([found], found.aside, None) if aside else [])
    recorded = {identity(run.config) for run in read(path_of(found))}
    assert {identity(config) for *_, config in aside} <= recorded


def test_the_cpu_grid_is_on_digits():
    for name, arm in CPU.arms.items():
        assert arm.config.data.dataset == ("gaussian" if name.startswith("linear/") else "digits")
        assert name.startswith("linear/") or arm.config.method.backbone.width <= 16


def test_cpu_arms_are_long_in_the_theorys_units():
    for name, arm in CPU.arms.items():
        data, o = arm.config.data, arm.config.optimisation
        images = data.gaussian_samples if data.dataset == "gaussian" else 1437
        products = acted(arm.config, o.epochs * (images // o.batch_size) * o.lr / (1 - o.momentum))
        assert all(product >= 1 for product in products.eta_t), name
        assert all(product >= 1 for product in products.beta_t) or name == "linear/slow-ema", name


@pytest.mark.parametrize("eta, beta, alpha_p", [(0.1, 0.3, 1.0), (0.01, 0.05, 4.0), (0.3, 0.2, 0.5)])
def test_in_units_is_the_unit_map_backwards(eta, beta, alpha_p):
    config = change(in_units(SCALE["cpu"].squared, eta, beta, alpha_p), target="ema")
    h, _ = to_theory(recipe_of(config))
    assert (h.eta, h.beta, h.alpha_p) == pytest.approx((eta, beta, alpha_p))
    assert h.predictor_decay == pytest.approx(eta)


@pytest.mark.parametrize("alpha", [2, 4, 8])
def test_a_faster_predictor_keeps_eta(alpha):
    base, fast = (suite("tian2021", "cifar").arms[name].config for name in ("symmetric", f"symmetric-alpha-{alpha}"))
    h, fast_h = (to_theory(recipe_of(config))[0] for config in (base, fast))
    assert (fast_h.alpha_p, fast_h.eta, fast_h.predictor_decay) == pytest.approx((alpha, h.eta, h.eta))


def test_decay_of_the_predictor_alone_is_table_5s():
    h, _ = to_theory(recipe_of(CPU.arms["symmetric-predictor-decay"].config))
    assert h.eta == 0 and h.predictor_decay == Hyperparameters(eta=h.eta_p).eta > 0
    assert CPU.arms["symmetric-predictor-decay"].config != CPU.arms["symmetric"].config


def test_the_papers_own_scale_is_the_papers_recipe():
    ema = suite("tian2021", "paper").arms["cosine/ema"].config
    assert changes(ema, BYOL_STL10_TIAN) == {}
    assert suite("tian2021", "paper").arms["cosine/directpred"].config.method.predictor.eps == 0.1


def test_every_set_predictor_is_an_arm():
    for scale in ("cpu", "cifar", "gpu", "paper"):
        arms = suite("tian2021", scale).arms
        assert all(name in arms or f"cosine/{name}" in arms for name in SET_RULES)


@pytest.mark.parametrize("name, scale, words", [("byol", "cpu", "tian2021"), ("tian2021", "huge", "smoke, quick, cpu")])
def test_what_there_is_not_is_refused(name, scale, words):
    with pytest.raises(ValueError, match=words):
        suite(name, scale)


def test_change_finds_a_field_wherever_it_stands_and_refuses_an_unknown_one():
    base = SCALE["cpu"].squared
    found = change(base, lr=0.5, width=4, fraction=0.5, monitor_every=3, seed=7)
    assert (found.optimisation.lr, found.method.backbone.width, found.data.fraction, found.seed) == (0.5, 4, 0.5, 7)
    with pytest.raises(ValueError, match="learning_rate"):
        change(base, learning_rate=1.0)

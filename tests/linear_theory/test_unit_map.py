"""Training recipes against the flow that they follow as the learning rate vanishes."""

import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from stopgrad.linear_theory.exact.branches import stability
from stopgrad.linear_theory.exact.fixed_points import fixed_points
from stopgrad.linear_theory.exact.unit_map import TrainingRecipe, Translate, _jacobian, predict, to_recipe, to_theory
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.modes import (
    EmaMode,
    Mode,
    ScalarNetwork,
    ema_mode_flow,
    mode_flow,
    scalar_network_flow,
)
from stopgrad.linear_theory.spectra.alignment import alignment_operator_mode
from stopgrad.linear_theory.tools.door import dumps

STYLES = ("coupled", "decoupled", "decoupled_plain")
START = ScalarNetwork(0.3, 0.5, 0.4)


def views(sigma2, x):
    """Pairs of views of which every moment up to the second is exactly that of the theory."""
    mean, first, second = np.array(list(itertools.product((1.0, -1.0), repeat=3))).T
    noise = np.sqrt(sigma2)
    return torch.tensor(np.sqrt(x) * np.stack([mean + noise * first, mean + noise * second]))


def train(recipe, steps, sigma2, x, nesterov=False, start=START):
    """Weights (w_p, w, w_a) after `steps` full-batch steps of torch's SGD on a 1×1 linear network."""
    first, second = views(sigma2, x)
    wp, w, wa = (torch.tensor(float(v), dtype=torch.float64) for v in start)
    rates = recipe.lr if recipe.predictor_lr is None else recipe.predictor_lr, recipe.lr
    decay = recipe.weight_decay
    decays = decay if recipe.predictor_weight_decay is None else recipe.predictor_weight_decay, decay
    coupled = recipe.decay_style == "coupled"
    groups = [
        {"params": [v.requires_grad_()], "lr": lr, "weight_decay": wd if coupled else 0.0}
        for v, lr, wd in zip((wp, w), rates, decays)
    ]
    optimiser = torch.optim.SGD(groups, momentum=recipe.momentum, nesterov=nesterov)
    for _ in range(steps):
        target = w if recipe.ema_momentum is None else wa
        loss = recipe.loss_scale * 0.5 * ((wp * w * first - target.detach() * second) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        with torch.no_grad():
            for v, lr, wd in zip((wp, w), rates, decays):
                if not coupled:
                    v *= 1 - (lr * wd if recipe.decay_style == "decoupled" else wd)
        optimiser.step()
        with torch.no_grad():
            if recipe.ema_momentum is not None:
                wa = recipe.ema_momentum * wa + (1 - recipe.ema_momentum) * w
    return np.array([wp.item(), w.item(), wa.item() if recipe.ema_momentum is not None else w.item()])


def flow(h, t, start=START):
    """The same weights at time t of the flow; a shared target is w itself."""

    def rate(_, y):
        shared = h.beta is None
        state = ScalarNetwork(y[0], y[1], y[1] if shared else y[2])
        change = scalar_network_flow(state, h.replace(beta=0.0) if shared else h)
        return [change.wp, change.w, change.w if shared else change.wa]

    start = start if h.beta is not None else start._replace(wa=start.w)
    return solve_ivp(rate, (0, t), start, method="DOP853", rtol=1e-11, atol=1e-12).y[:, -1]


EQUAL = Hyperparameters(sigma2=0.4, eta=0.05, x=1.3)
UNEQUAL = Hyperparameters(sigma2=0.2, eta=0.05, eta_p=0.12, alpha_p=2.5, beta=0.7, x=0.8)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("momentum, loss_scale, nesterov", [(0.0, 1.0, False), (0.6, 2.0, False), (0.6, 0.5, True)])
@pytest.mark.parametrize("h", [EQUAL, UNEQUAL])
def test_training_follows_the_flow_to_first_order_in_the_learning_rate(h, style, momentum, loss_scale, nesterov):
    steps, t = 120, 3.0
    trained = [
        train(
            to_recipe(h, dt=t / n, momentum=momentum, decay_style=style, loss_scale=loss_scale),
            n,
            h.sigma2,
            h.x,
            nesterov,
        )
        for n in (steps, 2 * steps)
    ]
    exact = flow(h, t)
    gaps = [np.abs(v - exact).max() for v in trained]
    assert gaps[0] < 0.05 and 0.4 < gaps[1] / gaps[0] < 0.6
    assert np.abs(2 * trained[1] - trained[0] - exact).max() < 2e-3  # first order removed


@pytest.mark.parametrize("style", STYLES)
def test_equal_decay_in_the_recipe_is_unequal_in_the_flow(style):
    """α_p = 4 at one weight decay: η_p = 4η, unless decay ignores the learning rate."""
    decay = {"coupled": 0.2, "decoupled": 0.4, "decoupled_plain": 0.004}[style]
    recipe = TrainingRecipe(lr=0.01, momentum=0.5, weight_decay=decay, decay_style=style, predictor_lr=0.04)
    h, dt = to_theory(recipe, 0.1)
    assert dt == pytest.approx(0.02) and h.eta == pytest.approx(0.2) and h.alpha_p == 4
    assert h.predictor_decay == pytest.approx(0.2 if style == "decoupled_plain" else 0.8)
    trained = train(recipe, 100, 0.1, 1.0)
    other = h.replace(eta_p=0.8 if style == "decoupled_plain" else 0.2)
    gap, wrong = (np.abs(trained - flow(k, 100 * dt)).max() for k in (h, other))
    assert gap < 0.25 * wrong


def test_golden_fact_19():
    for lr, beta, eta in ((0.01, 0.4, 0.04), (0.03, 0.4 / 3, 0.04 / 3)):
        paper = TrainingRecipe(lr=lr, momentum=0, weight_decay=4e-4, decay_style="decoupled_plain", ema_momentum=0.996)
        h, dt = to_theory(paper, 0.0)
        assert (dt, h.beta, h.eta) == pytest.approx((lr, beta, eta), rel=1e-12)
    for lr, momentum in itertools.product((0.01, 0.03, 0.3), (0.0, 0.9)):
        h, _ = to_theory(TrainingRecipe(lr=lr, momentum=momentum, weight_decay=4e-4), 0.0)
        assert h.eta == pytest.approx(4e-4, rel=1e-14) and h.beta is None and h.eta_p is None
        assert fixed_points(h).p_minus == pytest.approx(4.0016e-4, rel=1e-5)
    # Decoupled decay is not multiplied by momentum's 1/(1−m), so in the flow it is weaker by 1−m.
    h, _ = to_theory(TrainingRecipe(weight_decay=4e-4, decay_style="decoupled", momentum=0.9, loss_scale=2.0), 0.0)
    assert h.eta == pytest.approx(4e-4 * 0.1 / 2, rel=1e-12)


positive = st.floats(1e-6, 1e3)
recipes = st.builds(
    TrainingRecipe,
    lr=positive,
    momentum=st.floats(0, 0.999),
    weight_decay=st.just(0.0) | positive,
    decay_style=st.sampled_from(STYLES),
    predictor_lr=st.none() | positive,
    predictor_weight_decay=st.none() | st.just(0.0) | positive,
    ema_momentum=st.none() | st.floats(1e-3, 1),
    loss_scale=positive,
    loss=st.sampled_from(("squared", "cosine")),
)


@given(recipes)
def test_recipe_to_theory_and_back(recipe):
    h, dt = to_theory(recipe, 0.3, x=2.0)
    style = {name: getattr(recipe, name) for name in ("momentum", "decay_style", "loss_scale", "loss")}
    for known in ({"dt": dt}, {"lr": recipe.lr}):
        again = to_recipe(h, **known, **style)
        assert (again.momentum, again.decay_style, again.loss) == (recipe.momentum, recipe.decay_style, recipe.loss)
        for name in ("lr", "weight_decay", "loss_scale"):
            assert getattr(again, name) == pytest.approx(getattr(recipe, name), rel=1e-13, abs=0)
        for name, same in (("predictor_lr", "lr"), ("predictor_weight_decay", "weight_decay")):
            values = [getattr(r, same) if getattr(r, name) is None else getattr(r, name) for r in (again, recipe)]
            assert values[0] == pytest.approx(values[1], rel=1e-13, abs=0)
        assert (again.ema_momentum is None) == (recipe.ema_momentum is None)
        if recipe.ema_momentum is not None:
            assert again.ema_momentum == pytest.approx(recipe.ema_momentum, abs=1e-15)


@given(
    st.builds(
        Hyperparameters,
        sigma2=st.floats(0, 3),
        eta=st.just(0.0) | positive,
        alpha_p=positive,
        beta=st.none() | st.floats(1e-3, 10),
        eta_p=st.none() | st.just(0.0) | positive,
        x=positive,
    ),
    st.floats(1e-3, 0.09),
    st.floats(0, 0.99),
    st.sampled_from(STYLES),
    positive,
)
def test_theory_to_recipe_and_back(h, dt, momentum, style, loss_scale):
    recipe = to_recipe(h, dt=dt, momentum=momentum, decay_style=style, loss_scale=loss_scale)
    again, step = to_theory(recipe, h.sigma2, h.x)
    assert (again.sigma2, again.x, again.tau, step) == (h.sigma2, h.x, 1.0, pytest.approx(dt, rel=1e-13))
    for name in ("eta", "alpha_p", "predictor_decay"):
        assert getattr(again, name) == pytest.approx(getattr(h, name), rel=1e-13, abs=0)
    assert (again.eta_p is None) == (h.predictor_decay == pytest.approx(h.eta, rel=1e-14, abs=0))
    assert (again.beta is None) == (h.beta is None)
    if h.beta is not None:  # γ = 1 − βdt loses what 1 − γ has below one ulp of 1
        assert again.beta == pytest.approx(h.beta, abs=3e-16 / dt)


def test_recipes_may_be_arrays():
    lr = np.array([0.01, 0.1, 1.0])
    h, dt = to_theory(TrainingRecipe(lr=lr, weight_decay=1e-3, decay_style="decoupled_plain"), 0.1)
    assert np.allclose(dt, 10 * lr) and np.allclose(h.eta, 1e-4 / lr) and h.eta_p is None
    assert np.allclose(to_recipe(h, dt=dt, decay_style="decoupled_plain").lr, lr)


def test_a_target_without_momentum_is_the_online_network():
    assert to_theory(TrainingRecipe(ema_momentum=0.0), 0.1) == to_theory(TrainingRecipe(), 0.1)
    assert to_theory(TrainingRecipe(ema_momentum=1.0), 0.1)[0].beta == 0


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"lr": 0.0}, "lr is 0.0; it must be finite and above 0"),
        ({"lr": np.nan}, "lr is nan"),
        ({"lr": np.inf}, "lr is inf"),
        ({"momentum": 1.0}, r"momentum is 1.0; it must be in \[0, 1\)"),
        ({"momentum": -0.1}, "momentum"),
        ({"weight_decay": -1e-4}, "weight_decay"),
        ({"predictor_lr": 0.0}, "predictor_lr"),
        ({"predictor_weight_decay": np.nan}, "predictor_weight_decay"),
        ({"ema_momentum": 1.1}, r"ema_momentum is 1.1; it must be in \[0, 1\]"),
        ({"loss_scale": 0.0}, "loss_scale"),
        ({"decay_style": "l2"}, "decay_style is 'l2'"),
        ({"loss": "mse"}, "loss is 'mse'"),
    ],
)
def test_a_recipe_out_of_range_is_one_sentence(changes, words):
    with pytest.raises(ValueError, match=words):
        to_theory(TrainingRecipe(**changes), 0.1)
    with pytest.raises(ValueError, match=words):
        Translate(**changes).run()


@pytest.mark.parametrize(
    "h, arguments, words",
    [
        (Hyperparameters(), {}, "either dt"),
        (Hyperparameters(), {"dt": 0.1, "lr": 0.1}, "either dt"),
        (Hyperparameters(), {"dt": 0.0}, "lr is 0"),
        (Hyperparameters(), {"dt": 0.1, "momentum": 1.0}, "momentum"),
        (Hyperparameters(), {"dt": 0.1, "decay_style": "l2"}, "decay_style"),
        (Hyperparameters(tau=0.5), {"dt": 0.1}, "tau is 0.5"),
        (Hyperparameters(beta=20.0), {"dt": 0.1}, "beta is 20"),
        (Hyperparameters(eta=-1.0), {"dt": 0.1}, "eta is -1"),
    ],
)
def test_what_has_no_recipe_is_refused(h, arguments, words):
    with pytest.raises(ValueError, match=words):
        to_recipe(h, **arguments)


def found(h, steps=1000, dt=0.01, **kwargs):
    """The findings by kind."""
    return by_kind(predict(to_recipe(h, dt=dt, momentum=0.0, **kwargs), h.sigma2, steps, h.x))


def by_kind(findings):
    return {one.kind: one for one in findings}


def said(h, **kwargs):
    return " ".join(one.words() for one in found(h, **kwargs).values())


def test_predictions_follow_the_regime():
    bistable = said(Hyperparameters(sigma2=0.0, eta=0.04))
    assert "0.16 of the critical η_c = 0.25" in bistable and "p₊ = 0.9583, s₊ = 0.9183" in bistable
    assert "(p₋, s₋) = (0.04174, 0.001742)" in bistable and "run lasts 10." in bistable and "ηt = 0.4" in bistable
    assert found(Hyperparameters(sigma2=0.0, eta=0.26))["outcome"].case == "collapse_only"
    assert "p₊ and p₋ meet at 0.5" in said(Hyperparameters(sigma2=0.0, eta=0.25), loss_scale=0.5)
    free = said(Hyperparameters(sigma2=0.0, eta=0.0))
    assert "Without weight decay" in free and "p = 1, s = 1 + c" in free
    assert [found(Hyperparameters(eta=0.04), steps=n)["memory"].case for n in (100, 1000, 10_000)] == [
        "slight", "shows", "forgotten"
    ]  # fmt: skip
    assert "= 250 steps (β = 0.4, βt = 4)" in said(Hyperparameters(beta=0.4))
    assert by_kind(predict(TrainingRecipe(ema_momentum=1.0), 0.1, 10))["target"].case == "frozen"
    assert "cosine" in found(Hyperparameters(), loss="cosine") and "cosine" not in found(Hyperparameters())
    with pytest.raises(ValueError, match="steps is 0"):
        predict(TrainingRecipe(), 0.1, 0)


@pytest.mark.parametrize("sigma2, x", [(0.0, 1.0), (0.1, 2.0), (1.0, 0.5)])
@pytest.mark.parametrize("ratio", [None, 0.3, 4.0])
def test_the_finding_on_alignment_is_the_sign_of_K(sigma2, x, ratio):
    for share in (0.05, 0.3, 0.43, 0.46, 0.8, 0.99):
        eta = share * x / (4 * (1 + sigma2))
        h = Hyperparameters(sigma2=sigma2, eta=eta, eta_p=ratio and ratio * eta, x=x)
        p = np.linspace(0, 1.2, 4001)
        # K for a mode of variance x is x times K of the isotropic theory with time counted in units of 1/x.
        scaled = h.replace(eta=eta / x, eta_p=ratio and ratio * eta / x, x=1.0)
        K = alignment_operator_mode(Mode(p, p**2 if ratio is None else 0.0), scaled)
        where = "parabola" if ratio is None else "everywhere"
        assert found(h)["alignment"].case == f"{'guaranteed' if K.min() > 0 else 'open'}_{where}"


def later(h, p, s, *times):
    """The mode at these times, from (p, s) at time 0; stiff where the predictor is fast."""
    y = solve_ivp(
        lambda _, y: mode_flow(Mode(*y), h), (0, times[-1]), (p, s), method="LSODA", t_eval=times, rtol=1e-9, atol=1e-12
    ).y
    return Mode(*y)


def test_a_fast_predictor_under_proportional_decay_lets_s_alone_decide():
    """The prediction's limit: with η_p = α_p η and α_p large, alive if and only if s₀ > s₋, from any p₀."""
    h, _ = to_theory(TrainingRecipe(weight_decay=0.04, predictor_lr=0.05 * 400), 0.0)
    points = fixed_points(h)
    assert points.s_minus == pytest.approx(0.041742430504**2, rel=1e-9)
    said = by_kind(predict(TrainingRecipe(weight_decay=0.04, predictor_lr=20.0), 0.0, 100))
    assert said["predictor_lr"].case == "decay_follows"
    for p, factor in itertools.product((0.0, 0.02, 0.1), (0.97, 1.03)):
        assert (later(h, p, factor * points.s_minus, 300.0).p[0] > 0.5) == (factor > 1)


def test_without_encoder_decay_s_grows_at_the_rate_said():
    h = Hyperparameters(sigma2=0.25, eta=0.0, eta_p=0.05, alpha_p=2.0, x=1.5)
    p, s = later(h, 0.1, 0.1, 2000.0, 2400.0)
    rate = 2 * h.x * h.eta_p / (h.alpha_p * h.a**2)
    assert found(h)["outcome"].values["growth"] == pytest.approx(rate)
    assert (s[1] - s[0]) / 400 == pytest.approx(rate, rel=2e-3) and p[1] == pytest.approx(0.8, rel=2e-3)


@pytest.mark.parametrize("momentum, loss_scale", [(0.0, 1.0), (0.5, 2.0)])
def test_the_largest_stable_learning_rate_is_where_training_leaves_the_fixed_point(momentum, loss_scale):
    sigma2, x = 0.2, 1.5
    findings = predict(TrainingRecipe(momentum=momentum, loss_scale=loss_scale), sigma2, 10, x)
    limit = by_kind(findings)["speed"].values["lr"]
    moved = []
    for share in (0.98, 1.02):
        recipe = TrainingRecipe(lr=share * limit, momentum=momentum, loss_scale=loss_scale)
        points = fixed_points(to_theory(recipe, sigma2, x)[0])
        w = np.sqrt(points.s_plus / x)
        start = ScalarNetwork(points.p_plus + 1e-7, w, w)
        moved.append(abs(train(recipe, 400, sigma2, x, start=start)[0] - points.p_plus))
    assert moved[0] < 2e-7 < 1e-5 < moved[1]


def test_a_cosine_loss_does_not_pull_on_norms():
    """What the sentence on cosine loss rests on: the gradient is orthogonal to each layer's weights."""
    torch.manual_seed(0)
    W, Wp = (torch.randn(4, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    first, second = torch.randn(2, 16, 4, dtype=torch.float64)
    torch.nn.functional.cosine_similarity(first @ W.mT @ Wp.mT, (second @ W.mT).detach(), dim=-1).mean().backward()
    for weight in (W, Wp):
        assert abs((weight * weight.grad).sum()) < 1e-14 < 1e-3 < weight.grad.norm()


def test_the_command_returns_numbers_and_sentences():
    command = Translate(lr=0.03, weight_decay=4e-4, ema_momentum=0.996, sigma2=0.0, steps=100)
    result = json.loads(dumps(command.run()))
    assert result["eta"] == pytest.approx(4e-4) and result["eta_p"] == pytest.approx(4e-4)
    assert result["time_per_step"] == pytest.approx(0.3) and result["time"] == pytest.approx(30)
    assert result["beta"] == pytest.approx(0.004 / 0.3) and result["regime"] == "bistable"
    assert result["p_minus"] == pytest.approx(4.0016e-4, rel=1e-5) and len(result["sentences"]) > 5
    assert result["sentences"][1] in command.text(command.run()) and len(result["findings"]) == len(result["sentences"])
    time = {"dt": result["time_per_step"], "t": result["time"]}
    assert result["findings"][0] == {"kind": "time", "case": "", "values": time}
    collapsed = json.loads(dumps(Translate(weight_decay=1.0).run()))
    assert collapsed["p_plus"] is None and collapsed["beta"] is None and collapsed["regime"] == "collapse_only"


@pytest.mark.parametrize("eta_p", [None, 0.005])
def test_the_jacobian_without_torch_is_that_of_automatic_differentiation(eta_p):
    h = Hyperparameters(sigma2=0.3, eta=0.02, alpha_p=7.0, beta=0.4, eta_p=eta_p, x=1.5)
    for flow, state in ((mode_flow, Mode(0.4, 0.03)), (ema_mode_flow, EmaMode(0.4, 0.03, 0.9))):
        expected = stability(flow, state, h).jacobian
        np.testing.assert_allclose(_jacobian(flow, state, h), expected, rtol=1e-14, atol=1e-16)

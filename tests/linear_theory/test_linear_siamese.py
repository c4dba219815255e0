"""The linear Siamese network against Lemma 1, PyTorch's own optimiser, and the views it was given."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.matrices import (
    Correlations,
    Network,
    Switches,
    network_flow,
    online_force,
    target_force,
)
from stopgrad.linear_theory.samples.linear_siamese import Training, descend, gradient, objective, train
from stopgrad.linear_theory.samples.views import (
    exact_views,
    gaussian_views,
    measure_correlations,
    measure_image_correlations,
    nearest_psd,
)
from stopgrad.linear_theory.simulation.integrate import integrate

N1, N2 = 5, 3
H = Hyperparameters(eta=0.03, eta_p=0.05, alpha_p=1.7, beta=0.4, tau=0.8)


def direct_copy(F):
    return F / F.norm(dim=(-2, -1), keepdim=True) + 0.2 * torch.eye(F.shape[-1], dtype=F.dtype)


SWITCHES = [
    Switches(predictor=predictor, **rest)
    for predictor in ("learned", "symmetrised", "fixed", direct_copy)
    for rest in (
        {},
        {"target": "ema"},
        {"target": "proportional"},
        {"stop_gradient": "none"},
        {"stop_gradient": "mirrored"},
    )
]


def problem(seed=0, n1=N1, n2=N2):
    rng = np.random.default_rng(seed)
    A, B = rng.normal(size=(2, n1, n1)) / np.sqrt(n1)
    state = Network(
        0.4 * np.eye(n2) + 0.2 * rng.normal(size=(n2, n2)),
        0.5 * rng.normal(size=(n2, n1)),
        0.1 * rng.normal(size=(n2, n1)),
    )
    return Correlations(A @ A.T, 0.3 * B @ B.T), state


def tensors(record):
    return type(record)(*(torch.as_tensor(v, dtype=torch.float64) for v in record))


def flow(state, data, h, switches, times):
    return integrate(network_flow, state, data, h, switches, t=times, event_dims=2).state


def gap(run, reference, fields=("Wp", "W", "Wa")):
    """Root mean square over seeds and entries, the largest over time; the reference has no seed axis."""
    differences = [getattr(run.observed, f) - getattr(reference, f)[:, None] for f in fields]
    return np.max([np.sqrt((d**2).mean(axis=(1, 2, 3))) for d in differences])


def label(switches):
    """The same words in every worker: a function's own text holds its address."""
    return "-".join(getattr(v, "__name__", v) for v in vars(switches).values())


@pytest.mark.parametrize("switches", SWITCHES, ids=label)
def test_a_step_on_exact_views_is_an_euler_step_of_the_flow(switches):
    for seed in range(5):
        data, state = problem(seed)
        run = train(exact_views(data), state, H, switches, Training(lr=0.1, steps=1, batch=1, symmetric_loss=False))
        slope = network_flow(tensors(state), tensors(data), H, switches)
        stepped = [np.asarray(v) + 0.1 * k.numpy() for v, k in zip(state, slope)]
        if switches.target == "ema":  # the target follows the encoder of after the step
            stepped[2] = state.Wa + 0.1 * H.beta * (stepped[1] - state.Wa)
        for mine, expected in zip(run.state, stepped):
            np.testing.assert_allclose(mine[0], expected, atol=1e-13)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    batch=st.integers(1, 40),
    symmetric=st.booleans(),
    which=st.sampled_from([s for s in SWITCHES if not callable(s.predictor)]),
)
def test_autograd_on_samples_is_lemma_1_with_the_samples_correlations(seed, batch, symmetric, which):
    data, state = problem(seed)
    x1, x2 = gaussian_views(data)(torch.Generator().manual_seed(seed), batch)
    moment = {(i, j): a.mT @ b / batch for i, a in enumerate((x1, x2)) for j, b in enumerate((x1, x2))}

    def sample(i, j):  # E[xᵢxⱼᵀ] in the place of X, E[xⱼxⱼᵀ] in the place of X + X′
        return Correlations(moment[i, j], moment[j, j] - moment[i, j])

    Wp, W, Wa = tensors(state)
    target = {"shared": W, "ema": Wa, "proportional": H.tau * W}[which.target]
    orders = ((0, 1), (1, 0)) if symmetric else ((0, 1),)
    dWp = dW = 0
    for online, other in orders:
        R = online_force(Wp, W, target, sample(other, online)) / len(orders)
        Q = target_force(Wp, W, sample(online, other)) / len(orders)
        dWp = dWp + R @ W.mT
        dW = dW + {"target": Wp.mT @ R, "none": Wp.mT @ R + Q, "mirrored": Q}[which.stop_gradient]
    dWp = {"learned": dWp, "symmetrised": (dWp + dWp.mT) / 2, "fixed": 0 * dWp}[which.predictor]
    slope = gradient(tensors(state), x1, x2, H, which, symmetric)
    torch.testing.assert_close(slope.Wp, -dWp, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(slope.W, -dW, rtol=1e-10, atol=1e-11)
    assert not slope.Wa.any()


def test_objective_is_its_definition():
    data, state = problem()
    x1, x2 = gaussian_views(data)(torch.Generator().manual_seed(3), 7)
    for switches, target in (
        (Switches(), state.W),
        (Switches(target="ema"), state.Wa),
        (Switches(target="proportional"), H.tau * state.W),
    ):
        pairs = zip(x1.numpy(), x2.numpy())
        expected = np.mean([np.sum((state.Wp @ state.W @ a - target @ b) ** 2) / 2 for a, b in pairs])
        assert float(objective(tensors(state), x1, x2, H, switches)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("switches", SWITCHES, ids=label)
def test_gap_to_the_flow_is_linear_in_the_learning_rate(switches):
    data, state = problem(1)
    gaps, reference = [], flow(state, data, H, switches, np.arange(5) / 4)
    for lr in (0.05, 0.025, 0.0125):
        training = Training(lr=lr, steps=round(1 / lr), batch=1, record_every=round(0.25 / lr))
        gaps.append(gap(train(exact_views(data), state, H, switches, training), reference))
    assert gaps[-1] > 1e-5  # far above the error of the flow
    np.testing.assert_allclose([gaps[0] / gaps[1], gaps[1] / gaps[2]], 2, atol=0.12)


@pytest.mark.parametrize("switches", [Switches(), Switches(stop_gradient="none"), Switches(target="ema")], ids=str)
def test_gap_from_sampling_is_the_root_of_learning_rate_over_batch(switches):
    data, state = problem(2)
    reference = flow(state, data, H, switches, np.arange(3) / 2)

    def sampled(lr, batch):
        training = Training(lr=lr, steps=round(1 / lr), batch=batch, record_every=round(0.5 / lr))
        return gap(train(gaussian_views(data), state, H, switches, training, seeds=range(32)), reference, ("W",))

    coarse, wide, slow = sampled(0.02, 8), sampled(0.02, 32), sampled(0.005, 8)
    assert 1.6 < coarse / wide < 2.5
    assert 1.6 < coarse / slow < 2.5


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize(
    "switches", [Switches(), Switches(predictor="symmetrised"), Switches(stop_gradient="none")], ids=str
)
def test_steps_are_those_of_torch_sgd(switches, momentum):
    data, state = problem(4)
    lr, steps = 0.01, 30
    run = train(
        gaussian_views(data), state, H, switches, Training(lr=lr, steps=steps, batch=16, momentum=momentum), seeds=(7,)
    )

    Wp, W = (torch.tensor(v, requires_grad=True) for v in state[:2])
    groups = [
        {"params": [Wp], "lr": lr * H.alpha_p, "weight_decay": H.eta_p / H.alpha_p},
        {"params": [W], "lr": lr, "weight_decay": H.eta},
    ]
    optimiser = torch.optim.SGD(groups, momentum=momentum)
    generator, draw = torch.Generator().manual_seed(7), gaussian_views(data)
    for _ in range(steps):
        x1, x2 = draw(generator, 16)
        loss = 0
        for a, b in ((x1, x2), (x2, x1)):
            target = b @ W.T if switches.stop_gradient == "none" else (b @ W.T).detach()
            loss = loss + ((a @ W.T @ Wp.T - target) ** 2).sum(1).mean() / 4
        optimiser.zero_grad()
        loss.backward()
        if switches.predictor == "symmetrised":
            Wp.grad = (Wp.grad + Wp.grad.T) / 2
        optimiser.step()
    np.testing.assert_allclose(run.state.Wp[0], Wp.detach(), atol=1e-12)
    np.testing.assert_allclose(run.state.W[0], W.detach(), atol=1e-12)


def test_momentum_keeps_the_flow_in_its_own_time():
    data, state = problem(5)
    h = Hyperparameters(eta=0.02, beta=0.5)
    gaps = []
    for lr in (0.002, 0.001):
        training = Training(lr=lr, momentum=0.9, steps=round(3 / (10 * lr)), record_every=round(1 / (10 * lr)))
        run = train(exact_views(data), state, h, Switches(target="ema"), training)
        assert run.times[-1] == pytest.approx(3)
        gaps.append(gap(run, flow(state, data, h, Switches(target="ema"), run.times)))
    assert 1.7 < gaps[0] / gaps[1] < 2.3


def test_ema_target_is_a_geometric_average_of_the_encoder():
    data, state = problem(6)
    training = Training(lr=0.05, steps=12, batch=4, record_every=1)
    run = train(gaussian_views(data), state, H, Switches(target="ema"), training)
    expected = state.Wa
    for W in run.observed.W[1:, 0]:
        expected = (1 - H.beta * 0.05) * expected + H.beta * 0.05 * W
    np.testing.assert_allclose(run.state.Wa[0], expected, atol=1e-14)


def test_a_seed_trains_the_same_alone_and_in_company():
    data, state = problem(7)
    both = train(gaussian_views(data), state, H, training=Training(steps=50), seeds=(3, 11))
    alone = train(gaussian_views(data), state, H, training=Training(steps=50), seeds=(11,))
    again = train(gaussian_views(data), state, H, training=Training(steps=50), seeds=(11,))
    np.testing.assert_allclose(both.state.W[1], alone.state.W[0], atol=1e-13)
    np.testing.assert_array_equal(alone.state.W, again.state.W)
    assert np.abs(both.state.W[0] - both.state.W[1]).max() > 1e-3


def test_hyperparameters_and_weights_may_differ_between_the_networks_of_a_batch():
    data, state = problem(8)
    many = Network(*(np.stack([v, 2 * v]) for v in state))
    alpha_p = np.array([0.5, 3.0]).reshape(2, 1, 1)
    run = train(exact_views(data), many, H.replace(alpha_p=alpha_p), training=Training(steps=20), seeds=(0, 1))
    for i in range(2):
        one = Network(*(v[i] for v in many))
        single = train(exact_views(data), one, H.replace(alpha_p=alpha_p[i, 0, 0]), training=Training(steps=20))
        np.testing.assert_allclose(run.state.W[i], single.state.W[0], atol=1e-13)


def test_observations_stack_in_their_own_type_and_include_both_ends():
    data, state = problem(9)
    training = Training(steps=25, record_every=10, lr=0.1)
    run = train(exact_views(data), state, H, Switches(), training, (0, 1), lambda s: s.W.square().sum((-1, -2)))
    np.testing.assert_allclose(run.times, [0, 1, 2, 2.5])
    assert run.observed.shape == (4, 2)
    assert run.observed[0, 0] == pytest.approx(np.sum(state.W**2))
    assert not run.diverged.any()


def test_divergence_is_reported_and_not_raised():
    data, state = problem(10)
    run = train(exact_views(data), state, H, training=Training(lr=30.0, steps=60), seeds=(0, 1))
    assert run.diverged.all()


def test_predictor_absent_and_fixed_stays_what_it_was():
    data, state = problem(11)
    start = state._replace(Wp=np.eye(N2))
    run = train(gaussian_views(data), start, H, Switches(predictor="fixed"), Training(steps=30, momentum=0.5))
    np.testing.assert_array_equal(run.state.Wp[0], np.eye(N2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.0}, "lr is 0.0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"steps": 0}, "steps is 0"),
        ({"batch": 0}, "batch is 0"),
        ({"record_every": 0}, "record_every is 0"),
    ],
)
def test_training_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        Training(**change)


def test_train_refuses_bad_input():
    data, state = problem(12)
    draw = exact_views(data)
    short = Training(steps=2)
    with pytest.raises(ValueError, match="needs beta"):
        train(draw, state, H.replace(beta=None), Switches(target="ema"), short)
    with pytest.raises(ValueError, match="EMA momentum would be negative"):
        train(draw, state, H.replace(beta=60.0), Switches(target="ema"), short)
    with pytest.raises(ValueError, match="Wp has shape"):
        train(draw, state._replace(Wp=np.eye(N2 + 1)), H, training=short)
    with pytest.raises(ValueError, match="W holds NaN"):
        train(draw, state._replace(W=state.W * np.nan), H, training=short)
    with pytest.raises(ValueError, match="seeds is empty"):
        train(draw, state, H, training=short, seeds=())
    with pytest.raises(ValueError, match="to fit W"):
        train(exact_views(problem(0, n1=N1 + 1)[0]), state, H, training=short)
    with pytest.raises(ValueError, match="eta is -1"):
        train(draw, state, H.replace(eta=-1.0), training=short)


def test_exact_views_have_exactly_the_given_moments():
    for seed in range(4):
        data, _ = problem(seed)
        x1, x2 = (v.numpy() for v in exact_views(data)(None, 0))
        n = len(x1)
        np.testing.assert_allclose(x1.T @ x1 / n, data.X + data.Xp, atol=1e-13)
        np.testing.assert_allclose(x2.T @ x2 / n, data.X + data.Xp, atol=1e-13)
        np.testing.assert_allclose(x1.T @ x2 / n, data.X, atol=1e-13)


def test_measured_correlations_converge_to_the_given_ones():
    data, _ = problem(3)
    errors = []
    for samples in (4_000, 64_000):
        seeds = [measure_correlations(gaussian_views(data), samples, seed=s) for s in range(24)]
        errors.append([np.sqrt(np.mean([(m[i] - data[i]) ** 2 for m in seeds])) for i in (0, 1)])
    ratio = np.divide(*errors)
    assert np.all((ratio > 2.5) & (ratio < 6.5)), ratio  # 4 in expectation
    assert np.all(np.array(errors[1]) < 0.01)


def test_images_own_correlations_are_measured_without_bias():
    rng = np.random.default_rng(0)
    images = torch.as_tensor(rng.normal(size=(40, N1)))
    root = torch.as_tensor(rng.normal(size=(N1, N1)) / 2)

    def augment(generator, x):
        return x + torch.randn(x.shape, dtype=torch.float64, generator=generator) @ root.mT

    X, Xp = (images.mT @ images / 40).numpy(), (root @ root.mT).numpy()
    measured = [measure_image_correlations(augment, images, views=3, seed=s) for s in range(400)]
    # 400 repeats of 3 views: the mean's standard error is about 0.01; without the correction X would be off by X′/3.
    assert np.abs(Xp).max() / 3 > 0.3
    np.testing.assert_allclose(np.mean([m.X for m in measured], 0), X, atol=0.06)
    np.testing.assert_allclose(np.mean([m.Xp for m in measured], 0), Xp, atol=0.06)
    fine = measure_image_correlations(augment, images, views=4000)
    np.testing.assert_allclose(fine.X, X, atol=0.02)
    np.testing.assert_allclose(fine.Xp, Xp, atol=0.02)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 6))
def test_nearest_psd_projects(seed, n):
    M = torch.randn(n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    M = (M + M.mT) / 2
    P = nearest_psd(M)
    assert torch.linalg.eigvalsh(P).min() > -1e-12
    torch.testing.assert_close(nearest_psd(P), P, rtol=1e-9, atol=1e-11)
    # the distance is that of the negative eigenvalues alone, and what is taken off is orthogonal to what is kept
    negative = torch.linalg.eigvalsh(M).clamp(max=0)
    torch.testing.assert_close((M - P).norm(), negative.norm(), rtol=1e-9, atol=1e-11)
    assert abs(float(((M - P) * P).sum())) < 1e-10


def test_measured_correlations_are_psd_and_few_samples_still_serve():
    data, _ = problem(3)

    def noise(generator, x):
        return torch.randn(x.shape, dtype=torch.float64, generator=generator)

    for measured in (
        measure_correlations(gaussian_views(data), 3),
        measure_image_correlations(noise, torch.ones(2, N1), 2),
    ):
        for matrix in measured:
            assert np.linalg.eigvalsh(matrix).min() > -1e-12
        gaussian_views(measured)(torch.Generator().manual_seed(0), 4)


def test_views_refuse_bad_input():
    data, _ = problem(0)
    for bad, message in (
        (data._replace(X=data.X - 5 * np.eye(N1)), "X has the negative eigenvalue"),
        (data._replace(Xp=np.eye(N1 + 1)), "X′ has shape"),
        (data._replace(Xp=data.Xp * np.nan), "X′ holds NaN"),
        (data._replace(X=data.X + np.triu(np.ones((N1, N1)), 1)), "X is not symmetric"),
    ):
        for make in (gaussian_views, exact_views):
            with pytest.raises(ValueError, match=message):
                make(bad)
    with pytest.raises(ValueError, match="samples is 0"):
        measure_correlations(gaussian_views(data), 0)
    with pytest.raises(ValueError, match="views is 1"):
        measure_image_correlations(lambda g, x: x, torch.ones(2, N1), 1)


def test_descend_leaves_its_arguments_alone():
    data, state = problem(0)
    state = tensors(state)
    before = [v.clone() for v in state]
    zero = Network(*(0 * v for v in state))
    slope = gradient(state, *exact_views(data)(None, 0), H)
    descend(state, zero, slope, H, Switches(), Training())
    assert all(torch.equal(a, b) for a, b in zip(state, before)) and not any(v.any() for v in zero)

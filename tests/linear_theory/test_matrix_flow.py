"""Lemma 1 and its variants against autograd, the paper's theorems and an independent integrator."""

import itertools

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.matrices import (
    Aligned,
    Correlations,
    Network,
    Switches,
    balance_matrix,
    network_flow,
    online_force,
    predictor_flow,
    symmetric_part,
    symmetrised_flow,
    target_force,
)
from stopgrad.linear_theory.flows.modes import (
    EmaMode,
    Mode,
    ScalarNetwork,
    ema_mode_flow,
    mode_flow,
    scalar_network_flow,
)

H = Hyperparameters(sigma2=0.3, eta=0.05, tau=0.7, alpha_p=1.8, beta=0.6, eta_p=0.09)


def scaled_square(F):
    """A predictor set from F, written for torch and NumPy alike."""
    return 0.2 * F @ F + 0.1 * F


SWITCHES = [
    Switches(*combination)
    for combination in itertools.product(
        ("shared", "ema", "proportional"),
        ("target", "none", "mirrored"),
        ("learned", "symmetrised", "fixed", scaled_square),
    )
    if combination[0] == "shared" or combination[1] == "target"
]
NAMES = [f"{s.target}-{s.stop_gradient}-{getattr(s.predictor, '__name__', s.predictor)}" for s in SWITCHES]


def solve(flow, state, *args, times):
    """SciPy's DOP853 on a flow over a NamedTuple of arrays: each field with a leading axis of times."""
    make, shapes = type(state), [np.shape(v) for v in state]
    cuts = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]

    def pack(record):
        return np.concatenate([np.ravel(v) for v in record])

    def unpack(y):
        return make(*(v.reshape(s) for v, s in zip(np.split(y, cuts), shapes)))

    result = solve_ivp(
        lambda _, y: pack(flow(unpack(y), *args)), (0, times[-1]), pack(state), "DOP853", times, rtol=1e-12, atol=1e-14
    )
    assert result.success
    return make(*map(np.stack, zip(*(unpack(y) for y in result.y.T))))


def random_network(rng, n2=3, n1=4, scale=0.6):
    return Network(*(scale * rng.standard_normal(shape) for shape in ((n2, n2), (n2, n1), (n2, n1))))


def random_correlation(rng, n, rank=None):
    factor = rng.standard_normal((n, rank or n))
    return factor @ factor.T / n


def random_data(rng, n=4):
    return Correlations(random_correlation(rng, n), random_correlation(rng, n))


def random_aligned(rng, n):
    return Aligned(symmetric_part(rng.standard_normal((n, n))), random_correlation(rng, n))


def commutator(A, B):
    return A @ B - B @ A


def views(rng, images=5, n=4):
    """All pairs (x₁, x₂) of views of a few images, noise independent within a pair, and their exact X and X′."""
    means = rng.standard_normal((images, n))
    noise = 0.5 * rng.standard_normal((images, 3, n))
    noise = np.concatenate([noise, -noise], axis=1)  # six views an image, their mean the image's
    shown = means[:, None] + noise
    first = np.repeat(shown, 6, axis=1).reshape(-1, n)
    second = np.tile(shown, (1, 6, 1)).reshape(-1, n)
    within = np.mean(noise[..., :, None] * noise[..., None, :], axis=(0, 1))
    return first, second, Correlations(means.T @ means / images, within)


@pytest.mark.parametrize("switches", SWITCHES, ids=NAMES)
def test_flow_is_minus_the_autograd_gradient_of_sampled_J(switches):
    rng = np.random.default_rng(3)
    first, second, data = views(rng)
    state = random_network(rng)
    Wp, W, Wa = (torch.tensor(v, requires_grad=True) for v in state)
    x1, x2 = torch.tensor(first), torch.tensor(second)
    predictor = Wp
    if callable(switches.predictor):
        total = torch.tensor(data.X + data.Xp)
        predictor = switches.predictor(W @ total @ W.T).detach()
    online = W.detach() if switches.stop_gradient == "mirrored" else W
    target = {"shared": W, "ema": Wa, "proportional": H.tau * W}[switches.target]
    target = target.detach() if switches.stop_gradient == "target" else target
    errors = (predictor @ online @ x1.T - target @ x2.T).T
    J = 0.5 * (errors**2).sum(dim=1).mean()
    dWp, dW = torch.autograd.grad(J, (Wp, W), allow_unused=True)

    flow = network_flow(state, data, H, switches)
    np.testing.assert_allclose(flow.W, -dW.numpy() - H.eta * state.W, rtol=0, atol=1e-12)
    if switches.predictor in ("learned", "symmetrised"):
        gradient = dWp.numpy() if switches.predictor == "learned" else (dWp + dWp.T).numpy() / 2
        np.testing.assert_allclose(flow.Wp, -H.alpha_p * gradient - H.eta_p * state.Wp, rtol=0, atol=1e-12)
    else:
        assert np.all(flow.Wp == 0)
    expected = H.beta * (state.W - state.Wa) if switches.target == "ema" else np.zeros_like(state.Wa)
    np.testing.assert_allclose(flow.Wa, expected, rtol=0, atol=1e-15)


def tensor64(value):
    return torch.as_tensor(value, dtype=torch.float64)


def entry_sums(A, B):
    """A product of matrices by its definition."""
    rows, inner, columns = len(A), len(B), len(B[0])
    return [[sum(A[i][k] * B[k][j] for k in range(inner)) for j in range(columns)] for i in range(rows)]


def test_flow_equals_its_reading_entry_by_entry():
    """Eq. 2–4 in plain floats."""
    rng = np.random.default_rng(8)
    state, data = random_network(rng), random_data(rng)
    Wp, W, Wa, X, Xp = (v.tolist() for v in (*state, *data))
    total = [[u + v for u, v in zip(*rows)] for rows in zip(X, Xp)]
    pulled, predicted = entry_sums(Wa, X), entry_sums(Wp, entry_sums(W, total))
    force = [[u - v for u, v in zip(*rows)] for rows in zip(pulled, predicted)]
    encoder, predictor = entry_sums(list(zip(*Wp)), force), entry_sums(force, list(zip(*W)))
    flow = network_flow(state, data, H, Switches(target="ema"))
    for i, j in np.ndindex(3, 4):
        assert flow.W[i, j] == pytest.approx(encoder[i][j] - H.eta * W[i][j], rel=1e-12, abs=1e-12)
        assert flow.Wa[i, j] == pytest.approx(H.beta * W[i][j] - H.beta * Wa[i][j], rel=1e-12, abs=1e-12)
    for i, j in np.ndindex(3, 3):
        assert flow.Wp[i, j] == pytest.approx(1.8 * predictor[i][j] - 0.09 * Wp[i][j], rel=1e-12, abs=1e-12)
    np.testing.assert_allclose(online_force(state.Wp, state.W, state.Wa, data), force, rtol=0, atol=1e-13)


def test_forces_without_stop_gradient_are_theorem_2s_operator():
    """Eq. 6: d vec(W)/dt = −H vec(W), H = X′ ⊗ (W_pᵀW_p + I) + X ⊗ (W_p − I)ᵀ(W_p − I) + ηI, with column-major vec."""
    rng = np.random.default_rng(5)
    state, data = random_network(rng), random_data(rng)
    one = np.eye(3)
    operator = np.kron(data.Xp, state.Wp.T @ state.Wp + one) + np.kron(data.X, (state.Wp - one).T @ (state.Wp - one))
    operator += H.eta * np.eye(12)
    flow = network_flow(state, data, H, Switches(stop_gradient="none"))
    np.testing.assert_allclose(flow.W.ravel("F"), -operator @ state.W.ravel("F"), rtol=0, atol=1e-12)
    both = state.Wp.T @ online_force(state.Wp, state.W, state.W, data) + target_force(state.Wp, state.W, data)
    np.testing.assert_allclose(flow.W, both - H.eta * state.W, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sigma2", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("eta", [0.0, 0.05])
def test_without_stop_gradient_W_decays_at_the_bound(sigma2, eta):
    """G13: for X = I, X′ = σ²I the slowest rate over every W_p is a − 1/a + η, attained at W_p = I/a."""
    h = Hyperparameters(sigma2=sigma2, eta=eta)
    data = Correlations(np.eye(3), sigma2 * np.eye(3))
    rng = np.random.default_rng(1)
    start, times = random_network(rng, 3, 3, 1.0), np.linspace(0, 12, 7)
    path = solve(network_flow, start, data, h, Switches(stop_gradient="none"), times=times)
    rate = h.a - 1 / h.a + eta
    norms = np.linalg.norm(path.W, axis=(1, 2))
    assert np.all(norms <= norms[0] * np.exp(-rate * times) * (1 + 1e-9) + 1e-13)
    at_minimum = Network(np.eye(3) / h.a, start.W, start.Wa)
    flow = network_flow(at_minimum, data, h, Switches(stop_gradient="none", predictor="fixed"))
    np.testing.assert_allclose(flow.W, -rate * start.W, rtol=1e-12)


def test_nothing_moves_in_the_exception_to_theorem_2():
    """X′ = 0, η = 0, W_p = I: H = 0, so without stop-gradient nothing collapses (error 4 of the paper)."""
    rng = np.random.default_rng(2)
    state = random_network(rng)._replace(Wp=np.eye(3))
    data = Correlations(random_correlation(rng, 4), np.zeros((4, 4)))
    flow = network_flow(state, data, Hyperparameters(eta=0.0), Switches(stop_gradient="none"))
    assert all(np.abs(v).max() < 1e-14 for v in flow)
    moved = network_flow(state, data._replace(Xp=0.1 * np.eye(4)), Hyperparameters(eta=0.0), Switches("shared", "none"))
    assert np.abs(moved.W).max() > 0.1


@pytest.mark.parametrize("eta", [0.0, 0.05])
def test_without_predictor_W_decays_but_for_the_null_space_of_Xp(eta):
    """W(t) = W(0) e^{−(X′ + ηI)t} with stop-gradient; at η = 0 what X′ does not see survives (error 3)."""
    rng = np.random.default_rng(4)
    data = Correlations(random_correlation(rng, 4), random_correlation(rng, 4, rank=2))
    start = random_network(rng)._replace(Wp=np.eye(3))
    h = Hyperparameters(eta=eta)
    times = np.array([0.0, 3.0, 400.0])
    path = solve(network_flow, start, data, h, Switches(predictor="fixed"), times=times)
    values, vectors = np.linalg.eigh(data.Xp)
    for t, W in zip(times, path.W):
        expected = start.W @ vectors @ np.diag(np.exp(-(values + eta) * t)) @ vectors.T
        np.testing.assert_allclose(W, expected, rtol=0, atol=1e-10)
    kept = start.W @ vectors[:, :2]
    survives = np.linalg.norm(path.W[-1]) / np.linalg.norm(kept)
    assert survives == pytest.approx(1.0, abs=1e-6) if eta == 0 else survives < 1e-6


@pytest.mark.parametrize("target", ["shared", "ema", "proportional"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_theorem_1_holds_along_trajectories(target, seed):
    """G5: ‖C(t) − e^{−2ηt}C(0)‖ vanishes for random X, X′ and any target, W_a(0) = 0; not where η_p ≠ η."""
    rng = np.random.default_rng(seed)
    h = H.replace(eta_p=None)
    start, data, times = random_network(rng, 3, 4, 0.4)._replace(Wa=np.zeros((3, 4))), random_data(rng), [0, 2, 10]
    path = solve(network_flow, start, data, h, Switches(target=target), times=times)
    decay = np.exp(-2 * h.eta * np.array(times))[:, None, None]
    residual = np.abs(balance_matrix(path, h) - decay * balance_matrix(start, h)).max()
    assert residual < 2e-12
    other = solve(network_flow, start, data, H, Switches(target=target), times=times)
    assert np.abs(balance_matrix(other, h) - decay * balance_matrix(start, h)).max() > 1e-4


@pytest.mark.parametrize("alpha_p", [0.3, 3.0, 10.0])
def test_predictor_rate_is_the_encoders_scale(alpha_p):
    """G4, error 6: (W, W_a, α_p) → (√α_p W, √α_p W_a, 1) is a symmetry of Lemma 1."""
    rng = np.random.default_rng(6)
    start, data, root = random_network(rng, scale=0.4), random_data(rng), alpha_p**0.5
    scaled = Network(start.Wp, root * start.W, root * start.Wa)
    switches, times = Switches(target="ema"), [0, 1, 5]
    path = solve(network_flow, start, data, H.replace(alpha_p=alpha_p), switches, times=times)
    other = solve(network_flow, scaled, data, H.replace(alpha_p=1.0), switches, times=times)
    np.testing.assert_allclose(other.Wp, path.Wp, rtol=0, atol=1e-10)
    np.testing.assert_allclose(other.W, root * path.W, rtol=0, atol=1e-10)


@pytest.mark.parametrize("n", [2, 3, 6])
@pytest.mark.parametrize(("sigma2", "eta", "tau", "alpha_p"), [(0.1, 0.04, 1.0, 1.0), (0.7, 0.0, 0.6, 2.5)])
def test_symmetrised_flow_violates_theorem_1_as_derived(n, sigma2, eta, tau, alpha_p):
    """G6: d/dt(F − W_p²/α_p) + 2η(F − W_p²/α_p) = −(a/2)[W_p, [W_p, F]], zero only where they commute."""
    h = Hyperparameters(sigma2=sigma2, eta=eta, tau=tau, alpha_p=alpha_p)
    state = random_aligned(np.random.default_rng(n), n)
    Wp, F = state
    dWp, dF = symmetrised_flow(state, h)
    imbalance = F - Wp @ Wp / alpha_p
    violation = dF - (dWp @ Wp + Wp @ dWp) / alpha_p + 2 * eta * imbalance
    expected = -h.a / 2 * commutator(Wp, commutator(Wp, F))
    np.testing.assert_allclose(violation, expected, rtol=0, atol=1e-12)
    assert np.abs(expected).max() > 1e-2
    aligned = Aligned(Wp, Wp @ Wp)
    dWp, dF = symmetrised_flow(aligned, h)
    residual = dF - (dWp @ Wp + Wp @ dWp) / alpha_p + 2 * eta * (aligned.F - Wp @ Wp / alpha_p)
    np.testing.assert_allclose(residual, 0, atol=1e-12)


@pytest.mark.parametrize("eta_p", [None, 0.3])
@pytest.mark.parametrize("n", [2, 4, 7])
def test_commutator_equation(n, eta_p):
    """G11, Eq. 9–10: L′ = −LK − KL, K = a[(α_p/2)F + W_p² − (τ/a)W_p] + (η + η_p/2)I."""
    h = Hyperparameters(sigma2=0.4, eta=0.03, tau=0.8, alpha_p=1.6, eta_p=eta_p)
    state = random_aligned(np.random.default_rng(10 + n), n)
    Wp, F = state
    flow = symmetrised_flow(state, h)
    K = h.a * (h.alpha_p / 2 * F + Wp @ Wp - h.tau / h.a * Wp) + (h.eta + h.predictor_decay / 2) * np.eye(n)
    L, dL = commutator(F, Wp), commutator(flow.F, Wp) + commutator(F, flow.Wp)
    np.testing.assert_allclose(dL, -L @ K - K @ L, rtol=0, atol=1e-12)


def test_symmetrised_flow_is_network_flow_on_isotropic_data():
    """A1–A3: with X = I, X′ = σ²I and W_a = τW, F = WWᵀ of the symmetrised network follows Eq. 7–8."""
    rng = np.random.default_rng(9)
    start = random_network(rng, 3, 5, 0.5)
    start = start._replace(Wp=symmetric_part(start.Wp))
    data = Correlations(np.eye(5), H.sigma2 * np.eye(5))
    switches, times = Switches(target="proportional", predictor="symmetrised"), [0, 2, 8]
    network = solve(network_flow, start, data, H, switches, times=times)
    aligned = solve(symmetrised_flow, Aligned(start.Wp, start.W @ start.W.T), H, times=times)
    np.testing.assert_allclose(network.Wp, aligned.Wp, rtol=0, atol=1e-10)
    np.testing.assert_allclose(network.W @ network.W.mT, aligned.F, rtol=0, atol=1e-10)


def test_predictor_flow_is_the_learned_predictor_on_isotropic_data():
    rng = np.random.default_rng(12)
    state = random_network(rng, 3, 5)
    data = Correlations(np.eye(5), H.sigma2 * np.eye(5))
    flow = network_flow(state, data, H, Switches(target="proportional"))
    expected = predictor_flow(state.Wp, state.W @ state.W.T, H)
    np.testing.assert_allclose(flow.Wp, expected, rtol=0, atol=1e-12)


def test_predictor_settles_on_a_symmetric_function_of_F():
    """G14: from a non-symmetric start Eq. 62 ends at τF(aF + (η_p/α_p)I)⁻¹, symmetric to 1e-12."""
    rng = np.random.default_rng(13)
    F = random_correlation(rng, 4) + 0.2 * np.eye(4)

    class Predictor(tuple):
        __slots__ = ()

        def __new__(cls, Wp):
            return super().__new__(cls, (Wp,))

    def flow(state):
        return (predictor_flow(state[0], F, H),)

    (path,) = solve(flow, Predictor(rng.standard_normal((4, 4))), times=[0, 150])
    expected = H.tau * F @ np.linalg.inv(H.a * F + H.eta_p / H.alpha_p * np.eye(4))
    np.testing.assert_allclose(path[-1], expected, rtol=0, atol=1e-11)
    np.testing.assert_allclose(path[-1], path[-1].T, rtol=0, atol=1e-11)


@pytest.mark.parametrize("p", [-0.4, 0.2, 1.1])
@pytest.mark.parametrize("w", [0.3, 0.9])
@pytest.mark.parametrize("x", [1.0, 0.6])
def test_one_by_one_matrices_are_modes(p, w, x):
    h = H.replace(x=x)
    data = Correlations(np.array([[x]]), np.array([[x * h.sigma2]]))

    def one(*values):
        return Network(*(np.array([[v]]) for v in values))

    flow = network_flow(one(p, w, 0.0), data, h, Switches(target="proportional"))
    mode = mode_flow(Mode(p, x * w * w), h)
    assert flow.Wp.item() == pytest.approx(mode.p, rel=1e-12)
    assert 2 * x * w * flow.W.item() == pytest.approx(mode.s, rel=1e-12)
    flow = network_flow(one(p, w, 0.4 * w), data, h, Switches(target="ema"))
    assert [v.item() for v in flow] == pytest.approx(list(scalar_network_flow(ScalarNetwork(p, w, 0.4 * w), h)))
    ema = ema_mode_flow(EmaMode(p, x * w * w, 0.4), h)
    rate = (flow.Wa.item() - 0.4 * flow.W.item()) / w
    assert [flow.Wp.item(), 2 * x * w * flow.W.item(), rate] == pytest.approx(list(ema), rel=1e-11)
    if x == 1:
        aligned = symmetrised_flow(Aligned(np.array([[p]]), np.array([[w * w]])), h)
        mode = mode_flow(Mode(p, w * w), h)
        assert [v.item() for v in aligned] == pytest.approx(list(mode), rel=1e-12)


def test_targets_coincide_where_they_should():
    """A proportional target at τ = 1 and an EMA state equal to W are the shared target."""
    rng = np.random.default_rng(14)
    state, data = random_network(rng), random_data(rng)
    state = state._replace(Wa=state.W)
    h = H.replace(tau=1.0)
    shared = network_flow(state, data, h)
    for target in ("proportional", "ema"):
        other = network_flow(state, data, h, Switches(target=target))
        np.testing.assert_allclose(other.Wp, shared.Wp, rtol=0, atol=1e-13)
        np.testing.assert_allclose(other.W, shared.W, rtol=0, atol=1e-13)
    lagging = state._replace(Wa=0.4 * state.W)
    ema = network_flow(lagging, data, h, Switches(target="ema"))
    proportional = network_flow(state, data, h.replace(tau=0.4), Switches(target="proportional"))
    np.testing.assert_allclose(ema.W, proportional.W, rtol=0, atol=1e-13)


def test_a_set_predictor_is_the_fixed_one_of_its_value():
    """It is a function of the correlation of the features it is applied to, and the state's W_p is ignored."""
    rng = np.random.default_rng(15)
    state, data = random_network(rng), random_data(rng)
    features = state.W @ (data.X + data.Xp) @ state.W.T
    by_function = network_flow(state, data, H, Switches(predictor=scaled_square))
    by_value = network_flow(state._replace(Wp=scaled_square(features)), data, H, Switches(predictor="fixed"))
    np.testing.assert_allclose(by_function.W, by_value.W, rtol=0, atol=1e-14)
    ignored = network_flow(state._replace(Wp=np.zeros((3, 3))), data, H, Switches(predictor=scaled_square))
    np.testing.assert_array_equal(by_function.W, ignored.W)


@pytest.mark.parametrize("switches", SWITCHES, ids=NAMES)
def test_batches_torch_and_numpy_agree(switches):
    """A batch of networks, data and hyperparameters of shape (…, 1, 1) is the flows of its elements; so is torch."""
    rng = np.random.default_rng(16)
    networks, data = [random_network(rng) for _ in range(3)], [random_data(rng) for _ in range(3)]
    rates = np.array([0.0, 0.1, 0.5])
    state, both = Network(*map(np.stack, zip(*networks))), Correlations(*map(np.stack, zip(*data)))
    h = H.replace(eta=rates[:, None, None])
    batch = network_flow(state, both, h, switches)
    tensors = network_flow(
        Network(*map(tensor64, state)), Correlations(*map(tensor64, both)), h.map(tensor64), switches
    )
    for k, (network, correlations) in enumerate(zip(networks, data)):
        alone = network_flow(network, correlations, H.replace(eta=rates[k]), switches)
        for value, expected, tensor in zip(batch, alone, tensors):
            np.testing.assert_allclose(value[k], expected, rtol=0, atol=1e-12)
            np.testing.assert_allclose(tensor[k].numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("target", ["ema", "proportional"])
@pytest.mark.parametrize("stop_gradient", ["none", "mirrored"])
def test_switches_refuse_gradients_through_a_moving_target(target, stop_gradient):
    with pytest.raises(ValueError, match=f"stop_gradient='{stop_gradient}' needs target='shared', not '{target}'"):
        Switches(target=target, stop_gradient=stop_gradient)


@pytest.mark.parametrize("name", ["target", "stop_gradient", "predictor"])
def test_switches_refuse_unknown_values(name):
    with pytest.raises(ValueError, match=f"{name} is 'learnt'; it must be one of "):
        Switches(**{name: "learnt"})


def test_switches_are_hashable_data():
    assert len({Switches(), Switches("shared"), Switches(target="ema")}) == 2
    with pytest.raises(AttributeError):
        Switches().target = "ema"

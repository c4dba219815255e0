"""The cosine loss on a two-layer linear network, as whole matrices: on a sample, exactly, and in expectation.

L = −E cos(W_p W x₁, sg(W_a x₂)). It sees no lengths, from which three identities follow for any sample, X and X′
(SymPy: `linear_theory.symbolic.cosine_derivations`):

- ⟨W_p, ∂L/∂W_p⟩ = 0 and ⟨W, ∂L/∂W⟩ = 0: the loss turns each layer and leaves its norm, so that ‖W‖ = e^(−ηt)‖W(0)‖.
- W Wᵀ − W_pᵀ W_p/α_p decays exactly as e^(−2ηt): Theorem 1 of Tian, Chen & Ganguli 2021 for this loss too.
- Weight decay that both layers share changes no direction, only the clock: `exact.cosine_limit.decay_clock`.

In expectation norms are taken as their root mean squares: the limit of wide embeddings, whose effective rank r is large
(the error is O(1/r)). It is then Lemma 1 with κ W_p in the prediction, at the clock 1/c. Images with a mean and a bias
in the predictor: `flows.mean`, whose X + μμᵀ may stand here for X.
"""

from typing import Any, NamedTuple

from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.matrices import Correlations, Network, Switches, symmetric_part


class Views(NamedTuple):
    """A finite sample: two views of each of N images, (N, n1) each. For a symmetric loss give both orders, 2N rows.

    >>> import numpy as np
    >>> Views(np.ones((5, 3)), np.ones((5, 3))).x1.shape
    (5, 3)
    """

    x1: Any
    x2: Any


class CosineNorms(NamedTuple):
    """What wide embeddings have in common: κ = E[g·f₂]/E‖g‖², κ_t = E[g·f₂]/E‖f₂‖² and c = √(E‖g‖² E‖f₂‖²), g = W_p f₁.

    κ_t c/κ is E‖g‖², and √(κ κ_t) the mean cosine, minus the loss. Each (…, 1, 1).
    """

    kappa: Any
    kappa_target: Any
    c: Any


def cosine_norms(Wp, state: Network, data: Correlations, switches: Switches = Switches()) -> CosineNorms:
    """κ, κ_t and c of the prediction W_p W x₁ and its target, W x₂ or the EMA's."""
    W, target, seen = state.W, _target(state, switches), data.X + data.Xp
    crossed = _trace(Wp @ W @ data.X @ target.mT)
    square, length = _trace(target @ seen @ target.mT), _trace(Wp @ W @ seen @ W.mT @ Wp.mT)
    return CosineNorms(crossed / length, crossed / square, (square * length) ** 0.5)


def cosine_flow(state: Network, data: Correlations, h: Hyperparameters, switches: Switches = Switches()) -> Network:
    """Lemma 1's twin for the cosine loss, in expectation, for wide embeddings; switches as in `network_flow`.

    R = [W_a X − κ W_p W(X + X′)]/c: W_p′ = α_p R Wᵀ − η_p W_p, W′ = W_pᵀ R − ηW; without stop-gradient W′ has
    [W_p W X − κ_t W(X + X′)]/c beside it. τ is of no effect. A set predictor is a function of W(X + X′)Wᵀ, through
    which no gradient passes. Derived here; its modes are `flows.mean.cosine_mode_flow` (zhang2022, the cosine loss).

    >>> import numpy as np
    >>> from stopgrad.linear_theory import Hyperparameters
    >>> network = Network(np.diag([0.5, 1.0]), np.diag([0.5, 1.0]), 0 * np.eye(2))
    >>> free = cosine_flow(network, Correlations(np.eye(2), np.eye(2)), Hyperparameters(eta=0.0))
    >>> free.W.diagonal().round(4), float((network.W * free.W).sum().round(12))  # the weak grows, the norm stays
    (array([ 0.051 , -0.0255]), -0.0)
    """
    return cosine_flow_at(
        cosine_norms(_predictor(state, data, switches), state, data, switches), state, data, h, switches
    )


def cosine_flow_at(norms: CosineNorms, state: Network, data: Correlations, h: Hyperparameters, switches=Switches()):
    """`cosine_flow` where κ, κ_t and c are known."""
    Wp, W, target, seen = _predictor(state, data, switches), state.W, _target(state, switches), data.X + data.Xp
    force = (target @ data.X - norms.kappa * Wp @ W @ seen) / norms.c
    back = (Wp @ W @ data.X - norms.kappa_target * target @ seen) / norms.c
    return _moves(state, Wp, force @ W.mT, Wp.mT @ force, back, h, switches)


def _predictor(state: Network, data: Correlations, switches: Switches):
    """The state's W_p, or the one that is set."""
    set_by = switches.predictor
    return set_by(state.W @ (data.X + data.Xp) @ state.W.mT) if callable(set_by) else state.Wp


def _target(state: Network, switches: Switches):
    return state.Wa if switches.target == "ema" else state.W


def sample_cosine_flow(state: Network, views: Views, h: Hyperparameters, switches: Switches = Switches()) -> Network:
    """Gradient flow on L of a finite sample, −mean cos(W_p W x₁, sg(W_a x₂)), less weight decay: exact at any width.

    What each prediction g learns from is (Z − cos P)/‖g‖, P = g/‖g‖ and Z = f₂/‖f₂‖ (Chen & He 2021's loss). A set
    predictor is a function of the sample's own mean f₁f₁ᵀ. Leading dimensions of weights and views broadcast.

    >>> import numpy as np
    >>> from stopgrad.linear_theory import Hyperparameters
    >>> rng = np.random.default_rng(0)
    >>> state, views = Network(*rng.normal(size=(3, 2, 2))), Views(*rng.normal(size=(2, 9, 2)))
    >>> free = sample_cosine_flow(state, views, Hyperparameters(eta=0.0))
    >>> abs((state.W * free.W).sum()) < 1e-14, abs((state.Wp * free.Wp).sum()) < 1e-14
    (np.True_, np.True_)
    """
    (Wp, W, _), n = state, views.x1.shape[-2]
    f1 = views.x1 @ W.mT
    if callable(switches.predictor):
        Wp = switches.predictor(f1.mT @ f1 / n)
    f2, g = views.x2 @ _target(state, switches).mT, f1 @ Wp.mT
    lengths = [_dot(v, v) ** 0.5 for v in (g, f2)]
    P, Z = g / lengths[0], f2 / lengths[1]
    cosine = _dot(P, Z)
    force, back = (Z - cosine * P) / lengths[0], (P - cosine * Z) / lengths[1]
    return _moves(state, Wp, force.mT @ f1 / n, Wp.mT @ force.mT @ views.x1 / n, back.mT @ views.x2 / n, h, switches)


def _moves(state: Network, Wp, of_predictor, of_encoder, back, h: Hyperparameters, switches: Switches) -> Network:
    """The flow from minus the gradients by W_p, by W through the prediction, and `back`, by W through the target."""
    if switches.predictor in ("learned", "symmetrised"):
        of_predictor = symmetric_part(of_predictor) if switches.predictor == "symmetrised" else of_predictor
        dWp = h.alpha_p * of_predictor - h.predictor_decay * Wp
    else:
        dWp = 0 * state.Wp
    pushed = {"target": lambda: of_encoder, "none": lambda: of_encoder + back, "mirrored": lambda: back}
    dWa = h.beta * (state.W - state.Wa) if switches.target == "ema" else 0 * state.Wa
    return Network(dWp, pushed[switches.stop_gradient]() - h.eta * state.W, dWa)


def _dot(a, b):
    return (a * b).sum(axis=-1, keepdims=True)


def _trace(matrix):
    """The trace, kept as (…, 1, 1)."""
    return sum(matrix[..., k : k + 1, k : k + 1] for k in range(matrix.shape[-1]))

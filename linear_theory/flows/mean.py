"""Images with a mean: x̄ = μ + x̃, x̃ of covariance X. What becomes of the embeddings' centre, with and without a bias.

Zhang et al. 2022 split embeddings into their centre and what deviates from it; the theory of Tian, Chen & Ganguli 2021
has no centre, or rather, as its correlation matrix is not centred, has it as one more mode. Derived here (SymPy:
`linear_theory.symbolic.mean_derivations`):

- Squared loss, no bias: Lemma 1 with X + μμᵀ in the place of X, exactly (`with_mean`). Where μ is an eigenvector of X,
  its mode has the variance x_μ + ‖μ‖² and no more augmentation than others, so that the predictor shrinks it least, to
  x/(x + x′): de-centring and de-correlation are one shrinkage over modes, the mean being one of them.
- A bias in the predictor that has settled takes μ out of the prediction error: Lemma 1 with X alone is left.
- Cosine loss: where embeddings are long sums, their norms are all alike (that of the root mean square) and the gradient
  is that of the squared loss with the prediction times κ, at a clock of its own, 1/c.

One term for all: R = τ W(X + μμᵀ) − κ[W_p W(X + μμᵀ + X′) + b μᵀ] is what W_p learns from, times Wᵀ, and W, times W_pᵀ.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.matrices import Correlations, online_force
from stopgrad.linear_theory.flows.modes import Mode
from stopgrad.linear_theory.tools.arrays import as_float64
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.records import at_least, refuse_outside


@dataclass(frozen=True)
class MeanHyperparameters(Hyperparameters):
    """`Hyperparameters`, those of a bias in the predictor, and for one mode of the mean among like others: the data.

    x and σ² are then those of a residual mode; augmentation has the variance x′ = σ²x in every direction.

    >>> h = MeanHyperparameters(mu=2.0, sigma2=0.5)
    >>> h.mean_variance, h.xp
    (4.0, 0.5)
    """

    alpha_b: float = 1.0
    """α_b: learning rate of the predictor's bias over that of the encoder (0: no bias)."""
    eta_b: float | None = None
    """η_b: weight decay of the bias; None takes the predictor's."""
    mu: float = 1.0
    """‖μ‖: length of the mean of all images."""
    x_mean: float = 0.0
    """x_μ: variance of images along their mean."""
    directions: float = 64.0
    """How many residual modes there are, all alike."""

    @property
    def bias_decay(self):
        """η_b where given, else the predictor's weight decay."""
        return self.predictor_decay if self.eta_b is None else self.eta_b

    @property
    def xp(self):
        """x′ = σ²x: augmentation variance."""
        return self.sigma2 * self.x

    @property
    def mean_variance(self):
        """x_μ + ‖μ‖²: the second moment of images along their mean, their variance not centred."""
        return self.x_mean + self.mu * self.mu

    def mean_mode(self) -> Hyperparameters:
        """The mean as a mode of the squared loss without bias: x = x_μ + ‖μ‖² and σ² = x′/x, for any flow of modes.

        >>> MeanHyperparameters(mu=2.0, sigma2=0.5).mean_mode().a  # less inflated than the 1.5 of other modes
        1.125
        """
        return self.as_mode(self.mean_variance)

    def as_mode(self, variance) -> Hyperparameters:
        """A mode of this variance of the images, with the augmentation variance that all have."""
        return Hyperparameters(self.xp / variance, self.eta, self.tau, self.alpha_p, self.beta, self.eta_p, x=variance)

    def validate(self) -> "MeanHyperparameters":
        """Return self as float64 arrays. Raises ValueError with one sentence naming a field out of range."""
        checked = self.map(as_float64)
        if self.beta is not None:
            raise BadInput("beta is the rate of an EMA target, which flows with a mean do not have; leave it out")
        refuse_outside(checked, _RANGES)
        super(MeanHyperparameters, checked.replace(alpha_p=1.0)).validate()
        return checked


_RANGES = dict.fromkeys(("alpha_p", "alpha_b", "eta_b", "mu", "x_mean"), at_least(0)) | {"directions": at_least(1)}
# α_p = 0: W_p is fixed


class BiasedNetwork(NamedTuple):
    """Predictor W_p (n2, n2), encoder W (n2, n1) and the predictor's bias b (n2, 1).

    >>> import numpy as np
    >>> BiasedNetwork(np.eye(2), np.ones((2, 3)), np.zeros((2, 1))).b.shape
    (2, 1)
    """

    Wp: Any
    W: Any
    b: Any


class Centre(NamedTuple):
    """The mode of the mean, and one of the `directions` like it that are residual.

    >>> Centre(p=1.0, w=1.0, b=0.0, q=1.0, v=1.0).b
    0.0
    """

    p: Any
    """Eigenvalue of W_p on the centre."""
    w: Any
    """Singular value of W on μ: the centre is w‖μ‖ long."""
    b: Any
    """The bias, along the centre."""
    q: Any
    """Eigenvalue of W_p on a residual mode."""
    v: Any
    """Singular value of W on it."""


class Norms(NamedTuple):
    """What a batch of wide embeddings have in common: N² = E‖f‖², κ and c of the cosine loss."""

    square: Any
    kappa: Any
    c: Any


def with_mean(data: Correlations, mu) -> Correlations:
    """X + μμᵀ and X′, for μ (n1, 1): what Lemma 1 without a bias knows of images with a mean. Exact.

    >>> import numpy as np
    >>> with_mean(Correlations(np.eye(2), np.eye(2)), np.array([[2.0], [0.0]])).X.tolist()
    [[5.0, 0.0], [0.0, 1.0]]
    """
    return Correlations(data.X + mu @ mu.mT, data.Xp)


# ---------------------------------------------------------------- whole matrices


def biased_network_flow(state: BiasedNetwork, data: Correlations, mu, h) -> BiasedNetwork:
    """Gradient flow on J = ½E‖W_p f₁ + b − sg(τ f₂)‖², f = W x, x of mean μ (n1, 1). Exact; derived here.

    b′ = α_b(τ f̄ − W_p f̄ − b) − η_b b with f̄ = W μ; W_p and W as in Lemma 1, from R. h: a `MeanHyperparameters`.

    >>> import numpy as np
    >>> one, mu = np.eye(1), np.array([[2.0]])
    >>> biased_network_flow(BiasedNetwork(one, one, -mu), Correlations(one, one), mu, MeanHyperparameters(eta=0.0)).W
    array([[3.]])
    """
    R, B = _forces(state, state.b, data, mu, h.tau, 1)
    return BiasedNetwork(
        h.alpha_p * R @ state.W.mT - h.predictor_decay * state.Wp,
        state.Wp.mT @ R - h.eta * state.W,
        h.alpha_b * B - h.bias_decay * state.b,
    )


def cosine_network_flow(state: BiasedNetwork, data: Correlations, mu, h) -> BiasedNetwork:
    """Gradient flow on −E cos(W_p Z₁ + b, sg Z₂), Z = f/‖f‖, f = W x, where ‖f‖² and ‖W_p Z + b‖² do not vary.

    They vary by O(1/√r), r the effective rank of the embeddings. The predictor sees normalised embeddings, as the bias
    layer of Zhang et al. 2022 does; without a bias that changes nothing. With N, κ and c of `network_norms`, d = N b
    and B = f̄ − κ(W_p f̄ + d): W_p′ = α_p R Wᵀ/c, W′ = [W_pᵀ R + (b·B/N) W(X + μμᵀ + X′)]/c, b′ = α_b N B/c, each less
    its weight decay. The loss leaves ‖W‖ as it is. τ is of no effect. Derived here.

    >>> import numpy as np
    >>> network = BiasedNetwork(np.eye(2), np.eye(2), np.zeros((2, 1)))
    >>> data, mu = Correlations(np.eye(2), np.eye(2)), np.array([[2.0], [0.0]])
    >>> h = MeanHyperparameters(eta=0.0)
    >>> cosine_network_flow(network, data, mu, h).W.diagonal().round(3)  # towards the mean, which is augmented least
    array([ 0.062, -0.062])
    """
    return cosine_network_flow_at(network_norms(state, data, mu), state, data, mu, h)


def cosine_network_flow_at(norms: Norms, state: BiasedNetwork, data: Correlations, mu, h) -> BiasedNetwork:
    """`cosine_network_flow` where N², κ and c are known."""
    long = norms.square**0.5
    R, B = _forces(state, long * state.b, data, mu, 1, norms.kappa)
    inward = state.b.mT @ B / long
    seen = state.W @ (data.X + mu @ mu.mT + data.Xp)
    return BiasedNetwork(
        h.alpha_p * R @ state.W.mT / norms.c - h.predictor_decay * state.Wp,
        (state.Wp.mT @ R + inward * seen) / norms.c - h.eta * state.W,
        h.alpha_b * long * B / norms.c - h.bias_decay * state.b,
    )


def network_norms(state: BiasedNetwork, data: Correlations, mu) -> Norms:
    """N² = E‖f‖², κ = E[g·f₂]/E‖g‖² and c = N √E‖g‖² for g = W_p f₁ + N b; each (…, 1, 1)."""
    Wp, W, b = state
    images = W @ (data.X + mu @ mu.mT) @ W.mT
    views, f = images + W @ data.Xp @ W.mT, W @ mu
    square = _trace(views)
    d = square**0.5 * b
    length = _trace(Wp @ views @ Wp.mT) + 2 * d.mT @ Wp @ f + d.mT @ d
    return Norms(square, (_trace(Wp @ images) + d.mT @ f) / length, (square * length) ** 0.5)


def _forces(state: BiasedNetwork, d, data: Correlations, mu, tau, kappa):
    """R, and B = τ f̄ − κ(W_p f̄ + d), from which the bias learns; d: the bias beside embeddings that are not
    normalised."""
    Wp, W, _ = state
    R = online_force(kappa * Wp, W, tau * W, with_mean(data, mu)) - kappa * d @ mu.mT
    return R, tau * W @ mu - kappa * (Wp @ W @ mu + d)


def _trace(matrix):
    """The trace, kept as (…, 1, 1)."""
    n = matrix.shape[-1]
    return sum(matrix[..., k : k + 1, k : k + 1] for k in range(n))


# ---------------------------------------------------------------- modes


def cosine_mode_flow(state: Mode, h: Hyperparameters) -> Mode:
    """The cosine loss on modes, which it couples: p and s (…, modes) under x_j and σ_j² (…, modes). No bias.

    p_j′ = α_p s_j(1 − κ a_j p_j)/c − η_p p_j, s_j′ = 2s_j[x_j p_j(1 − κ a_j p_j)/c − η]: Eq. 11–12 with τ = 1/κ at the
    clock κ/c. All p_j are drawn to 1/(κ a_j), the shrinkage x_j/(x_j + x_j′) up to a common factor. The mean is the
    mode with x = x_μ + ‖μ‖²: `mode_hyperparameters(with_mean(data, mu), h)`. Wide embeddings; derived here.

    >>> import numpy as np
    >>> from stopgrad.linear_theory import Hyperparameters
    >>> h = Hyperparameters(eta=0.0, sigma2=np.array([0.1, 1.0]), x=np.array([10.0, 1.0]))
    >>> cosine_mode_flow(Mode(np.ones(2), np.array([10.0, 1.0])), h).p.round(3)  # less augmented, more predicted
    array([ 0.053, -0.053])
    """
    p, s = state
    norms = mode_norms(state, h)
    pull = (1 - norms.kappa * h.a * p) / norms.c
    return Mode(h.alpha_p * s * pull - h.predictor_decay * p, 2 * s * (h.x * p * pull - h.eta))


def mode_norms(state: Mode, h: Hyperparameters) -> Norms:
    """N² = Σ a s, κ = Σ p s/Σ a p² s and c = √(Σ a s · Σ a p² s) over the last axis, which stays as one of 1.

    >>> import numpy as np
    >>> from stopgrad.linear_theory import Hyperparameters
    >>> mode_norms(Mode(np.full(4, 0.5), np.ones(4)), Hyperparameters(sigma2=0.0)).kappa  # isotropic: 1/(a p)
    array([2.])
    """
    p, s = state
    square, length = _total(h.a * s), _total(h.a * p * p * s)
    return Norms(square, _total(p * s) / length, (square * length) ** 0.5)


def _total(values):
    return values.sum(axis=-1, keepdims=True)


def centre_flow(state: Centre, h: MeanHyperparameters) -> Centre:
    """`biased_network_flow` where μ is an eigenvector of X, W and W_p share their modes, and residual ones are alike.

    The squared loss does not couple the mean's mode with others: (q, v) is a mode of Eq. 11–12, and so is (p, w) at
    b = 0, with x = x_μ + ‖μ‖². Derived here.

    >>> h = MeanHyperparameters(eta=0.0, mu=2.0, sigma2=0.5)
    >>> centre_flow(Centre(p=0.5, w=1.0, b=1.0, q=0.5, v=1.0), h).b  # settled: b = (1 − p) w‖μ‖
    0.0
    """
    R, B, T = _mode_forces(state, state.b, h, h.tau, 1)
    p, w, b, q, v = state
    return Centre(
        h.alpha_p * R * w - h.predictor_decay * p,
        p * R - h.eta * w,
        h.alpha_b * B - h.bias_decay * b,
        h.alpha_p * T * v - h.predictor_decay * q,
        q * T - h.eta * v,
    )


def cosine_centre_flow(state: Centre, h: MeanHyperparameters) -> Centre:
    """`cosine_network_flow` under the assumptions of `centre_flow`. The bias stands beside normalised embeddings.

    α_p = η_p = 0 from p = q = 1 is a predictor that is nothing but a bias, and with α_b = b = 0 there is none: the
    naive Siamese network. Derived here.

    >>> h = MeanHyperparameters(eta=0.0, alpha_p=0.0, alpha_b=0.0, mu=2.0)
    >>> cosine_centre_flow(Centre(p=1.0, w=1.0, b=0.0, q=1.0, v=1.0), h).w > 0  # without predictor the centre grows
    True
    """
    return cosine_centre_flow_at(centre_norms(state, h), state, h)


def cosine_centre_flow_at(norms: Norms, state: Centre, h: MeanHyperparameters) -> Centre:
    """`cosine_centre_flow` where N², κ and c are known."""
    long = norms.square**0.5
    R, B, T = _mode_forces(state, long * state.b, h, 1, norms.kappa)
    p, w, b, q, v = state
    inward = b * B / long
    return Centre(
        h.alpha_p * R * w / norms.c - h.predictor_decay * p,
        (p * R + inward * (h.mean_variance + h.xp) * w) / norms.c - h.eta * w,
        h.alpha_b * long * B / norms.c - h.bias_decay * b,
        h.alpha_p * T * v / norms.c - h.predictor_decay * q,
        (q * T + inward * (h.x + h.xp) * v) / norms.c - h.eta * v,
    )


def centre_norms(state: Centre, h: MeanHyperparameters) -> Norms:
    """N², κ and c of `network_norms` for one mode of the mean and `directions` like ones beside it."""
    p, w, b, q, v = state
    f, n, images, each = h.mu * w, h.directions, h.mean_variance * w * w, h.x * v * v
    square = images + h.xp * w * w + n * (each + h.xp * v * v)
    d = square**0.5 * b
    length = p * p * (images + h.xp * w * w) + 2 * p * f * d + d * d + n * q * q * (each + h.xp * v * v)
    return Norms(square, (p * images + d * f + n * q * each) / length, (square * length) ** 0.5)


def _mode_forces(state: Centre, d, h: MeanHyperparameters, tau, kappa):
    """R on the mean's mode, B, and R on a residual mode; d as in `_forces`."""
    p, w, _, q, v = state
    variance, f = h.mean_variance, h.mu * w
    R = tau * variance * w - kappa * (p * w * (variance + h.xp) + d * h.mu)
    return R, tau * f - kappa * (p * f + d), tau * h.x * v - kappa * q * v * (h.x + h.xp)

"""Where Halvagal's and Zhuo's eigenvalues come to rest, and the difference in rank between the two branches.

Squared error (η = 0 unless said): with stop-gradient and a set predictor, and under IsoLoss, every λ > 0 goes to
a^(−1/α); without stop-gradient to 0, unless nothing is augmented; without predictor it dies at the rate 2(a − 1 + η).

Cosine loss: all a_j p_j come to be alike, λ_j ∝ a_j^(−1/α), at any scale: the predictor equalises the modes from any
start. Its trace Σλ stays, as the loss leaves ‖W‖; under IsoLoss Σλ^(1+α) does. Without stop-gradient a weak mode dies
at the rate 2κ_t a_t/c: that is a collapse of dimensions. Without predictor the least augmented mode wins
(`exact.mean_mode`), and where all are augmented alike nothing moves. Weight decay is the clock of `exact.cosine_limit`
here too; under IsoLoss, whose pull goes with λ^−(1+α), the clock of a weight decay (1 + α) times as large.

Zhuo et al. 2023: a branch with a larger power of the same spectrum has a lower effective rank, and prediction raises
the other's: the rank difference, positive wherever p grows with λ.
"""

import numpy as np

from stopgrad.linear_theory.flows.set_loop import Eigenvalues, LoopHyperparameters
from stopgrad.linear_theory.spectra.spectrum import rankme
from stopgrad.linear_theory.tools.arrays import as_float64
from stopgrad.linear_theory.tools.errors import BadInput


def squared_rest(h: LoopHyperparameters, kind: str = "predictor") -> np.ndarray:
    """The λ > 0 at which `SetLoop("squared", kind)` rests stably, 0 where there is none. Shape (…).

    predictor: p(1 − a p) = η at its larger root; isoloss: 1 − a p = η; target, α < 0: p = a + η; without stop-gradient
    2p − a p² = a_t + η, which a and a_t ≥ 1 allow at a = a_t = 1 and η = 0 alone, and then from one side.
    Raises BadInput for an unknown kind, values out of range, and α = 0.

    >>> squared_rest(LoopHyperparameters(exponent=2.0, sigma2=0.25)).round(4)  # a^(−1/α)
    np.float64(0.8944)
    """
    h = h.validate()
    if np.any(h.exponent == 0):
        raise BadInput("exponent is 0; the predictor is then the identity, and no eigenvalue is a rest of its own")
    a, eta, rising = h.a, h.eta, h.exponent > 0
    with np.errstate(invalid="ignore"):
        root = np.sqrt(1 - 4 * a * eta)
    if kind == "predictor":
        p = np.where(rising, (1 + root) / (2 * a), np.nan)
    elif kind == "isoloss":
        p = np.where(rising & (eta < 1), (1 - eta) / a, np.nan)
    elif kind == "target":
        p = np.where(~rising, a + eta, np.nan)
    elif kind in ("no-stop-gradient", "no-predictor", "neither"):
        p = np.full(np.broadcast_shapes(a.shape, eta.shape, h.exponent.shape), np.nan)
    else:
        raise BadInput(
            f"kind is {kind!r}; it must be predictor, no-stop-gradient, no-predictor, neither, isoloss or target"
        )
    return np.nan_to_num(p ** (1 / h.exponent), nan=0.0)


def cosine_rest(start: Eigenvalues, h: LoopHyperparameters, kind: str = "predictor") -> np.ndarray:
    """Where `SetLoop("cosine", kind)` leads from λ > 0 at η = 0, for wide embeddings: (…, modes).

    predictor, isoloss (α > 0): λ_j ∝ a_j^(−1/α); target (α < 0): λ_j ∝ a_j^(1/α). Kept is Σλ, under IsoLoss Σλ^(1+α).
    σ² may differ from mode to mode, along the last axis. Raises BadInput for λ ≤ 0, another kind, and an α of the other
    sign, with which the strong modes win.

    >>> cosine_rest(Eigenvalues([0.3, 0.9, 1.8]), LoopHyperparameters()).tolist()  # isotropy
    [1.0, 1.0, 1.0]
    """
    h = h.validate()
    s = as_float64(start.s, "s")
    if np.any(s <= 0):
        raise BadInput(f"an eigenvalue of the start is {s.min():g}; what is 0 stays so, give those above")
    if kind not in ("predictor", "isoloss", "target"):
        raise BadInput(f"kind is {kind!r}; the rest is known of predictor, isoloss and target")
    sign = -1 if kind == "target" else 1
    if np.any(sign * h.exponent <= 0):
        raise BadInput(
            f"exponent is {h.exponent.flat[0]:g}; modes are equalised where it is {'below' if sign < 0 else 'above'} 0"
        )
    shape = np.broadcast_to(h.a, s.shape) ** (-sign / h.exponent)
    power = 1 + h.exponent if kind == "isoloss" else np.ones(())
    size = ((s**power).sum(-1, keepdims=True) / (shape**power).sum(-1, keepdims=True)) ** (1 / power)
    return size * shape


# ---------------------------------------------------------------- rank


def powered_rank(sigma, power) -> np.ndarray:
    """Effective rank of S^(1+σ), S the singular values (…, modes) of embeddings: Zhuo's branch with the power σ. (…).

    It falls as σ grows from −1, where the branch is white. sigma: S; power: σ, a number.

    >>> [float(powered_rank([3.0, 1.0], power).round(3)) for power in (-1, 0, 1)]
    [2.0, 1.755, 1.384]
    """
    return rankme(as_float64(sigma, "sigma") ** (1 + as_float64(power, "power")))


def rank_difference(sigma, p) -> np.ndarray:
    """Effective rank of the target Z less that of the prediction P, whose singular values are |p_j| S_j. Shape (…).

    At least 0 where |p| grows with S, as at the best linear predictor, p = x/(x + x′): then P's shares majorise Z's.
    sigma: S (…, modes); p: the predictor's eigenvalues on the same modes.

    >>> strong, weak = 4.0, 1.0  # variances, beside noise of ½
    >>> rank_difference([strong**0.5, weak**0.5], [strong / 4.5, weak / 1.5]).round(4)
    np.float64(0.0932)
    """
    sigma, p = as_float64(sigma, "sigma"), as_float64(p, "p")
    return rankme(sigma) - rankme(np.abs(p) * sigma)

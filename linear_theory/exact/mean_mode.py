"""When the centre of linear embeddings dies, and when it is all that is left: closed forms for `flows.mean`.

- **Squared loss, learned predictor.** Each mode lives or dies by itself, the mean as one of variance x_μ + ‖μ‖². It
  needs the least variance of `least_variance`, so that from some ‖μ‖ on the centre outlives all residual modes, and
  where these are too weak it alone lives: complete collapse. A bias that has settled leaves the mean only x_μ.
- **Squared loss, no predictor, with or without a bias.** Everything decays, W′ = −W(X′ + ηI), and the bias has nothing
  to do: both views have the same mean, so that b* = 0. Where augmentation is alike in all directions, the embeddings'
  directions stay what they were.
- **Cosine loss, no predictor.** Mode j grows at the rate [x_j − κ(x_j + x_j′)]/c, κ an average of x/(x + x′): the
  mode with the smallest x′/x wins, exponentially. With equal augmentation it is the one with the largest second moment:
  the mean's if x_μ + ‖μ‖² > x, for any augmentation strength, and the collapse is complete (m_o → 1); else it is
  dimensional, and the centre dies.
- **Cosine loss, bias only.** The bias settles at (1/κ − 1) times the centre with κ = ρ, the residuals' correlation
  across views, and then what pulls at the centre is gone: its mode grows at [x_μ − ρ(x_μ + x′)]/c, as if μ were 0. So a
  bias saves embeddings from the centre, however large ‖μ‖. It does not save their rank: among residual modes the least
  augmented one still wins, at rates a factor of order ‖μ‖²/x slower than the centre's without a bias.
- **Cosine loss, learned predictor.** Every p_j is drawn to 1/(κ a_j), and no mode dies: none of the directions is lost,
  the centre neither (with a bias: to the shrinkage of x_μ). The mean is shrunk least.
"""

import numpy as np

from stopgrad.linear_theory.flows.mean import MeanHyperparameters
from stopgrad.linear_theory.tools.arrays import as_float64


def least_variance(h: MeanHyperparameters) -> np.ndarray:
    """The second moment from which on a mode can live under the squared loss: x²τ²/(4(x + x′)) = η. Shape (…).

    x = 2[η + √(η² + ητ²x′)]/τ²; x′ = σ²x is that of `h`. Derived from the critical weight decay (Tian et al. 2021,
    section 3.3).

    >>> least_variance(MeanHyperparameters(eta=0.2, sigma2=0.6)).round(6)  # 2(0.2 + √(0.04 + 0.12))
    np.float64(1.2)
    """
    eta, square = as_float64(h.eta), as_float64(h.tau) ** 2
    return 2 * (eta + np.sqrt(eta * eta + eta * square * as_float64(h.xp))) / square


def centre_border(h: MeanHyperparameters) -> np.ndarray:
    """The ‖μ‖ from which on the centre can live under the squared loss, without a bias: √max(least − x_μ, 0).

    >>> centre_border(MeanHyperparameters(eta=0.2, sigma2=0.6, x_mean=0.2)).round(6)
    np.float64(1.0)
    """
    return np.sqrt(np.maximum(least_variance(h) - as_float64(h.x_mean), 0))


def can_live(h: MeanHyperparameters, bias: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Whether the centre, and whether a residual mode, has a rest that is not 0 under the squared loss and a learned
    W_p. With `bias`, one that does not decay, x_μ alone counts for the centre.

    From a start beyond the separatrix a mode that can live does (`critical_s0` of `h.as_mode(variance)`).

    >>> h = MeanHyperparameters(eta=0.2, sigma2=0.6, mu=2.0)
    >>> can_live(h), can_live(h, bias=True)  # the centre alone; nothing
    ((np.True_, np.False_), (np.False_, np.False_))
    """
    least = least_variance(h)
    return as_float64(h.x_mean if bias else h.mean_variance) > least, as_float64(h.x) > least


def least_augmented(x, xp) -> np.ndarray:
    """The mode that wins under the cosine loss without predictor: index of the smallest x_j′/x_j along the last axis.

    x: second moments x_j of images, (…, modes), that of the mean being x_μ + ‖μ‖² (beside a settled bias: x_μ); xp:
    augmentation variances x_j′. Ties go to the first.

    >>> least_augmented([1.0, 4.0, 1.0], [0.5, 0.5, 0.1])
    np.int64(2)
    """
    x, xp = as_float64(x, "x"), as_float64(xp, "xp")
    return np.argmin(xp / x, axis=-1)


def naive_rates(x, xp, w) -> np.ndarray:
    """c w_j′/w_j = x_j − κ(x_j + x_j′) under the cosine loss at W_p = I, (…, modes). κ = Σxw²/Σ(x + x′)w².

    w: singular values of W; weighted by w_j² the rates have the mean 0, as the loss leaves ‖W‖ as it is. x: without
    bias the second moments, x_μ + ‖μ‖² for the mean's mode. Beside a bias that has settled the rates are those of the
    covariance, x_μ for that mode: κ is then ρ, the correlation of residuals across views, and μ is of no effect.

    >>> naive_rates([4.0, 1.0], [0.5, 0.5], [1.0, 1.0]).round(3)  # the mean, with ‖μ‖ = 2, grows and the other shrinks
    array([ 0.25, -0.25])
    >>> naive_rates([0.0, 2.0, 1.0], [0.5, 0.5, 0.5], [1.0, 1.0, 1.0]).round(3)  # with a bias it dies
    array([-0.333,  0.333,  0.   ])
    """
    x, xp, w = as_float64(x, "x"), as_float64(xp, "xp"), as_float64(w, "w")
    kappa = np.sum(x * w * w, -1, keepdims=True) / np.sum((x + xp) * w * w, -1, keepdims=True)
    return x - kappa * (x + xp)


def settled_shares(x, xp) -> np.ndarray:
    """Energy shares of the modes where the cosine loss and a learned W_p come to rest: e_j ∝ x_j · x_j/(x_j + x_j′).

    From a start on the parabola s = x p²/α_p; off it, `exact.cosine_limit`. Weight decay alone brings no start there,
    as it shrinks what is off the parabola no faster than the rest; finite steps, which add to norms, do. Data have
    e_j ∝ x_j + x_j′, so learning multiplies each share by the square of its shrinkage s/(s + n) = x/(x + x′), the
    mean's as any other's. Shape (…, modes).

    >>> settled_shares([4.0, 1.0, 1.0], [1.0, 1.0, 0.0]).round(4)
    array([0.6809, 0.1064, 0.2128])
    """
    x, xp = as_float64(x, "x"), as_float64(xp, "xp")
    energy = x * x / (x + xp)
    return energy / energy.sum(axis=-1, keepdims=True)


def settled_centre(h: MeanHyperparameters) -> np.ndarray:
    """m_o = ‖E Z‖ where the cosine loss and a learned W_p without bias come to rest. Shape (…).

    m_o² = (‖μ‖²/(x_μ + ‖μ‖² + x′)) times the share of the mean's mode.

    >>> settled_centre(MeanHyperparameters(mu=8.0, sigma2=1.0, directions=64)).round(4)
    np.float64(0.8081)
    """
    variance, each, n = as_float64(h.mean_variance), as_float64(h.x), as_float64(h.directions)
    xp = as_float64(h.xp)
    of_mean = variance * variance / (variance + xp)
    share = of_mean / (of_mean + n * each * each / (each + xp))
    return np.sqrt(as_float64(h.mu) ** 2 / (variance + xp) * share)

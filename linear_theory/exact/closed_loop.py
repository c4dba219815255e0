"""The dynamics of the encoder when W_p is not learned but set from the features' spectrum at every instant.

The matrix form is `network_flow` with `Switches(predictor=SetPredictor(…))`. Here is its mode form in the amplitudes
r_j = √s_j (at x = 1 the singular values of W), and what follows from it in closed form. α_p, η_p and β play no part;
hyperparameters may differ from mode to mode, along the last axis.

A network sees the correlation of its views, W (X + X′) Wᵀ, whose eigenvalue is q = a s; the analysis of DirectPred in
Tian, Chen & Ganguli 2021 takes F = W X Wᵀ, with q = s. `seen` says which: "views" or "means".
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from stopgrad.linear_theory.exact.fixed_points import critical_eta, fixed_points
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.predictors.matrices import optimal_regression
from stopgrad.linear_theory.tools.arrays import as_array, as_float64, beside
from stopgrad.linear_theory.tools.errors import BadInput

Seen = Literal["views", "means"]


class Amplitudes(NamedTuple):
    """r_j = √s_j, s_j the eigenvalues of F = W X Wᵀ: (…, modes).

    >>> Amplitudes([0.5, 0.1])
    Amplitudes(r=[0.5, 0.1])
    """

    r: Any


@dataclass(frozen=True)
class SetPredictor:
    """A matrix function of `linear_theory.predictors.matrices` with its arguments bound, for `Switches.predictor`.

    Hashed by value, so that a compiled flow is specialised once for each setting. `inflation` divides F first: a = 1 +
    σ² turns the correlation of isotropic views into that of their means.

    >>> import numpy as np
    >>> from stopgrad.linear_theory import directcopy
    >>> SetPredictor(directcopy, (0.5,))(np.eye(2)).tolist()  # F + ε
    [[1.5, 0.0], [0.0, 1.5]]
    """

    function: Callable
    parameters: tuple = ()
    inflation: float = 1.0

    def __call__(self, F):
        return self.function(F / self.inflation, *self.parameters, check=False)


def isotropic_regression(F, tau, a, check: bool = True):
    """Table 1's regression predictor where X′ = σ²X and W_a = τW: E[f_a fᵀ] = (τ/a) F, F being that of the views."""
    F = as_array(F, "F")
    return optimal_regression(F, beside(F, tau) / beside(F, a) * F, check=check)


# ---------------------------------------------------------------- flows


def inflation(h: Hyperparameters, seen: Seen):
    """q/s: a where the predictor is set from the views' correlation, 1 where from that of their means."""
    if seen not in ("views", "means"):
        raise BadInput(f"seen is {seen!r}; it must be 'views' or 'means'")
    return h.a if seen == "views" else 1.0


def growth_rate(p, h: Hyperparameters):
    """r′/r = x p(τ − a p) − η of a mode whose predictor eigenvalue is p (Eq. 12): positive for p₋ < p < p₊."""
    return h.x * p * (h.tau - h.a * p) - h.eta


def closed_loop_flow(state: Amplitudes, h: Hyperparameters, spectrum: Callable, seen: Seen = "views", *parameters):
    """r_j′ = r_j [x_j p_j(τ − a_j p_j) − η] with p = spectrum(q, *parameters) and q = a r² ("views") or r² ("means").

    `spectrum` is `directpred_spectrum`, `directset_spectrum` or any function of eigenvalues (…, modes).

    >>> import numpy as np
    >>> h = Hyperparameters(sigma2=0.0, eta=0.0)
    >>> closed_loop_flow(Amplitudes(np.array([0.5])), h, np.sqrt)  # p = √s = ½, r′ = r p(1 − p)
    Amplitudes(r=array([0.125]))
    """
    p = spectrum(inflation(h, seen) * (state.r * state.r), *parameters)
    return Amplitudes(state.r * growth_rate(p, h))


def optimal_regression_flow(state: Amplitudes, h: Hyperparameters):
    """The regression predictor has p = τ/a whatever s and leaves no residual to learn from: r′ = −ηr, collapse."""
    return Amplitudes(state.r * growth_rate(h.tau / h.a, h))


# ---------------------------------------------------------------- DirectPred


def directpred_limit(h: Hyperparameters, eps=0.0, seen: Seen = "views"):
    """Where r of the leading mode settles under Eq. 18, and of every like mode that survives: √q + εq = p₊.

    NaN above the critical weight decay, where all modes die.

    >>> directpred_limit(Hyperparameters(sigma2=0.0, eta=0.16)).round(12)  # √q = p₊
    np.float64(0.8)
    """
    return _leading_amplitude(_window(h)[1], h, eps, seen)


def directpred_basin(h: Hyperparameters, eps=0.0, seen: Seen = "views"):
    """The r(0) above which the leading mode survives Eq. 18: √q + εq = p₋. NaN above the critical weight decay."""
    return _leading_amplitude(_window(h)[0], h, eps, seen)


def cutoff_threshold(h: Hyperparameters, cutoff, seen: Seen = "views"):
    """The r(0) above which a mode survives p = √max(q − c, 0): q = c + p₋². Below q = c, s decays at 2η (Table 7)."""
    smallest = _window(h)[0]
    return np.sqrt(np.maximum(smallest * smallest + as_float64(cutoff), 0) / inflation(h, seen))


def directpred_threshold(h: Hyperparameters, top: Hyperparameters | None = None, relaxing: bool = True):
    """The two ends of the ε between which DirectPred lets a vanishing mode with hyperparameters `h` grow.

    Its predictor eigenvalue is ε q_max, so it grows for p₋ < ε q_max < p₊. With q_max frozen at 1 (`relaxing=False`;
    the released code divides by it) these are p₋ < ε < p₊. Under Eq. 18 proper the leading mode, with hyperparameters
    `top` (default: the same), settles where √q_max + ε q_max = P₊; then ε q_max = p at ε = p/(P₊ − p)². For equal
    hyperparameters: from p₋/(p₊ − p₋)² = a² p₋/(τ² − 4ηa/x) on, without upper end. The same for both `seen`.
    ∞ where no ε is large enough; NaN where one of the two modes is above its critical weight decay.

    >>> directpred_threshold(Hyperparameters(sigma2=0.0, eta=0.16))  # from 0.2/0.6² on
    (array(0.55555556), array(inf))
    """
    lower, upper = _window(h)
    if not relaxing:
        return lower, upper
    settled = upper if top is None else _window(top)[1]
    return _eps_at(lower, settled), _eps_at(upper, settled)


def _eps_at(p, settled):
    """The ε with ε q_max = p when √q_max + ε q_max = settled."""
    gap = as_float64(settled - p)
    eps = np.divide(p, gap * gap, out=np.full(gap.shape, np.inf), where=gap > 0)
    return np.where(np.isnan(gap), np.nan, eps)


def _leading_amplitude(p, h: Hyperparameters, eps, seen: Seen):
    """r with √q + εq = p, without cancellation at small ε."""
    return 2 * p / (1 + np.sqrt(1 + 4 * as_float64(eps) * p)) / np.sqrt(inflation(h, seen))


# ---------------------------------------------------------------- DirectSet


def directset_limit(h: Hyperparameters, alpha=1.0, eps=0.0, seen: Seen = "views"):
    """Where r of a surviving mode settles under p = q^α + ε: q^α + ε = p₊, r = q^{1/2} ("means") or (q/a)^{1/2}.

    h describes that mode: for a signal untouched by augmentation a = 1, and r = ((1 + √(1 − 4η))/2)^{1/(2α)} at τ = 1
    and ε = 0 (DirectSet, arXiv 2110.04947). 0 where ε ≥ p₊; NaN above the critical weight decay, where all modes die.

    >>> directset_limit(Hyperparameters(sigma2=0.0, eta=0.16)).round(6)  # q = p₊
    np.float64(0.894427)
    """
    return _set_amplitude(_window(h)[1], h, alpha, eps, seen)


def directset_threshold(h: Hyperparameters, alpha=1.0, eps=0.0, seen: Seen = "views"):
    """The r(0) above which a mode survives: q^α + ε = p₋. 0 where ε ≥ p₋; NaN above the critical weight decay.

    >>> directset_threshold(Hyperparameters(sigma2=0.0, eta=0.16)).round(6)  # q = p₋
    np.float64(0.447214)
    """
    return _set_amplitude(_window(h)[0], h, alpha, eps, seen)


def selective_weight_decay(signal: Hyperparameters, nuisance: Hyperparameters):
    """The two ends of the η at which a signal mode can live while a nuisance mode dies, NaN if there are none.

    They are the critical weight decays τ²x/(4a) of the two: at τ = x = 1, σ² = 0 for the signal, 1/(4(1 + σ²)) and ¼
    (arXiv 2110.04947). Below the first the nuisance survives as well if it starts above its own threshold.
    """
    signal, nuisance = signal.validate(), nuisance.validate()
    lower, upper = critical_eta(nuisance), critical_eta(signal)
    return np.where(lower < upper, lower, np.nan), np.where(lower < upper, upper, np.nan)


def _set_amplitude(p, h: Hyperparameters, alpha, eps, seen: Seen):
    return np.maximum(p - as_float64(eps), 0) ** (1 / (2 * as_float64(alpha))) / np.sqrt(inflation(h, seen))


def _window(h: Hyperparameters):
    """(p₋, p₊): a set predictor knows neither α_p nor η_p."""
    points = fixed_points(h.replace(alpha_p=1.0, eta_p=None))
    return points.p_minus, points.p_plus

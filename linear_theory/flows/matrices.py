"""Lemma 1 of Tian, Chen & Ganguli 2021 and its variants, for whole weight matrices.

Plain operators, `@` and `.mT` only: one text for NumPy, torch and object arrays of SymPy symbols. Leading dimensions
are batch dimensions; hyperparameters that vary over the batch have shape (…, 1, 1).

Shapes: X and X′ are (n1, n1), W and W_a are (n2, n1), W_p and F are (n2, n2).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.tools.errors import BadInput


class Correlations(NamedTuple):
    """X = E[x̄ x̄ᵀ], x̄ the augmentation mean of an image; X′ = E[Cov(view | image)].

    >>> import numpy as np
    >>> data = Correlations(X=np.eye(2), Xp=0.1 * np.eye(2))
    >>> data.X.shape
    (2, 2)
    """

    X: Any
    Xp: Any


class Network(NamedTuple):
    """Predictor W_p, online encoder W, target encoder W_a (unused where the target is not an EMA).

    >>> import numpy as np
    >>> Network(Wp=np.eye(2), W=np.ones((2, 3)), Wa=np.ones((2, 3))).W.shape
    (2, 3)
    """

    Wp: Any
    W: Any
    Wa: Any


class Aligned(NamedTuple):
    """Predictor W_p and F = W X Wᵀ: the state of the isotropic, symmetrised theory (assumptions A1–A3).

    >>> import numpy as np
    >>> Aligned(Wp=np.eye(2), F=np.eye(2)).F.trace()
    np.float64(2.0)
    """

    Wp: Any
    F: Any


@dataclass(frozen=True)
class Switches:
    """What to turn on or off in Lemma 1. Hashable, so a compiled flow is specialised once for each combination.

    >>> Switches(stop_gradient="none")
    Switches(target='shared', stop_gradient='none', predictor='learned')
    """

    target: Literal["shared", "ema", "proportional"] = "shared"
    """Where the target's weights come from: W itself, the EMA state W_a, or τ W with a fixed τ (A1)."""
    stop_gradient: Literal["target", "none", "mirrored"] = "target"
    """Which features receive no gradient: the target's, neither (Theorem 2), or the online ones (before W_p, which
    learns all the same: J = ½E‖W_p sg(f₁) − f₂‖²)."""
    predictor: Literal["learned", "symmetrised", "fixed"] | Callable = "learned"
    """Learned by gradient, learned by the symmetric part of its gradient (A3), fixed (identity: absent), or set:
    a function W_p = f(F) of the correlation matrix, such as those of `linear_theory.predictors.matrices`."""

    def __post_init__(self):
        for name, choices in (
            ("target", ("shared", "ema", "proportional")),
            ("stop_gradient", ("target", "none", "mirrored")),
            ("predictor", ("learned", "symmetrised", "fixed")),
        ):
            value = getattr(self, name)
            if value not in choices and not (name == "predictor" and callable(value)):
                raise BadInput(f"{name} is {value!r}; it must be one of {', '.join(choices)}")
        if self.stop_gradient != "target" and self.target != "shared":
            raise BadInput(f"stop_gradient={self.stop_gradient!r} needs target='shared', not {self.target!r}")


def symmetric_part(matrix):
    """(M + Mᵀ)/2, out of place."""
    return (matrix + matrix.mT) / 2


def online_force(Wp, W, target, data: Correlations):
    """R = W_a X − W_p W (X + X′): Lemma 1's residual correlation, minus the gradient of J by the prediction W_p f₁."""
    return target @ data.X - Wp @ W @ (data.X + data.Xp)


def target_force(Wp, W, data: Correlations):
    """W_p W X − W (X + X′): the extra force on W through an unstopped target branch (Theorem 2)."""
    return Wp @ W @ data.X - W @ (data.X + data.Xp)


def network_flow(state: Network, data: Correlations, h: Hyperparameters, switches: Switches = Switches()) -> Network:
    """Eq. 2–4 under the given switches; Eq. 6 with `stop_gradient="none"`.

    A set predictor is computed from F = W (X + X′) Wᵀ, the correlation of the features that it is applied to; the
    state's W_p is then ignored and its derivative is zero.

    >>> import numpy as np
    >>> from stopgrad.linear_theory import Hyperparameters
    >>> one = np.eye(1)
    >>> network_flow(Network(one, one, one), Correlations(one, one), Hyperparameters(eta=0.0)).W  # W_p(X − W_p(X + X′))
    array([[-1.]])
    """
    Wp, W, Wa = state
    if callable(switches.predictor):
        Wp = switches.predictor(W @ (data.X + data.Xp) @ W.mT)
    target = {"shared": W, "ema": Wa, "proportional": h.tau * W}[switches.target]
    force = online_force(Wp, W, target, data)

    if switches.predictor in ("learned", "symmetrised"):
        gradient = force @ W.mT
        if switches.predictor == "symmetrised":
            gradient = symmetric_part(gradient)
        dWp = h.alpha_p * gradient - h.predictor_decay * Wp
    else:
        dWp = 0 * state.Wp

    dW = {
        "target": lambda: Wp.mT @ force,
        "none": lambda: Wp.mT @ force + target_force(Wp, W, data),
        "mirrored": lambda: target_force(Wp, W, data),
    }[switches.stop_gradient]() - h.eta * W
    dWa = h.beta * (W - Wa) if switches.target == "ema" else 0 * Wa
    return Network(dWp, dW, dWa)


def predictor_flow(Wp, F, h: Hyperparameters):
    """Eq. 62: W_p′ = α_p(τ F − a W_p F) − η_p W_p, the predictor alone under A1 and A2 for a given F."""
    return h.alpha_p * (h.tau * F - h.a * Wp @ F) - h.predictor_decay * Wp


def symmetrised_flow(state: Aligned, h: Hyperparameters) -> Aligned:
    """Eq. 7–8 (A1–A3): W_p′ is the symmetric part of Eq. 62; F′ = −a{W_p², F} + τ{W_p, F} − 2ηF.

    >>> import numpy as np
    >>> from stopgrad.linear_theory import Hyperparameters
    >>> half = 0.5 * np.eye(2)
    >>> symmetrised_flow(Aligned(half, half**2), Hyperparameters(sigma2=0, eta=0)).F.diagonal()  # 2sp(1 − p), as a mode
    array([0.125, 0.125])
    """
    Wp, F = state
    half = h.tau * Wp @ F - h.a * Wp @ Wp @ F
    return Aligned(symmetric_part(predictor_flow(Wp, F, h)), half + half.mT - 2 * h.eta * F)


def balance_matrix(state: Network, h: Hyperparameters):
    """Theorem 1: C = W Wᵀ − W_pᵀ W_p/α_p, which decays exactly as e^{−2ηt} (η_p = η; any W_a, X, X′).

    >>> import numpy as np
    >>> from stopgrad.linear_theory import Hyperparameters
    >>> balance_matrix(Network(0.5 * np.eye(2), np.eye(2), np.eye(2)), Hyperparameters())
    array([[0.75, 0.  ],
           [0.  , 0.75]])
    """
    return state.W @ state.W.mT - state.Wp.mT @ state.Wp / h.alpha_p

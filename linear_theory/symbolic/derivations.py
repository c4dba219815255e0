"""The theory derived: every derivation by name, in LaTeX."""

from collections.abc import Callable

from stopgrad.linear_theory.symbolic import (
    cosine_derivations,
    matrix_derivations,
    mean_derivations,
    mode_derivations,
)
from stopgrad.linear_theory.symbolic.derivation import Derivation
from stopgrad.linear_theory.tools.errors import BadInput

DERIVATIONS: dict[str, Callable[[], Derivation]] = {
    function.__name__: function
    for function in (
        matrix_derivations.lemma_1,
        matrix_derivations.no_stop_gradient,
        matrix_derivations.mirrored_stop_gradient,
        matrix_derivations.no_predictor,
        matrix_derivations.balance_theorem,
        matrix_derivations.predictor_rate_symmetry,
        matrix_derivations.symmetrised_imbalance,
        matrix_derivations.commutator_decay,
        matrix_derivations.settled_predictor,
        mode_derivations.scalar_network,
        mode_derivations.ema_mode,
        mode_derivations.rescaled_mode,
        mode_derivations.mode_balance,
        mode_derivations.parabola,
        mode_derivations.fixed_points,
        mode_derivations.jacobian_eigenvalues,
        mode_derivations.time_course,
        mode_derivations.alignment_on_parabola,
        mean_derivations.lemma_1_with_mean,
        mean_derivations.settled_bias,
        mean_derivations.cosine_loss,
        mean_derivations.settled_bias_of_the_cosine_loss,
        mean_derivations.centre_modes,
        mean_derivations.cosine_modes,
        cosine_derivations.cosine_loss_without_mean,
        cosine_derivations.cosine_loss_on_a_pair,
        cosine_derivations.cosine_identities,
        cosine_derivations.cosine_decay_clock,
        cosine_derivations.finite_width_modes,
        cosine_derivations.sixth_order,
        cosine_derivations.halvagal_rates,
    )
}
"""Each is a function without arguments that returns a `Derivation`; the order is the paper's, and then what is derived
here."""


def derive(name: str) -> Derivation:
    """The derivation of that name. Raises ValueError for an unknown one.

    >>> derive("parabola").holds
    True
    """
    if name not in DERIVATIONS:
        raise BadInput(f"name is {name!r}; it must be all or one of {', '.join(DERIVATIONS)}")
    return DERIVATIONS[name]()


def latex(name: str) -> str:
    """The LaTeX of a derivation's equations, one a line. Raises ValueError for an unknown name.

    >>> "frac" in latex("time_course")
    True
    """
    return derive(name).latex

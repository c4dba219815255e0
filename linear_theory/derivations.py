"""The theory derived: every derivation by name, in LaTeX, and as a command."""

from collections.abc import Callable
from dataclasses import dataclass

from linear_theory import matrix_derivations, mode_derivations
from linear_theory.door import Command
from linear_theory.symbolic import Derivation

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
    )
}
"""Each is a function without arguments that returns a `Derivation`; the order is the paper's."""


def derive(name: str) -> Derivation:
    """The derivation of that name. Raises ValueError for an unknown one."""
    if name not in DERIVATIONS:
        raise ValueError(f"name is {name!r}; it must be all or one of {', '.join(DERIVATIONS)}")
    return DERIVATIONS[name]()


def latex(name: str) -> str:
    """The LaTeX of a derivation's equations, one a line. Raises ValueError for an unknown name."""
    return derive(name).latex


@dataclass(frozen=True)
class Derive(Command):
    """Derive the theory's equations from the simulated flows with symbols, and print them in LaTeX."""

    name: str = "all"
    """The derivation, or all of them."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> dict:
        """{name: {statement, latex, holds}}, `holds` computed. Raises ValueError for an unknown name."""
        derived = [derive(name) for name in (DERIVATIONS if self.name == "all" else [self.name])]
        return {d.name: {"statement": d.statement, "latex": d.latex, "holds": d.holds} for d in derived}

    def text(self, result: dict) -> str:
        """Statement, verdict and LaTeX of each derivation."""
        verdict = {True: "holds", False: "FAILS"}
        return "\n\n".join(f"{n} ({verdict[r['holds']]}): {r['statement']}\n{r['latex']}" for n, r in result.items())

"""What a derivation is, and the symbols it is made of.

Symbols go through the simulated flows as NumPy object arrays, and what comes out is subtracted from the equation that
is displayed: a residual of zero proves that code, statement and LaTeX agree.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import sympy as sp

from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters

eta, eta_p, alpha_p, beta, tau, a, x = sp.symbols("eta eta_p alpha_p beta tau a x", positive=True)
p, s = sp.symbols("p s", real=True)
H = Hyperparameters(sigma2=a - 1, eta=eta, tau=tau, alpha_p=alpha_p, beta=beta, eta_p=eta_p, x=x)
"""The predictor's weight decay kept apart."""
TIED = H.replace(eta_p=None)
"""η_p = η, as in the paper."""


@dataclass(frozen=True)
class Derivation:
    """A statement, its equations as displayed, and what is left when the code's flow is put into them: zeros."""

    name: str
    statement: str
    equation: tuple[sp.Basic, ...]
    residual: tuple[sp.Expr, ...]

    @property
    def holds(self) -> bool:
        """Whether there are residuals and every one is zero."""
        return bool(self.residual) and all(r == 0 for r in self.residual)

    @property
    def latex(self) -> str:
        """The equations in LaTeX, one a line."""
        return " \\\\\n".join(sp.latex(equation).replace("+ - ", "- ") for equation in self.equation)


def derivation(function: Callable[[], tuple[list, list]]) -> Callable[[], Derivation]:
    """Turn `function() -> (equations, residuals)` into a cached function that returns a Derivation.

    The function's name becomes the derivation's and its docstring the statement; residuals are expressions or arrays
    of expressions.
    """

    @functools.cache
    @functools.wraps(function)
    def derive() -> Derivation:
        equations, residuals = function()
        simplified = dict.fromkeys(_simplified(entry) for r in residuals for entry in np.asarray(r, dtype=object).flat)
        statement = " ".join(function.__doc__.split())
        return Derivation(function.__name__, statement, tuple(equations), tuple(simplified))

    return derive


def _simplified(expression) -> sp.Expr:
    expanded = sp.expand(expression)
    if expanded.is_polynomial():
        return expanded
    above, below = sp.fraction(sp.together(expanded))
    return sp.expand(above) / below


def equal(left, right) -> sp.Eq:
    """An equation for display, left as it is."""
    return sp.Eq(left, right, evaluate=False)


def rate(quantity):
    """The symbol of a time derivative, a matrix for a matrix."""
    name = rf"\dot{{{sp.latex(quantity)}}}"
    return sp.MatrixSymbol(name, *quantity.shape) if isinstance(quantity, sp.MatrixSymbol) else sp.Symbol(name)


def matrices(names: str, n: int) -> list[sp.MatrixSymbol]:
    """Named n×n matrices, for display."""
    return [sp.MatrixSymbol(name, n, n) for name in names.split()]


def entries(matrix: sp.MatrixSymbol, symmetric: bool = False) -> np.ndarray:
    """The matrix as an object array of independent symbols (upper triangle mirrored where symmetric)."""
    rows, columns = np.indices(matrix.shape)
    if symmetric:
        rows, columns = np.minimum(rows, columns), np.maximum(rows, columns)
    return np.vectorize(lambda i, j: sp.Symbol(f"{matrix.name}{i}{j}"), otypes=[object])(rows, columns)


def explicit(expression: sp.MatrixExpr, values: dict[sp.MatrixSymbol, np.ndarray]) -> np.ndarray:
    """A displayed matrix expression as the object array of its entries."""
    known = {symbol: sp.ImmutableMatrix(array) for symbol, array in values.items()}
    return np.array(expression.subs(known).doit().as_explicit(), dtype=object)


def along(quantity, state, velocity):
    """d/dt of an expression, or an array of them, when each symbol in `state` moves with its entry of `velocity`."""
    pairs = {v: dv for field, moves in zip(state, velocity) for v, dv in zip(np.ravel(field), np.ravel(moves))}
    return sum(gradient(quantity, v) * dv for v, dv in pairs.items())


def gradient(scalars, symbols):
    """∂scalars/∂symbols, elementwise and broadcast."""
    return np.vectorize(sp.diff, otypes=[object])(scalars, symbols)


def replaced(array, old, new):
    """The array of expressions with the symbols in `old` replaced by the expressions in `new`."""
    values = dict(zip(np.ravel(old), map(sp.sympify, np.ravel(new))))
    return np.vectorize(lambda entry: entry.xreplace(values), otypes=[object])(array)


def rational(expression) -> sp.Expr:
    """With whole numbers and fractions in the place of floats, which flows have in powers."""
    expression = sp.sympify(expression)
    return expression.xreplace({number: sp.Rational(str(number)) for number in expression.atoms(sp.Float)})

"""Every derivation holds for the simulated flows, fails for wrong ones, and prints what it proves."""

import inspect
import json

import numpy as np
import pytest
import sympy as sp

from stopgrad.linear_theory.commands.one_mode import Derive
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.modes import Mode, mode_flow
from stopgrad.linear_theory.symbolic import (
    cosine_derivations,
    derivations,
    matrix_derivations,
    mean_derivations,
    mode_derivations,
)
from stopgrad.linear_theory.symbolic.derivation import Derivation, entries, equal, explicit, gradient, matrices, rate
from stopgrad.linear_theory.symbolic.derivations import DERIVATIONS, derive, latex
from stopgrad.linear_theory.tools import door


@pytest.mark.parametrize("name", DERIVATIONS)
def test_derivation_holds_and_its_latex_is_balanced(name):
    result = derive(name)
    assert result.name == name
    assert result.residual and all(r == 0 for r in result.residual)
    assert result.holds
    assert result.statement and result.equation
    text = latex(name)
    assert text.count("{") == text.count("}") and text.count(r"\left") == text.count(r"\right")
    assert len(text.split(" \\\\\n")) == len(result.equation)


def spoiled(flow, field):
    """The flow with one component too fast by a thousandth."""

    def wrong(*args, **kwargs):
        velocity = flow(*args, **kwargs)
        return velocity._replace(**{field: velocity._asdict()[field] * sp.Rational(1001, 1000)})

    return wrong


def largest_left(name):
    """The largest residual of a derivation at a point, past the cache. What is not zero there simplifies to no zero."""
    _, residuals = inspect.unwrap(DERIVATIONS[name])()
    left = [sp.sympify(entry) for residual in residuals for entry in np.asarray(residual, dtype=object).flat]
    symbols = sorted(set().union(*(entry.free_symbols for entry in left)), key=str)
    point = {symbol: sp.Rational(k + 7, 2 * k + 9) for k, symbol in enumerate(symbols)}
    return max(abs(sp.N(entry.xreplace(point), 30)) for entry in left)


@pytest.mark.parametrize(
    ("module", "flow", "field", "names"),
    [
        (matrix_derivations, "network_flow", "Wp", ["lemma_1", "balance_theorem"]),
        (matrix_derivations, "network_flow", "W", ["lemma_1", "no_stop_gradient", "mirrored_stop_gradient"]),
        (matrix_derivations, "network_flow", "W", ["no_predictor", "balance_theorem"]),
        (matrix_derivations, "network_flow", "Wa", ["lemma_1"]),
        (matrix_derivations, "symmetrised_flow", "F", ["symmetrised_imbalance", "commutator_decay"]),
        (mode_derivations, "mode_flow", "p", ["scalar_network", "mode_balance", "parabola", "jacobian_eigenvalues"]),
        (mode_derivations, "mode_flow", "s", ["scalar_network", "mode_balance", "parabola", "alignment_on_parabola"]),
        (mode_derivations, "ema_mode_flow", "tau", ["ema_mode"]),
        (mode_derivations, "scalar_network_flow", "w", ["scalar_network", "ema_mode"]),
        (mean_derivations, "biased_network_flow", "Wp", ["settled_bias", "centre_modes"]),
        (mean_derivations, "biased_network_flow", "b", ["lemma_1_with_mean", "centre_modes"]),
        (mean_derivations, "cosine_network_flow_at", "W", ["settled_bias_of_the_cosine_loss", "centre_modes"]),
        (mean_derivations, "cosine_centre_flow_at", "v", ["centre_modes"]),
        (cosine_derivations, "cosine_flow_at", "Wp", ["cosine_loss_without_mean"]),
        (cosine_derivations, "cosine_flow_at", "W", ["cosine_loss_without_mean", "cosine_identities"]),
        (cosine_derivations, "sample_cosine_flow", "W", ["cosine_loss_on_a_pair"]),
        (cosine_derivations, "sixth_order_flow", "p", ["sixth_order"]),
    ],
)
def test_derivation_fails_for_a_wrong_flow(monkeypatch, module, flow, field, names):
    monkeypatch.setattr(module, flow, spoiled(getattr(module, flow), field))
    for name in names:
        assert largest_left(name) > 1e-9, name


@pytest.mark.parametrize(
    ("module", "name", "wrong", "names"),
    [
        (mode_derivations, "parabola_flow", lambda p, h: 1.001 * p**2, ["parabola", "time_course"]),
        (cosine_derivations, "mean_cosine", lambda m, finite=True: m.w / (m.u * m.v) ** 0.5, ["finite_width_modes"]),
        (cosine_derivations, "decay_clock", lambda t, eta: t, ["cosine_decay_clock"]),
        (mode_derivations, "balance", lambda state, h: state.s - h.x * state.p**2, ["mode_balance"]),
        (mean_derivations, "with_mean", lambda data, mu: data, ["lemma_1_with_mean"]),
        (matrix_derivations, "predictor_flow", lambda Wp, F, h: h.tau * F - Wp @ F, ["settled_predictor"]),
        (matrix_derivations, "balance_matrix", lambda s, h: s.W @ s.W.mT - s.Wp.mT @ s.Wp, ["balance_theorem"]),
    ],
)
def test_derivation_fails_for_a_wrong_formula(monkeypatch, module, name, wrong, names):
    monkeypatch.setattr(module, name, wrong)
    for derivation in names:
        assert not DERIVATIONS[derivation].__wrapped__().holds, derivation  # past the cache


def test_a_derivation_without_residuals_proves_nothing():
    assert not Derivation("empty", "Nothing is shown.", (), ()).holds


@pytest.mark.parametrize(("sigma2", "eta", "tau", "alpha_p", "x"), [(0.1, 0.04, 1, 1, 1), (0.5, 0.02, 0.7, 3, 0.6)])
def test_displayed_equations_give_the_flows_numbers(sigma2, eta, tau, alpha_p, x):
    """The fixed points as displayed, put into the flow as numbers, stand still; and the spectrum is NumPy's."""
    h = Hyperparameters(sigma2=sigma2, eta=eta, tau=tau, alpha_p=alpha_p, eta_p=2 * eta, x=x)
    values = {"a": h.a, "eta": eta, "tau": tau, "alpha_p": alpha_p, "eta_p": 2 * eta, "x": x}

    def number(expression, **more):
        known = values | more
        return float(expression.subs({v: known[str(v)] for v in expression.free_symbols}))

    p_equation, s_equation = derive("fixed_points").equation[:2]
    p = number(p_equation.rhs)
    s = number(s_equation.rhs, **{"p_+": p})
    np.testing.assert_allclose(mode_flow(Mode(p, s), h), 0, atol=1e-14)

    lam = sp.Symbol("lambda")
    polynomial = derive("jacobian_eigenvalues").equation[0].lhs
    known = {v: (values | {"p": p, "r": 2 * x})[str(v)] for v in polynomial.free_symbols - {lam}}
    roots = np.sort_complex(np.array(sp.Poly(polynomial.subs(known), lam).nroots(), dtype=complex))
    step = 1e-6
    columns = [
        (np.array(mode_flow(Mode(p + dp, s + ds), h)) - mode_flow(Mode(p - dp, s - ds), h)) / (2 * step)
        for dp, ds in ((step, 0), (0, step))
    ]
    np.testing.assert_allclose(np.sort_complex(np.linalg.eigvals(np.stack(columns, axis=-1))), roots, atol=1e-8)


def test_matrix_expressions_become_their_entries():
    A, B = matrices("A B", 2)
    values = {A: entries(A, symmetric=True), B: entries(B)}
    assert values[A][0, 1] == values[A][1, 0] and values[B][0, 1] != values[B][1, 0]
    difference = explicit(A * B - 2 * B.T, values) - (values[A] @ values[B] - 2 * values[B].T)
    assert all(sp.expand(entry) == 0 for entry in difference.flat)
    trace = values[B][0, 0] + values[B][1, 1]
    np.testing.assert_array_equal(gradient(trace, values[B]), np.eye(2, dtype=int))


def test_latex_says_the_equation():
    assert latex("balance_theorem").endswith(r"\dot{C} = - 2 \eta C")
    assert latex("no_predictor") == r"\dot{W} = - W \left(\eta \mathbb{I} + X'\right)"
    assert r"\dot{\tau} =" in latex("ema_mode")
    assert sp.latex(equal(rate(sp.Symbol("eta")), 0)) == r"\dot{\eta} = 0"


def test_unknown_name_is_refused():
    with pytest.raises(ValueError, match="name is 'theorem_9'; it must be all or one of lemma_1, "):
        latex("theorem_9")


def run(*argv):
    commands = {"derive": Derive, "prove": Derive}
    return door.main("linear_theory", "Theory.", commands, ["derive", *argv])


def test_command_prints_one_json_object(capsys, monkeypatch):
    some = ["ema_mode", "parabola", "time_course"]  # of the others every fact is tested above
    monkeypatch.setattr(derivations, "DERIVATIONS", {name: DERIVATIONS[name] for name in some})
    assert run("--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert list(result) == some
    assert all(set(r) == {"statement", "latex", "holds"} and r["holds"] is True for r in result.values())


def test_command_prints_statement_and_latex(capsys):
    assert run("--name", "parabola") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("parabola (holds): Eq. 16: the parabola s = x p²/α_p is invariant")
    assert latex("parabola") in printed


def test_command_says_when_a_derivation_fails():
    command = Derive("parabola")
    assert "parabola (FAILS)" in command.text({"parabola": {"statement": "", "latex": "", "holds": False}})


def test_command_refuses_an_unknown_name(capsys):
    assert run("--name", "theorem_9") == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: name is 'theorem_9'; it must be all or one of ")

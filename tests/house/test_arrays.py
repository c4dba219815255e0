"""Every public function that takes arrays gives for any kind of array, bit for bit, what it gives for a plain copy."""

import importlib
import inspect
import pkgutil
from dataclasses import fields, is_dataclass

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from array_cases import CASES

from stopgrad import linear_theory
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.modes import Mode, mode_flow
from stopgrad.linear_theory.predictors.matrices import correlation, directpred
from stopgrad.linear_theory.simulation.integrate import integrate
from stopgrad.linear_theory.spectra.spectrum import measure, rankme
from stopgrad.linear_theory.tools.arrays import as_array, as_float64, as_int64, as_tensor


def strided(array):
    """Every other entry of a larger array, backwards in every dimension."""
    large = np.zeros([2 * n for n in array.shape], array.dtype)
    view = large[tuple(slice(None, None, -2) for _ in array.shape)]
    view[...] = array
    return view


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def unaligned(array):
    packed = np.zeros(array.shape, np.dtype([("byte", "i1"), ("value", array.dtype)]))
    packed["value"] = array
    return packed["value"]


class Subclass(np.ndarray):
    """An array whose every product is wrong."""

    def __mul__(self, other):
        return np.asarray(self) * other + 1

    __matmul__ = __rmul__ = __mul__


def pandas_object(array):
    return {1: pd.Series, 2: pd.DataFrame}.get(array.ndim, xr.DataArray)(array)


def away(tensor):
    """The same numbers, not next to each other."""
    return torch.stack([tensor, tensor], -1)[..., 0]


# What an array may be: from float64 (whole numbers throughout) to the odd kind, and the plain copy it has to equal.
KINDS = {
    "reversed": (lambda a: np.flip(np.flip(a).copy()), float),
    "strided": (strided, float),
    "fortran": (np.asfortranarray, float),
    "big-endian": (lambda a: a.astype(">f8"), float),
    "big-endian float32": (lambda a: a.astype(">f4"), np.float32),
    "float16": (lambda a: strided(a.astype(">f2")), np.float16),
    "long double": (lambda a: a.astype(np.longdouble), float),
    "int8": (lambda a: a.astype(np.int8), float),
    "int32": (lambda a: strided(a.astype(np.int32)), float),
    "big-endian int64": (lambda a: a.astype(">i8"), float),
    "objects": (lambda a: np.array(a.tolist(), object), float),
    "whole objects": (lambda a: a.astype(int).astype(object), float),
    "lists": (lambda a: a.tolist(), float),
    "read-only": (read_only, float),
    "unaligned": (unaligned, float),
    "subclass": (lambda a: a.view(Subclass), float),
    "masked, nothing hidden": (lambda a: np.ma.array(a, mask=np.zeros(a.shape, bool)), float),
    "xarray": (xr.DataArray, float),
    "pandas": (pandas_object, float),
}

# Public functions without a gate. Equations, in plain operators, and the inner parts of what has one:
INNER = {
    "stopgrad.linear_theory.spectra.alignment": "commutator alignment_operator alignment_operator_mode",
    "stopgrad.linear_theory.exact.basin": "border_slope saddle_slope",
    "stopgrad.linear_theory.exact.centre": "optimal_bias decentring chance_m_o_squared unbiased_m_o_squared "
    "largest_m_o infonce_residual",
    "stopgrad.linear_theory.exact.closed_loop": "inflation growth_rate closed_loop_flow optimal_regression_flow",
    "stopgrad.linear_theory.exact.discrete": "weights_flow mode_step",
    "stopgrad.linear_theory.samples.linear_siamese": "descend",
    "stopgrad.linear_theory.flows.matrices": "symmetric_part online_force target_force network_flow predictor_flow "
    "symmetrised_flow balance_matrix",
    "stopgrad.linear_theory.flows.modes": "mode_flow ema_mode_flow scalar_network_flow parabola_flow balance mode_of "
    "balanced_mode_flow scaled",
    "stopgrad.linear_theory.flows.mean": "with_mean biased_network_flow cosine_network_flow cosine_network_flow_at "
    "network_norms cosine_mode_flow mode_norms centre_flow cosine_centre_flow cosine_centre_flow_at centre_norms",
    "stopgrad.linear_theory.flows.cosine": "cosine_norms cosine_flow cosine_flow_at sample_cosine_flow",
    "stopgrad.linear_theory.flows.cosine_modes": "products moments mean_cosine pull finite_width_mode_flow pair_flow "
    "finite_width_pair_flow",
    "stopgrad.linear_theory.flows.sixth_order": "sixth_order_flow shrinking_flow",
    "stopgrad.linear_theory.sweeps.cosine_problem": "pair_outcome level_outcome rivals_outcome",
    "stopgrad.linear_theory.sweeps.centre_problem": "centre_length mean_share cosine_outcome survivors",
    "stopgrad.linear_theory.exact.nonisotropic": "tied_flow predictorless_flow",
    "stopgrad.linear_theory.predictors.matrices": "full_precision identity_like",
    "stopgrad.linear_theory.spectra.moments": "merge singular_values float64_of rounding_of",
    "stopgrad.linear_theory.simulation.fate": "judge decide",
    "stopgrad.linear_theory.simulation.last_layer": "course forecast tracking foreseen allowed halves "
    "settles falls_at falls_by",
    "stopgrad.linear_theory.simulation.outcomes": "mode_outcome",
    "stopgrad.linear_theory.simulation.trajectory": "solve",
    "stopgrad.linear_theory.simulation.stiff": "solve",
}
# What takes no arrays, or only a network's own:
NO_ARRAYS = {
    "stopgrad.linear_theory.sweeps.axes": "parse_axis make_axis",
    "stopgrad.linear_theory.sweeps.centre_problem": "centre_sample",
    "stopgrad.linear_theory.sweeps.cosine_problem": "cosine_sample mode_share",
    "stopgrad.linear_theory.sweeps.known_flows": "known_flow known_sample",
    "stopgrad.linear_theory.exact.cosine_recipe": "predict",
    "stopgrad.linear_theory.exact.contrast": "grip",
    "stopgrad.linear_theory.simulation.outcomes": "threshold",
    "stopgrad.linear_theory.sweeps.flow_problem": "name_of",
    "stopgrad.linear_theory.spectra.white_noise": "white_noise_spectrum",
    "stopgrad.linear_theory.exact.unit_map": "predict",
    "stopgrad.deep.measuring.evaluation": "evaluating unnoticed representations raw_pixels evaluate for_table "
    "pixel_knn default_k",
    "stopgrad.deep.measuring.probe": "supervised_reference class_indices",
    "stopgrad.deep.measuring.monitor": "to_host",
    "stopgrad.deep.measuring.weights": "balance_applies",
    "stopgrad.deep.measuring.units": "recipe_of units time_of_run",
}
MACHINERY = (
    "allocator arrays one_mode phase rules derivation derivations door exports files hyperparameters kernel records "
    "garbage kernel_source matrix_derivations names "
    "mean_derivations mode_derivations cosine_derivations translate "
    "other_flows origin errors kept recording runge_kutta threads processes __main__"
)


NUMPY_ONLY = {
    "exact.fixed_points.discriminant",
    "exact.fixed_points.rest_points",
    "exact.unit_map.to_theory",
    "exact.unit_map.to_recipe",
}  # refuse a record of tensors


def of(name):
    module, function = name.rsplit(".", 1)
    return getattr(importlib.import_module(module), function)


def full_name(name):
    return f"stopgrad.{name}" if name.startswith("deep.") else f"stopgrad.linear_theory.{name}"


def public_functions(module):
    found = vars(importlib.import_module(module)).items()
    return {
        f"{module}.{name}"
        for name, value in found
        if inspect.isfunction(value) and value.__module__ == module and not name.startswith("_")
    }


def numbers(result, name="result"):
    """(path, array) of every array and number in a result, except how long it took."""
    if isinstance(result, dict):
        items = result.items()
    elif isinstance(result, xr.Dataset):
        items = [*result.variables.items(), ("attrs", result.attrs)]
    elif isinstance(result, xr.Variable):
        items = [("values", result.values)]
    elif is_dataclass(result):
        items = [(field.name, getattr(result, field.name)) for field in fields(result)]
    elif isinstance(result, (tuple, list)):
        items = enumerate(result)
    else:
        yield name, result.detach().numpy() if isinstance(result, torch.Tensor) else np.asarray(result)
        return
    for key, value in items:
        if key != "seconds":
            yield from numbers(value, f"{name}.{key}")


def answer(name, arrays):
    """The numbers of the result, or the sentence in which the arrays are refused."""
    call, _ = CASES[name]
    torch.manual_seed(0)
    try:
        return dict(numbers(call(of(full_name(name)), *arrays)))
    except ValueError as refusal:
        return str(refusal)


def same(found, expected):
    if isinstance(expected, str) or isinstance(found, str):
        assert found == expected
        return
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key].dtype == value.dtype, key
        np.testing.assert_array_equal(found[key], value, key, strict=value.dtype.kind != "O")


@pytest.mark.parametrize("name", CASES)
def test_any_kind_of_array_is_as_good_as_a_plain_copy(name):
    """All kinds in one test: thousands of tests of a millisecond take longer to be handed out than to run."""
    _, arrays = CASES[name]
    plain = {
        dtype: answer(name, [np.array(a, dtype, order="C") for a in arrays]) for dtype in {d for _, d in KINDS.values()}
    }
    for kind, (make, dtype) in KINDS.items():
        try:
            same(answer(name, map(make, arrays)), plain[dtype])
        except Exception as error:
            error.add_note(f"given as {kind}")
            raise


@pytest.mark.parametrize("name", sorted(CASES.keys() - NUMPY_ONLY))
def test_a_tensor_whose_entries_lie_apart_is_as_good_as_a_plain_one(name):
    _, arrays = CASES[name]
    plain = [torch.tensor(a.copy()) for a in arrays]
    same(answer(name, map(away, plain)), answer(name, plain))


@pytest.mark.parametrize("name", CASES)
def test_the_user_s_arrays_stay_as_they_are(name):
    _, arrays = CASES[name]
    given = [a.copy() for a in arrays]
    answer(name, given)
    for before, after in zip(arrays, given):
        np.testing.assert_array_equal(before, after)


def test_every_public_function_is_in_the_list_or_known_to_take_no_arrays():
    modules = [
        m.name
        for m in pkgutil.walk_packages(linear_theory.__path__, "stopgrad.linear_theory.")
        if not m.ispkg and m.name.rpartition(".")[2] not in MACHINERY.split()
    ]
    modules += [
        "stopgrad.deep.measuring.evaluation",
        "stopgrad.deep.measuring.probe",
        "stopgrad.deep.measuring.monitor",
        "stopgrad.deep.measuring.weights",
        "stopgrad.deep.measuring.units",
    ]
    without = {f"{module}.{name}" for part in (INNER, NO_ARRAYS) for module in part for name in part[module].split()}
    assert set().union(*map(public_functions, modules)) == set(map(full_name, CASES)) | without


# ---------------------------------------------------------------- what the gate lets in, and what not


def test_a_big_endian_array_keeps_its_64_bits():
    Z = np.random.default_rng(3).normal(size=(50, 6))
    expected = Z.T @ Z / 50
    for kind in (Z.astype(">f8"), Z.astype(np.longdouble), Z.astype(object), Z.tolist()):
        found = correlation(kind)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)
    whole = np.round(10 * Z)
    np.testing.assert_allclose(correlation(whole.astype(">i2")), whole.T @ whole / 50, rtol=1e-14)
    assert correlation(torch.tensor(whole).int()).dtype == torch.float64
    assert correlation(Z.astype(">f4")).dtype == correlation(Z.astype(np.float16)).dtype == np.float32


def test_trajectories_and_hyperparameters_may_run_backwards():
    p0, eta = np.linspace(0.01, 0.2, 5), np.linspace(0.05, 0.2, 5)
    forwards = integrate(mode_flow, Mode(p0, p0**2), Hyperparameters(eta=eta), t=20.0)
    backwards = integrate(mode_flow, Mode(p0[::-1], (p0**2)[::-1]), Hyperparameters(eta=eta[::-1]), t=20.0)
    np.testing.assert_array_equal(backwards.state.p, forwards.state.p[::-1])


def test_whole_numbers_of_few_bits_do_not_overflow_in_hyperparameters():
    h = Hyperparameters(sigma2=np.array([255], np.uint8), eta=np.float32(0.1), tau=[1, 1])
    assert h.a == 256 and h.eta.dtype == float and h.tau.dtype == float


REFUSED = {
    "masked": np.ma.array(np.eye(3), mask=np.eye(3) == 1),
    "complex": np.eye(3) * 1j,
    "complex tensor": torch.eye(3) * 1j,
    "text": np.array([["1"] * 3] * 3),
    "objects": np.array([[object()] * 3] * 3),
    "dates": np.zeros((3, 3), "M8[s]"),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("gate", [as_array, as_float64, as_tensor, correlation, directpred, rankme, measure, as_int64])
def test_what_is_no_array_of_real_numbers_is_refused_in_a_sentence(gate, kind):
    with pytest.raises(ValueError, match=r"masked entries|real number|whole numbers"):
        gate(REFUSED[kind])


def test_what_is_plain_already_is_not_copied():
    array, tensor = np.ones((3, 4)), torch.ones(3, 4)
    assert as_array(tensor) is tensor and np.shares_memory(as_tensor(array).numpy(), array)
    assert np.shares_memory(as_array(array), array) and np.shares_memory(as_float64(array), array)
    assert as_float64(2).shape == as_array([[2]])[0, 0].shape == ()


def test_a_tensor_keeps_its_graph_and_leaves_it_for_numpy():
    x = torch.ones(2, 3, requires_grad=True)
    correlation(x).sum().backward()
    assert x.grad.abs().sum() > 0
    np.testing.assert_array_equal(as_float64(x.mT.bfloat16()), np.ones((3, 2)))


@pytest.mark.parametrize("kind", ["int8", ">i4", "uint16", "uint64", "bool", "object"])
def test_whole_numbers_of_any_dtype(kind):
    values = np.array([[1, 0], [1, 1]])
    for given in (values.astype(kind), values.astype(kind)[::-1, ::-1][::-1, ::-1], pd.DataFrame(values.astype(kind))):
        found = as_int64(given)
        assert found.dtype == np.int64 and found.flags.c_contiguous
        np.testing.assert_array_equal(found, values)
    with pytest.raises(ValueError, match="whole numbers"):
        as_int64([0.5])
    with pytest.raises(ValueError, match="below 2⁶³"):
        as_int64(np.array([2**64 - 1], np.uint64))

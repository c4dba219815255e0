"""All fixed points along one parameter, with their stability: the data of a bifurcation diagram.

Every branch is known in closed form at every value, so none is followed by continuation and none can be lost at a fold.
Stability comes from the automatic Jacobian of the very flow that is simulated.
"""

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from stopgrad.linear_theory.exact.fixed_points import fixed_points
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.modes import EmaMode, Mode, ema_mode_flow, mode_flow
from stopgrad.linear_theory.tools.arrays import as_float64, as_tensor
from stopgrad.linear_theory.tools.errors import BadInput

if TYPE_CHECKING:
    import xarray as xr

BRANCHES = ("collapsed", "minus", "plus")
VERDICTS = {"unstable": 0, "stable": 1, "marginal": 2, "absent": -1}
"""The int8 of `stable`. Marginal: the linearisation does not decide. Absent: no such fixed point at this value."""

_MARGINAL = 1e-12  # a growth rate this small beside the largest eigenvalue is rounding


class Stability(NamedTuple):
    """Of a d-dimensional state: Jacobian (…, d, d), eigenvalues (…, d) sorted by real part, verdict (…) in VERDICTS."""

    jacobian: np.ndarray
    eigenvalues: np.ndarray
    verdict: np.ndarray


def stability(flow, state, *args, event_dims: int = 0) -> Stability:
    """Linear stability of any flow at `state`, from its Jacobian by automatic differentiation.

    flow(state, *args) → its rate of change, in torch; `state` a NamedTuple of arrays that broadcast against each other
    and the hyperparameters, whose last `event_dims` axes belong to one element (0 for modes, 2 for matrices) and the
    others to the batch. The coordinates are the fields, flattened, in their order. The verdict is about the
    linearisation alone; NaN anywhere gives "absent".

    >>> from stopgrad.linear_theory import Hyperparameters, Mode, mode_flow
    >>> found = stability(mode_flow, Mode(0.0, 0.0), Hyperparameters(eta=0.1))  # p decays at η, s at 2η
    >>> sorted(found.eigenvalues.real.round(6).tolist())
    [-0.2, -0.1]
    """
    import torch

    args = tuple(map(_tensors, args))
    state = _tensors(state)
    make, rates = type(state), flow(state, *args)
    batch = torch.broadcast_shapes(*(v.shape[: v.ndim - event_dims] for v in (*state, *rates)))
    event = [v.shape[v.ndim - event_dims :] for v in state]
    state = [v.expand(batch + e) for v, e in zip(state, event)]
    sizes = [e.numel() for e in event]

    def vector_field(*parts):
        return tuple(v.expand(batch + e) for v, e in zip(flow(make(*parts), *args), event))

    _, pull_back = torch.func.vjp(vector_field, *state)

    def row(direction):
        cotangents = tuple(v.reshape(e).expand(batch + e) for v, e in zip(direction.split(sizes), event))
        return torch.cat([v.reshape(*batch, size) for v, size in zip(pull_back(cotangents), sizes)], dim=-1)

    # One pass a coordinate serves the whole batch: its elements do not see each other.
    jacobian = torch.stack([row(e) for e in torch.eye(sum(sizes), dtype=torch.float64)], dim=-2).numpy()
    known = np.isfinite(jacobian).all(axis=(-2, -1))
    values = np.linalg.eigvals(np.where(known[..., None, None], jacobian, 0.0)).astype(complex)
    values = np.where(known[..., None], np.sort(values, axis=-1), np.nan)
    growth, scale = values.real[..., -1], np.abs(values).max(axis=-1)
    verdict = np.select(
        [~known, np.abs(growth) <= _MARGINAL * scale, growth < 0],
        [VERDICTS["absent"], VERDICTS["marginal"], VERDICTS["stable"]],
        VERDICTS["unstable"],
    )
    return Stability(jacobian, values, verdict.astype(np.int8))


def branches(parameter: str, values, h: Hyperparameters, flow: Literal["mode", "ema"] = "mode") -> "xr.Dataset":
    """Fixed points of the mode flow (τ fixed) or the EMA mode flow (τ free) for every value of one parameter.

    parameter: a field of `Hyperparameters`; values: 1-D; h: the other parameters, numbers. Dimensions
    (parameter, branch): `p`, `s`, with EMA `tau`; `stable` (VERDICTS as CF flags); `eigenvalues`, with dimensions
    (…, eigenvalue, part), part real or imaginary, so that any NetCDF reader can hold them. NaN where absent.

    With EMA the alive branches have τ = 1. The collapsed one has τ = β/(β − η), since the target lags behind a
    shrinking encoder; for β ≤ η it lags ever further and the branch is absent though collapse remains.

    Raises ValueError for an unknown parameter, one that the flow does not have, values or hyperparameters out of range.

    >>> from stopgrad.linear_theory import Hyperparameters
    >>> found = branches("eta", [0.16, 0.3], Hyperparameters(sigma2=0.0))
    >>> found.p.sel(branch="plus").values.round(12)  # above η_c = ¼ there is none
    array([0.8, nan])
    """
    import xarray as xr

    if flow not in _FLOWS:
        raise BadInput(f"flow is {flow!r}; it must be 'mode' or 'ema'")
    names = [f.name for f in fields(Hyperparameters) if f.name != _ABSENT_PARAMETER[flow]]
    if parameter not in names:
        raise BadInput(f"parameter is {parameter!r}; the {flow} flow has {', '.join(names)}")
    values = as_float64(values, "values")
    if values.ndim != 1 or values.size == 0:
        raise BadInput(f"values have shape {values.shape}; they must be a list of at least one number")
    h = h.replace(**{parameter: values[:, None]}).validate()
    many = [f.name for f in fields(h) if f.name != parameter and np.ndim(getattr(h, f.name))]
    if many:
        raise BadInput(f"{many[0]} is an array; everything but {parameter} must be one number")
    function, states = _FLOWS[flow]
    state = states(h)
    found = stability(function, state, h)

    dims = (parameter, "branch")
    flags = {"flag_values": np.array(list(VERDICTS.values()), np.int8), "flag_meanings": " ".join(VERDICTS)}
    parts = np.stack([found.eigenvalues.real, found.eigenvalues.imag], axis=-1)
    others = {k: float(v) for k, v in vars(h).items() if k in names and k != parameter and v is not None}
    return xr.Dataset(
        {name: (dims, value) for name, value in state._asdict().items()}
        | {"stable": (dims, found.verdict, flags), "eigenvalues": ((*dims, "eigenvalue", "part"), parts)},
        coords={parameter: values, "branch": list(BRANCHES), "part": ["real", "imaginary"]},
        attrs={"flow": function.__name__} | others,
    )


def _modes(h: Hyperparameters) -> Mode:
    """p and s, each (values, branches)."""
    points = fixed_points(h.replace(beta=None))  # which they do not depend on
    zero = np.zeros_like(points.p_plus)
    columns = (zero, points.p_minus, points.p_plus), (zero, points.s_minus, points.s_plus)
    shape = np.broadcast_shapes(*(np.shape(v) for v in vars(h).values() if v is not None))
    return Mode(*(np.concatenate([np.broadcast_to(v, shape) for v in column], axis=1) for column in columns))


def _ema_modes(h: Hyperparameters) -> EmaMode:
    if h.beta is None or not np.all(h.beta > 0):
        raise BadInput("beta must be above 0 for the ema flow; a target that never moves is flow='mode' with its tau")
    alive = _modes(h.replace(tau=np.ones(())))
    surplus = np.broadcast_to(h.beta - h.eta, alive.p[:, :1].shape)
    lag = np.divide(h.beta, surplus, out=np.full(surplus.shape, np.nan), where=surplus > _MARGINAL * h.beta)
    tau = np.concatenate([lag, np.where(np.isnan(alive.p[:, 1:]), np.nan, 1.0)], axis=1)
    return EmaMode(*(np.where(np.isnan(tau), np.nan, v) for v in alive), tau)


_FLOWS = {"mode": (mode_flow, _modes), "ema": (ema_mode_flow, _ema_modes)}
_ABSENT_PARAMETER = {"mode": "beta", "ema": "tau"}


def _tensors(record: Any):
    """Arrays and numbers, inside NamedTuples and hyperparameters too, as float64 tensors; anything else unchanged."""
    import torch

    if isinstance(record, tuple):
        return type(record)(*map(_tensors, record))
    if isinstance(record, Hyperparameters):
        return record.map(_tensors)
    number = isinstance(record, (int, float, list)) or hasattr(record, "__array__")
    return as_tensor(record, dtype=torch.float64) if number else record

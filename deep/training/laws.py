"""A run's last layer held against Lemma 1: what it reads and weighs, kept as it trains, and at the end every law.

`linear_theory.simulation.last_layer` has the two readings: a forecast by X and X′ of the start, held as they are, and
tracking, by X and X′ as they were measured all along (Tian, Chen & Ganguli 2021, Lemma 1, Theorems 1 to 3).
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from stopgrad.deep.config import Config
from stopgrad.deep.data import views
from stopgrad.deep.data.batch import Batch
from stopgrad.deep.data.datasets import Dataset
from stopgrad.deep.data.fold import fold
from stopgrad.deep.data.orders.setting import Setting, shares
from stopgrad.deep.measuring.evaluation import unnoticed
from stopgrad.deep.measuring.units import Noise, units
from stopgrad.deep.method.siamese import Siamese
from stopgrad.deep.storage.run_folder import LAWS
from stopgrad.deep.storage.table import Columns, read
from stopgrad.linear_theory.flows.matrices import Correlations, Network, Switches, symmetric_part
from stopgrad.linear_theory.samples.views import nearest_psd
from stopgrad.linear_theory.simulation import last_layer
from stopgrad.linear_theory.tools.errors import BadInput

_VIEWS = int.from_bytes(b"laws")
LARGEST = 512
"""Numbers that the last layer may read, or give: the flow of more would take hours."""
NEAREST = 1e-3
"""In directions with singular values below this part of the largest no predictor is seen to act."""
EARLY = 10
"""The reading `early` knows the first of so many parts of the run."""
_FOLLOWED_BY = 2.0
"""A collapse is timed over the time in which the forecast's tr F falls by e^−2."""


# ---------------------------------------------------------------- while it trains


def inputs_of_last_layer(siamese: Siamese, batches: Iterable[Batch]) -> list[torch.Tensor]:
    """What the projector's last layer sees of the batches' first two views, (N, n) each: the theory's x₁ and x₂."""
    return _around_last_layer(siamese, batches)[0]


@torch.no_grad()
def _around_last_layer(siamese: Siamese, batches: Iterable[Batch]) -> tuple[list[torch.Tensor], torch.Tensor]:
    """What it sees of both views, (N, n) each, and their embeddings, (2N, d)."""
    seen, z = [], []
    with unnoticed(siamese.online) as online:
        hook = online.projector.last.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
        with hook:
            for batch in batches:
                z += [online(x) for x in batch.views[:2]]
    return [torch.cat(seen[view::2]) for view in (0, 1)], torch.cat(z)


def new_views(config: Config, dataset: Dataset, device, dtype: torch.dtype) -> Callable[[], Iterator[Batch]]:
    """Batches of images of the first epoch, `monitor.knn_images` at most, in views that the run never draws."""
    setting = Setting.of(config, dataset.train.labels)
    setting = replace(setting, epochs=max(1, setting.epochs))  # without training, what a first epoch would see
    most = max(1, min(setting.steps_per_epoch, config.monitor.knn_images // config.optimisation.batch_size))

    def batches() -> Iterator[Batch]:
        asked = (batch for _, batch in zip(range(most), shares(config.data.order, setting)))
        made = views.batches(dataset, config.data, fold(_VIEWS, config.seed), asked, device, 2)
        return (batch.to(dtype) for batch in made)

    return batches


@torch.no_grad()
def look(siamese: Siamese, batches: Iterable[Batch]) -> dict[str, np.ndarray]:
    """X and X′ of what the last layer reads, its W and the predictor's W_p, each flattened, float32.

    Raises ValueError where the layer is larger than `LARGEST`.

    A bias is one more column of W, and reads a one. In place of a predictor that is no matrix stands the one that comes
    nearest to it: least squares from embeddings to predictions.
    """
    last = siamese.online.projector.last
    if max(last.in_features, last.out_features) > LARGEST:
        raise BadInput(
            f"--laws-every follows the projector's last layer, here from {last.in_features} to {last.out_features} "
            f"numbers; it is for {LARGEST} at most"
        )
    inputs, z = _around_last_layer(siamese, batches)
    first, second = (v.double() for v in inputs)
    W = last.weight.detach().double()
    if last.bias is not None:
        first, second = (torch.cat([v, torch.ones_like(v[:, :1])], 1) for v in (first, second))
        W = torch.cat([W, last.bias.detach().double()[:, None]], 1)
    X = nearest_psd(symmetric_part(first.mT @ second / len(first)))  # what is negative is sampling error
    Xp = (first - second).mT @ (first - second) / (2 * len(first))
    Wp = _matrix(siamese, z)
    return {name: v.flatten().float().cpu().numpy() for name, v in (("X", X), ("Xp", Xp), ("W", W), ("Wp", Wp))}


def _matrix(siamese: Siamese, z: torch.Tensor) -> torch.Tensor:
    """W_p, or where there is none the matrix nearest to the predictor on these embeddings, (N, d)."""
    if (Wp := siamese.predictor.matrix()) is not None:
        return Wp.double()
    with unnoticed(siamese.predictor) as predictor:
        p = predictor(z)
    return (torch.linalg.pinv(z.double(), rtol=NEAREST) @ p.double()).mT


# ---------------------------------------------------------------- at its end


def switches_of(config: Config) -> Switches:
    """What of Lemma 1 the run turns on or off; a predictor of two layers counts as a matrix that learns."""
    method = config.method
    return Switches(method.target.in_theory, method.objective.stop_gradient, method.predictor.in_theory)


def hold(config: Config, folder: Path) -> dict:
    """Every law of the run in `folder`: as measured, forecast, and tracked, and as its first tenth lets expect (early).

    balance: the largest residual of Theorem 1; half_time: when ‖[F, W_p]‖/(‖F‖‖W_p‖) has halved; modes: how many live
    at the end; settles: when tr F stays within a tenth of its last value; fall: −d ln tr F/dt over `followed`, the time
    in which the forecast's falls by e²; critical: the weight decay beyond which no mode lives, in units of the flow, as
    forecast from the start and, as tracked, at the end; leading: s₁ at the end; size: by how much ln tr F has fallen in
    all; dies: when tr F has fallen by e². Times are the theory's; None where one never comes. Raises ValueError where
    the views have nothing in common.
    """
    return compare(config, read(folder / LAWS))


def compare(config: Config, seen: Columns) -> dict:
    """`hold`, of the table: a scalar `time` and the arrays of `look`."""
    t = seen.scalars["time"]
    whole, data = _matrices({name: series.values for name, series in seen.arrays.items()})
    X, Xp = data
    h, switches = units(config, Noise(0.0, 1.0)), switches_of(config)
    start, at_start = Network(*(v[0] for v in whole)), Correlations(X[0], Xp[0])
    along = last_layer.course(t, whole, X, h)
    held = _held(data)
    flow = last_layer.forecast(t, start, at_start, h, switches)
    readings = {"forecast": (last_layer.course(t, flow, X[0], h), at_start)}
    readings["tracking"] = readings["forecast"]
    if not held:
        flow = last_layer.tracking(t, start, data, h, switches)
        readings["tracking"] = (last_layer.course(t, flow, X, h), Correlations(X[-1], Xp[-1]))
    if 0 < (until := len(t) // EARLY) < len(t) - 1:
        readings["early"] = _early(t, whole, data, until, h, switches)
    followed = _followed(readings["forecast"][0])
    free = _free_of_norm(config)
    told = {"eta": float(h.eta), "t_end": float(t[-1]), "followed": followed}
    told["measured"] = _laws(along, Correlations(X[-1], Xp[-1]), h, followed, free) | {"critical": None}
    told |= {name: _laws(found, data, h, followed, free) for name, (found, data) in readings.items()}
    return told


def of_early(config: Config, t, known: dict[str, np.ndarray]) -> dict:
    """The laws as a run's first rows let expect them over all its times `t`; the rows are flattened as `look` has them.

    Raises ValueError where the views have nothing in common.
    """
    weights, data = _matrices(known)
    t, h, until = np.asarray(t, float), units(config, Noise(0.0, 1.0)), len(weights.W) - 1
    found, at_end = _early(t, weights, data, until, h, switches_of(config))
    told = _laws(found, at_end, h, _followed(found), _free_of_norm(config))
    return told | {"eta": float(h.eta), "t_end": float(t[-1])}


def _matrices(rows: dict[str, np.ndarray]) -> tuple[Network, Correlations]:
    """Weights and correlations, (k, …), of rows flattened by `look`."""
    n, d = (math.isqrt(rows[name].shape[1]) for name in ("X", "Wp"))
    shapes = {"X": (n, n), "Xp": (n, n), "W": (d, n), "Wp": (d, d)}
    found = {name: rows[name].reshape(-1, *shape).astype(float) for name, shape in shapes.items()}
    return Network(found["Wp"], found["W"], found["W"]), Correlations(found["X"], found["Xp"])


def _held(data: Correlations) -> bool:
    """Whether X and X′ stay as they are, since nothing before the layer learns."""
    return all(bool((v == v[0]).all()) for v in data)


def _early(t, weights: Network, data: Correlations, until: int, h, switches: Switches):
    """(course, X and X′ at its end) where all is known up to t[until] and goes on from there by Lemma 1."""
    known = Correlations(*(v[: until + 1] for v in data))
    state, rest = Network(*(v[until] for v in weights)), t[until:] - t[until]
    on = last_layer.foreseen(t, known, until, h)
    if _held(known):
        on = Correlations(*(np.broadcast_to(v[0], (len(t), *v.shape[1:])) for v in known))
        flow = last_layer.forecast(rest, state, Correlations(on.X[0], on.Xp[0]), h, switches)
    else:
        flow = last_layer.tracking(rest, state, Correlations(*(v[until:] for v in on)), h, switches)
    path = Network(*(np.concatenate([seen[:until], then]) for seen, then in zip(weights, flow)))
    return last_layer.course(t, path, on.X, h), Correlations(on.X[-1], on.Xp[-1])


def _free_of_norm(config: Config) -> bool:
    """Whether the loss sees no norm, so that a mode lives by its share and not by its size."""
    return config.method.objective.theory == "cosine"


def _followed(found: last_layer.Course) -> float:
    """The time in which tr F falls by e², or all of it."""
    fallen = np.flatnonzero(found.size <= found.size[0] * math.exp(-_FOLLOWED_BY))
    return float(found.t[max(int(fallen[0]), 1)] if len(fallen) else found.t[-1])


def _laws(found: last_layer.Course, data: Correlations, h, followed: float, free_of_norm: bool) -> dict:
    """The laws of a course. Under a loss that sees no norm a mode lives by its share of tr F, a hundredth."""
    may = last_layer.allowed(data, h, found.s.shape[1])
    floor = found.size[-1] / 100 if free_of_norm else may.floor
    # of what has died by twenty decades, weights in float32 have no direction and no balance left
    gone = np.flatnonzero(found.size <= 1e-20 * found.size[0])
    there = slice(0, max(1, int(gone[0])) if len(gone) else len(found.t))
    return {
        "balance": float(found.balance[there].max()),
        "half_time": last_layer.halves(found.t[there], found.misalignment[there]),
        "modes": None if np.isnan(found.s[-1]).any() else int((found.s[-1] > floor).sum()),
        "allowed": may.modes,
        "settles": last_layer.settles(found.t, found.size),
        "fall": last_layer.falls_at(found.t, found.size, followed),
        "critical": may.critical,
        "leading": float(found.s[-1, 0]),
        "size": last_layer.falls_at(found.t, found.size, found.t[-1]) * float(found.t[-1] - found.t[0]),
        "dies": last_layer.falls_by(found.t, found.size, math.exp(_FOLLOWED_BY)),
    }

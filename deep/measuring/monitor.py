"""What a training step shows of collapse and alignment: statistics of one batch's embeddings and of the predictor.

`measure` is a pure function of tensors that stays on their device; `to_host` brings its result over in one transfer.
Statistics of directions are those of both views' normalised vectors taken together, Z = z/‖z‖ = o + r (Zhang et al.
2022), so that m_o, m_r, the channels' std and the ranks all describe one covariance, of trace 1 − m_o²; norms are in
the trace. `BalanceResidual` holds the last layer of the projector to Theorem 1 of Tian, Chen & Ganguli 2021, and
`follow_target` holds an EMA target's last layer to their assumption A1.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from stopgrad.deep.config import Config
from stopgrad.deep.words.expectation import recipe_of
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.matrices import Network, symmetric_part
from stopgrad.linear_theory.flows.unit_map import to_theory
from stopgrad.linear_theory.predictors.matrices import correlation, full_precision, identity_like
from stopgrad.linear_theory.spectra.alignment import asymmetry, balance_residual, eigenvector_alignment, misalignment
from stopgrad.linear_theory.spectra.eigen import eigh, eigvalsh
from stopgrad.linear_theory.spectra.spectrum import variance_effective_rank
from stopgrad.linear_theory.tools.arrays import as_tensor
from stopgrad.linear_theory.tools.lengths import MATRIX, directions, length, magnitude

DECOMPOSED_UP_TO = 512
"""Largest d whose spectra are taken at every measurement: `eigh` grows as d³, past a step's time soon after."""


class Measurement(NamedTuple):
    """Numbers by name, 0-d tensors, and spectra by name, 1-D tensors; what does not apply is absent, never NaN."""

    scalars: dict[str, torch.Tensor]
    arrays: dict[str, torch.Tensor]


@torch.no_grad()
@full_precision
def measure(z, p, target, Wp=None, F=None, full: bool = False) -> Measurement:
    """Statistics of a batch: z, p and target are both views' embeddings, predictions and target embeddings, (2, B, d).

    Wp: (d, d), the matrix of a linear predictor; F: (d, d), the correlation its modes are those of, by default the
    uncentred one of both views' z. Half precision is promoted to float32. Scalars, for z and for p (`…_p`):

    - trace_z: E‖z‖², the trace of F; m_o_z, m_r_z: ‖o‖ and E‖r‖ of the normalised vectors (Zhang et al. §3);
    - std_z: mean over channels of their std (population), times √d: 1 for a uniform direction, 0 for a single one;
    - rank_z: centred effective rank, exp of the entropy of their covariance's eigenvalues; participation_z:
      (tr C)²/‖C‖²_F, at most rank_z and free of a decomposition; rank_ceiling: min(B − 1, d), the rank of B images
      whose views agree (views that do not may have up to twice as much);
    - covariance_z: Σ_{i≠j} C_ij²/d (the term of VICReg, here of directions and C being the mean over all 2B);
    - cosine_views: mean cos(z₁, z₂); cosine_prediction: mean cos(p₁, t₂), cos(p₂, t₁);
    - with Wp: commutator ‖[F, W_p]‖, misalignment (the same, free of scale), asymmetry, and predictor_negative,
      Σ|min(λ, 0)|/Σ|λ| over the eigenvalues λ of W_p's symmetric part, 0 where it is positive semi-definite. Tian et
      al.'s Fig. 2 shows W_p becoming symmetric and its negative eigenvalues vanish.

    Arrays: eigenvalues of F, falling; spectrum_z, spectrum_p: of the centred covariances; with Wp: alignment
    cos(u_j, W_p u_j) and predictor_spectrum u_jᵀW_p u_j. Above d = 512 arrays, ranks and predictor_negative are there
    only if `full`. Entries that are not finite make NaN, never an exception. Over several processes, give it the
    gathered batch. Raises ValueError for shapes that do not match.

    >>> import torch
    >>> z = torch.eye(4).expand(2, 4, 4)  # two views of four images
    >>> found = measure(z, z, -z).scalars
    >>> float(found["trace_z"]), float(found["cosine_views"]), float(found["cosine_prediction"])
    (1.0, 1.0, -1.0)
    """
    z, p, target = as_tensor(z, "z"), as_tensor(p, "p"), as_tensor(target, "target")
    if z.ndim != 3 or len(z) != 2 or not z.shape == p.shape == target.shape:
        shapes = ", ".join(str(tuple(v.shape)) for v in (z, p, target))
        raise ValueError(f"z, p and target are {shapes}; they must be of one shape (2, batch, d)")
    kind = z.dtype if z.dtype == torch.float64 else torch.float32
    z, p, target = (v.to(kind) for v in (z, p, target))
    decomposed = full or z.shape[-1] <= DECOMPOSED_UP_TO

    Z, P, T = (directions(v) for v in (z, p, target))
    scalars = {
        "cosine_views": (Z[0] * Z[1]).sum(dim=-1).mean(),
        "cosine_prediction": (P * T.flip(0)).sum(dim=-1).mean(),
        "rank_ceiling": torch.full((), min(z.shape[1] - 1, z.shape[2]), dtype=kind, device=z.device),
    }
    arrays = {}
    for name, vectors, unit in (("z", z, Z), ("p", p, P)):
        found = _cloud(vectors.flatten(0, 1), unit.flatten(0, 1), decomposed)
        scalars |= {f"{key}_{name}": value for key, value in found.scalars.items()}
        arrays |= {f"{key}_{name}": value for key, value in found.arrays.items()}
    if Wp is None and not decomposed:
        return Measurement(scalars, arrays)
    unit = 1.0
    if F is None:  # of embeddings too short to be squared, in a unit in which they are not
        unit = magnitude(z, (0, 1, 2)).clamp(max=1).reshape(())
        F = correlation((z / unit).flatten(0, 1), check=False)
    F = as_tensor(F, "F", dtype=kind)
    found = _modes(F, None if Wp is None else as_tensor(Wp, "Wp", dtype=kind), decomposed, unit**2)
    return Measurement(scalars | found.scalars, arrays | found.arrays)


def to_host(measurement: Measurement) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """The measurement as numbers and NumPy arrays, in one transfer from the device."""
    scalars, arrays = measurement
    values = torch.cat([torch.stack(list(scalars.values())), *arrays.values()]).cpu()
    numbers, *spectra = values.split([len(scalars), *(len(v) for v in arrays.values())])
    return dict(zip(scalars, numbers.tolist())), {name: v.numpy() for name, v in zip(arrays, spectra)}


def _cloud(v, unit, decomposed: bool) -> Measurement:
    """Norm, centre and spread of vectors (N, d), `unit` being their directions."""
    centre = unit.mean(dim=0)
    rest = unit - centre
    variance = rest.square().mean(dim=0)
    # ‖C‖ is that of the smaller of the two products; C itself is for its eigenvalues only.
    square = ((rest @ rest.mT if len(rest) < rest.shape[1] else rest.mT @ rest) / len(rest)).square().sum()
    scalars = {
        "trace": v.square().sum(dim=-1).mean(),
        "m_o": centre.norm(),
        "m_r": rest.norm(dim=-1).mean(),
        "std": variance.sqrt().mean() * v.shape[-1] ** 0.5,
        "participation": variance.sum() ** 2 / torch.where(square > 0, square, torch.ones_like(square)),
        "covariance": (square - variance.square().sum()).clamp(min=0) / v.shape[-1],
    }
    if not decomposed:
        return Measurement(scalars, {})
    sound, (C,) = _sound(correlation(unit, centred=True, check=False))
    spectrum = eigvalsh(C).flip(0).clamp(min=0)
    some = spectrum[0] > 0  # a cloud of rank 0 has no spectrum to take the entropy of
    rank = variance_effective_rank(torch.where(some, spectrum, torch.ones_like(spectrum)).sqrt()).to(C.dtype) * some
    return Measurement(scalars | _blank({"rank": rank}, sound), _blank({"spectrum": spectrum}, sound))


def _modes(F, Wp, decomposed: bool, unit) -> Measurement:
    """Spectrum of F, which is given in this unit, and how W_p stands to F's eigenvectors."""
    sound, (F, W) = _sound(F, identity_like(F) if Wp is None else Wp)
    scalars, arrays = {}, {}
    if Wp is not None:
        relative = misalignment(W, F)
        size = length(W, MATRIX) * length(F, MATRIX)
        scalars = {"commutator": relative * size * unit, "misalignment": relative, "asymmetry": asymmetry(W)}
    if decomposed:
        values, U = eigh(F)
        arrays = {"eigenvalues": values.flip(0) * unit}
        if Wp is not None:
            arrays["alignment"] = eigenvector_alignment(W, F).cosine
            arrays["predictor_spectrum"] = (U * (W @ U)).sum(dim=0).flip(0)
            scalars["predictor_negative"] = _negative_share(eigvalsh(symmetric_part(W)))
    return Measurement(_blank(scalars, sound), _blank(arrays, sound))


def _negative_share(values):
    """Σ|min(λ, 0)|/Σ|λ|, and 0 where all λ are 0."""
    size = values.abs().sum()
    return values.clamp(max=0).abs().sum() / torch.where(size > 0, size, torch.ones_like(size))


def _sound(*matrices):
    """Whether all entries are finite, a 0-d tensor, and the matrices, or identities where they are not: `eigh` and the
    measures of alignment refuse NaN, by an exception that would hide the diagnosis."""
    sound = torch.stack([m.isfinite().all() for m in matrices]).all()
    return sound, [torch.where(sound, m, identity_like(m)) for m in matrices]


def _blank(found: dict, sound) -> dict:
    """NaN in place of all numbers unless `sound`."""
    return {name: torch.where(sound, value, torch.nan) for name, value in found.items()}


# ---------------------------------------------------------------- an EMA target's last layer


@torch.no_grad()
@full_precision
def follow_target(weight, bias, target_weight, target_bias) -> dict[str, torch.Tensor]:
    """How an EMA target stands to the network it follows: W = [W b] and W_a = [W_a b_a], a last layer each.

    target_correlation: cos(W_a, W) = ⟨W_a, W⟩/(‖W_a‖‖W‖), which Tian, Chen & Ganguli 2021 show in Fig. 7 for their
    assumption A1, W_a = τW; target_ratio: ⟨W_a, W⟩/⟨W, W⟩, that τ where A1 holds and its least-squares estimate where
    not. Both are 0 where W is. weights (d, n), biases (d,) or both None; 0-d tensors of the weights' dtype.
    """
    W, Wa = _with_bias(weight, bias).flatten(), _with_bias(target_weight, target_bias).flatten()
    size = magnitude(W)  # so that the square of a W that has nearly died does not underflow
    unit = W / size
    return {
        "target_correlation": (directions(Wa) * directions(W)).sum(),
        "target_ratio": (Wa / size * unit).sum() / unit.square().sum().clamp(min=torch.finfo(W.dtype).tiny),
    }


# ---------------------------------------------------------------- Theorem 1 on the last layer of the projector


def balance_applies(config: Config) -> str | None:
    """Why Theorem 1 does not hold for the projector's last layer in this run, in a sentence; None where it does.

    z = W̃φ, p = W_p z for any φ of the layers before and any loss of (p, target), squared or cosine: its two sides are
    −W_pᵀE[gφᵀ]W̃ᵀ + … alike. A bias of the predictor changes nothing in that, and neither does an EMA target.
    """
    method, o = config.method, config.optimisation
    if method.projector_output_bn != "none":
        return "BatchNorm follows the projector's last layer (--projector-output-bn none would be needed)"
    if method.predictor != "linear":
        return f"the predictor is {method.predictor}, not a linear one learned by its own gradient (--predictor linear)"
    if method.isoloss:
        return "IsoLoss does not send its gradient through the predictor"
    if method.stop_gradient != "target":
        return "the embedding learns through the target too, or only through it (--stop-gradient target)"
    if o.predictor_schedule == "constant" and (o.schedule != "constant" or o.warmup_epochs > 0):
        return "α_p, the ratio of the two learning rates, changes along the schedule (--predictor-schedule same)"
    h, _ = to_theory(recipe_of(config))
    if h.eta_p is not None:
        return (
            f"the predictor decays at η_p = {h.eta_p:.3g} per unit of time and the encoder at η = {h.eta:.3g}; the two "
            "agree where learning rate times weight decay is the same for both (--predictor-weight-decay)"
        )
    return None


@dataclass(frozen=True)
class BalanceResidual:
    """How far C(t) = W̃W̃ᵀ − W_pᵀW_p/α_p is from Theorem 1's e^{−2ηt}C(0), relative to its two terms.

    W̃ = [W b] is the projector's last layer with its bias as one more column. Zero in the flow; in
    training of first order in the learning rate, lr/(1 − m), and in the loss's slope, steep for a short p and cosine.
    """

    initial: Network
    """W_p and W̃ before the first step: to be kept in checkpoints."""
    h: Hyperparameters
    """α_p and η of the run."""

    @staticmethod
    def start(config: Config, weight, bias, Wp) -> "BalanceResidual":
        """From the weights before the first step: weight (d, n), bias (d,) or None, Wp (d, d).

        Raises ValueError where Theorem 1 does not apply.
        """
        reason = balance_applies(config)
        if reason is not None:
            raise ValueError(f"Theorem 1 does not apply: {reason}")
        return BalanceResidual(_network(weight, bias, Wp), to_theory(recipe_of(config))[0])

    @torch.no_grad()
    def at(self, time: float, weight, bias, Wp):
        """The residual of the present weights, a 0-d tensor, `time` = Σ c·lr/(1 − m) over the steps so far.

        With coupled decay η = wd/c, so ηt = wd Σ lr/(1 − m) whatever the loss's scale c, and c enters nowhere else. The
        config's `loss_scale` is c, counted against ½‖p − t‖²; the cosine loss is ½‖P − T‖² − 1, so there too.
        """
        weight = as_tensor(weight, "weight")
        time = torch.full((), time, dtype=weight.dtype, device=weight.device)
        with torch.autocast(weight.device.type, enabled=False):
            return balance_residual(_network(weight, bias, Wp), self.initial, time, self.h)


def _network(weight, bias, Wp) -> Network:
    """A copy of the layers as Theorem 1 sees them; it does not look at the target's weights."""
    W = _with_bias(weight, bias).detach()
    return Network(as_tensor(Wp, "Wp").detach().clone(), W.clone(), W)


def _with_bias(weight, bias):
    """W̃ = [W b], the bias, if there is one, as one more column."""
    weight = as_tensor(weight, "weight")
    return weight if bias is None else torch.cat([weight, as_tensor(bias, "bias").detach()[:, None]], dim=1)

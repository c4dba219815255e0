"""Whether the projector's last layer keeps to the theory: Theorem 1 of Tian, Chen & Ganguli 2021, and an EMA target's
assumption A1.
"""

from dataclasses import dataclass

import torch

from stopgrad.deep.config import Config
from stopgrad.deep.measuring.units import recipe_of
from stopgrad.linear_theory.exact.unit_map import to_theory
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.matrices import Network
from stopgrad.linear_theory.predictors.matrices import full_precision
from stopgrad.linear_theory.spectra.alignment import balance_residual
from stopgrad.linear_theory.tools.arrays import as_tensor
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.lengths import directions, magnitude

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
    if not method.predictor.balanced:
        return f"the predictor is {method.predictor}, not a linear one learned by its own gradient (--predictor linear)"
    if (reason := method.objective.unbalanced() or method.target.unbalanced()) is not None:
        return reason
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
            raise BadInput(f"Theorem 1 does not apply: {reason}")
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

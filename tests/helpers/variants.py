"""The objectives of Zhang et al. 2022 with their options, and a small network under any of them."""

import torch

from stopgrad.deep.config import Method
from stopgrad.deep.data.batch import Batch
from stopgrad.deep.method.siamese import Siamese

B, D = 12, 5
VARIANTS = {
    "cross-entropy": {"loss": "cross_entropy"},
    **{f"components {k}": {"objective": "components", "keep": k} for k in ("both", "centre", "residual", "none")},
    **{f"direction {k}": {"objective": "direction", "toward": k} for k in ("centre", "residual", "random", "view")},
    **{f"infonce {k}": {"objective": "infonce", "stopped_keys": k} for k in ("none", "negatives", "all")},
    **{f"triplet {k}": {"objective": "triplet", "keep": k} for k in ("both", "centre", "residual")},
    **{
        f"decorrelation {f} {e}": {"objective": "decorrelation", "form": f, "embeddings": e}
        for f in ("covariance", "correlation")
        for e in ("normalised", "raw")
    },
    "schedule": {"objective": "schedule", "phases": ("direction toward=random@1", "triplet@1"), "repeat": True},
}


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def network(seed=0, **fields):
    """BatchNorm and ReLU in the projector, no output BatchNorm, so that embeddings have a mean direction."""
    torch.manual_seed(seed)
    small = {"backbone": "linear", "width": 6, "embedding_dim": D, "projector_layers": 2, "projector_hidden": 11}
    return Siamese(Method.of(**small | {"predictor": "mlp"} | fields), 7).double().train()


def batch(step=0, images=B):
    return Batch(tuple(draw(2, images, 7, seed=1)), torch.arange(images), torch.zeros(images, dtype=torch.int64), step)


def slopes(siamese, loss):
    """The gradient at all weights, 0 where it does not arrive."""
    weights = [w for w in siamese.parameters() if w.requires_grad]
    found = torch.autograd.grad(loss, weights, retain_graph=True, materialize_grads=True)
    return torch.cat([v.flatten() for v in found])


def trained(given=None, **fields):
    """Loss and gradient of a network with this objective."""
    siamese = network(**fields)
    loss = siamese(given or batch()).loss
    return loss.detach(), slopes(siamese, loss)


def close(a, b, tolerance=1e-12):
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance)

"""Networks of a few numbers in float64, and batches for them."""

import torch

from stopgrad.deep.config import Method
from stopgrad.deep.data.batch import Batch
from stopgrad.deep.method.siamese import Siamese

SMALL = {"backbone": "mlp", "width": 7, "projector_hidden": 6, "embedding_dim": 4, "predictor": "mlp"}


def siamese(**fields):
    torch.manual_seed(0)
    narrow = {"predictor_hidden": 5} if "predictor" not in fields else {}
    return Siamese(Method.of(**SMALL | narrow | fields), 9).double().train()


def batch(views=2, images=10, seed=1):
    draw = torch.Generator().manual_seed(seed)
    return Batch.of(*torch.randn(views, images, 9, generator=draw, dtype=torch.float64))


def close(a, b, tolerance=1e-12):
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance)

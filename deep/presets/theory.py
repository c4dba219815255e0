"""The theory's own setting."""

from stopgrad.deep.config import Config, Data, Method, Optimisation, change
from stopgrad.deep.presets.default import DEFAULT

# Linear predictor, nothing but a linear layer behind the projector's last normalisation, squared error, equal decay.
LINEAR_THEORY = change(DEFAULT, loss="squared", lr=0.02, predictor_lr=None, weight_decay=0.01, schedule="constant")

# The theory itself: Gaussian points of known X and X′ through one linear layer.
LINEAR_GAUSSIAN = Config(
    data=Data(dataset="gaussian"),
    method=Method.of(backbone="identity", projector_layers=1, embedding_dim=32, loss="squared"),
    optimisation=Optimisation(epochs=40, batch_size=256, lr=0.02, momentum=0.0, weight_decay=0.01, schedule="constant"),
)
PRESETS = {"linear-theory": LINEAR_THEORY, "linear-gaussian": LINEAR_GAUSSIAN}

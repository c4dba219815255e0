"""What a method's parts build, by themselves."""

from stopgrad.deep.method.outputs import Outputs


def backbone(method, in_features=None):
    """The backbone's network."""
    return method.backbone.build(in_features)


def predictor(method):
    """The predictor's network."""
    return method.predictor.build(method.embedding_dim)


def objective(method):
    """(z, p, target) → the loss, its scale included."""
    return lambda z, p, target: method.loss_scale * method.objective(Outputs(z, p, target=target))

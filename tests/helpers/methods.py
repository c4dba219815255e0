"""What a method's parts build, by themselves."""

from stopgrad.deep.method.outputs import Outputs
from stopgrad.deep.parts import override, seats_of


def backbone(method, in_features=None):
    """The backbone's network."""
    return method.backbone.build(in_features)


def predictor(method):
    """The predictor's network."""
    return method.predictor.build(method.embedding_dim)


def objective(method):
    """(z, p, target) → the loss, its scale included."""
    return lambda z, p, target: method.loss_scale * method.objective(Outputs(z, p, target=target))


def each_choice(record):
    """The record of this class as it is by default, with every choice at every seat, one after the other."""
    for seat in seats_of(record):
        for name in seat.choices:
            yield override(record(), {seat.name: name})
    if not seats_of(record):
        yield record()

"""The predictor and its learned inverse on the target's side."""

from collections.abc import Iterator
from dataclasses import dataclass

from stopgrad.deep.kinds import Target


@dataclass(frozen=True)
class Inverse(Target):
    """The prediction sent back by a learned inverse of the predictor (Zhang et al. 2022).

    Their Fig. 2c and Algorithm 5. In one step three networks learn, each by a loss of its own that reaches no other:

    - the predictor h from embeddings without gradient, to predict the other view's: −cos(h(sg z_a), sg z_b);
    - its inverse h⁻¹, of the same build, from predictions without gradient, to give back the same view's embedding:
      −cos(h⁻¹(sg p_a), sg z_a);
    - the encoder by the objective, with p_a against h⁻¹(p_b), h being held fixed: −cos(p_a, sg h⁻¹(p_b)).

    Each is the mean over both views; Algorithm 5 prints the last without the ½ of its second term. That of the encoder
    alone is multiplied by the loss's scale. The inverse has the predictor's learning rate and weight decay.

    >>> from stopgrad.deep import Config, change
    >>> change(Config(), target="inverse", predictor="mlp").method.target.unbalanced()
    'the predictor learns by a loss of its own (--target inverse)'
    """

    learns = False

    def build(self, online, predictor, method):
        """Another predictor of the same build, with weights of its own."""
        from stopgrad.deep.method.targets.networks import InverseTarget

        return InverseTarget(method.predictor.build(method.embedding_dim), predictor)

    def complaints(self, config) -> Iterator[str]:
        """h must learn by gradient, and by cosines."""
        predictor = config.method.predictor
        if predictor.is_set or not predictor.learns:
            yield f"--target inverse undoes a predictor that learns by gradient, like mlp; not {predictor}"
        if config.method.objective.theory == "squared":
            yield "--target inverse learns by cosines, which say nothing of lengths; it does not go with squared error"

    def unbalanced(self) -> str:
        """h does not share the encoder's loss."""
        return "the predictor learns by a loss of its own (--target inverse)"

    def expects(self, setting) -> list[str]:
        """What Zhang et al. saw."""
        return [
            "With the predictor undone on the target's side no collapse is to be expected: Zhang et al. saw it follow "
            "SimSiam (Fig. 3: 65.5 % against 66.6 % on CIFAR-100)."
        ]

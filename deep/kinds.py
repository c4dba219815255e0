"""What each kind of part computes: the five seats' interfaces, of which every part in `deep.seats` is one."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from stopgrad.deep.parts import Part

if TYPE_CHECKING:
    import torch
    from torch import nn

    from stopgrad.deep.data.batch import Batch
    from stopgrad.deep.data.orders.setting import Setting
    from stopgrad.deep.method.outputs import Outputs


class Backbone(Part):
    """A network with `out_features` as attribute, (B, …) to (B, out_features)."""

    vectors = True
    """Whether it takes points as well as images, each flattened to numbers."""
    identity = False
    """Whether the representation is the view itself."""

    def build(self, in_features: int | None = None) -> "nn.Module":
        """The network; `in_features`: how many numbers a view has."""
        raise NotImplementedError

    def small(self, pixels: int) -> bool:
        """Whether one thread trains it faster than several, for views of so many pixels."""
        return True

    def complaints(self, config) -> Iterator[str]:
        """Points are for those that take them."""
        if config.data.dataset == "gaussian" and not self.vectors:
            yield f"--backbone {self} needs images; with --dataset gaussian use mlp, linear or identity"


class Predictor(Part):
    """Learned, set, frozen or absent."""

    learns = True
    """Whether the optimiser has something in it to train."""
    is_set = False
    """Whether it follows from the embeddings, at every step or at some."""
    linear = False
    """Whether p = W_p z."""
    balanced = False
    """Whether p = W_p z (+ b) learns by its own gradient alone, as Theorem 1 of Tian, Chen & Ganguli 2021 has it."""
    absent = False
    """Whether p = z."""
    in_theory: Literal["learned", "symmetrised", "fixed"] | None = None
    """Which predictor of Lemma 1 it is, or the matrix that comes nearest to it; None: none."""

    def build(self, d: int) -> "nn.Module":
        """A `deep.method.networks.PredictorNetwork` or its like, for embeddings of d dimensions."""
        raise NotImplementedError

    def expects(self, setting) -> list[str]:
        """What is to be expected with stop-gradient at the target, in sentences; none where nothing is known.

        `setting` is a `deep.words.expectation.Setting`.
        """
        return []


class Target(Part):
    """From a batch, and what the online network made of it, to target embeddings.

    A target with weights of its own builds a `deep.method.networks.TargetNetwork`; others are what they build.
    """

    views = 0
    """Views that it wants beside those that the online network sees, for itself alone."""
    ema_momentum: float | None = None
    """γ of a moving average of the online network; None where it is none."""
    learns = True
    """Whether gradients could pass through it to the online network."""
    in_theory: Literal["shared", "ema"] | None = None
    """Which target of Lemma 1 it is; None: none."""
    spared = False
    """Whether a step does without it where nothing reads what it gives: for one that has a cost and adds no terms."""

    def wanted(self, objective: "Objective", predictor: Predictor) -> bool:
        """Whether a step of this objective asks it. One that does not is that of `--target shared`, running statistics
        included: each view's own embedding stands for its target, and no BatchNorm sees what nothing reads."""
        return objective.compares or predictor.is_set or not self.spared

    def build(self, online, predictor, method):
        """What computes it: called as below, with `after_step`.

        `online` and `predictor` are the networks, with the weights that they start from; `method` is the config's
        `Method`, of which `method.predictor.build(method.embedding_dim)` is another predictor of the same kind.
        """
        return self

    def __call__(self, batch: "Batch", seen: "Outputs", online) -> "Outputs":
        """`seen` with its `target` filled in, (V, B, d), the target embedding of each view; terms may be added too."""
        raise NotImplementedError

    def after_step(self, online, outputs: "Outputs") -> None:
        """Called after every step of the optimiser, with what this process's images gave in it, all parts together."""

    def unbalanced(self) -> str | None:
        """Why Theorem 1 of Tian, Chen & Ganguli 2021 does not hold beside it, in a sentence's words; None: it does."""
        return None

    def expects(self, setting) -> list[str] | None:
        """What is to be expected whatever the predictor, in sentences; None: that is for the predictor to say.

        `setting` is a `deep.words.expectation.Setting`. It is asked where the objective has nothing to say.
        """
        return None


class Objective(Part):
    """From what a batch gave to a loss: a function of it and of the fields, without weights or memory."""

    views = 2
    """Views that the online network sees; a target may ask for more."""
    compares = True
    """Whether it reads the target; where not, none is computed."""
    whole_batch = False
    """Whether it compares images with each other: then no batch comes in parts, and processes gather theirs first."""
    isoloss = False
    """Whether the gradient at the prediction acts on the embedding itself."""
    theory: Literal["squared", "cosine"] | None = None
    """Which of the losses that the linear theory speaks of it is; None: neither."""
    in_theory = False
    """Whether Lemma 1 has it, and its `stop_gradient` says which gradients are stopped."""

    def at(self, step: int) -> "Objective":
        """The objective of a step, counted from 0: itself, unless it changes during a run."""
        return self

    def __call__(self, outputs: "Outputs") -> "torch.Tensor":
        """The loss, a 0-d tensor, of `outputs`, whose z, p and target are (V, B, d); its own loss is not there yet."""
        raise NotImplementedError

    def scalars(self, outputs: "Outputs") -> dict[str, "torch.Tensor"]:
        """More numbers to be recorded with a step, 0-d tensors by name."""
        return {}

    def unbalanced(self) -> str | None:
        """Why Theorem 1 of Tian, Chen & Ganguli 2021 does not hold under it, in a sentence's words; None: it does."""
        return f"nothing is known of it under --objective {self}"

    def expects(self, setting) -> list[str] | None:
        """What is to be expected whatever the predictor, in sentences; None: that is for the predictor to say.

        `setting` is a `deep.words.expectation.Setting`.
        """
        return []


class Order(Part):
    """In which order a run visits its images."""

    def at(self, setting: "Setting", step: int) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Indices of a step's images and the visits' numbers, int64 (batch_size,) each, on the CPU.

        A pure function, asked for any step from 0. A visit's number says how often the image's turn has come before, so
        that no (index, visit) occurs twice: each visit has views of its own. An image may occur twice in a step.
        Raises ValueError, at step 0 too, for a setting in which the order is impossible.
        """
        raise NotImplementedError

    def restart(self, epochs: int) -> int:
        """The epoch of a run of so many at which the schedule of learning rates begins anew; 0: none does."""
        return 0

"""How a framework names what is in a checkpoint: data, from which a network is rebuilt without the framework's code."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Layout:
    """Beginnings of names in a checkpoint, each of which may have alternatives; the first that occurs is meant.

    Names of tensors in nested dictionaries have dots between the keys: 'state_dict.backbone.conv1.weight'. 'module.'
    and '_orig_mod.', which parallel and compiled modules add, are taken away before. What follows the backbone's
    beginning are torchvision's names of a ResNet, perhaps after `renamed`; a head has numbered layers as
    `torch.nn.Sequential` has them, of which those without weights are ReLUs.
    """

    name: str
    source: str
    """Whose, and where it can be read."""
    within: tuple[str, ...]
    """What the names of all weights begin with; the rest of the file (optimiser, epoch) does not matter."""
    backbone: tuple[str, ...]
    projector: tuple[str, ...] = ()
    predictor: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    """What is no part of the online network: targets, queues, classifiers."""
    renamed: tuple[dict[str, str], ...] = field(default=({},))
    """What is put for a regular expression in the backbone's names, to make them torchvision's: alternatives."""
    small_padding: int = 1
    """Padding of the first convolution where it is a 3×3 one, for small images; no pooling follows it then."""

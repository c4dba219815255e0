"""A network rebuilt from the weights in a checkpoint: a ResNet, and the heads behind it as far as they are given."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch
from torch import nn

from stopgrad.deep.measuring.collapse.files import read_tensors
from stopgrad.deep.measuring.evaluation import evaluating
from stopgrad.deep.measuring.layouts.layout import Layout
from stopgrad.deep.measuring.layouts.layouts import LAYOUTS
from stopgrad.deep.seats import BACKBONES
from stopgrad.linear_theory.tools.errors import BadInput

State = Mapping[str, torch.Tensor]

_STAGES = ("layer1", "layer2", "layer3", "layer4")
_FIRST = ("conv1.weight", *(f"{stage}.0.conv1.weight" for stage in _STAGES))
"""Names that every ResNet has."""
_STEMS = {7: "imagenet", 3: "cifar"}
_COUNTER = "num_batches_tracked"
"""A number that evaluation does not need, and that older files lack."""


@dataclass(frozen=True)
class Rebuilt:
    """A network in eval mode, and what is known of it."""

    backbone: nn.Module
    projector: nn.Sequential | None
    predictor: nn.Sequential | None
    words: str
    """What the backbone is."""
    notes: tuple[str, ...] = ()
    """What could not be rebuilt."""

    def matrix(self) -> torch.Tensor | None:
        """W_p (d, d) of a linear predictor, or None."""
        layers = list(self.predictor or ())
        linear = len(layers) == 1 and isinstance(layers[0], nn.Linear)
        return layers[0].weight.detach() if linear and len(set(layers[0].weight.shape)) == 1 else None

    @torch.no_grad()
    def features(self, batches: Iterable[torch.Tensor], device: torch.device | str = "cpu") -> dict[str, torch.Tensor]:
        """Representations, and where there are such heads embeddings and predictions, (N, d) each, by space.

        `batches`: normalised images (n, 3, H, W) on `device`, where the network is put and the features stay.
        """
        heads = {"embedding": self.projector, "prediction": self.predictor}
        found: dict[str, list[torch.Tensor]] = {}
        modules = nn.ModuleList(module for module in (self.backbone, *heads.values()) if module is not None).to(device)
        with evaluating(modules):
            for batch in batches:
                x = self.backbone(batch)
                found.setdefault("representation", []).append(x)
                for space, head in heads.items():
                    if head is not None:
                        x = head(x)
                        found.setdefault(space, []).append(x)
        return {space: torch.cat(parts) for space, parts in found.items()}


def rebuild(path: Path | str, layout: Layout) -> Rebuilt:
    """The network whose weights are in the file, of tensors and numbers alone; no code in it is run.

    Raises BadInput for a file that cannot be read, of another layout, or with names or shapes that no ResNet has.

    >>> import tempfile, torchvision
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save(torchvision.models.resnet18().state_dict(), f"{folder}/mine.pt")
    ...     found = rebuild(f"{folder}/mine.pt", LAYOUTS["torchvision"])
    >>> found.words, found.features([torch.zeros(2, 3, 32, 32)])["representation"].shape
    ('resnet18 of width 64, stem for large images', torch.Size([2, 512]))
    """
    tensors = {name.replace("_orig_mod.", "").replace("module.", ""): v for name, v in read_tensors(path).items()}
    parts = _parts(tensors, layout)
    if parts is None:
        fit = [name for name, other in LAYOUTS.items() if _parts(tensors, other)]
        instead = f"it looks like {' or '.join(fit)}" if fit else f"it has {_listed(tensors) or 'no tensors'}"
        wanted = " or ".join(prefix + _FIRST[1] for prefix in layout.backbone)
        raise BadInput(f"{path} is not laid out as {layout.name}, which has {wanted}; {instead}")
    if unknown := parts["unknown"]:
        raise BadInput(f"{path} has names that the layout {layout.name} does not know: {_listed(unknown)}")
    backbone, words = _backbone(parts["backbone"], layout, path)
    projector, lost = _head(parts["projector"], "projector")
    predictor, also = (None, None) if lost else _head(parts["predictor"], "predictor")
    _refuse_misfit(backbone, projector, predictor, path)
    return Rebuilt(backbone, projector, predictor, words, tuple(filter(None, (lost, also))))


# ---------------------------------------------------------------- which name is whose


def _parts(tensors: State, layout: Layout) -> dict[str, dict[str, torch.Tensor]] | None:
    """{part: {name in it: tensor}}, also of those that are ignored and unknown; None where there is no backbone."""
    for within in layout.within:
        state = {name.removeprefix(within): v for name, v in tensors.items() if name.startswith(within)}
        for start in layout.backbone:
            for renamed in layout.renamed:
                parts = _sorted(state, layout, start)
                parts["backbone"] = {_renamed(name, renamed): v for name, v in parts["backbone"].items()}
                if all(name in parts["backbone"] for name in _FIRST):
                    return parts
    return None


def _sorted(state: State, layout: Layout, backbone: str) -> dict[str, dict[str, torch.Tensor]]:
    """By the longest beginning that fits."""
    starts = {backbone: "backbone"} | dict.fromkeys(layout.ignored, "ignored")
    for part in ("projector", "predictor"):
        starts |= dict.fromkeys(getattr(layout, part), part)
    parts: dict = {part: {} for part in ("backbone", "projector", "predictor", "ignored", "unknown")}
    for name, value in state.items():
        start = max((s for s in starts if name.startswith(s)), key=len, default=None)
        part = "unknown" if start is None else starts[start]
        parts[part][name.removeprefix(start or "")] = value
    return parts


def _renamed(name: str, pieces: dict[str, str]) -> str:
    for old, new in pieces.items():
        name = re.sub(old, new, name)
    return name


# ---------------------------------------------------------------- the network


def _backbone(state: State, layout: Layout, path) -> tuple[nn.Module, str]:
    """A ResNet of any width and depth, as names and shapes tell, and what it is."""
    from stopgrad.deep.method.backbones.resnet_network import ResNetwork  # here, as it brings torchvision

    width, channels, kernel = *state["conv1.weight"].shape[:2], state["conv1.weight"].shape[-1]
    if channels != 3 or kernel not in _STEMS:
        shape = tuple(state["conv1.weight"].shape)
        raise BadInput(f"{path}: conv1 is {shape}; ResNets that are read here begin with 7×7 or 3×3 from 3 channels")
    block = "bottleneck" if "layer1.0.conv3.weight" in state else "basic"
    numbers = [{int(found[1]) for name in state if (found := re.match(rf"{s}\.(\d+)\.", name))} for s in _STAGES]
    depths = tuple(len(stage) for stage in numbers)
    network = ResNetwork(block, depths, width, _STEMS[kernel], zero_init_residual=False)
    if kernel == 3:
        network.conv1.padding = (layout.small_padding,) * 2
    wanted = {name: v for name, v in network.state_dict().items() if not name.endswith(_COUNTER)}
    given = {name: v for name, v in state.items() if not name.endswith(_COUNTER)}
    for what, names in (("lacks", wanted.keys() - given.keys()), ("has the unknown", given.keys() - wanted.keys())):
        if names:
            raise BadInput(f"{path} {what} {_listed(sorted(names))}, for a ResNet of {block} blocks {depths}")
    for name, value in wanted.items():
        if given[name].shape != value.shape:
            shapes = f"{tuple(given[name].shape)}, where width {width} has {tuple(value.shape)}"
            raise BadInput(f"{path}: {name} is {shapes}; only ResNets of a plain width are read")
    network.load_state_dict(given, strict=False)
    size = "large" if kernel == 7 else "small"
    return network.float().eval(), f"{_known_as(block, depths)} of width {width}, stem for {size} images"


def _known_as(block: str, depths: tuple[int, ...]) -> str:
    for name, where in BACKBONES.items():
        module, kind = where.split(":")
        found = getattr(import_module(module), kind)
        if (getattr(found, "block", None), getattr(found, "depths", None)) == (block, depths):
            return name
    return f"ResNet of {'-'.join(map(str, depths))} {block} blocks"


def _head(state: State, what: str) -> tuple[nn.Sequential | None, str | None]:
    """Linear layers and BatchNorm by their numbers, a ReLU where a number has no weights; or None, and why."""
    layers: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in state.items():
        found = re.fullmatch(r"(?:(\d+)\.)?(weight|bias|running_mean|running_var|num_batches_tracked)", name)
        if found is None:
            return None, f"The {what} is not rebuilt: {name} is of no sequence of linear layers and BatchNorm."
        layers.setdefault(int(found[1] or 0), {})[found[2]] = value
    if not layers:
        return None, None
    built = [_layer(layers[k]) if k in layers else nn.ReLU() for k in range(max(layers) + 1)]
    if None in built:
        return None, f"The {what} is not rebuilt: layer {built.index(None)} is neither linear nor BatchNorm."
    return nn.Sequential(*built).float().eval(), None


def _layer(own: State) -> nn.Module | None:
    if "running_mean" in own and "running_var" in own:
        layer: nn.Module = nn.BatchNorm1d(len(own["running_mean"]), affine="weight" in own)
    elif "weight" in own and own["weight"].ndim == 2:
        layer = nn.Linear(*reversed(own["weight"].shape), bias="bias" in own)
    else:
        return None
    layer.load_state_dict(own, strict=False)
    return layer


def _refuse_misfit(backbone, projector, predictor, path) -> None:
    """Raise BadInput for heads that do not fit what is before them."""
    width = backbone.out_features
    for what, head in (("projector", projector), ("predictor", predictor)):
        if head is None:
            continue
        linear = [layer for layer in head if isinstance(layer, nn.Linear)]
        if not linear or linear[0].in_features != width:
            raise BadInput(f"{path}: the {what} takes no {width} numbers, which is what comes before it")
        width = linear[-1].out_features


def _listed(names) -> str:
    names = sorted(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

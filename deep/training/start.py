"""A run that starts where another one ended: from its final weights, with an optimiser at rest."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from stopgrad.deep.config import Config, Method
from stopgrad.deep.data.image_files import digest
from stopgrad.deep.method.siamese import Siamese
from stopgrad.deep.storage import checkpoint
from stopgrad.deep.storage.run_folder import CONFIG, read_summary, whole_summary
from stopgrad.linear_theory.tools.errors import BadInput


def final_weights(folder: Path | str) -> dict[str, torch.Tensor]:
    """The state of the whole network at the end of the finished run in `folder`, on the CPU.

    Raises ValueError where there is no finished run, or one that diverged, or no whole checkpoint.
    """
    if read_summary(folder)["state"] == "diverged":
        raise BadInput(f"the run in {folder} diverged; there are no final weights")
    found = checkpoint.load_latest(folder, (Path(folder) / CONFIG).read_text(encoding="utf-8"))
    if found is None:
        raise BadInput(f"{folder} holds no checkpoint that can be read")
    return found.payload["siamese"]


@dataclass(frozen=True, eq=False)
class Start:
    """Weights to start from, and where they come from."""

    weights: dict[str, torch.Tensor]
    """State of a whole network, as `Siamese.state_dict` has it."""
    origin: dict[str, str]
    """The run's folder as it was named, and the weights' digest."""

    def put_into(self, siamese: Siamese, method: Method) -> None:
        """Give `siamese` the weights: of the online network all, of predictor and target where they are built alike.

        What is not loaded starts anew; a target that is a copy of the online network starts as one of what was loaded.
        Raises ValueError where backbone or projector are others.
        """
        theirs, mine = _shapes(self._of("online")), _shapes(siamese.online.state_dict())
        for name in sorted(theirs.keys() | mine.keys()):
            there, here = (shapes.get(name, "not there") for shapes in (theirs, mine))
            if there != here:
                raise BadInput(
                    f"--start-from {self.origin['run']} has another backbone or projector: {name} is {there} in it and "
                    f"{here} in this run"
                )
        siamese.online.load_state_dict(self._of("online"))
        if self._fits(siamese.predictor, "predictor"):
            siamese.predictor.load_state_dict(self._of("predictor"))
        if isinstance(siamese.target, nn.Module):
            again = method.target.build(siamese.online, siamese.predictor, method)
            siamese.target = again.to(next(siamese.online.parameters()).dtype)
            if self._fits(siamese.target, "target"):
                siamese.target.load_state_dict(self._of("target"))

    def words(self, siamese: Siamese) -> str:
        """What was loaded, in a sentence."""
        parts = {name: getattr(siamese, name) for name in ("predictor", "target")}
        stateful = {name: part for name, part in parts.items() if isinstance(part, nn.Module) and part.state_dict()}
        left = [name for name, part in stateful.items() if not self._fits(part, name)]
        anew = f"; its {' and '.join(left)} of another build, {'these start' if left[1:] else 'this starts'} anew"
        return f"the weights are the final ones of {self.origin['run']}{anew if left else ''}"

    def _of(self, part: str) -> dict[str, torch.Tensor]:
        head = f"{part}."
        return {name.removeprefix(head): value for name, value in self.weights.items() if name.startswith(head)}

    def _fits(self, part: nn.Module, name: str) -> bool:
        return _shapes(part.state_dict()) == _shapes(self._of(name))


def start_of(config: Config, folder: Path) -> Start | None:
    """What the run in `folder` starts from, or goes on from; None where it has only itself.

    Its own checkpoint, the first of which is written before the first step, has everything: the other run may be gone.
    Raises ValueError where that is needed and cannot serve.
    """
    source = config.optimisation.start_from
    if source is None:
        return None
    own = checkpoint.load_latest(folder, warn=lambda sentence: None)  # it is read again, and then said
    if own is not None:
        return Start(own.payload["siamese"], own.payload["started_from"])
    weights = final_weights(os.path.expanduser(source))
    return Start(weights, {"run": source, "weights": _digest(weights)})


def refuse_other_start(config: Config, summary: dict) -> None:
    """Raise ValueError where the run to start from holds other weights by now than when the summary's run began.

    One that is there no more says nothing.
    """
    source = config.optimisation.start_from
    if source is None or whole_summary(Path(os.path.expanduser(source))) is None:
        return
    if _digest(final_weights(os.path.expanduser(source))) != summary["provenance"]["started_from"]["weights"]:
        raise BadInput(
            f"{summary['run']} was started from other weights than {source} holds now; name another --out, or remove it"
        )


def _shapes(state: dict) -> dict:
    return {name: tuple(getattr(value, "shape", ())) for name, value in state.items()}


def _digest(weights: dict) -> str:
    return digest(
        *(part for name, value in sorted(weights.items()) if torch.is_tensor(value) for part in (name, value))
    )

"""Orders in which each epoch is for a stretch of a fixed ordering of the images (Li, Efros & Pathak 2022).

As in the authors' released code, `get_incremental_dataloader`: the stretch is repeated, shuffled anew each time, for as
many steps as an epoch over all images has. So runs in all orders take the same number of steps, whatever they see.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from stopgrad.deep.kinds import Order
from stopgrad.deep.parts import COUNT
from stopgrad.linear_theory.tools.errors import BadInput

if TYPE_CHECKING:
    import torch

    from stopgrad.deep.data.orders.setting import Setting


@dataclass(frozen=True)
class Chunks(Order):
    """A stretch of a fixed ordering of the images in each epoch; which, `stretch` says."""

    chunk_size: Annotated[int, COUNT] = 1
    """c: epochs that a chunk is for. It holds c/E of the images, E being the epochs of a round, or of the run."""
    whole_batches: bool = False
    """Leave out of each pass what fills no whole batch, as the released code does; else the next pass fills it up."""

    def complaints(self, config):
        """A chunk that is longer than a round."""
        length = self.round_length(config.optimisation.epochs)
        if self.chunk_size > max(length, 1):
            yield f"--chunk-size {self.chunk_size} exceeds the {length} epochs of a round"

    def round_length(self, epochs: int) -> int:
        """E, the epochs in which the order goes once through its chunks."""
        return epochs

    def stretch(self, chunk: int, length: int) -> tuple[int, int]:
        """Which of the E = `length` parts of the ordering the epochs of a chunk see: the first, and the one after."""
        raise NotImplementedError

    def stretches(self, setting: "Setting") -> list[tuple[int, int]]:
        """Of every epoch, its first place in the ordering and the one after its last.

        Raises ValueError where an epoch has no image, or, of whole batches alone, no batch.
        """
        n, length = setting.images, max(1, self.round_length(setting.epochs))
        parts = (self.stretch(epoch % length // self.chunk_size, length) for epoch in range(setting.epochs))
        found = [(n * first // length, min(n, n * last // length)) for first, last in parts]
        fewest = min((stop - start for start, stop in found), default=setting.batch_size)
        if fewest < 1:
            room = n * self.chunk_size * (setting.epochs // length)
            limit = f"{n} training images" if room == n else f"{room} epochs that chunks of {n} training images fill"
            raise BadInput(f"--epochs {setting.epochs} exceeds the {limit}; each chunk needs an image")
        if self.whole_batches and fewest < setting.batch_size:
            raise BadInput(
                f"--whole-batches leaves no batch of {setting.batch_size} in {fewest} images, the fewest of an epoch; "
                "leave it out, or take larger chunks"
            )
        return found

    def at(self, setting, step):
        """Visit k of an image is the k-th pass that it had a place in. ValueError where an epoch has none to see."""
        stretches, size = self.stretches(setting), setting.batch_size
        epoch, batch = divmod(step, setting.steps_per_epoch)
        start, stop = stretches[epoch] if stretches else (0, setting.images)  # a run of no epoch asks at step 0
        place = setting.shuffled()
        images = ((place >= start) & (place < stop)).nonzero()[:, 0]
        done, seen = divmod(batch * size, self._seen(len(images), size))  # passes, and images of the next
        index, visit = setting.repeated(images, done * len(images) + seen, size, epoch)
        return index, visit + self.passes(setting, index, epoch)

    def passes(self, setting: "Setting", index: "torch.Tensor", epochs: int) -> "torch.Tensor":
        """In how many passes of the first `epochs` epochs each of the images int64 (m,) had a place: int64 (m,)."""
        import torch

        start, stop = torch.tensor(self.stretches(setting)[:epochs], dtype=torch.int64).view(-1, 2).T
        size, place = setting.batch_size, setting.shuffled()[index][:, None]
        begun = -(-setting.steps_per_epoch * size // self._seen(stop - start, size))
        return ((place >= start) & (place < stop)).long() @ begun

    def _seen(self, images, size: int):
        """How many of so many images are seen in a pass."""
        return images - images % size if self.whole_batches else images


@dataclass(frozen=True)
class Rounds(Chunks):
    """Chunks one after the other, in one round or several."""

    rounds: Annotated[int, COUNT] = 1
    """How often the order goes through its chunks; epochs left over begin another round."""

    def complaints(self, config):
        """More rounds than epochs, and what else `Chunks` refuses."""
        if self.rounds > max(1, config.optimisation.epochs):
            yield f"--rounds {self.rounds} exceeds --epochs {config.optimisation.epochs}"
        yield from super().complaints(config)

    def round_length(self, epochs):
        """E = epochs // rounds."""
        return epochs // self.rounds

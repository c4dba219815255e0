"""Training from Python, as `python -m deep train` does it."""

from pathlib import Path

from stopgrad.deep.config import Config


def train(
    config: Config, folder: Path | str | None = None, resume: bool = False, quiet: bool = True, device: str = "auto"
) -> dict:
    """Train and evaluate a network, measured while it trains, and return its summary (that of `summary.json`).

    folder: of the run; None: runs/ and a hash of everything that decides its numbers. A finished run is read, not
    repeated; resume: go on with one that was stopped. quiet: no live view on standard error. device: auto, cpu or cuda.

    Raises ValueError for an impossible config, data that are not there, or a folder that cannot serve.

    >>> import tempfile
    >>> from stopgrad.deep import Config, change
    >>> config = change(Config(), dataset="gaussian", gaussian_samples=256, backbone="identity", epochs=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     train(config, folder)["state"]
    'finished'
    """
    from stopgrad.deep.training.runs import Place, execute, joined

    with joined(device) as world:
        return execute(config, Place(None if folder is None else Path(folder), resume, quiet), world)

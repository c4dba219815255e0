"""What is said of a run when it has ended: evaluations, probe, references, diagnosis, summary, picture."""

import json
from pathlib import Path

import torch
from torch import nn

from stopgrad.deep.config import Config, to_json
from stopgrad.deep.data import datasets, views
from stopgrad.deep.data.fold import fold
from stopgrad.deep.measuring.diagnosis import Diagnosis, Sign, diagnose
from stopgrad.deep.measuring.evaluation import Part, evaluate_features, pixel_knn, representations
from stopgrad.deep.measuring.probe import linear_probe
from stopgrad.deep.measuring.quantities.quantities import shown
from stopgrad.deep.method.siamese import Siamese
from stopgrad.deep.processes.distributed import World
from stopgrad.deep.storage.provenance import provenance
from stopgrad.deep.storage.run_folder import SUMMARY, tables
from stopgrad.deep.storage.table import Columns, export_npz, read
from stopgrad.deep.training import laws
from stopgrad.deep.training.generalisation import generalisation
from stopgrad.deep.training.recorder import rows_of
from stopgrad.deep.training.references import reference
from stopgrad.linear_theory.tools.door import dumps
from stopgrad.linear_theory.tools.errors import BadInput
from stopgrad.linear_theory.tools.files import replace_file

_EVALUATED = int.from_bytes(b"knn")


def evaluation_parts(config: Config, dataset: datasets.Dataset, device, dtype: torch.dtype) -> tuple[Part, Part]:
    """What kNN searches and the spectrum is taken over, and what is classified; images in the weights' `dtype`."""
    train, test = dataset.labelled, dataset.test
    if len(train.labels) > config.monitor.knn_images:
        chosen = datasets.stratified_order(train.labels.cpu(), fold(_EVALUATED, config.seed))[
            : config.monitor.knn_images
        ]
        train = datasets.take(train, chosen.sort().values.to(train.labels.device))

    def part(images):
        labels = images.labels if dataset.classes else None
        return Part(lambda: (x.to(dtype) for x in views.plain(images, dataset, config.data, device)), labels)

    return part(train), part(test)


def evaluate_now(siamese: Siamese, train_part: Part, test_part: Part) -> dict | None:
    """kNN and spectrum of the representations; None where these are no longer numbers."""
    train, test = both_representations(siamese, (train_part, test_part))
    if not (train.isfinite().all() and test.isfinite().all()):
        return None
    if train_part.labels is None:
        return evaluate_features(train)
    return evaluate_features(train, train_part.labels, test, test_part.labels)


def both_representations(siamese: Siamese, parts: tuple[Part, Part]) -> list[torch.Tensor]:
    """Representations (N, features) of the training and the test part."""
    online = siamese.online
    return [representations(online.backbone, part.batches(), online.half) for part in parts]


def verdict(state: str, rows: list[dict]) -> Diagnosis:
    """The diagnosis; its word is empty where nothing was trained."""
    if state == "diverged":
        return Diagnosis("diverged", {}, "weights diverged")
    if not rows:
        return Diagnosis("", {}, "untrained")
    return diagnose(rows[0], rows[-1], rows)


def outcome(table: Columns, state: str, seconds: float, steps: int) -> dict:
    """What the table of a run says of it: state, diagnosis and why, and what was measured at first and at last."""
    rows = rows_of(table)
    diagnosis = verdict(state, rows)
    first, last = (
        {name: series.values[row] for name, series in table.arrays.items() if len(series.values)} for row in (0, -1)
    )
    return {
        "state": "diverged" if diagnosis.word == "diverged" else state,
        "diagnosis": diagnosis.word or None,
        "evidence": diagnosis.evidence,
        "explanation": diagnosis.sentence,
        "seconds": seconds,
        "steps": steps,
        "first": rows[0] if rows else {},
        "last": rows[-1] if rows else {},
        "alignment": last.get("alignment"),
        "alignment_at_start": first.get("alignment"),
        "spectrum": last.get("eigenvalues"),
        "spectrum_at_start": first.get("eigenvalues"),
        "arrays": {
            one.name: {"first": first[one.name], "last": last[one.name]} for one in shown("summary") if one.name in last
        },
    }


def write_summary(folder: Path, summary: dict, signs: list[Sign]) -> dict:
    """Write `summary.json`, with the warnings that were given; the summary as it is read back."""
    told = summary | {"signs": [sign._asdict() for sign in signs], "warnings": [sign.words() for sign in signs]}
    told = json.loads(dumps(told))
    replace_file(folder / SUMMARY, lambda draft: draft.write_text(json.dumps(told, indent=1)))
    return told


def illustrate(folder: Path, table: Columns, title: str) -> None:
    """Make run.png and measurements.npz of what was measured."""
    from stopgrad.deep.words.picture import draw  # here, since a suite's runs have no picture

    draw(table, title, folder / "run.png")
    export_npz(folder, folder / "measurements.npz")


def conclude(
    config: Config,
    dataset: datasets.Dataset,
    folder: Path,
    world: World,
    siamese: Siamese,
    parts: tuple[Part, Part],
    state: str,
    steps: int,
    warnings: list[Sign],
    seconds: float,
    picture: bool = True,
    origin: dict | None = None,
) -> dict:
    """Sum up a run that ended by itself: diagnosis, evaluations, probe.

    With `picture` also run.png, measurements.npz and the exported backbone.pt, for a person who opens the folder.
    `origin`: of the weights that it started from, for the provenance, where these were another run's.
    """
    table, evaluations = read(folder), rows_of(read(folder / "evaluations"))
    found = outcome(table, state, seconds, steps)
    state = found["state"]
    after = evaluations[-1] if evaluations and state == "finished" else None
    summary = found | {
        "knn": {
            "before": evaluations[0].get("knn") if evaluations else None,
            "after": after.get("knn") if after else None,
            "pixels": pixel_knn(*parts),
        },
        "representation": after,
        "probe": None,
        "picture": picture,
        "run": str(folder),
        "tables": tables(folder),
        "config": json.loads(to_json(config)),
        "data": {"key": dataset.key, "source": dataset.source},
        "provenance": provenance(world, config) | ({"started_from": origin} if origin else {}),
    }
    if state == "finished":
        summary["probe"] = attempt(warnings, "linear probe", probe, config, siamese, parts, config.monitor.probe)
        summary["references"] = {
            name: attempt(warnings, f"{name} reference", reference, name, config, dataset, world, parts)
            for name in config.monitor.references
        }
        if config.monitor.laws_every:
            summary["laws"] = attempt(warnings, "laws", laws.hold, config, folder)
        if config.monitor.generalisation:
            dtype = next(siamese.parameters()).dtype
            told = (config, dataset, siamese, world.device, dtype)
            summary["generalisation"] = attempt(warnings, "generalisation", generalisation, *told)
    if picture and state == "finished":
        export = export_state_dict(siamese.online.backbone)
        replace_file(folder / "backbone.pt", lambda draft: torch.save(export, draft))
    if picture:
        named = f"{config.data.dataset}, {config.method.predictor} predictor, seed {config.seed}"
        illustrate(folder, table, f"{named}: {summary['diagnosis'] or ''}")
    return write_summary(folder, summary, warnings)


def attempt(warnings: list[Sign], name: str, compute, *arguments):
    """What `compute` finds; where it cannot, None and a warning: training is done and shall not be lost for it."""
    try:
        return compute(*arguments)
    except BadInput as error:
        warnings.append(Sign("not computed", {"what": name, "why": f"{error}"}))
        return None


def probe(config: Config, siamese: Siamese, parts, protocol: str) -> dict | None:
    """The linear probe's test accuracy; None where there are no labels or no probe is wanted."""
    train_part, test_part = parts
    if protocol == "none" or train_part.labels is None:
        return None
    train_features, test_features = both_representations(siamese, parts)
    found = linear_probe(train_features, train_part.labels, test_features, test_part.labels, protocol, seed=config.seed)
    return {"protocol": protocol, **found._asdict()}


def export_state_dict(network: nn.Module) -> dict[str, torch.Tensor]:
    """A network's parameters and buffers, copied to the CPU; those of a residual one have torchvision's names.

    At width 64 with the ImageNet stem torchvision's model of the same blocks loads it with `strict=False` and misses
    `fc` only; at other widths or stems the names agree and shapes differ.
    """
    network = getattr(network, "_orig_mod", network)  # what torch.compile wraps
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in network.state_dict().items()}

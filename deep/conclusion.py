"""What is said of a run when it has ended: evaluations, probe, references, diagnosis, summary, picture."""

import json
from pathlib import Path

import torch

from deep import datasets, views
from deep.backbones import export_state_dict
from deep.config import Config, to_json
from deep.counter import fold
from deep.diagnosis import diagnose
from deep.distributed import World
from deep.evaluation import Part, evaluate, pixel_knn, representations
from deep.picture import draw
from deep.probe import linear_probe
from deep.provenance import provenance
from deep.recorder import rows_of
from deep.references import reference
from deep.siamese import Siamese
from deep.table import read
from linear_theory.door import dumps
from linear_theory.files import replace_file

SUMMARY = "summary.json"
_EVALUATED = int.from_bytes(b"knn")


def evaluation_parts(config: Config, dataset: datasets.Dataset, device) -> tuple[Part, Part]:
    """What kNN searches and the spectrum is taken over, and what is classified."""
    train, test = dataset.labelled, dataset.test
    if len(train.labels) > config.monitor.knn_images:
        chosen = datasets.stratified_order(train.labels.cpu(), fold(_EVALUATED, config.seed))[
            : config.monitor.knn_images
        ]
        train = datasets.take(train, chosen.sort().values.to(train.labels.device))

    def part(images):
        labels = images.labels if dataset.classes else None
        return Part(lambda: views.plain(images, dataset, config.data, device), labels)

    return part(train), part(test)


def evaluate_now(siamese: Siamese, train_part: Part, test_part: Part) -> dict:
    """kNN and spectrum of the representations; nothing of a network whose weights are no longer numbers."""
    if not all(bool(w.isfinite().all()) for w in siamese.online.parameters()):
        return {}
    return evaluate(siamese.online.backbone, train_part, test_part, siamese.online.half)


def conclude(
    config: Config,
    dataset: datasets.Dataset,
    folder: Path,
    world: World,
    siamese: Siamese,
    parts: tuple[Part, Part],
    state: str,
    warnings: list[str],
    seconds: float,
) -> dict:
    """Sum up a run that ended by itself: diagnosis, evaluations, probe, picture, exported backbone."""
    table, evaluations = read(folder), rows_of(read(folder / "evaluations"))
    rows = rows_of(table)
    diagnosis = diagnose(rows[0], rows[-1], rows) if rows else None
    last = {name: series.values[-1] for name, series in table.arrays.items() if len(series.values)}
    first = {name: series.values[0] for name, series in table.arrays.items() if len(series.values)}
    summary = {
        "state": state,
        "diagnosis": diagnosis.word if diagnosis else None,
        "explanation": diagnosis.sentence if diagnosis else None,
        "warnings": warnings,
        "seconds": seconds,
        "steps": int(table.step[-1]) + 1 if len(table.step) else 0,
        "first": rows[0] if rows else {},
        "last": rows[-1] if rows else {},
        "alignment": last.get("alignment"),
        "alignment_at_start": first.get("alignment"),
        "spectrum": last.get("eigenvalues"),
        "spectrum_at_start": first.get("eigenvalues"),
        "knn": {
            "before": evaluations[0].get("knn") if evaluations else None,
            "after": evaluations[-1].get("knn") if evaluations else None,
            "pixels": pixel_knn(*parts),
        },
        "representation": evaluations[-1] if evaluations else None,
        "probe": None,
        "run": str(folder),
        "config": json.loads(to_json(config)),
        "provenance": provenance(world),
    }
    if state == "finished":
        summary["probe"] = probe(config, siamese, parts, config.monitor.probe)
        summary["references"] = {
            name: reference(name, config, dataset, world, parts) for name in config.monitor.references
        }
        export = export_state_dict(siamese.online.backbone)
        replace_file(folder / "backbone.pt", lambda draft: torch.save(export, draft))
    title = f"{config.data.dataset}, {config.method.predictor} predictor, seed {config.seed}: {summary['diagnosis']}"
    draw({"step": table.step, **table.scalars}, table.arrays, title, folder / "run.png")
    summary = json.loads(dumps(summary))
    replace_file(folder / SUMMARY, lambda draft: draft.write_text(json.dumps(summary, indent=1)))
    return summary


def probe(config: Config, siamese: Siamese, parts, protocol: str) -> dict | None:
    """The linear probe's test accuracy; None where there are no labels or no probe is wanted."""
    train_part, test_part = parts
    if protocol == "none" or train_part.labels is None:
        return None
    train_features, test_features = (
        representations(siamese.online.backbone, part.batches(), siamese.online.half) for part in parts
    )
    found = linear_probe(train_features, train_part.labels, test_features, test_part.labels, protocol, seed=config.seed)
    return {"protocol": protocol, **found._asdict()}

"""`python -m experiments forecast RUNS…`: how good are networks, told from metrics that need no labels?"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from stopgrad.experiments.store.store import ROOT
from stopgrad.linear_theory.tools.door import Command
from stopgrad.linear_theory.tools.errors import BadInput


@dataclass(frozen=True)
class Forecast(Command):
    """Regress accuracies of finished runs on AUC and training loss, as Li et al. 2022 do, and on other metrics.

    RUNS are folders of runs, records of suites (.json), or PAPER:SCALE, such as li2022:cpu. Beside the fit stand the
    error on runs left out, correlations with bootstrap intervals, and what choosing by the forecast would cost.
    """

    calibration: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="RUNS")] = ()
    """Runs whose accuracy is known."""
    targets: Literal["probe", "knn"] = "probe"
    """Which accuracy: of the linear probe, or of nearest neighbours."""
    new: tuple[str, ...] = ()
    """Further runs, whose accuracy is forecast and not looked at."""
    runs: Path = ROOT
    """Folder of the store, for PAPER:SCALE."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> dict:
        """Fit every model. Raises BadInput for no runs, fewer than 4, none with an accuracy, or none that differ."""
        import numpy as np

        from stopgrad.experiments.forecasting.metrics import MODELS
        from stopgrad.experiments.forecasting.readings import find, in_words, setting, table
        from stopgrad.experiments.forecasting.regression import checked, forecast, predict

        if not self.calibration:
            raise BadInput("no runs: name folders of runs, a record, or PAPER:SCALE; see --help")
        records = find(self.calibration, self.runs)
        metrics, target = table(records, self.targets)
        there = np.isfinite(target)
        records, target = [record for record, known in zip(records, there) if known], target[there]
        metrics = {name: values[there] for name, values in metrics.items()}
        checked((), np.zeros((len(target), 0)), target)
        new = find(self.new, self.runs) if self.new else []
        of_new, _ = table(new, self.targets) if new else ({}, None)
        models, settings = {}, [setting(record) for record in records]
        for name, chosen in MODELS.items():
            values = np.array([metrics[metric] for metric in chosen]).T.reshape(len(target), len(chosen))
            try:
                found = forecast(chosen, values, target, settings)
            except BadInput as error:
                models[name] = {"why": f"{error}"}
                continue
            asked = np.array([of_new[metric] for metric in chosen]).T.reshape(len(new), len(chosen)) if new else []
            told = predict(found, values, target, asked) if len(asked) else []
            models[name] = _row(found) | {"new": [_of_new(one) for one in told]}
        return {
            "target": self.targets,
            "runs": len(records),
            "settings": len(set(settings)),
            "without_accuracy": int((~there).sum()),
            "best": float(target.max()),
            "measured": target.tolist(),
            "keys": [record.key for record in records],
            "models": models,
            "new": [in_words(record) for record in new],
            "paper": {"intercept": None, "coefficients": [-79.5, -106.0], "r2": 0.95, "pearson": 0.98},
        }

    def text(self, result: dict) -> str:
        """A table, a line a model, and the forecasts."""
        from stopgrad.experiments.commands.runs import table

        what = {"probe": "linear probe", "knn": "kNN"}[result["target"]]
        lines = [_line(name, model) for name, model in result["models"].items() if "why" not in model]
        without = result["without_accuracy"]
        said = [
            f"{what}, %, of {result['runs']} runs in {result['settings']} settings"
            + (f" ({without} without it left aside)" if without else ""),
            table(("model", "R²", "Pearson", "left out: error", "by setting", "Pearson", "Spearman", "regret"), lines),
            f"errors and regret in points; left out by setting: with all seeds of it. {_formula(result)}",
            *(f"{name}: {model['why']}" for name, model in result["models"].items() if "why" in model),
        ]
        for k, name in enumerate(result["new"]):
            said += [f"{name}:", *(_told(m, model, k) for m, model in result["models"].items() if "why" not in model)]
        return "\n".join(said)


def _row(found) -> dict:
    """A regression as values."""
    row = {name: getattr(found, name) for name in found.__dataclass_fields__}
    return {
        name: value._asdict() if hasattr(value, "_asdict") else list(value) if isinstance(value, tuple) else value
        for name, value in row.items()
    }


def _of_new(one) -> dict:
    return one._asdict() | {"beyond": list(one.beyond)}


def _line(name: str, model: dict) -> tuple:
    pearson, apart, ranks = (model[k] for k in ("pearson", "pearson_left_out", "spearman_left_out"))
    errors = [f"{model[k]:.2f}" for k in ("error", "error_of_settings")]
    return (name, f"{model['r2']:.3f}", _interval(pearson), *errors, _interval(apart), _interval(ranks),
            f"{model['regret']:.2f}")  # fmt: skip


def _interval(one: dict) -> str:
    """'0.98 (0.95 … 0.99)'."""
    return "" if one["value"] is None else "{value:.2f} ({low:.2f} … {high:.2f})".format(**one)


def _formula(result: dict) -> str:
    """The regression on AUC and loss beside the paper's."""
    first = next(iter(result["models"].values()))
    if "why" in first:
        return ""
    auc, loss = first["coefficients"]
    return (
        f"Here {first['intercept']:.1f} {auc:+.1f} AUC {loss:+.1f} loss; in the paper (ImageNet, ResNet-18 and -34) "
        "b₀ -79.5 AUC -106.0 loss, R² .95, Pearson .98."
    )


def _told(name: str, model: dict, k: int) -> str:
    one = model["new"][k]
    far = [] if not one["beyond"] else [f"extrapolates in {', '.join(one['beyond'])}: not to be trusted"]
    if one["value"] != one["value"]:
        return f"  {name}: not measured"
    return f"  {name}: {'; '.join(['{value:.1f} ({low:.1f} … {high:.1f})'.format(**one), *far])}"

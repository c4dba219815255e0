"""The main job on real images: prediction by Lemma 1 against measurement on scikit-learn's digits, as one dataset.

`digits_comparison` has the two sides of the comparison, `digits_images` what is drawn as images.
"""

import platform
from dataclasses import asdict
from functools import partial

import numpy as np
import torch
import xarray as xr

from stopgrad.experiments.linear_digits.comparison import agreement, measure, measured, predict, start
from stopgrad.experiments.linear_digits.images import image_variables, recovered
from stopgrad.experiments.linear_digits.setting import LEADING, VARIANTS, Setting
from stopgrad.experiments.linear_digits.views import digit_views
from stopgrad.experiments.store.run_store import RunStore, Unit
from stopgrad.linear_theory.flows.matrices import Correlations
from stopgrad.linear_theory.tools.door import dumps

BAR = 0.05


def compare(setting: Setting, seeds: int, store: RunStore, workers: int = 1) -> tuple[xr.Dataset, dict]:
    """(data of the comparison with its origin as attributes, summary), from `store` where finished there already.

    What is not is computed by so many processes.
    """
    digits, every_seed = digit_views(), [*range(seeds)]
    views = Unit("correlations", {"views": setting.views}, lambda advance: measured(setting, digits)._asdict())
    [found], fresh = store.finish([views], "measuring X and X′")
    data = Correlations(**found)

    def config(switches, of):
        return {**asdict(setting), "switches": asdict(switches), "seeds": of}

    # The dearest first, so that no core waits long for the last.
    trained = [
        Unit(
            f"sgd-{slug(name)}-seed-{seed}",
            config(switches, [seed]),
            partial(measure, setting, digits, data, switches, seed),
        )
        for name, switches in VARIANTS.items()
        for seed in every_seed
    ]
    integrated = [
        Unit(
            f"flow-{slug(name)}",
            config(switches, every_seed),
            partial(_flow, setting, data, switches, every_seed),
        )
        for name, switches in VARIANTS.items()
    ]
    done, fresh_units = store.finish([*trained, *integrated], "training on the digits, integrating Lemma 1", workers)
    runs, flows = done[: len(trained)], done[len(trained) :]
    flow = {name: np.stack([f[name] for f in flows]) for name in ("s", "alignment", "W")}
    sgd = {
        name: np.stack([r[name] for r in runs]).reshape(len(VARIANTS), seeds, *runs[0][name].shape)
        for name in ("s", "alignment", "W", "diverged", "seconds")
    }
    sgd |= {name: np.moveaxis(sgd[name], 1, 2) for name in ("s", "alignment")}  # (variant, time, seed, mode)
    gaps = [agreement(f, s) for f, s in zip(flow["s"], sgd["s"])]
    gaps = {name: np.stack([gap[name] for gap in gaps]) for name in gaps[0]}

    over_time, weights = ("variant", "time", "seed", "mode"), ("variant", "seed", "feature", "pixel")
    dataset = xr.Dataset(
        {
            "s_flow": (over_time, flow["s"]),
            "s_sgd": (over_time, sgd["s"]),
            "alignment_flow": (over_time, flow["alignment"]),
            "alignment_sgd": (over_time, sgd["alignment"]),
            "W_flow": (weights, flow["W"]),
            "W_sgd": (weights, sgd["W"]),
            "diverged": (("variant", "seed"), sgd["diverged"].astype(np.int8)),
            **{name: (("variant", "seed"), gap) for name, gap in gaps.items()},
            "X": (("pixel", "pixel_"), data.X),
            "Xp": (("pixel", "pixel_"), data.Xp),
            **image_variables(flow["W"][0], sgd["W"][0], digits, data),
        },
        {"variant": [*VARIANTS], "time": flows[0]["times"], "seed": every_seed, "mode": np.arange(1, setting.n2 + 1)},
        origin(setting, seeds, store, digits, flows, sgd, 1 if workers > 1 else torch.get_num_threads()),
    )
    summary = {
        "agreement": {name: {kind: per_seed(gap[i]) for kind, gap in gaps.items()} for i, name in enumerate(VARIANTS)},
        "leading_modes": LEADING,
        "bar": BAR,
        "diverged_runs": int(sgd["diverged"].sum()),
        **{f"error_of_{name}": error for name, error in measurement_errors(data, digits.enumerated()).items()},
        "variance_recovered_by_leading_modes": recovery(setting, data, sgd, seeds),
        **dataset.attrs,
        "computed": fresh + fresh_units,
    }
    return dataset, summary


def _flow(setting, data, switches, seeds, advance):
    return predict(setting, data, switches, seeds)


def per_seed(gaps: np.ndarray) -> dict:
    """The gap of each seed, their median and worst, and whether the worst is within the bar; NaN if one diverged."""
    return {
        "seeds": gaps,
        "median": np.median(gaps),
        "worst": np.max(gaps),
        "within_bar": bool(np.max(gaps) <= BAR),
    }


def measurement_errors(data: Correlations, exact: Correlations) -> dict[str, float]:
    """‖measured − exact‖_F/‖exact‖_F of X and X′."""
    return {name: np.linalg.norm(m - e) / np.linalg.norm(e) for name, m, e in zip(data._fields, data, exact)}


def recovery(setting: Setting, data: Correlations, sgd: dict, seeds: int) -> dict[str, float]:
    """Share of the images' variance that a view's leading modes tell, before and after training, the median seed."""
    before = start(setting, range(seeds), VARIANTS["stop-gradient, predictor"]).W
    alive = [W for W in sgd["W"][0] if np.isfinite(W).all()]
    return {
        when: float(np.median([recovered(W, data, LEADING) for W in encoders])) if len(encoders) else float("nan")
        for when, encoders in (("before", before), ("after", alive))
    }


def origin(setting: Setting, seeds: int, store: RunStore, digits, flows, sgd, threads: int) -> dict:
    """Where the numbers come from, as attributes of the data file."""
    h, training = setting.hyperparameters, setting.training
    return {
        "title": "Lemma 1 against a linear Siamese network trained by SGD on scikit-learn's digits",
        **asdict(setting),
        "seeds": seeds,
        "alpha_p": h.alpha_p,
        "momentum": training.momentum,
        "steps": training.steps,
        "images": digits.images,
        "augmentation": f"shifts of up to 1 pixel with zero fill, mean view removed, pixel noise {digits.noise:g}",
        "flow_worst_error": max(float(flow["worst_error"]) for flow in flows),
        "training_seconds": float(sgd["seconds"].sum()),
        "hardware": f"{platform.machine()} CPU, {threads} threads",
        "origin": dumps(store.origin),
    }


def slug(name: str) -> str:
    """A variant's name as part of a file name."""
    return name.replace(", ", "-").replace(" ", "-")

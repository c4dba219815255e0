"""Figure 4 of Li, Efros & Pathak 2022: the probe's accuracy, forecast from AUC and training loss."""

from typing import TYPE_CHECKING

import numpy as np

from stopgrad.experiments.claims.measures import accuracy
from stopgrad.experiments.forecasting.metrics import METRICS, MODELS
from stopgrad.experiments.forecasting.regression import FEWEST, forecast
from stopgrad.experiments.li2022 import scatter
from stopgrad.experiments.li2022.forecasts import LARGE, SMALL
from stopgrad.figures.li2022.sources import MEASURED, claims_of
from stopgrad.figures.machinery import style
from stopgrad.figures.machinery.measures import Runs
from stopgrad.figures.machinery.picture import FromRuns, Picture
from stopgrad.linear_theory.tools.errors import BadInput

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

ARMS = tuple(dict.fromkeys((*SMALL, *LARGE)))
FAMILIES = {
    "": ("ResNet-18", "blue", "o"),
    "half-width/": ("half as wide", "green", "s"),
    "quarter-width/": ("a quarter as wide", "orange", "^"),
    "bottleneck-same-output/": ("bottlenecks", "purple", "D"),
    "byol/": ("BYOL", "vermillion", "P"),
    "directcopy/": ("DirectCopy", "sky", "X"),
}


def compute_forecast(runs: Runs) -> "xr.Dataset":
    """`measured` (run,) in per cent, `left_out` (model, run), forecasts with all seeds of an arm left out, `error` and
    `pearson` (model,) of these, `low` and `high` of the latter's interval; `arm` and `seed` (run,)."""
    import xarray as xr

    found = [(arm, seed, run) for arm, of in runs.records.items() for seed, run in of.items()]
    found = [
        one for one in found if np.isfinite([accuracy(one[2]), *(read(one[2]) for read in METRICS.values())]).all()
    ]
    target = np.array([accuracy(run) for *_, run in found])
    arms = [arm for arm, *_ in found]
    left, numbers = np.full((len(MODELS), len(found)), np.nan), np.full((4, len(MODELS)), np.nan)
    for k, metrics in enumerate(MODELS.values()):
        if len(found) < FEWEST:
            continue
        values = np.array([[METRICS[name](run) for name in metrics] for *_, run in found])
        try:
            one = forecast(metrics, values, target, arms)
        except BadInput:  # one arm alone, or a metric that does not vary
            continue
        left[k], numbers[:, k] = one.left_out, [one.error_of_settings, *map(_or_nan, one.pearson_left_out)]
    error, pearson, low, high = (("model", row) for row in numbers)
    return xr.Dataset(
        {"measured": ("run", target), "left_out": (("model", "run"), left), "error": error, "pearson": pearson,
         "low": low, "high": high},
        {"model": list(MODELS), "arm": ("run", arms), "seed": ("run", [seed for _, seed, _ in found])},
    )  # fmt: skip


def _or_nan(value):
    return np.nan if value is None else value


@style.styled
def draw_forecast(data: "xr.Dataset") -> "Figure":
    """Left: the paper's forecast of the linear probe from AUC and training loss, on the models that it was fitted to
    (ImageNet). Middle: the same regression on the runs of this suite; each is forecast by the runs of all other arms.
    Right: mean error of such forecasts, from AUC and loss, from each metric alone, and from nothing, the mean of the
    other arms; the number beside is Pearson's correlation with what was measured, with its bootstrap interval."""
    figure, axes = style.new_figure(1, 3, panel=(4.3, 3.7))
    paper, ours, errors = axes[0]
    for (name, points), (colour, mark) in zip(scatter.read()["points"].items(), (("black", "o"), ("vermillion", "s"))):
        paper.plot(*np.array(points).T, mark, color=style.OKABE_ITO[colour], markersize=5, label=f"paper: {name}")
    r, r2 = scatter.pearson(), scatter.explained()
    paper.text(0.04, 0.95, f"Pearson {r:.3f}, $R^2$ {r2:.3f}\nof these {len(scatter.points())} points", va="top",
               transform=paper.transAxes, fontsize=9)  # fmt: skip
    first = data.isel(model=0)
    for prefix, (words, colour, mark) in FAMILIES.items():
        mine = [str(arm).rpartition("/")[0] + "/" * ("/" in str(arm)) == prefix for arm in data.arm.values]
        if any(mine) and np.isfinite(first.left_out.values[mine]).any():
            look = {"color": style.OKABE_ITO[colour], "markersize": 5, "alpha": 0.85, "label": words}
            ours.plot(first.measured[mine], first.left_out[mine], mark, **look)
    if not ours.lines:
        style.say(ours, "not measured")
    for axis in (paper, ours):
        ends = axis.axis()
        ray = [min(ends[0], ends[2]), max(ends[1], ends[3])]
        if axis.lines:
            axis.plot(ray, ray, **style.RULE)
            axis.set(xlim=ray, ylim=ray)
        axis.set(xlabel="linear probe, %", ylabel="forecast, %")
    paper.set_title("the paper, fitted")
    ours.set_title("here, arm left out")
    if np.isfinite(data.error).any():
        places = np.arange(data.sizes["model"])
        errors.barh(places, data.error, color=["#0072B2"] + ["0.75"] * (len(places) - 1), height=0.65)
        for k, one in zip(places, (data.isel(model=k) for k in places)):
            if np.isfinite(one.pearson):
                said = f" {float(one.pearson):.2f} ({float(one.low):.2f} … {float(one.high):.2f})"
                errors.text(float(one.error), k, said, va="center", fontsize=8)
        errors.set_yticks(
            places,
            [str(name).replace("collapse_auc", "AUC").replace("_", " ") for name in data.model.values],
            fontsize=8.5,
        )
        errors.invert_yaxis()
        errors.set_xlim(0, 1.6 * float(data.error.max()))
        errors.set_xlabel("mean error, arm left out, points")
    else:
        style.say(errors, "not measured")
    style.legend_below(figure)
    return figure


FIGURES = {
    "li-fig4": Picture(
        FromRuns("li2022", ARMS, compute_forecast),
        draw_forecast,
        "Accuracy forecast from the spectrum and the loss",
        f"{MEASURED}, Figure 4",
        "li2022",
        claims=claims_of(
            "theory-scatter theory-scatter-explained theory-scatter-within forecast forecast-mean forecast-rankme "
            "forecast-auc forecast-large forecast-mean-large forecast-rankme-large forecast-auc-large"
        ),
    ),
}

"""Tables 1 to 4 of Zhang et al. 2022 in one picture: what collapses there, and where it ends here."""

from typing import TYPE_CHECKING

import numpy as np

from stopgrad.experiments.claims.interval import interval
from stopgrad.experiments.zhang2022.ablation import TEMPERATURES
from stopgrad.figures.machinery import style
from stopgrad.figures.machinery.measures import STATISTICS, Runs, value_of
from stopgrad.figures.machinery.picture import FromRuns, Picture
from stopgrad.figures.shared.tables import arms_of, compute_table, lacking
from stopgrad.figures.zhang2022.sources import INVERSE_ACCURACY, MEASURED, claims_of
from stopgrad.figures.zhang2022.tables import TABLES

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

SHOWN = ("m_o", "m_o_p", "rank")
PLAIN = {"no output BatchNorm": ""}
SHADE = {"color": style.OKABE_ITO["vermillion"], "alpha": 0.1, "linewidth": 0, "zorder": 0}
LINE = 0.36  # inches
ALL_ALIKE = 0.97
"""m_o from which on the rank is that of noise."""


BESIDE = {
    "moving-average": {"row": "moving average, affine output BatchNorm", "arm": "affine/moving-average"},
    "naive": {"row": "Naive Siamese, affine output BatchNorm", "arm": "affine/naive"},
    "mirror": {"row": "Mirror SimSiam, linear predictor", "arm": "mirror-linear"},
}
"""By arm: the same cell of the paper's once more, under the condition that decides it here."""


def whole_table() -> dict:
    """Tables 1 to 4 as one, each arm once with what stands BESIDE it, and the inverse predictor of Figure 3."""
    found: dict[str, dict] = {}
    for name, table in TABLES.items():
        for cell in table["cells"]:
            for one in (cell, cell | BESIDE.get(cell["arm"], {})):
                found.setdefault(one["arm"], one | {"place": f"Table {name.removeprefix('table')}"})
    inverse = {"row": "inverse predictor", "column": "", "paper": [INVERSE_ACCURACY, None], "arm": "inverse"}
    cells = [*found.values(), inverse | {"collapses": False, "place": "Figure 3"}]
    return {"setting": TABLES["table1"]["setting"], "cells": cells}


WHOLE = whole_table()


def compute_outcomes(runs: Runs) -> "xr.Dataset":
    """`value` (statistic, cell, seed) of m_o of Z and P and the rank of Z; `paper`, `collapses`, `m_o` (cell,).

    `m_o` is the paper's own, NaN where it prints none; `part` and `finished` as `compute_table` has them.
    """
    data = compute_table(runs, WHOLE, PLAIN, SHOWN).squeeze("loss", drop=True)
    cells = WHOLE["cells"]
    return data.assign(
        collapses=("cell", [cell["collapses"] for cell in cells]),
        m_o=("cell", np.array([cell.get("m_o") for cell in cells], dtype=float)),
    ).assign_coords(place=("cell", [cell["place"] for cell in cells]))


@style.styled
def draw_outcomes(data: "xr.Dataset") -> "Figure":
    """Every setting of the paper's Tables 1 to 4, and the inverse predictor of its Figure 3, without output BatchNorm
    where nothing else is said. Columns: the length m_o of the mean of unit embeddings Z and of unit predictions P at
    the end (1: all point one way), and the effective rank of the embeddings around their mean, pale where m_o is above
    0.97 and it is that of the noise that is left. Circles: seeds; diamonds: mean with the 95 % interval of Student's t.
    Shaded, and in the words at the right, with its Top-1 accuracy: the paper calls it a collapse. Squares: the paper's
    own m_o, where it prints one.

    Where there is no predictor P is Z. A predictor on both sides, and SimSiam without its extra gradient, collapse
    where their loss is, in P. The networks are those of the scale named below."""
    from matplotlib.figure import Figure

    kinds = [STATISTICS[str(name)] for name in data.statistic.values]
    count = data.sizes["cell"]
    figure = Figure(figsize=(13.6, 1.5 + LINE * count), layout="constrained")
    axes = figure.subplots(1, len(kinds), sharey=True)
    for axis, kind, name in zip(axes, kinds, data.statistic.values):
        for k in range(count):
            one = data.isel(cell=k).sel(statistic=name)
            if one.collapses:
                axis.axhspan(k - 0.5, k + 0.5, label="the paper says collapse", **SHADE)
            noise = name == "rank" and float(data.value.isel(cell=k).sel(statistic="m_o").mean()) > ALL_ALIKE
            _draw_cell(axis, k, one, alpha=0.3 if noise else 1.0)
            if name == "m_o" and np.isfinite(one.m_o):
                axis.plot(one.m_o, k, "s", color=style.PAPER["color"], label="the paper's own $m_o$", zorder=2)
        axis.set_title(kind.words)
        style.reach(axis, "x", kind.limits)
        for k in np.flatnonzero(data.place.values[1:] != data.place.values[:-1]):
            axis.axhline(k + 0.5, **style.RULE)
        axis.tick_params(axis="y", length=0)
    axes[0].set_ylim(count - 0.5, -0.5)
    axes[0].set_yticks(range(count), [_words(data.isel(cell=k)) for k in range(count)])
    for k in range(count):
        verdict = "collapse" if data.collapses[k] else "no collapse"
        axes[-1].text(1.03, k, f"{float(data.paper[k]):g} %", transform=axes[-1].get_yaxis_transform(), va="center")
        axes[-1].text(1.3, k, verdict, transform=axes[-1].get_yaxis_transform(), va="center",
                      color=style.OKABE_ITO["vermillion"] if data.collapses[k] else "0.35")  # fmt: skip
    axes[-1].text(1.03, -0.75, "The paper", transform=axes[-1].get_yaxis_transform(), va="bottom")
    axes[0].set_xlabel(f"{data.attrs['scale']} scale, {data.sizes['seed']} seeds asked for", fontsize=9)
    style.legend_below(figure)
    return figure


def _words(cell: "xr.Dataset") -> str:
    """'Table 1: same batch, mean of 10 views'."""
    named = ", ".join(filter(None, (str(cell.row.item()), str(cell.column.item()))))
    return f"{cell.place.item()}: {named}"


def _draw_cell(axis, line: int, one: "xr.Dataset", alpha: float) -> None:
    found = interval(one.value)
    if found.count == 0:
        lost = "not finite" if one.finished.any() else "not measured"
        why = lost if one.part else lacking(one)
        axis.text(0.5, line, why, transform=axis.get_yaxis_transform(), **style.REMARK)
        return
    seeds = one.value.values[np.isfinite(one.value)]
    axis.plot(seeds, np.full(found.count, line - 0.17), label="one seed", alpha=alpha, **style.SEED)
    label = "mean, 95 % interval" if alpha == 1 else None
    axis.errorbar(found.mean, line + 0.14, xerr=found.error, label=label, alpha=alpha, **style.ESTIMATE)


# ---------------------------------------------------- InfoNCE over its temperature

INFONCE = {f"infonce-{tau:g}": tau for tau in TEMPERATURES}


def compute_temperature(runs: Runs) -> "xr.Dataset":
    """`value` (statistic, tau, seed): m_o and effective rank of Z at the end of the InfoNCE arms that the suite has."""
    import xarray as xr

    arms = {arm: tau for arm, tau in INFONCE.items() if arm in runs.arms} or INFONCE
    values = [
        [[value_of(STATISTICS[name], runs.of(arm).get(seed)) for seed in runs.seeds] for arm in arms]
        for name in OVER_TAU
    ]
    return xr.Dataset(
        {"value": (("statistic", "tau", "seed"), np.reshape(values, (len(OVER_TAU), len(arms), len(runs.seeds))))},
        {"statistic": list(OVER_TAU), "tau": list(arms.values()), "seed": list(runs.seeds)},
    )


OVER_TAU = ("m_o", "rank")


@style.styled
def draw_temperature(data: "xr.Dataset") -> "Figure":
    """InfoNCE without predictor at the end of training, over its temperature: the length m_o of the mean of the unit
    embeddings, and the effective rank around it. Circles: seeds; diamonds: mean with the 95 % interval of Student's t.
    Negatives take the centre away at every temperature, as o_e = -o_z says; what they de-correlate falls with it, as
    r_e = -(1/tau) C Z_a + O(1/tau^2)."""
    figure, axes = style.new_figure(1, len(OVER_TAU), panel=(4.2, 3.2), sharex=True)
    for axis, name in zip(axes[0], OVER_TAU):
        for tau in data.tau.values:
            values = data.value.sel(statistic=name, tau=tau)
            found = interval(values)
            if not found.count:
                axis.text(tau, 0.5, "not measured", rotation=90, transform=axis.get_xaxis_transform(), **style.REMARK)
                continue
            axis.plot(tau * 0.94 * np.ones(found.count), values[np.isfinite(values)], label="one seed", **style.SEED)
            axis.errorbar(tau * 1.06, found.mean, found.error, label="mean, 95 % interval", **style.ESTIMATE)
        axis.set(xscale="log", xlabel=r"temperature $\tau$", ylabel=STATISTICS[name].words)
        axis.set_xlim(data.tau.min() / 1.6, data.tau.max() * 1.6)
        axis.set_xticks(data.tau.values, [f"{tau:g}" for tau in data.tau.values])
        axis.minorticks_off()
        style.reach(axis, "y", (0, 1) if name == "m_o" else (1, None))
    style.legend_below(figure)
    return figure


FIGURES = {
    "zhang-temperature": Picture(
        FromRuns("zhang2022", tuple(INFONCE), compute_temperature, ends=True),
        draw_temperature,
        "InfoNCE de-centres at every temperature, and de-correlates at low ones",
        f"{MEASURED}, Figure 5c",
        "zhang2022",
        claims=claims_of("temperature infonce theory-infonce-centre theory-infonce-residual"),
    ),
    "zhang-outcomes": Picture(
        FromRuns("zhang2022", arms_of([WHOLE], PLAIN), compute_outcomes, ends=True),
        draw_outcomes,
        "What collapses, in the paper's tables and here",
        f"{MEASURED}, Tables 1 to 4",
        "zhang2022",
        claims=claims_of(
            "naive naive-affine mirror mirror-linear mirror-rank symmetric inverse fresh-views moving-average "
            "moving-average-random moving-average-start moving-average-affine triplet-both triplet-centre "
            "triplet-residual components-none components-centre components-residual residual-alone escape batchnorm "
            "batchnorm-dimensional theory-batchnorm-bound theory-batchnorm-bound-reached theory-mirror theory-eoa "
            "theory-eoa-as-stated theory-algorithm5 theory-algorithm5-as-stated theory-start "
            "theory-start-output-batchnorm"
        ),
    ),
}

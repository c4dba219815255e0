"""What the tests of figures share: a small dataset for each computed picture, a phase diagram, and runs made up.

`python tests/figure_examples.py` writes tests/data anew: the data behind the pictures of trained networks, from made-up
runs, as the commands would leave them in out/figures/data.
"""

import functools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import xarray as xr

from stopgrad.deep.config import Config, Method, Optimisation
from stopgrad.deep.storage.table import Columns, Series
from stopgrad.experiments import papers
from stopgrad.experiments.suites.grid import Arm, change
from stopgrad.experiments.zhang2022 import ablation as zhang2022
from stopgrad.figures.machinery import data, runs
from stopgrad.figures.machinery.measures import Runs
from stopgrad.figures.machinery.picture import FromRuns
from stopgrad.figures.machinery.registry import FIGURES
from stopgrad.figures.theory import cosine, talks
from stopgrad.figures.tian2021 import networks as tian2021_networks
from stopgrad.figures.tian2021 import theory as tian2021
from stopgrad.figures.zhang2022 import theory as zhang2022_theory
from stopgrad.linear_theory.exact.fixed_points import fixed_points
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters

DATA = Path(__file__).with_name("data")

SMALL = {
    "tian-fig3": functools.partial(tian2021.compute_fig3, p=(-0.6, 1.4, 21), s=(0.0, 1.4, 15)),
    "tian-fig4": tian2021.compute_fig4,
    "tian-fig5": functools.partial(tian2021.compute_fig5, t=(0, 40, 21)),
    "tian-fig7": functools.partial(tian2021_networks.compute_fig7, n=3, runs=3, t=(0, 20, 6)),
    "tian-fig8": functools.partial(tian2021_networks.compute_fig8, n=4, runs=3, t=(0, 20, 6)),
    "tian-fig9": functools.partial(tian2021_networks.compute_fig9, n=4, runs=3, t=(0, 40, 6)),
    "tian-fig10": functools.partial(tian2021.compute_fig10, span=(-1.5, 1.5, 21)),
    "talk-decay-augmentation": functools.partial(
        talks.compute_decay_augmentation, 0.3, sigma2=(0.0, 2.3, 14), eta=(0.01, 0.26, 13)
    ),
    "talk-ema-decay": functools.partial(
        talks.compute_ema_decay, beta=(0.03, 1.0, 12), eta=(0.04, 0.25, 11), scan=(9, 43)
    ),
    "talk-directpred-spectrum": functools.partial(
        talks.compute_directpred_spectrum, x=(0.05, 1.0, 14), epsilon=(0.02, 50.0, 15), t=1000.0
    ),
    "cosine-regimes": functools.partial(cosine.compute_bao_regimes, p=(-0.15, 0.72, 30), t=(0.0, 80.0, 9)),
    "cosine-simsiam": functools.partial(cosine.compute_bao_simsiam, n=8, steps=10, batch=32, seeds=(0, 1)),
    "cosine-halvagal": functools.partial(cosine.compute_halvagal, 3, 4, t=(0.0, 1.0, 3), samples=50),
    "zhang-fig5c": functools.partial(zhang2022_theory.compute_fig5c, tau=(0.03, 1.5, 9)),
    "zhang-centre": functools.partial(zhang2022_theory.compute_centre, mu=(0.3, 4.0, 4), sigma2=(0.1, 1.5, 2)),
    **{
        name: functools.partial(lambda name, lacking: from_made_up(name, **lacking), name, lacking)
        for name, lacking in {
            "zhang-outcomes": {"missing": ("mirror",), "unknown": ("fresh-views-25",), "diverging": ("inverse",)},
            "zhang-temperature": {"missing": ("infonce-1",)},
            "zhang-fig4": {"missing": ("affine/directions",)},
            "zhang-fig5a": {"unknown": ("digits/simsiam",)},
            "zhang-fig5b": {"missing": ("bn/undo-correlation",)},
            "zhang-fig6": {"missing": ("keep-centre",)},
            "zhang-eta": {"missing": ("affine/bias",)},
            "zhang-table3": {"unknown": ("affine/triplet-both",)},
        }.items()
    },
}
"""Of each computed picture one of its own; of those of runs some from made-up runs that lack something."""


@functools.cache
def small(name: str) -> xr.Dataset:
    """One small dataset a figure, computed once in a process."""
    return SMALL[name]()


def phase_data(log=False, kind="analytic", fates=("alive", "collapsed", "undecided"), n=24) -> xr.Dataset:
    """A phase diagram of the parabola, its fate read off the exact unstable branch."""
    h = Hyperparameters(sigma2=0.1)
    eta, p0 = np.linspace(0.0, 0.3, n), np.geomspace(0.003, 1.5, n) if log else np.linspace(-0.2, 1.0, n + 1)
    edge = fixed_points(h.replace(eta=eta)).p_minus
    away = p0[:, None] - edge
    fate = np.where(np.abs(away) < 0.01, 2, np.where(away > 0, 0, 1)).astype(np.int8)
    flags = {"flag_values": np.arange(len(fates), dtype=np.int8), "flag_meanings": " ".join(fates)}
    dims = ("p0", "eta")
    return xr.Dataset(
        {
            "fate": (dims, fate, flags),
            "time_to_converge": (
                dims,
                np.where(fate < 2, 5 + 3 / (0.01 + np.abs(np.nan_to_num(away, nan=1.0))), np.nan),
            ),
            "p": (dims, np.where(fate == 0, 0.8, 0.0) - 0.1 * (p0[:, None] < 0)),
            "surviving_modes": (dims, np.where(fate == 0, 5, 0)),
            "K_sign": (dims, np.where(eta > 0.1, 1.0, -1.0) + 0 * away),
            "boundary_eta": ("boundary", eta, {"kind": kind}),
            "boundary_p0": ("boundary", edge),
        },
        {"eta": eta, "p0": p0},
        attrs={"sigma2": 0.1, "tau": 1.0, "alpha_p": 1.0, "s0_rule": "x p0^2/alpha_p", "worst_error": 1e-9},
    )


# ------------------------------------------------------------------------------------------------- made-up runs


def made_up_run(config: Config, collapses=False, diverges=False, d=10, rows=9, name=""):
    """A finished run that was never trained: modes that grow to 1/j and align, or all but the first that die.

    It has what a figure reads of an `experiments.store.store.Record`; a diverged one ends in NaN.
    """
    step, j = np.arange(rows) * 640 // (rows - 1), np.arange(1, d + 1)
    epoch = step / 16
    gone = 1 / (1 + np.exp(-(epoch[:, None] - 10 - j) / 3))
    noise = np.random.default_rng([config.seed, *name.encode()])
    end = np.where(j > 1, 1e-4, 1.0) if collapses else 1 / j
    s = 0.1 ** (1 - gone) * end**gone * noise.uniform(0.9, 1.1, d)
    alignment = np.clip(gone + noise.normal(0, 0.1, (rows, d)), -1, 1)
    p = np.sqrt(s) * alignment
    scalars = {
        "loss": -0.5 - 0.4 * gone[:, 0],
        "asymmetry": 0.7 * (1 - gone[:, 0]) * (str(config.method.predictor) != "symmetric"),
        "predictor_negative": 0.5 * (1 - gone[:, 0]),
        "trace_z": s.sum(axis=1),
        "time": 0.15 * step,
    }
    scalars |= _decomposed(gone[:, 0], collapses, np.random.default_rng([config.seed, *name.encode(), 1]))
    if diverges:
        scalars = {name: np.where(epoch < 20, v, np.nan) for name, v in scalars.items()}
        s, p, alignment = (np.where(epoch[:, None] < 20, v, np.nan) for v in (s, p, alignment))
    arrays = {"eigenvalues": s, "alignment": alignment, "predictor_spectrum": p}
    columns = Columns(step, scalars, {name: Series(step, v.astype(np.float32)) for name, v in arrays.items()})
    evaluations = _evaluated(step[::2], collapses, np.random.default_rng([config.seed, *name.encode(), 2]))
    return SimpleNamespace(
        key=f"{noise.integers(2**60):016x}",
        config=config,
        recorded=None,
        whole=True,
        summary={
            "state": "diverged" if diverges else "finished",
            "steps": 640,
            "probe": {"accuracy": 0.3 if collapses else 0.7},
            "knn": {"after": float(evaluations.scalars["knn"][-1])},
            "generalisation": {
                part: {"loss": loss, "sigma2": 0.4, "signal": [2.0, 1.0, 0.1], "noise": [0.5, 0.5, 0.5]}
                for part, loss in (("train", -0.9), ("test", -0.8))
            },
        },
        columns=columns,
        evaluations=evaluations,
        evaluated=lambda name: float(evaluations.scalars[name][-1]) if name in evaluations.scalars else np.nan,
        first=lambda name: float(scalars[name][0]) if name in scalars else np.nan,
        last=lambda name: float(scalars[name][-1]) if name in scalars else np.nan,
    )


def _evaluated(step, collapses, noise) -> Columns:
    """Between epochs: a representation of 64 dimensions whose spectrum falls, steeply where it collapses."""
    index, part = np.arange(64), np.linspace(0, 1, len(step))
    fall = (0.02 + (0.5 if collapses else 0.03) * part) * noise.uniform(0.9, 1.1)
    sigma = np.exp(-fall[:, None] * index)
    share = sigma / sigma.sum(1, keepdims=True)
    rank = np.exp(-(share * np.log(share)).sum(1))
    scalars = {
        **{"collapse_auc": np.cumsum(share, 1).mean(1), "rankme": rank, "dim": np.full(len(step), 64.0)},
        **{"variance_effective_rank": rank / 2, "participation_ratio": rank / 3, "stable_rank": rank / 4},
        **{"alpha_req": 4 * fall, "knn": 0.2 + 0.5 * part * noise.uniform(0.9, 1.1)},
    }
    return Columns(step, scalars, {"sigma": Series(step, sigma.astype(np.float32))})


def _decomposed(gone, collapses, noise) -> dict:
    """What centre and residual do: the one wins, or both stay; an η_p near theory's."""
    m_o = np.clip(0.5 + (0.499 if collapses else -0.3) * gone + noise.normal(0, 0.01, len(gone)), 0, 0.9999)
    eta = 0.4 * (1 - m_o) * noise.uniform(0.7, 1.4)
    return {
        "m_o_z": m_o,
        "m_o_p": m_o / (1 - eta),
        "m_r_z": np.sqrt(1 - m_o**2),
        "rank_z": 40 - 25 * gone + noise.normal(0, 1, len(gone)),
        "rho_z": np.full(len(gone), 0.6),
        "eta_p": -eta,
        "centre_ratio": 1 / (1 - 0.9 * eta),
        "covariance_z": 0.002 * (1.2 - gone),
        "correlation_z": 0.1 * (1.2 - gone),
    }


COLLAPSES = ("symmetric", "symmetric-alpha-2", "no-stop-gradient", "naive", "mirror", "triplet-residual", "keep-none")
"""Arms whose made-up runs collapse."""


def made_up_runs(arms, scale="cpu", seeds=(0, 1, 2), missing=(), unknown=(), diverging=(), suite="tian2021") -> Runs:
    """Runs of these arms; `missing` arms have none, `unknown` ones the suite does not have, `diverging` lose seed 0."""
    config_of = CONFIGS.get(suite, _config)
    planned = {arm: Arm(arm, config_of(arm), tuple(seeds)) for arm in arms if arm not in unknown}
    records = {
        name: {
            seed: made_up_run(
                replace(arm.config, seed=seed), name in COLLAPSES, name in diverging and seed == 0, name=name
            )
            for seed in (() if name in missing else seeds)
        }
        for name, arm in planned.items()
    }
    return Runs(suite, scale, planned, records)


def _config(arm: str) -> Config:
    method = Method.of(
        predictor="symmetric" if "symmetric" in arm else "linear", target="ema" if "ema" in arm else "shared"
    )
    ratio = float(arm.rpartition("-")[2]) if "alpha" in arm else 1.0
    return Config(method=method, optimisation=Optimisation(epochs=40, predictor_lr=ratio * Optimisation().lr))


def _config_of_zhang(arm: str) -> Config:
    prefix, _, name = arm.rpartition("/")
    values, _ = zhang2022.arms(600, 6)[name]
    return change(zhang2022.TOY, **zhang2022.BN.get(prefix and f"{prefix}/", {}) | values)


def _config_of_simsiam(arm: str) -> Config:
    planned = papers.suite("simsiam2021", "gpu").arms.get(arm)
    return planned.config if planned else Config()


def _config_of_li(arm: str) -> Config:
    planned = papers.suite("li2022", "cpu").arms.get(arm)
    return planned.config if planned else Config()


CONFIGS = {"zhang2022": _config_of_zhang, "simsiam2021": _config_of_simsiam, "li2022": _config_of_li}
"""By suite, an arm's config by its name."""
COSINE = tuple(f"cosine/{arm}" for arm in ("ema", "symmetric-ema", "symmetric", "symmetric-alpha-4", "mlp"))
RECORDED = {
    "tian-fig2": {"unknown": COSINE},
    "tian-fig6": {"missing": ("symmetric-alpha-8",)},
    "tian-table3": {"missing": ("bias-ema",), "unknown": ("mlp", *COSINE), "diverging": ("bias",)},
}
"""Pictures of trained networks whose data are in tests/data, and what their made-up runs lack."""


def from_made_up(name: str, **lacking) -> xr.Dataset:
    """The data of the picture `name` from made-up runs."""
    source = FIGURES[name].compute
    assert isinstance(source, FromRuns)
    return runs.compute_from(source, made_up_runs(source.arms, **{"suite": source.suite, **lacking}))


if __name__ == "__main__":
    for figure, lacking in RECORDED.items():
        data.write(from_made_up(figure, **lacking), DATA / f"{figure}.nc")

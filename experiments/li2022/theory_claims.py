"""What Li, Efros & Pathak 2022 say and arithmetic alone decides: the metric's own theory, their forecast's scatter, the
spectra that they released, and how many modes the linear theory lets live on few images."""

import functools
import itertools
import json
from pathlib import Path

import numpy as np

from stopgrad.experiments.claims.claim import Claim, Rule
from stopgrad.experiments.claims.theory_claims import claim, digits
from stopgrad.experiments.li2022 import modes, scatter
from stopgrad.experiments.li2022.ablation import BEARABLE, UNBEARABLE
from stopgrad.linear_theory.spectra.spectrum import (
    collapse_auc,
    numerical_rank,
    participation_ratio,
    rankme,
    stable_rank,
    variance_effective_rank,
)

DIM, WIDE = 512, 2048
"""Of a ResNet-18's representations and a ResNet-50's."""
ALPHAS = (0.5, 1.0, 1.5, 2.0)
SIGMA2, INPUTS, FEW = 0.1, 32, 102
"""The linear arms' X′ = σ²I, their dimensions, and a fortieth of their 4,096 points."""
SPECTRA = 2000
_IDENTITY = "float64's own error"


@functools.cache
def released() -> dict:
    """Metrics of the six spectra that the authors released, by name, and `percent` of ImageNet."""
    return json.loads(Path(__file__).with_name("released.json").read_text(encoding="utf-8"))


@functools.cache
def power_laws() -> tuple[float, float]:
    """(digits to which AUC of λ ~ i^−α is its closed form, α of `ALPHAS`; the same of RankMe)."""
    found = []
    i = np.arange(1.0, DIM + 1)
    for alpha in ALPHAS:
        a = alpha / 2
        h, less = (i**-a).sum(), (i ** (1 - a)).sum()
        auc = ((DIM + 1) * h - less) / (DIM * h)
        rank = h * np.exp(a * (i**-a * np.log(i)).sum() / h)
        found.append((collapse_auc(i**-a) / auc - 1, rankme(i**-a) / rank - 1))
    return tuple(digits(np.abs(error)) for error in np.array(found).T)


@functools.cache
def flat_and_geometric() -> float:
    """Digits to which AUC of k equal values of d is 1 − (k − 1)/(2d), and of σ = 2^−i in 64 dimensions 1 − 1/64 and
    RankMe 4."""
    flat = [collapse_auc(np.r_[np.ones(k), np.zeros(DIM - k)]) / (1 - (k - 1) / (2 * DIM)) for k in (1, 64, 256, DIM)]
    halves = 0.5 ** np.arange(64)
    return digits(np.abs(np.array([*flat, collapse_auc(halves) / (1 - 1 / 64), rankme(halves) / 4]) - 1))


@functools.cache
def padded() -> tuple[float, float, float]:
    """(how much more collapsed by AUC the spectrum λ ~ 1/i in 512 dimensions is in 2048; digits to which that is
    ¾(1 − AUC); digits to which RankMe, participation ratio and stable rank stay)."""
    sigma = np.arange(1.0, DIM + 1) ** -0.5
    wide = np.r_[sigma, np.zeros(WIDE - DIM)]
    more = float(collapse_auc(wide) - collapse_auc(sigma))
    stay = [m(wide) / m(sigma) - 1 for m in (rankme, participation_ratio, stable_rank)]
    law = (1 - DIM / WIDE) * float(1 - collapse_auc(sigma))
    return more, digits(abs(more / law - 1)), digits(np.abs(stay))


@functools.cache
def chain() -> float:
    """The least slack, relative, in stable rank ≤ participation ratio ≤ exp-entropy of σ² ≤ RankMe ≤ rank and
    AUC(σ²) ≥ AUC(σ), over `SPECTRA` random spectra."""
    rng = np.random.default_rng(0)
    sigma = np.exp(rng.uniform(0, 6, (SPECTRA, 1)) * rng.standard_normal((SPECTRA, 32)))
    ranks = [m(sigma) for m in (stable_rank, participation_ratio, variance_effective_rank, rankme)]
    ranks.append(numerical_rank(sigma, 0.0))
    slack = [b / a - 1 for a, b in itertools.pairwise(ranks)]
    return float(np.min([*slack, collapse_auc(sigma**2) / collapse_auc(sigma) - 1]))


def spike() -> tuple[float, float]:
    """AUC and participation ratio of a flat spectrum with one value 12 times as large, less those of λ ~ i^−1.5: the
    first is below 0 and says less collapsed, so does the second and says more."""
    one, other = np.r_[12.0, np.ones(DIM - 1)], np.arange(1.0, DIM + 1) ** -0.4
    return (
        float(collapse_auc(one) - collapse_auc(other)),
        float(np.log(participation_ratio(one) / participation_ratio(other))),
    )


def _rise() -> float:
    return float(np.diff(released()["collapse_auc"][:4]).min())


def _fall() -> float:
    return released()["collapse_auc"][3] - released()["collapse_auc"][5]


def _on_few(eta: float) -> int:
    return modes.on_few(FEW, INPUTS, SIGMA2, eta)


def _on_all(eta: float) -> int:
    return modes.living(np.ones(INPUTS), np.full(INPUTS, SIGMA2), eta)


def _disagreement() -> float:
    """How many metrics put another run first than AUC does: 20 % of the data is the most collapsed by AUC."""
    data = released()
    first = {name: int(np.argmin(data[name])) for name in ("rankme", "participation_ratio", "stable_rank")}
    return sum(k != int(np.argmax(data["collapse_auc"])) for k in first.values())


CLAIMS: tuple[Claim, ...] = (
    claim(
        "power-law",
        "Equation 2",
        "The metric is the mean index of the spectrum turned round: of a power law it has a closed form.",
        Rule("digits to which AUC is ((d + 1)H_a − H_(a−1))/(d H_a)", 10, "digits", _IDENTITY),
        lambda: power_laws()[0],
        lambda: (
            "AUC = (d + 1 − μ)/d with μ the mean index under σ/Σσ. Of λ ~ i^−α at d = 512 it is "
            + ", ".join(
                f"{float(collapse_auc(np.arange(1.0, DIM + 1) ** (-alpha / 2))):.4f} (α = {alpha:g})"
                for alpha in ALPHAS
            )
            + f"; RankMe's closed form holds to {power_laws()[1]:.0f} digits."
        ),
        f"λ ~ i^−α, α = {', '.join(f'{a:g}' for a in ALPHAS)}, d = {DIM}",
    ),
    claim(
        "flat",
        "Equation 2",
        "Of k equal singular values among d the metric is 1 − (k − 1)/(2d): 1 of a line, ½ without collapse.",
        Rule("digits to which AUC and RankMe are their closed forms", 10, "digits", _IDENTITY),
        flat_and_geometric,
        lambda: (
            f"A line has 1, half of {DIM} dimensions {1 - (DIM / 2 - 1) / (2 * DIM):.4f}, all of them "
            f"{(DIM + 1) / (2 * DIM):.4f}; σ = 2^−i has RankMe 4 in any dimension."
        ),
        f"k = 1, 64, 256, 512 of d = {DIM}; σ = 2^−i, d = 64",
    ),
    claim(
        "padding",
        "Equation 2",
        "The same spectrum counts as more collapsed in a wider output: networks of different output width cannot be "
        "compared by this metric.",
        Rule("by how much AUC of λ ~ 1/i grows from 512 to 2048 dimensions", 0.05, "", "a fifth of its range"),
        lambda: padded()[0],
        lambda: (
            f"Zeros bring AUC to 1 − (d/d′)(1 − AUC), here up by {padded()[0]:.3f} (to {padded()[1]:.0f} digits), and "
            f"leave RankMe, participation ratio and stable rank as they are (to {padded()[2]:.0f} digits)."
        ),
        f"λ ~ 1/i, d = {DIM} and {WIDE}",
    ),
    claim(
        "chain",
        "Equation 2",
        "Effective ranks are ordered: stable rank, participation ratio, exp-entropy of variances, RankMe, rank; and of "
        "variances AUC is above that of standard deviations.",
        Rule("least relative slack of the chain", -1e-9, "", _IDENTITY),
        chain,
        lambda: f"Rényi entropies fall with their order. The least slack is {chain():.1e}, where spectra are flattest.",
        f"{SPECTRA} random spectra of 32 values, log-normal",
    ),
    claim(
        "spike",
        "Figure 3",
        "Which of two representations is the more collapsed depends on the metric.",
        Rule(
            "the lesser of what AUC and what the participation ratio says for it, with opposite signs", 0, "", "signs"
        ),
        lambda: min(-spike()[0], -spike()[1]),
        lambda: (
            f"One strong direction over a flat rest has AUC {spike()[0]:+.3f}, less collapsed, and ln of the "
            f"participation ratio {spike()[1]:+.2f}, more collapsed, than a power law: AUC sees the bulk, the "
            "participation ratio the top."
        ),
        f"(12, 1, 1, …) and λ ~ i^−0.8, d = {DIM}",
    ),
    claim(
        "released-rise",
        "Figure 3",
        "From 1 to 20 % of ImageNet the representation collapses more and more.",
        Rule("least rise of AUC from one share to the next, 1 to 20 %", 0.01, "", "a hundredth"),
        _rise,
        lambda: (
            "AUC of the released spectra: "
            + ", ".join(f"{auc:.3f} at {p} %" for p, auc in zip(released()["percent"], released()["collapse_auc"]))
            + "."
        ),
        "the authors' six released spectra",
    ),
    claim(
        "released-fall",
        "Figure 3",
        "The most collapsed is not the network that saw most: from 20 to 100 % of ImageNet AUC falls again.",
        Rule("AUC at 20 % less that at 100 %", 0.01, "", "a hundredth"),
        _fall,
        lambda: (
            f"{released()['collapse_auc'][3]:.3f} at 20 %, {released()['collapse_auc'][5]:.3f} at 100 %: the size of "
            "the data alone does not decide."
        ),
        "the authors' six released spectra",
    ),
    claim(
        "released-disagree",
        "Figure 3",
        "Metrics do not agree on which of the six networks is the most collapsed.",
        Rule("metrics among RankMe, participation ratio and stable rank that name another than AUC", 0.5, "", "one"),
        _disagreement,
        lambda: "20 % by AUC and RankMe, 100 % by participation ratio ({:.2f} against {:.2f}) and stable rank.".format(
            released()["participation_ratio"][5], released()["participation_ratio"][3]
        ),
        "the authors' six released spectra",
    ),
    claim(
        "scatter",
        "Figure 4",
        "AUC and training loss forecast the linear probe: Pearson .98.",
        Rule("Pearson's correlation of the paper's own points", 0.97, "", "rounds to .98 within the digitising error"),
        scatter.pearson,
        lambda: (
            f"Recomputed {scatter.pearson():.3f} over {len(scatter.points())} points: "
            + ", ".join(f"{scatter.pearson(name):.3f} for {name}" for name in scatter.read()["points"])
            + "."
        ),
        "21 of the paper's about 22 points, digitised",
    ),
    claim(
        "scatter-explained",
        "Figure 4",
        "The forecast explains 95 % of the variance.",
        Rule("R² of the paper's own points", 0.945, "", "rounds to .95"),
        scatter.explained,
        lambda: f"Recomputed {scatter.explained():.3f}; of a regression it is Pearson², {scatter.pearson() ** 2:.3f}.",
        "21 of the paper's about 22 points, digitised",
    ),
    claim(
        "scatter-within",
        "Figure 4",
        "The forecast is as good among models that are alike: those below the gap between single pass and the rest.",
        Rule("Pearson's correlation of the paper's points below 40 %", 0.97, "", "that of all points"),
        scatter.within,
        lambda: (
            f"The points lie in two clouds, {scatter.split():.1f} points apart, which alone makes a correlation high: "
            f"below it, it is {scatter.within():.3f}."
        ),
        "the paper's points below 40 %, digitised",
    ),
    claim(
        "few-images",
        "Figure 2",
        "On few images modes live that no population lets live: repeating a small chunk can work against a collapse.",
        Rule(
            f"modes of {INPUTS} that live on {FEW} images at η = {UNBEARABLE:g}, less those on all", 0.5, "modes", "one"
        ),
        lambda: (
            modes.on_few(FEW, INPUTS, SIGMA2, UNBEARABLE)
            - modes.living(np.ones(INPUTS), np.full(INPUTS, SIGMA2), UNBEARABLE)
        ),
        lambda: (
            f"A mode lives if η < x²/(4(x + x′)). Of X = I so few images give eigenvalues from "
            f"{(1 - (INPUTS / FEW) ** 0.5) ** 2:.2f} to {(1 + (INPUTS / FEW) ** 0.5) ** 2:.2f}, while X′ stays: "
            f"{_on_few(UNBEARABLE)} of them live at η = {UNBEARABLE:g}, on all images {_on_all(UNBEARABLE)}."
        ),
        f"X = I of {INPUTS} dimensions, X′ = {SIGMA2:g} I, Marčenko–Pastur law",
    ),
    claim(
        "few-images-fewer",
        "Figure 2",
        "Where the population lets all modes live, few images let fewer live.",
        Rule(
            f"modes of {INPUTS} that live on all images at η = {BEARABLE:g}, less those on {FEW}", 0.5, "modes", "one"
        ),
        lambda: (
            modes.living(np.ones(INPUTS), np.full(INPUTS, SIGMA2), BEARABLE)
            - modes.on_few(FEW, INPUTS, SIGMA2, BEARABLE)
        ),
        lambda: (
            f"At η = {BEARABLE:g} {_on_few(BEARABLE)} of {INPUTS} live on {FEW} images: what "
            "few images do to the rank depends on which side of the critical decay the population is."
        ),
        f"X = I of {INPUTS} dimensions, X′ = {SIGMA2:g} I, Marčenko–Pastur law",
    ),
)

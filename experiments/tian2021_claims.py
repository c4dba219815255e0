"""What Tian, Chen & Ganguli 2021 claim of networks, each with the arms that would show it and the rule that decides.

Below `cifar` claims rest on spectra and alignment; accuracies are claims of their own, for larger scales. Minimum
effects are the same throughout: a tenth (0.1 in natural logarithms) where the paper says "more" or "less", none (−0.1)
where it says "as good", a power of ten for a collapse in norm.
"""

import math

import numpy as np

from deep.expectation import Noise, units
from experiments import measures
from experiments.claims import Claim, Rule
from experiments.measures import accuracy, alignment_beyond_first, log_modes, log_spread, lost_decades
from experiments.suites import change
from experiments.tian2021_ablation import LINEAR, SQUARED, faster_predictor
from linear_theory.basin import critical_s0
from linear_theory.closed_loop import directpred_threshold
from linear_theory.fixed_points import critical_eta, fixed_points
from linear_theory.hyperparameters import Hyperparameters

PAPER = "tian2021"
MORE, AS_GOOD = 0.1, -0.1
ACCURACY = ("cifar", "gpu", "paper")
TRAINED = ("cpu", "cifar", "gpu", "paper")
"""A smoke run is over before anything has happened."""


def claim(name: str, place: str, statement: str, theory, rule: Rule, arms, value, **more) -> Claim:
    """A claim of this paper, meant for runs that have learned something unless `scales` says otherwise."""
    more.setdefault("scales", TRAINED)
    return Claim(
        id=f"{PAPER}-{name}",
        paper=PAPER,
        place=place,
        statement=statement,
        theory=theory,
        rule=rule,
        arms=tuple(arms),
        value=value,
        **more,
    )


def more_modes(name, place, statement, theory, better, worse, above=MORE, **more) -> Claim:
    """A claim that one arm keeps more modes of F than another."""
    rule = Rule(f"ln(modes of {better} ÷ modes of {worse})", above, "nats", _why(above))
    return claim(
        name, place, statement, theory, rule, (better, worse), lambda b, w: log_modes(b) - log_modes(w), **more
    )


def more_accurate(name, place, statement, theory, better, worse, above, scales=ACCURACY) -> Claim:
    """A claim that one arm's linear probe is better than another's by so many points."""
    rule = Rule(f"accuracy of {better} − accuracy of {worse}", above, "points", "well under the paper's own difference")
    value = lambda b, w: accuracy(b) - accuracy(w)  # noqa: E731
    return claim(name, place, statement, theory, rule, (better, worse), value, scales=scales)


def _why(above: float) -> str:
    return "a tenth more" if above > 0 else "not a tenth fewer"


# ---------------------------------------------------------------- what the theory computes


def _linear() -> Hyperparameters:
    return units(change(LINEAR, target="ema"), Noise(LINEAR.data.gaussian_sigma2, 1.0))


def _isotropic(config) -> Hyperparameters:
    """The run's η, α_p, β for a mode of input variance 1 with σ² = 0.1: networks have many; this is one to look at."""
    return units(config, Noise(0.1, 1.0))


def without_stop_gradient() -> str:
    h = _isotropic(SQUARED)
    rate = h.a - 1 / h.a + h.eta
    return (
        f"Theorem 2 at X = I, X′ = 0.1 I: whatever W_p is, the norm of W falls at least as e^(−{rate:.3g} t), F as "
        "its square."
    )


def without_predictor() -> str:
    h = _isotropic(SQUARED)
    return f"W′ = −(X′ + η I) W: every mode falls as e^(−{h.sigma2 + h.eta:.3g} t) at X′ = 0.1 I, F as its square."


def cosine_only() -> str:
    return "The theory is of squared error; under a cosine loss it is indicative, and collapse is one of directions."


def aligned() -> str:
    h = _linear()
    p = fixed_points(h).p_plus
    return (
        f"Theorem 3: the commutator of F and W_p falls where K > 0. At η = {h.eta:.3g}, K = {h.tau * p / 2:.3g} at the "
        f"stable fixed point, so modes that live are aligned in the end."
    )


def symmetric_in_the_end() -> str:
    h = _linear()
    return (
        "The fixed point of Eq. 2 is W_p = τ F (a F + (η/α_p) I)^-1, symmetric and without negative eigenvalues; "
        f"at s = p₊² its eigenvalue is {fixed_points(h).p_plus:.3g}."
    )


def balance() -> str:
    h = _linear()
    return (
        "Theorem 1: W Wᵀ − W_pᵀ W_p/α_p decays exactly as e^(−2ηt) in the flow; steps of SGD keep it to first "
        f"order in lr/(1 − m), {_step(LINEAR):.3g} in the linear network (η = {h.eta:.3g}) and {_step(SQUARED):.3g} "
        "in the ResNet."
    )


def larger_alpha() -> str:
    h = _linear().replace(beta=None)
    fast = h.replace(alpha_p=8.0)
    here, there = (float(np.asarray(critical_s0(np.float64(0.0), at))) for at in (h, fast))
    return (
        f"A mode that starts with p = 0 survives above s0 = {here:.3g} at α_p = 1 and above {there:.3g} at α_p = 8 "
        "(the true separatrix), so more of a spectrum does."
    )


def symmetric_collapse() -> str:
    h = _isotropic(SQUARED)
    points = fixed_points(h)
    return (
        f"Modes are independent once W_p is symmetric: one that starts with p below p₋ = {points.p_minus:.3g} on the "
        "parabola dies, and nothing turns it. A free W_p can rotate; for it the paper's theory makes no such statement."
    )


def symmetric_collapse_without_decay() -> str:
    h = _isotropic(SQUARED).replace(eta=0.0)
    return (
        f"Without weight decay p₋ = {fixed_points(h).p_minus:.3g}: on the parabola every mode with p > 0 at the start "
        "lives. Only p < 0, or s0 far below p0²/α_p, dies. The theory of one mode does not foretell this collapse."
    )


def faster_predictor_rescues() -> str:
    slow, fast = _isotropic(SQUARED), _isotropic(change(SQUARED, **faster_predictor(SQUARED, 4.0)))
    here, there = (float(np.asarray(critical_s0(np.float64(0.0), h))) for h in (slow, fast))
    return f"At p0 = 0 the border of collapse falls from s0 = {here:.3g} to {there:.3g} as α_p goes from 1 to 4."


def decay_of_predictor_only() -> str:
    h = _isotropic(SQUARED).replace(eta=0.0, eta_p=SQUARED.optimisation.weight_decay)
    return (
        f"With η_s = 0 and η_p = {h.eta_p:.3g} K gains η_p/2 = {h.eta_p / 2:.3g} over no decay at all (and has "
        f"{h.eta_p:.3g} less than with both decays), while nothing pulls s to 0."
    )


def ema_first() -> str:
    h = _linear()
    return (
        f"Where τ is small W_p and W cannot grow and align first (K > 0 for τ < {3 * math.sqrt(h.eta * h.a):.3g}); at "
        f"β = {h.beta:.3g} τ takes about {1 / h.beta:.3g} of the run's {_time(LINEAR):.3g} units of time to come to 1. "
        "Here the target starts as a copy, so it lags rather than starts at 0."
    )


def slow_target() -> str:
    h = _linear()
    return f"At β = {h.beta / 10:.3g} the target needs {10 / h.beta:.3g} units of time, of {_time(LINEAR):.3g}."


def too_much_decay(config, factor: float) -> str:
    h = _isotropic(config)
    strong = h.replace(eta=factor * h.eta)
    return (
        f"η_c = τ²x/(4a) for a mode of input variance x: η = {strong.eta:.3g} is beyond it for every mode with x < "
        f"{strong.eta / float(critical_eta(h)):.3g} (σ² = {h.sigma2:g}), whose only fixed point is then 0."
    )


def a_set_predictor() -> str:
    h = _isotropic(SQUARED)
    return (
        "With W_p set from F a weak mode beside a settled one grows for ε above "
        f"{float(directpred_threshold(h)[0]):.3g} (Eq. 18, isotropic); a learned W_p must first grow along it."
    )


def cutoff() -> str:
    h = _isotropic(SQUARED)
    return f"p = √max(s − c, 0): for c > 0 every mode with s < c has p = 0 and dies at the rate 2η = {2 * h.eta:.3g}."


def optimal() -> str:
    return (
        "The optimal W_p solves W_p F = E[f_a fᵀ]: the bracket of Eq. 3, times Wᵀ, is then 0, and along the rows of "
        "W only weight decay is left. No mode grows."
    )


def as_an_accuracy() -> str:
    return "The linear theory has no accuracy; it orders modes that live and die."


def proportional() -> str:
    h = _linear()
    return (
        f"A1 is exact where all modes have the same s′/s. The target lags by 1/β = {1 / h.beta:.3g}: that of a mode "
        "that grows at the rate r is smaller by 1/(1 + r/β)."
    )


def _step(config) -> float:
    return config.optimisation.lr / (1 - config.optimisation.momentum)


def _time(config) -> float:
    o = config.optimisation
    return o.epochs * (config.data.gaussian_samples // o.batch_size) * _step(config)


# ---------------------------------------------------------------- the claims


def _lost_more(name, place, statement, theory, dead, alive, **more) -> Claim:
    rule = Rule(
        f"powers of ten that F's trace lost in {dead}, less those in {alive}", 1.0, "decades", "a tenth is left"
    )
    return claim(
        name,
        place,
        statement,
        theory,
        rule,
        (dead, alive),
        lambda d, a: lost_decades(d) - lost_decades(a),
        **more,
    )


def _narrower(name, place, statement, dead, alive) -> Claim:
    rule = Rule(f"ln(spread of {alive} ÷ spread of {dead}), spread being 1 − m_o²", math.log(2), "nats", "half is left")
    return claim(name, place, statement, cosine_only, rule, (dead, alive), lambda d, a: log_spread(a) - log_spread(d))


def _falls(name, statement, scalar, words) -> Claim:
    rule = Rule(f"{words} at the start less that at the end, ResNet", MORE, "", "a tenth of its range")
    return claim(name, "Figure 2", statement, symmetric_in_the_end, rule, ["ema"], lambda r: measures.fall(r, scalar))


def _aligns(name, place, arm, theory, what) -> Claim:
    rule = Rule(f"cos(u_j, W_p u_j) over modes j ≥ 2 weighted by eigenvalue at the end, {arm}", 0.9, "", "within 26°")
    statement = f"The eigenvectors of F become eigenvectors of W_p ({what})."
    return claim(name, place, statement, theory, rule, [arm], alignment_beyond_first)


def _balanced(name, arm, what) -> Claim:
    rule = Rule(f"-log10 of the relative residual of Eq. 5 at the end, {arm}", 1.0, "digits", "within 10 %")
    statement = f"W Wᵀ and W_pᵀ W_p/α_p differ by e^(−2ηt) C alone ({what})."
    return claim(
        name,
        "Theorem 1",
        statement,
        balance,
        rule,
        [arm],
        lambda r: measures.digits_of(r, "balance_residual"),
        needs=("eta_t",),
    )


CLAIMS = (
    _balanced("theorem1-linear-network", "linear/baseline", "linear network, SGD"),
    _balanced("theorem1-resnet", "baseline", "last layer of a ResNet's projector, squared error"),
    _lost_more(
        "theorem2-stop-gradient",
        "Theorem 2",
        "Without stop-gradient a network with a learned predictor collapses.",
        without_stop_gradient,
        "no-stop-gradient",
        "baseline",
    ),
    _lost_more(
        "theorem2-stop-gradient-linear",
        "Theorem 2",
        "Without stop-gradient a linear network with a learned predictor collapses.",
        without_stop_gradient,
        "linear/no-stop-gradient",
        "linear/baseline",
    ),
    _narrower(
        "theorem2-stop-gradient-cosine",
        "Theorem 2",
        "Without stop-gradient the embeddings gather in one direction, under the cosine loss too.",
        "cosine/no-stop-gradient",
        "cosine/baseline",
    ),
    _lost_more(
        "theorem2-predictor",
        "Theorem 2, remark",
        "Without predictor the network collapses, although gradients stop at the target.",
        without_predictor,
        "no-predictor",
        "baseline",
    ),
    _narrower(
        "theorem2-predictor-cosine",
        "Theorem 2, remark",
        "Without predictor the embeddings gather in one direction, under the cosine loss too.",
        "cosine/no-predictor",
        "cosine/baseline",
    ),
    _aligns("alignment-linear-network", "Theorem 3", "linear/baseline", aligned, "linear network"),
    _aligns("alignment-resnet", "Theorem 3", "baseline", aligned, "ResNet, squared error, free predictor"),
    _aligns("alignment-resnet-ema", "Figure 2", "ema", aligned, "ResNet, squared error, EMA target"),
    _aligns("alignment-resnet-symmetric", "Figure 2", "symmetric-ema", aligned, "ResNet, EMA, symmetrised predictor"),
    _aligns("alignment-resnet-cosine", "Figure 2", "cosine/baseline", cosine_only, "ResNet, cosine loss"),
    _falls(
        "predictor-symmetric", "A free predictor becomes symmetric while it learns.", "asymmetry", "asymmetry of W_p"
    ),
    _falls(
        "predictor-positive",
        "The predictor's negative eigenvalues shrink.",
        "predictor_negative",
        "share of negative eigenvalues of W_p",
    ),
    claim(
        "target-proportional",
        "Assumption A1, Figure 7",
        "The EMA target stays nearly proportional to the online network (correlation 0.9 at worst).",
        proportional,
        Rule("lowest cosine of W_a and W, the projector's last layer, over the run", 0.9, "", "the paper's own number"),
        ["ema"],
        lambda r: measures.lowest(r, "target_correlation"),
        needs=("beta_t",),
    ),
    more_modes(
        "observation1-linear",
        "Observation 1",
        "A larger α_p shrinks the basin of collapse: more modes live.",
        larger_alpha,
        "linear/alpha-8",
        "linear/baseline",
        needs=("eta_t",),
    ),
    _lost_more(
        "observation5-linear",
        "Observation 5",
        "Beyond η = τ²/(4(1 + σ²)) all modes collapse (linear network).",
        lambda: too_much_decay(LINEAR, 4.0),
        "linear/beyond-critical-decay",
        "linear/baseline",
        needs=("eta_t",),
    ),
    _lost_more(
        "observation5-resnet",
        "Observation 5",
        "Too much weight decay collapses everything (ResNet).",
        lambda: too_much_decay(SQUARED, 64.0),
        "decay-64",
        "baseline",
        needs=("eta_t",),
    ),
    more_modes(
        "observation8-linear",
        "Observation 8",
        "An EMA target lets more modes live: it aligns first and grows later.",
        ema_first,
        "linear/ema",
        "linear/baseline",
        needs=("eta_t", "beta_t"),
    ),
    claim(
        "observation9-linear",
        "Observation 9",
        "A slow EMA trains slowly.",
        slow_target,
        Rule(
            "mean growth of F's trace over the run in linear/ema, less that in linear/slow-ema",
            0.05,
            "",
            "of its start; set after a first look, in which the size of F at the start had drowned a ratio",
        ),
        ["linear/ema", "linear/slow-ema"],
        lambda fast, slow: measures.mean_growth(fast) - measures.mean_growth(slow),
    ),
    more_modes(
        "symmetric-collapse",
        "Table 3",
        "A symmetric predictor without EMA collapses where a free one does not.",
        symmetric_collapse,
        "baseline",
        "symmetric",
        needs=("eta_t",),
    ),
    more_modes(
        "symmetric-collapse-no-decay",
        "Table 5",
        "A symmetric predictor without EMA and weight decay collapses where a free one does not.",
        symmetric_collapse_without_decay,
        "no-decay",
        "symmetric-no-decay",
    ),
    more_modes(
        "rescue-alpha-p",
        "Figure 6",
        "α_p > 1 saves the symmetric predictor without EMA.",
        faster_predictor_rescues,
        "symmetric-alpha-4",
        "symmetric",
        needs=("eta_t",),
    ),
    more_modes(
        "rescue-predictor-decay",
        "Table 5",
        "More weight decay on the predictor than on the rest saves the symmetric predictor without EMA.",
        decay_of_predictor_only,
        "symmetric-predictor-decay",
        "symmetric",
        needs=("eta_t",),
    ),
    more_modes(
        "rescue-predictor-decay-alone",
        "Table 5",
        "Weight decay on the predictor alone saves the symmetric predictor without EMA, as against none at all.",
        decay_of_predictor_only,
        "symmetric-predictor-decay",
        "symmetric-no-decay",
        needs=("eta_t",),
    ),
    more_modes(
        "rescue-ema",
        "Table 3",
        "An EMA target saves the symmetric predictor.",
        ema_first,
        "symmetric-ema",
        "symmetric",
        needs=("eta_t", "beta_t"),
    ),
    more_modes(
        "directpred-spectrum",
        "Table 8",
        "DirectPred does at least as well as the learned predictor (modes kept).",
        a_set_predictor,
        "directpred",
        "ema",
        AS_GOOD,
        needs=("eta_t",),
    ),
    more_modes(
        "directpred-epsilon",
        "Table 6",
        "Regularising with ε = 0.1 does better than without (modes kept).",
        a_set_predictor,
        "directpred",
        "directpred-eps-0",
        needs=("eta_t",),
    ),
    more_modes(
        "directpred-sign-of-c",
        "Table 7",
        "Cutting small eigenvalues off (c = 0.1) hurts (modes kept).",
        cutoff,
        "directpred-eps-0",
        "directpred-c+0.1",
        needs=("eta_t",),
    ),
    more_modes(
        "directpred-negative-c",
        "Table 7",
        "Adding to all eigenvalues (c = -0.1) does not hurt (modes kept).",
        cutoff,
        "directpred-c-0.1",
        "directpred-eps-0",
        AS_GOOD,
        needs=("eta_t",),
    ),
    more_modes(
        "directpred-freq",
        "Table 8",
        "Setting W_p every 5 steps only, with gradient steps in between, does as well (modes kept).",
        a_set_predictor,
        "directpred-freq-5",
        "directpred",
        AS_GOOD,
        needs=("eta_t",),
    ),
    more_modes(
        "optimal-fails",
        "Table 1",
        "The predictor that is optimal at every step is worse than one learned by gradient (modes kept).",
        optimal,
        "cosine/baseline",
        "cosine/optimal",
        needs=("eta_t",),
    ),
    more_accurate(
        "accuracy-symmetric",
        "Table 3",
        "Without EMA a symmetric predictor is far less accurate than a free one (36.6 against 72.9 %).",
        as_an_accuracy,
        "cosine/baseline",
        "cosine/symmetric",
        5.0,
    ),
    more_accurate(
        "accuracy-weight-decay",
        "Table 2",
        "Without weight decay accuracy falls (70.6 against 74.5 %, EMA).",
        as_an_accuracy,
        "cosine/ema",
        "cosine/no-decay-ema",
        1.0,
    ),
    more_accurate(
        "accuracy-optimal",
        "Table 1",
        "The optimal predictor is far less accurate than one learned by gradient (40.7 against 74.5 %, EMA).",
        as_an_accuracy,
        "cosine/ema",
        "cosine/optimal-ema",
        5.0,
    ),
    more_accurate(
        "accuracy-directpred",
        "Table 8",
        "DirectPred is at least as accurate as the learned linear predictor (77.9 against 75.1 %).",
        as_an_accuracy,
        "cosine/directpred",
        "cosine/ema",
        0.0,
    ),
    more_accurate(
        "accuracy-epsilon",
        "Table 6",
        "ε = 0.1 is more accurate than 0.5 (77.9 against 75.1 %, rho = 0.3).",
        as_an_accuracy,
        "cosine/directpred",
        "cosine/directpred-eps-0.5",
        0.5,
    ),
    more_accurate(
        "accuracy-sign-of-c",
        "Table 7",
        "c = -0.1 is more accurate than c = 0.1 (76.5 against 46.6 %, set at every step).",
        as_an_accuracy,
        "cosine/directpred-c-0.1",
        "cosine/directpred-c+0.1",
        5.0,
    ),
    more_accurate(
        "accuracy-freq",
        "Table 8",
        "Setting W_p every 5 steps is as accurate as at every step (77.5 against 77.9 %).",
        as_an_accuracy,
        "cosine/directpred-freq-5",
        "cosine/directpred",
        -1.0,
    ),
    more_accurate(
        "accuracy-imagenet",
        "Table 9",
        "On ImageNet DirectPred is more accurate than a linear predictor (64.4 against 59.4 %, 60 epochs).",
        as_an_accuracy,
        "imagenet/directpred",
        "imagenet/linear",
        1.0,
        scales=("paper",),
    ),
)
"""Every claim about networks: a new one is one entry here."""

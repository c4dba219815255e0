"""How every public function that takes arrays is called: whole numbers throughout, so that any dtype holds them."""

import numpy as np
import torch

from stopgrad.linear_theory.exact.closed_loop import Amplitudes, closed_loop_flow
from stopgrad.linear_theory.exact.unit_map import TrainingRecipe
from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.matrices import Correlations, Network
from stopgrad.linear_theory.flows.mean import BiasedNetwork, MeanHyperparameters
from stopgrad.linear_theory.flows.modes import EmaMode, Mode, mode_flow
from stopgrad.linear_theory.flows.set_loop import Eigenvalues, LoopHyperparameters
from stopgrad.linear_theory.flows.sixth_order import HeldNorms
from stopgrad.linear_theory.predictors.matrices import directpred_spectrum
from stopgrad.linear_theory.samples.linear_siamese import Training
from stopgrad.linear_theory.simulation.integrate import integrate
from stopgrad.linear_theory.simulation.outcomes import mode_outcome
from stopgrad.linear_theory.sweeps.axes import Axis
from stopgrad.linear_theory.sweeps.mode_problem import Problem

WHOLE = np.random.default_rng(0).integers(-4, 5, (5, 4, 4)).astype(float)
MATRIX, FEATURES, OTHER = WHOLE[0], WHOLE[1:4].reshape(-1, 4), WHOLE[2]
FEATURES, TEST = np.concatenate([FEATURES, FEATURES + 1]), FEATURES - 1
PSD = MATRIX @ MATRIX.T + 4 * np.eye(4)
STACK = np.stack([PSD, 2 * PSD, PSD + np.eye(4)])
DIAGONAL, NOISE = np.diag([4.0, 3, 2, 1]), np.diag([1.0, 1, 2, 3])
SPECTRUM = np.array([[9.0, 1, 4, 2, 7], [3, 3, 2, 1, 5]])
P, S, T, ETA = np.array([1.0, 2, 3, 1]), np.array([2.0, 1, 1, 3]), np.array([1.0, 2, 4, 5]), np.array([0.0, 1, 0, 0])
LABELS, TRUTH = np.arange(24.0) % 3, np.arange(12.0) % 3
h = Hyperparameters


def varied(function):
    """`function` of hyperparameters that are all arrays."""

    def call(eta, tau):
        return function(h(sigma2=eta, eta=eta, tau=tau, alpha_p=tau, eta_p=eta, x=tau))

    return call, (ETA, np.ones(4))


def small_network(Wp, W):
    return Network(Wp, W, W)


def draw_of(x1, x2):
    return lambda generator, batch: (x1, x2)


def torch_flow(state, h, extra):
    change = mode_flow(state, h)
    return Mode(change.p, change.s + extra)


def _integrate(p, s, extra, t):
    return integrate(torch_flow, Mode(p, s), h(eta=p), extra, t=t, duration=s, most_steps=96)


def _closed_loop(r, eps, t):
    return integrate(
        closed_loop_flow, Amplitudes(r), h(eta=0.1), directpred_spectrum, "views", eps, t=t, event_dims=1, most_steps=96
    )


# module.function: how it is called with arrays, and the arrays.
CASES = {
    "spectra.alignment.eigenvector_alignment": (lambda f, Wp, F: f(Wp, F), (MATRIX, STACK)),
    "spectra.alignment.commutator_norm": (lambda f, Wp, F: f(Wp, F), (MATRIX, STACK)),
    "spectra.alignment.misalignment": (lambda f, Wp, F: f(Wp, F), (MATRIX, STACK)),
    "spectra.alignment.asymmetry": (lambda f, Wp: (f(Wp), f(Wp, "absolute")), (WHOLE,)),
    "spectra.alignment.balance_residual": (
        lambda f, Wp, W, t: f(small_network(Wp, W), small_network(W, Wp), t, h()),
        (WHOLE[:4], WHOLE[1:], T),
    ),
    "spectra.alignment.alignment_rate": (lambda f, Wp, F: f(Wp, F, h()), (PSD, STACK)),
    "spectra.alignment.hessian_without_stop_gradient": (
        lambda f, Wp, X, Xp: f(Wp, Correlations(X, Xp), h()),
        (MATRIX, DIAGONAL, NOISE),
    ),
    "spectra.alignment.collapse_rate_without_stop_gradient": (
        lambda f, Wp, X, Xp: f(Wp, Correlations(X, Xp), h()),
        (MATRIX, DIAGONAL, NOISE),
    ),
    "tools.lengths.magnitude": (lambda f, v: (f(v), f(v, (0, 1))), (WHOLE,)),
    "tools.lengths.length": (lambda f, v: (f(v), f(v, (0, 1))), (WHOLE,)),
    "tools.lengths.directions": (lambda f, v: f(v), (WHOLE,)),
    "exact.basin.outcome_without_decay": (lambda f, p, s: f(Mode(p, s), h(eta=0)), (P, S)),
    "exact.basin.critical_s0": (lambda f, p, eta: f(p, h(eta=eta)), (P, ETA)),
    "exact.basin.collapses": (lambda f, p, s: f(Mode(p, s), h()), (P, S)),
    "exact.basin.lives_for_certain": (lambda f, p, s: f(Mode(p, s), h()), (P, S)),
    "sweeps.basin_fraction.wilson_interval": (lambda f, count, n: f(count, n), (P, T + 4)),
    "sweeps.basin_fraction.basin_fraction": (
        lambda f, eta: f(lambda s, h: (s.p > h.eta).astype(int), lambda r, n: Mode(r.random(n), 1.0), 9, h(eta=eta)),
        (ETA,),
    ),
    "sweeps.boundary.trace_boundary": (lambda f, x, y: f(lambda x, y: y > x + 0.5, x, y, width=0.1), (P, T)),
    "sweeps.boundary.refine": (lambda f, x, y: f(lambda x, y: y > x, x, y, 2), (T, T)),
    "exact.branches.stability": (lambda f, p, s, eta: f(mode_flow, Mode(p, s), h(eta=eta)), (P, S, ETA)),
    "exact.branches.branches": (lambda f, values: f("eta", values, h(beta=2), "ema"), (np.array([0.0, 1, 3]),)),
    "exact.centre.initial_m_o": (lambda f, cosine: f(cosine), (ETA,)),
    "exact.centre.subspace_std": (lambda f, k, d: f(k, d), (T, T + 4)),
    "exact.closed_loop.isotropic_regression": (lambda f, F: f(F, 0.5, 2.0), (STACK,)),
    "exact.closed_loop.directpred_limit": (lambda f, eta, eps: f(h(eta=eta), eps), (ETA, T)),
    "exact.closed_loop.directpred_basin": (lambda f, eta, eps: f(h(eta=eta), eps), (ETA, T)),
    "exact.closed_loop.cutoff_threshold": (lambda f, eta, cutoff: f(h(eta=eta), cutoff), (ETA, T)),
    "exact.closed_loop.directpred_threshold": (lambda f, eta, x: f(h(eta=eta), h(x=x)), (ETA, T)),
    "exact.closed_loop.directset_limit": (lambda f, eta, alpha: f(h(eta=eta), alpha, alpha), (ETA, T)),
    "exact.closed_loop.directset_threshold": (lambda f, eta, alpha: f(h(eta=eta), alpha, alpha), (ETA, T)),
    "exact.closed_loop.selective_weight_decay": (lambda f, x, y: f(h(x=x), h(x=y)), (P, S)),
    "exact.discrete.descend": (
        lambda f, p, s, lr: f(mode_flow, Mode(p, s), h(), lr=lr, steps=3, every=1),
        (P, S, P),
    ),
    "exact.discrete.stable_lr": (lambda f, values, m: f(values, m), (-PSD, ETA[:1])),
    "exact.discrete.largest_stable_lr": (lambda f, eta, m: f(h(eta=eta), m), (ETA, 0 * ETA)),
    "tools.eigen.eigh": (lambda f, F: f(F), (STACK,)),
    "tools.eigen.eigvalsh": (lambda f, F: f(F), (STACK,)),
    "simulation.fate.simulate": (lambda f, p, s: f(Mode(p, s), h(), budget=1.0), (np.ones(2), np.array([1.0, 2]))),
    "simulation.fate.at_time": (lambda f, p, s, tau: f(EmaMode(p, s, tau), h(beta=1), 0.01), (P, S, ETA)),
    "simulation.outcomes.follow": (
        lambda f, p, s, eta: f(mode_flow, Mode(p, s), h(eta=eta), mode_outcome, t_end=0.01),
        (P, S, ETA),
    ),
    **{
        f"{name}": (lambda f, *arrays: varied(f)[0](*arrays), varied(None)[1])
        for name in (
            "spectra.alignment.negative_window",
            "spectra.alignment.parabola_minimum",
            "spectra.alignment.kappa",
            "spectra.alignment.tau_thresholds",
            "spectra.alignment.stop_gradient_rate_bound",
            "exact.fixed_points.critical_eta",
            "exact.fixed_points.discriminant",
            "exact.fixed_points.rest_points",
            "exact.fixed_points.fixed_points",
            "flows.modes.scales",
            "exact.nonisotropic.surviving_modes",
        )
    },
    "simulation.integrate.integrate": (
        lambda f, *arrays: (_integrate(*arrays), _closed_loop(*arrays[::3], T)),
        (P, S, P, T),
    ),
    "samples.linear_siamese.objective": (
        lambda f, Wp, W, x1, x2: f(small_network(Wp, W), x1, x2, h()),
        (PSD, MATRIX, FEATURES, FEATURES[::-1]),
    ),
    "samples.linear_siamese.gradient": (
        lambda f, Wp, W, x1, x2: f(small_network(Wp, W), x1, x2, h()),
        (PSD, MATRIX, FEATURES, FEATURES[::-1]),
    ),
    "samples.linear_siamese.train": (
        lambda f, Wp, W, x1, x2: f(draw_of(x1, x2), small_network(Wp, W), h(), training=Training(1e-3, 2, 3)),
        (PSD, MATRIX, FEATURES, FEATURES[::-1]),
    ),
    "samples.biased_siamese.shifted_views": (lambda f, mu, x: f(draw_of(x, x), mu)(None, 1), (P, FEATURES)),
    "samples.biased_siamese.biased_objective": (
        lambda f, Wp, W, b, x1, x2: f(BiasedNetwork(Wp, W, b), x1, x2, "cosine"),
        (PSD, MATRIX, P[:, None], FEATURES, FEATURES[::-1]),
    ),
    "samples.biased_siamese.train_biased": (
        lambda f, W, b, x1, x2: f(
            draw_of(x1, x2), BiasedNetwork(W, W, b), MeanHyperparameters(), "squared", Training(1e-3, 2, 3)
        ),
        (MATRIX, P[:, None], FEATURES, FEATURES[::-1]),
    ),
    **{
        f"exact.mean_mode.{name}": (lambda f, mu, x: f(MeanHyperparameters(mu=mu, x=x, directions=x)), (P, S))
        for name in ("least_variance", "centre_border", "can_live", "settled_centre")
    },
    "exact.mean_mode.least_augmented": (lambda f, x, xp: f(x, xp), (P, S)),
    "exact.mean_mode.naive_rates": (lambda f, x, xp, w: f(x, xp, w), (P, S, T)),
    "exact.mean_mode.settled_shares": (lambda f, x, xp: f(x, xp), (P, S)),
    "exact.cosine_limit.decay_clock": (lambda f, t, eta: f(t, eta), (T, P)),
    "exact.cosine_limit.decayed": (lambda f, p, s, t: f(Mode(p, s), t, 0.1), (P, S, T)),
    "exact.cosine_limit.predictor_rate": (lambda f, t: f(t, Hyperparameters(eta_p=0.1)), (T,)),
    "exact.cosine_limit.settled_turn": (lambda f, lr, decay: f(lr, decay, 0.5), (P, S)),
    "exact.cosine_limit.cosine_limit": (lambda f, p, s: f(Mode(p, s), Hyperparameters()), (P, S)),
    **{
        f"exact.sixth_order.{name}": (lambda f, n, m: f(HeldNorms(n_phi=n, n_psi=m)), (P, S))
        for name in ("sixth_order_rests", "emergence")
    },
    "exact.sixth_order.regime": (lambda f, p, n: f(p, HeldNorms(n_phi=n)), (P, S)),
    "exact.set_loop.squared_rest": (lambda f, a: f(LoopHyperparameters(exponent=a)), (P,)),
    "exact.set_loop.cosine_rest": (lambda f, s: f(Eigenvalues(s), LoopHyperparameters()), (S,)),
    "exact.set_loop.powered_rank": (lambda f, s: f(s, 0.5), (SPECTRUM[0],)),
    "exact.set_loop.rank_difference": (lambda f, s: f(s, s), (SPECTRUM[0],)),
    "exact.contrast.positive_weight": (lambda f, spectrum, tau: f(spectrum, tau, 9, 0.5), (SPECTRUM[0], T)),
    "exact.contrast.contrast_alignment": (lambda f, spectrum, tau: f(spectrum, tau, 9, 0.5), (SPECTRUM[0], T)),
    "exact.contrast.infonce_residuals": (lambda f, x, y: f(x, y, 0.5, "both"), (FEATURES, FEATURES[::-1])),
    "exact.contrast.decorrelation_gradient": (lambda f, x: f(x), (FEATURES,)),
    "exact.contrast.measured_alignment": (lambda f, x, y, tau: f(x, y, tau), (FEATURES, FEATURES[::-1], T)),
    "exact.nonisotropic.shared_modes": (lambda f, X, Xp: f(Correlations(X, Xp)), (STACK, STACK)),
    "exact.nonisotropic.mode_hyperparameters": (lambda f, X, Xp: f(Correlations(X, Xp), h()), (DIAGONAL, NOISE)),
    "exact.nonisotropic.fixed_point_without_decay": (lambda f, X, Xp: f(Correlations(X, Xp), 2), (PSD, NOISE)),
    "exact.nonisotropic.transformed": (lambda f, Wp, S: f(small_network(Wp, Wp), S), (PSD, PSD + np.eye(4))),
    "exact.nonisotropic.multiplicative_scrambling": (lambda f, X, P: f(X, P), (DIAGONAL, np.diag([1.0, 0, 1, 0]))),
    "exact.nonisotropic.additive_scrambling": (lambda f, X, Xp: f(X, Xp), (PSD, NOISE)),
    "exact.nonisotropic.settled_predictor": (lambda f, F: f(F, h()), (STACK,)),
    "sweeps.phase_diagram.phase_diagram": (
        lambda f, x, y, spectrum: f(Axis("eta", x), Axis("p0", y), Problem(h(), t_end=0.01), spectrum),
        (T, T, P[:2]),
    ),
    "sweeps.phase_diagram.check": (lambda f, x, y: f(Axis("eta", x), Axis("p0", y), Problem(h())), (-T, T)),
    "sweeps.phase_diagram.boundary": (lambda f, x, y: f(Axis("p0", x), Axis("s0", y), Problem(h())), (T[:2], T)),
    "predictors.matrices.spectral_size": (lambda f, s: f(s, "frobenius"), (SPECTRUM,)),
    "predictors.matrices.directpred_spectrum": (lambda f, s, eps: f(s, eps, eps), (SPECTRUM, SPECTRUM[:, :1])),
    "predictors.matrices.directset_spectrum": (
        lambda f, s, alpha: f(s, alpha, alpha, "spectral"),
        (SPECTRUM, T[:2, None]),
    ),
    "predictors.matrices.inverse_spectrum": (lambda f, s, ridge: f(s, ridge), (SPECTRUM, SPECTRUM[:, :1])),
    "predictors.matrices.spectral_function": (lambda f, F: f(F, lambda s: s**2), (STACK,)),
    "predictors.matrices.directpred": (lambda f, F, eps: f(F, eps, eps), (STACK, T[:3, None])),
    "predictors.matrices.directset": (lambda f, F, alpha: f(F, alpha, alpha), (STACK, T[:3, None])),
    "predictors.matrices.directcopy": (lambda f, F, eps: f(F, eps, "spectral"), (STACK, T[:3, None])),
    "predictors.matrices.optimal_regression": (lambda f, F, cross: f(F, cross, 0.5), (STACK, MATRIX)),
    "predictors.matrices.correlation": (lambda f, x: (f(x), f(x, centred=True)), (FEATURES,)),
    "predictors.matrices.update_correlation": (lambda f, F, G: (f(F, G, 0.5), f(None, G, 0.5)), (STACK, STACK)),
    "predictors.matrices.as_correlation": (lambda f, F: f(F), (STACK,)),
    "predictors.matrices.as_square": (lambda f, F: f(F, "F"), (STACK,)),
    **{
        f"spectra.spectrum.{name}": (lambda f, sigma: f(sigma), (SPECTRUM,))
        for name in (
            "cumulative_spectrum",
            "collapse_auc",
            "rankme",
            "variance_effective_rank",
            "participation_ratio",
            "stable_rank",
            "numerical_rank",
        )
    },
    "spectra.spectrum.alpha_req": (lambda f, sigma: f(sigma, 1, 4), (SPECTRUM,)),
    "spectra.moments.moments": (lambda f, x: f(x), (FEATURES,)),
    "spectra.moments.unit_rows": (lambda f, x: f(x), (FEATURES,)),
    "spectra.spectrum.report": (lambda f, sigma: f(sigma, 9, 5), (SPECTRUM[0],)),
    "spectra.spectrum.measure": (lambda f, x, y: (f(x), f([x, y])), (FEATURES, TEST)),
    "exact.time_course.limit": (lambda f, p, eta: f(p, h(eta=eta)), (P, ETA)),
    "exact.time_course.time_between": (lambda f, p, q, eta: f(p, q, h(eta=eta)), (P, S, ETA)),
    "exact.time_course.position": (lambda f, p, t, eta: f(p, t, h(eta=eta)), (P, T, ETA)),
    "simulation.trajectory.trajectory": (lambda f, p, s, t: f(Mode(p, s), h(), t, most_steps=96), (P, S, T)),
    "simulation.trajectory.check_start": (lambda f, p, s: f(Mode(p, s), h()), (P, S)),
    "exact.unit_map.to_theory": (
        lambda f, lr, decay: f(TrainingRecipe(lr=lr, weight_decay=decay, predictor_lr=decay), decay, lr),
        (P, S),
    ),
    "exact.unit_map.to_recipe": (lambda f, eta, dt: f(h(eta=eta), dt=dt, momentum=0.5), (ETA, T)),
    "samples.views.gaussian_views": (
        lambda f, X, Xp: f(Correlations(X, Xp))(torch.Generator().manual_seed(0), 3),
        (PSD, NOISE),
    ),
    "samples.views.exact_views": (lambda f, X, Xp: f(Correlations(X, Xp))(None, 0), (PSD, NOISE)),
    "samples.views.measure_correlations": (lambda f, x1, x2: f(draw_of(x1, x2), 24), (FEATURES, FEATURES[::-1])),
    "samples.views.measure_image_correlations": (lambda f, x: f(lambda generator, images: x, None, 2), (FEATURES,)),
    "samples.views.nearest_psd": (lambda f, F: f(F), (MATRIX + MATRIX.T,)),
    "deep.measuring.evaluation.knn_accuracy": (
        lambda f, x, y: f(x, LABELS.astype(int), y, TRUTH.astype(int)),
        (FEATURES, TEST),
    ),
    "deep.measuring.evaluation.evaluate_features": (lambda f, x: f(x), (FEATURES,)),
    "deep.measuring.probe.linear_probe": (
        lambda f, x, y: f(x, LABELS.astype(int), y, TRUTH.astype(int), "paper", epochs=2),
        (FEATURES, TEST),
    ),
    "deep.measuring.probe.logistic_probe": (
        lambda f, x, y: f(x, LABELS.astype(int), y, TRUTH.astype(int), C=1.0),
        (FEATURES, TEST),
    ),
    "deep.measuring.probe.paper_probe": (
        lambda f, x, y: f(x, LABELS.astype(int), y, TRUTH.astype(int), epochs=2),
        (FEATURES, TEST),
    ),
    "deep.measuring.probe.check_features": (
        lambda f, x, y: f(x, LABELS.astype(int), y, TRUTH.astype(int)),
        (FEATURES, TEST),
    ),
    "deep.measuring.probe.classifier_accuracy": (
        lambda f, x: f(torch.nn.Linear(4, 3), x, LABELS.astype(int)),
        (FEATURES,),
    ),
    "deep.measuring.monitor.measure": (
        lambda f, z, p, t, Wp: f(z, p, t, Wp, Wp),
        (WHOLE[:2], WHOLE[1:3], WHOLE[2:4], PSD),
    ),
    "deep.measuring.weights.follow_target": (lambda f, W, b, Wa, ba: f(W, b, Wa, ba), (MATRIX, P, OTHER, S)),
    "deep.measuring.units.measure_noise": (lambda f, x, y: f(x, y), (FEATURES, FEATURES[::-1] + 1)),
}

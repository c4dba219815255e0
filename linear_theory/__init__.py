"""Learning dynamics of Siamese networks without negatives in linear networks: flows, exact results, phase diagrams."""

import sys
from importlib import import_module

from stopgrad.linear_theory.tools.exports import exports

__all__, __getattr__, __dir__ = exports(
    "stopgrad.linear_theory",
    {
        "flows.hyperparameters": "Hyperparameters",
        "flows.modes": "Mode EmaMode mode_flow ema_mode_flow parabola_flow balance scales",
        "flows.matrices": "Correlations Network Aligned Switches network_flow symmetrised_flow balance_matrix",
        "flows.mean": "MeanHyperparameters BiasedNetwork Centre with_mean biased_network_flow cosine_network_flow "
        "cosine_mode_flow centre_flow cosine_centre_flow",
        "flows.cosine": "Views cosine_flow sample_cosine_flow",
        "flows.cosine_modes": "Pair PairHyperparameters finite_width_mode_flow pair_flow mean_cosine moments",
        "flows.sixth_order": "HeldNorms Level sixth_order_flow shrinking_flow",
        "flows.set_loop": "Eigenvalues Rivals LoopHyperparameters SetLoop",
        "exact.cosine_limit": "decay_clock decayed predictor_rate settled_turn cosine_limit",
        "exact.sixth_order": "sixth_order_rests regime emergence",
        "exact.set_loop": "squared_rest cosine_rest powered_rank rank_difference",
        "exact.nonisotropic": "shared_modes mode_hyperparameters surviving_modes",
        "exact.unit_map": "TrainingRecipe to_theory to_recipe",
        "exact.cosine_recipe": "predict",
        "exact.fixed_points": "critical_eta fixed_points rest_points",
        "exact.branches": "branches stability",
        "exact.basin": "critical_s0 collapses lives_for_certain outcome_without_decay",
        "exact.time_course": "time_between position limit",
        "exact.closed_loop": "Amplitudes SetPredictor closed_loop_flow directpred_limit directpred_threshold "
        "directset_limit directset_threshold",
        "exact.centre": "optimal_bias decentring chance_m_o_squared unbiased_m_o_squared initial_m_o largest_m_o "
        "subspace_std infonce_residual",
        "exact.mean_mode": "least_variance centre_border can_live least_augmented naive_rates settled_shares "
        "settled_centre",
        "exact.contrast": "contrast_alignment measured_alignment positive_weight",
        "simulation.integrate": "integrate",
        "simulation.trajectory": "trajectory",
        "simulation.fate": "simulate",
        "exact.discrete": "descend mode_step largest_stable_lr",
        "simulation.outcomes": "End follow threshold mode_outcome",
        "sweeps.axes": "Axis make_axis",
        "sweeps.mode_problem": "Problem Start Descent",
        "sweeps.flow_problem": "FlowProblem",
        "sweeps.centre_problem": "centre_length",
        "sweeps.known_flows": "known_flow",
        "sweeps.phase_diagram": "phase_diagram boundary",
        "sweeps.boundary": "trace_boundary refine",
        "sweeps.basin_fraction": "basin_fraction wilson_interval",
        "predictors.matrices": "directpred directset directcopy optimal_regression correlation update_correlation "
        "spectral_function",
        "spectra.alignment": "eigenvector_alignment misalignment asymmetry commutator_norm alignment_operator",
        "spectra.spectrum": "cumulative_spectrum collapse_auc rankme variance_effective_rank participation_ratio "
        "stable_rank alpha_req numerical_rank measure",
        "spectra.moments": "moments singular_values",
        "spectra.white_noise": "white_noise_spectrum",
        "symbolic.derivations": "derive latex",
    },
)

if __name__ == "linear_theory":  # `python -m linear_theory` in a checkout: one package under one name
    sys.modules[__name__] = import_module("stopgrad.linear_theory")

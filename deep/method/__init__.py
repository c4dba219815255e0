"""Online network, predictor, target and objective."""

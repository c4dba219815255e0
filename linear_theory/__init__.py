"""Learning dynamics of Siamese networks without negatives in linear networks: flows, exact results, phase diagrams."""

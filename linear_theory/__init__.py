"""Learning dynamics of Siamese networks without negatives in linear networks: flows, exact results, phase diagrams."""

import os

# Threads that spin at a barrier while others wait for a busy core slow a fused kernel tenfold; sleeping ones do not.
# Read by the OpenMP runtime when torch is first imported, so it must be set before.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

"""Learning dynamics of Siamese networks without negatives in linear networks: flows, exact results, phase diagrams."""

import os

# How long a thread of a fused kernel spins at a barrier before it sleeps. The default is so long that on a busy machine
# threads that wait keep off those that are waited for; sleeping at once costs more than a small kernel takes.
# Read by the OpenMP runtime when torch is first imported, so it must be set before.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

"""The mode flow in p and ln s, written out for tests."""

import numpy as np


def log_flow(p, y, h):
    """(p′, (ln s)′), written out: s spans ten orders of magnitude (and a trial step may leave the floats)."""
    eta_p = h.eta if h.eta_p is None else h.eta_p
    pull = h.tau - (1 + h.sigma2) * p
    return h.alpha_p * np.exp(np.minimum(y, 600)) * pull - eta_p * p, 2 * (h.x * p * pull - h.eta)

"""`python -m linear_theory translate`: a training recipe in the theory's units, for either loss."""

from dataclasses import dataclass

from stopgrad.linear_theory.exact import unit_map
from stopgrad.linear_theory.exact.cosine_limit import decay_clock
from stopgrad.linear_theory.exact.cosine_recipe import predict
from stopgrad.linear_theory.exact.unit_map import to_theory


@dataclass(frozen=True)
class Translate(unit_map.Translate):
    """A training recipe in the theory's units, and what the theory expects of it.

    A cosine loss has no critical weight decay and no p±: what is said of it is of norms, directions and modes.
    """

    def run(self) -> dict:
        """Numbers and sentences; for a cosine loss without those of fixed points, with θ as `time_without_decay`."""
        if self.loss != "cosine":
            return super().run()
        (h, dt), findings = to_theory(self, self.sigma2, self.x), predict(self, self.sigma2, self.steps, self.x)
        t = self.steps * dt
        return {
            **vars(h),
            "eta_p": h.predictor_decay,
            "time_per_step": dt,
            "time": t,
            "time_without_decay": float(decay_clock(t, h.eta)),
            "findings": [found._asdict() for found in findings],
            "sentences": [found.words() for found in findings],
        }

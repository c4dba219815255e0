"""Objectives one after the other: from one step to the next the loss changes, and nothing else does.

Zhang et al. 2022 switch every 390 steps between drawing embeddings to their centre, somewhere and to their residual
(Fig. 4), and let SimSiam be followed by a collapse and that by a regulariser (Fig. 5b).
"""

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from stopgrad.deep.kinds import Objective
from stopgrad.deep.parts import complaint, options, override, written
from stopgrad.deep.seats import OBJECTIVE
from stopgrad.linear_theory.tools.errors import BadInput

# ---------------------------------------------------------------- a phase, as text


class Phase(NamedTuple):
    """An objective for so many steps."""

    objective: Objective
    steps: int | None
    """None: to the end of the run."""


def read_phase(text: str) -> Phase:
    """A phase from 'NAME OPTION=VALUE …@STEPS': an objective as flags name it, its options, and how long it lasts.

    Options that are not given are as by default; true, false and numbers are written as in JSON. Without @STEPS the
    phase has no end. Raises ValueError with one sentence for text that says no objective.

    >>> read_phase("direction toward=residual@390")
    Phase(objective=Direction(toward='residual'), steps=390)
    >>> read_phase("predictive stop-gradient=none loss=squared").objective.loss
    'squared'
    """
    what, at, steps = text.partition("@")
    name, *given = what.split() or [""]
    try:
        if at and not re.fullmatch(r"\s*0*[1-9][0-9]*\s*", steps):
            raise BadInput("after @ comes a number of steps, at least 1")
        kind = OBJECTIVE.kind(name)
        if issubclass(kind, Schedule):
            raise BadInput("a phase is one objective, no schedule; give its phases one after the other")
        return Phase(_objective(kind, tuple(given)), int(steps) if at else None)
    except BadInput as error:
        raise BadInput(f"--phases has {text!r}: {error}") from None


@functools.cache  # asked several times a step
def _objective(kind: type[Objective], given: tuple[str, ...]) -> Objective:
    objective = override(kind(), written(given))
    for said in filter(None, map(complaint, options(objective))):
        raise BadInput(said)
    return objective


# ---------------------------------------------------------------- the part


@dataclass(frozen=True)
class Schedule(Objective):
    """Objectives one after the other, each for so many steps.

    Which one it is follows from the step alone, so that a run that was killed within a phase goes on within it. Its
    number is recorded as `phase`. What a phase leaves without gradient (a predictor, where the loss is of embeddings)
    stays as it is meanwhile; learning rates go their way.

    >>> fig4 = ("direction toward=centre@390", "direction toward=random@390")
    >>> Schedule(fig4, repeat=True).number(389), Schedule(fig4, repeat=True).number(1000)
    (1, 1)
    """

    phases: tuple[str, ...] = ()
    """What follows what, each an objective, its options and its steps: "predictive@975" "direction toward=view@195"
    "decorrelation form=correlation". The last one lasts to the end of the run."""
    repeat: bool = False
    """Begin anew after the last phase, which then has an end as well."""

    @property
    def read(self) -> list[Phase]:
        """The phases. Raises ValueError for text that says none."""
        return [read_phase(text) for text in self.phases]

    def made_of(self) -> Iterator[Objective]:
        """The phases' objectives."""
        return (phase.objective for phase in self.read)

    def number(self, step: int) -> int:
        """Which phase a step is in, from 1."""
        *others, last = (phase.steps for phase in self.read)
        if self.repeat:
            step %= sum(others) + last
        for k, steps in enumerate(others):
            if step < steps:
                return k + 1
            step -= steps
        return len(self.phases)

    def at(self, step: int) -> Objective:
        """The objective of a step."""
        return read_phase(self.phases[self.number(step) - 1]).objective

    def __call__(self, outputs):
        """The loss of the phase that the outputs' step is in."""
        return self.at(outputs.step)(outputs)

    def scalars(self, outputs):
        """The phase's number, and what its objective records."""
        return {"phase": outputs.z.new_tensor(self.number(outputs.step))} | self.at(outputs.step).scalars(outputs)

    # ------------------------------------------------------------ what follows from the phases

    @property
    def views(self):
        """As many as the phases want, all alike."""
        return max((one.views for one in self.made_of()), default=2)

    @property
    def compares(self):
        """Whether any phase does."""
        return any(one.compares for one in self.made_of())

    @property
    def whole_batch(self):
        """Whether any phase compares images."""
        return any(one.whole_batch for one in self.made_of())

    @property
    def isoloss(self):
        """Whether every phase is one."""
        return bool(self.phases) and all(one.isoloss for one in self.made_of())

    @property
    def theory(self):
        """What all phases are."""
        kinds = {one.theory for one in self.made_of()}
        return kinds.pop() if len(kinds) == 1 else None

    def complaints(self, config) -> Iterator[str]:
        """Phases without an end, and what each of them does not go with."""
        if not self.phases:
            yield f"--objective {self} needs --phases, like 'direction toward=centre@390' 'direction toward=residual'"
        endless = [text for text, phase in zip(self.phases, self.read) if phase.steps is None]
        if endless and (self.repeat or endless != [self.phases[-1]]):
            which = "every phase" if self.repeat else "every phase but the last"
            yield f"--phases has {endless[0]!r}, without an end; {which} needs one, like {endless[0] + '@390'!r}"
        if len({one.views for one in self.made_of()}) > 1:
            yield "--phases has objectives of different numbers of views, of which a run has one"
        for text, objective in zip(self.phases, self.made_of()):
            for said in objective.complaints(_with(config, objective)):
                yield f"--phases has {text!r}: {said}"

    def unbalanced(self) -> str | None:
        """The first reason that a phase has."""
        return next((reason for one in self.made_of() if (reason := one.unbalanced())), None)

    def expects(self, setting) -> list[str]:
        """What each phase expects, were it the whole run."""
        said = ["The objective changes during the run; what is said of a phase is said as if it were the whole run."]
        for text, objective in dict(zip(self.phases, self.made_of())).items():
            seen = replace(setting, config=_with(setting.config, objective))
            found = objective.expects(seen)
            found = seen.config.method.predictor.expects(seen) if found is None else found
            said += [f"In {text!r}: {sentence}" for sentence in found]
        return said


def _with(config, objective: Objective):
    return replace(config, method=replace(config.method, objective=objective))

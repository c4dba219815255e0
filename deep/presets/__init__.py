"""The papers' recipes and the theory's own setting, a file each: `--preset NAME`, and any option overridden."""

from typing import Any

from stopgrad.deep.config import GROUPS, Config, flat_config
from stopgrad.deep.parts import Needs, flag, options
from stopgrad.deep.presets import default, li2022, simsiam, theory, tian2021, zhang2022
from stopgrad.deep.presets.default import DEFAULT
from stopgrad.linear_theory.tools.errors import BadInput

PRESETS: dict[str, Config] = {
    name: config
    for file in (default, simsiam, tian2021, li2022, zhang2022, theory)
    for name, config in file.PRESETS.items()
}


def preset(name: str) -> Config:
    """The recipe of this name. Raises ValueError, naming the others, where there is none.

    >>> preset("linear-theory").method.objective.loss
    'squared'
    """
    if name not in PRESETS:
        raise BadInput(f"there is no preset {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]


def changes(config: Config, base: Config = DEFAULT) -> dict[str, Any]:
    """The options by which `config` comes from `base`, named flatly."""
    before = flat_config(base)
    found = (option for group in GROUPS for option in options(getattr(config, group)))
    return {option.name: option.value for option in found if option.value != before.get(option.name, option.default)}


def refuse_idle(config: Config, base: Config) -> Config:
    """Return `config`. Raises ValueError for an option changed from `base` that nothing in `config` reads.

    A record may have it, so that a recipe goes with any predictor or set; a person who asks for it misunderstands.
    """
    changed = changes(config, base)
    for option in (option for group in GROUPS for option in options(getattr(config, group))):
        for need in option.marks:
            if isinstance(need, Needs) and option.name in changed and not need.holds(config):
                raise BadInput(f"{flag(option.name)} {option.value} would have no effect; it goes with {need.words}")
    return config


def words(fields: dict) -> str:
    """Fields as `name value` pairs in one line."""
    return ", ".join(f"{name.replace('_', '-')} {value}" for name, value in fields.items())

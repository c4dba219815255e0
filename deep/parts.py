"""Parts: what varies in a run is a frozen record that owns its options, their ranges, refusals and what it computes.

A record of a config has a seat for each kind of part: `Method(predictor=MLP(hidden=64))`. Flags, presets and files name
options flatly (`predictor="mlp", predictor_hidden=64`): `flat` and `override` go between the two. A part is one file,
and one line in its table in `deep.seats`; a script may enter its own (`OBJECTIVES["mine"] = Mine`).
"""

import ast
import dataclasses
import functools
import importlib
import inspect
import itertools
import json
import math
import textwrap
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from stopgrad.linear_theory.tools.errors import BadInput

# ---------------------------------------------------------------- what stands beside a field: Annotated[int, COUNT]


class Range(NamedTuple):
    """Which numbers make sense: in words that follow 'it must be', and as a test. Every number must be finite."""

    rule: str
    holds: Callable[[Any], bool]


class Needs(NamedTuple):
    """What a field is read for: in words, and as a test of the config. Without it a flag would have no effect."""

    words: str
    holds: Callable[[Any], bool]


FRACTION = Range("above 0 and at most 1", lambda v: 0 < v <= 1)
PROBABILITY = Range("between 0 and 1", lambda v: 0 <= v <= 1)
BELOW_ONE = Range("at least 0 and below 1", lambda v: 0 <= v < 1)
POSITIVE = Range("above 0", lambda v: v > 0)
NOT_NEGATIVE = Range("at least 0", lambda v: v >= 0)
COUNT = Range("at least 1", lambda v: v >= 1)
TWO = Range("at least 2", lambda v: v >= 2)

# ---------------------------------------------------------------- parts and seats


_SEATS: list["Seat"] = []
"""Every seat there is, as they are made in `deep.seats`."""


class Part:
    """A choice with its options, which are its fields: a frozen dataclass.

    Help is the string under a field, a range stands beside its type, `Annotated[float, POSITIVE]`. The first line of
    the docstring is what `--help` says of the choice. Its file imports torch where it computes, not at its top.
    """

    def complaints(self, config) -> Iterator[str]:
        """A sentence for each thing in the rest of the config that it does not go with."""
        return iter(())

    def made_of(self) -> "Iterator[Part]":
        """Other parts, in no seat of their own, whose code its runs reach."""
        return iter(())

    def __str__(self) -> str:
        """The name by which a table has it, else that of its class."""
        names = (name for seat in _SEATS for name, kind in seat.choices.items() if _loaded(kind) is type(self))
        return next(names, type(self).__name__)


@dataclass(frozen=True)
class Seat:
    """Where one part of a kind sits in a record."""

    name: str
    """The field, and the flag: --name."""
    about: str
    """What is chosen, for the help."""
    table: dict[str, type[Part] | str]
    """Choices by name: classes, or where they are, 'module:Class', so that only what is chosen is imported."""
    default: str
    prefix: str = ""
    """What the flags of the parts' options begin with."""
    more: str | None = None
    """'module:function' that gives further choices, {name: class}, made from another list."""
    aliases: dict[str, str] = dataclasses.field(default_factory=dict)
    """Other names by which choices may be asked for, {alias: name}; what is chosen has its name, and so has its run."""

    def __post_init__(self):
        _SEATS.append(self)

    @property
    def choices(self) -> dict[str, type[Part] | str]:
        """All choices by name."""
        return {**self.table, **(_imported(self.more)() if self.more else {})}

    def kind(self, name: str) -> type[Part]:
        """The class of this name, hyphens in it being as good as underscores.

        Raises ValueError, naming the others, where there is none.
        """
        choices = self.choices
        name = self.aliases.get(name, name) if isinstance(name, str) else name
        known = spelled(name, choices) if isinstance(name, str) else None
        if known is None:
            raise BadInput(f"{flag(self.name)} is {name!r}; it must be one of {', '.join(choices)}")
        return _loaded(choices[known])

    def name_of(self, part: Part) -> str:
        """The name of a part's class. Raises ValueError for one that is not in the table, and for what is no part."""
        if not isinstance(part, Part):
            raise BadInput(f"{flag(self.name)} is {part!r}; it must be a part, where `.of({self.name}=…)` takes names")
        for name, kind in self.choices.items():
            if _loaded(kind) is type(part):
                return name
        raise BadInput(f"{type(part).__name__} is in no table as {flag(self.name)}; enter it in {self.name.upper()}S")

    def with_option(self, option: str) -> list[str]:
        """Names of the choices that have the option `option`, named flatly."""
        return [name for name in self.choices if option in self.options_of(self.kind(name))]

    def options_of(self, kind: type[Part]) -> dict[str, dataclasses.Field]:
        """The options of a part or its class by their flat names."""
        return {self.prefix + f.name: f for f in dataclasses.fields(kind)}

    def field(self):
        """The dataclass field that is this seat."""
        return dataclasses.field(default_factory=lambda: self.kind(self.default)(), metadata={"seat": self})


@functools.cache
def _imported(where: str) -> type[Part]:
    module, name = where.split(":")
    return getattr(importlib.import_module(module), name)


def _loaded(kind: type[Part] | str) -> type[Part]:
    return _imported(kind) if isinstance(kind, str) else kind


# ---------------------------------------------------------------- records, named flatly


class Option(NamedTuple):
    """A field of a record, or of a part in one of its seats, as flags see it."""

    name: str
    value: Any
    hint: Any
    """Its type; for a seat a Literal of the names of the choices."""
    marks: tuple
    """What stands beside the type: Range, Needs."""
    default: Any
    help: Callable[[], str]


def options(record) -> Iterator[Option]:
    """Every option of a record: its own fields, the choice at each seat, and after it the options of the part there."""
    for f in dataclasses.fields(record):
        seat, value = f.metadata.get("seat"), getattr(record, f.name)
        if seat is None:
            yield _option(f.name, record, f)
            continue
        names = (*seat.choices, *seat.aliases)
        yield Option(f.name, seat.name_of(value), Literal[names], (), seat.default, functools.partial(_choices, seat))
        yield from (_option(name, value, o) for name, o in seat.options_of(value).items())


def flat(*records) -> dict[str, Any]:
    """{flat name: value} of records, parts by name. Raises ValueError where two parts share an option's name."""
    found: dict[str, Any] = {}
    for option in itertools.chain(*map(options, records)):
        if option.name in found:
            raise BadInput(f"two parts have an option {flag(option.name)}; give one of them another name")
        found[option.name] = option.value
    return found


def override(record, values: dict[str, Any], others: bool = False):
    """`record` with the options in `values`, named flatly, replaced; lists are read as tuples.

    Another choice at a seat, by name or as a part, keeps the options that it shares by name with the one it replaces.
    Raises ValueError for an option that does not exist; with `others` those of parts not chosen are passed over.
    """
    left = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    changed = {}
    for f in dataclasses.fields(record):
        seat, value = f.metadata.get("seat"), left.pop(f.name, getattr(record, f.name))
        if seat is not None:
            value = _seated(seat, getattr(record, f.name), value)
            mine = {o.name: left.pop(name) for name, o in seat.options_of(value).items() if name in left}
            value = dataclasses.replace(value, **mine)
        changed[f.name] = value
    for name in left:
        if not (others and name in known(type(record))):
            raise BadInput(_unknown(dataclasses.replace(record, **changed), name))
    return dataclasses.replace(record, **changed)


def known(kind: type) -> set[str]:
    """Flat names of every option that a record of this class may have, whatever is chosen."""
    parts = ((seat.prefix, _loaded(choice)) for seat in seats_of(kind) for choice in seat.choices.values())
    return {f.name for f in dataclasses.fields(kind)}.union(*itertools.starmap(_names, parts))


@functools.cache
def _names(prefix: str, kind: type[Part]) -> frozenset[str]:
    return frozenset(prefix + f.name for f in dataclasses.fields(kind))


def seats_of(kind) -> list[Seat]:
    """The seats of a record or its class."""
    return [f.metadata["seat"] for f in dataclasses.fields(kind) if "seat" in f.metadata]


def parts_of(record) -> list[Part]:
    """The parts that sit in a record."""
    return [getattr(record, seat.name) for seat in seats_of(record)]


def flag(name: str) -> str:
    """--flat-name."""
    return "--" + name.replace("_", "-")


def spelled(name: str, names: Collection[str]) -> str | None:
    """Which of `names` is meant: `name`, or where there is none, as flags are written, with hyphens for underscores.

    >>> spelled("fresh-views", ["shared", "fresh_views"])
    'fresh_views'
    """
    return next((n for n in (name, name.replace("-", "_")) if n in names), None)


def written(words: Iterable[str]) -> dict[str, Any]:
    """{flat name: value} of words OPTION=VALUE; true, false, null, numbers and lists are written as in JSON.

    Raises ValueError for a word that is none.

    >>> written(["lr=0.1", "stop-gradient=none", "predictor_bias=true"])
    {'lr': 0.1, 'stop_gradient': 'none', 'predictor_bias': True}
    """
    values = {}
    for word in words:
        option, equals, value = word.partition("=")
        if not equals:
            raise BadInput(f"{word!r} is not OPTION=VALUE")
        try:
            read = json.loads(value)
        except json.JSONDecodeError:
            read = value
        values[option.removeprefix("--").replace("-", "_")] = read
    return values


def _seated(seat: Seat, present: Part, chosen: Part | str) -> Part:
    if isinstance(chosen, Part):
        return chosen
    kind = seat.kind(chosen)
    if kind is type(present):
        return present
    had = {f.name for f in dataclasses.fields(present)}
    return kind(**{f.name: getattr(present, f.name) for f in dataclasses.fields(kind) if f.name in had})


def _unknown(record, name: str) -> str:
    for seat in seats_of(record):
        if takers := seat.with_option(name):
            return f"{flag(name)} goes with {flag(seat.name)} {', '.join(takers)}, not {getattr(record, seat.name)}"
    if isinstance(record, Part):
        return f"{record} has no option {name!r}; it has {', '.join(flat(record)) or 'none'}"
    return f"there is no field {name!r} in {type(record).__name__}; there are {', '.join(flat(record))}"


def _option(name: str, owner, field: dataclasses.Field) -> Option:
    hint, marks = _hints(type(owner))[field.name]
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    return Option(name, getattr(owner, field.name), hint, marks, default, lambda: helps(type(owner))[field.name])


@functools.cache
def _hints(kind: type) -> dict[str, tuple[Any, tuple]]:
    """{field: (its type, what stands beside it)}."""
    plain, full = typing.get_type_hints(kind), typing.get_type_hints(kind, include_extras=True)
    return {name: (hint, getattr(full[name], "__metadata__", ())) for name, hint in plain.items()}


def _choices(seat: Seat) -> str:
    said = [f"{name}: {about(seat.kind(name))}" for name in seat.choices]
    said += [f"{alias}: {name}." for alias, name in seat.aliases.items()]
    return f"{seat.about} {' '.join(said)}"


def about(kind: type) -> str:
    """The first line of a class's docstring."""
    return inspect.cleandoc(kind.__doc__ or "").split("\n")[0]


@functools.cache
def helps(kind: type) -> dict[str, str]:
    """{field: the string under it}, of a class and those it inherits from."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not (dataclasses.is_dataclass(base) and "__annotations__" in base.__dict__):
            continue
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0].body
        except (OSError, TypeError):  # typed into a prompt, or made by code
            continue
        for line, under in itertools.pairwise(body):
            match line, under:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = " ".join(text.split())
    return {f.name: found.get(f.name, "") for f in dataclasses.fields(kind)}


# ---------------------------------------------------------------- impossible values


def complaint(option: Option) -> str | None:
    """A sentence on a value of a wrong type or out of range; None where it is sound."""
    if not _fits(option.value, option.hint):
        return f"{flag(option.name)} is {option.value!r}; it must be {_words(option.hint)}"
    for mark in option.marks if option.value is not None else ():
        # an int may be too large for math.isfinite
        if isinstance(mark, Range) and not (-math.inf < option.value < math.inf and mark.holds(option.value)):
            return f"{flag(option.name)} is {option.value}; it must be {mark.rule}"
    return None


def without(switch: str) -> str:
    """How a switch is left out, as the second half of a sentence."""
    return f"leave {flag(switch)} out, or give {flag('no_' + switch)} where a preset brings it"


def _fits(value, hint) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, argument) for argument in arguments)
    if origin is tuple:
        kinds = arguments[:1] * len(value) if arguments[-1] is ... else arguments
        return isinstance(value, tuple) and len(value) == len(kinds) and all(map(_fits, value, kinds))
    if hint is float:  # where no range asks for more, a number is finite all the same
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


_PLAIN = {float: "a number", int: "a whole number", bool: "true or false", str: "text", types.NoneType: "none"}


def _words(hint) -> str:
    """A type, in words that follow 'it must be'."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin in (types.UnionType, typing.Union):
        return " or ".join(map(_words, arguments))
    if origin is tuple:
        return f"{'a list' if arguments[-1] is ... else f'{len(arguments)} values'}, each {_words(arguments[0])}"
    return _PLAIN.get(hint, str(hint))


# ---------------------------------------------------------------- records as text


def canonical(record, defaults: bool = True) -> dict[str, Any]:
    """The record's options for JSON, what equals the same number written the same way: 1 as 1.0 where floats belong.

    Without `defaults`, what equals the default of its class is left out: then a field that is added later, with the old
    behaviour as its default, changes nothing. So a default, once it has named runs, must never change.
    """
    return {
        option.name: _plain(option.value, option.hint)
        for option in options(record)
        if defaults or option.value != option.default
    }


def _plain(value, hint):
    if isinstance(value, tuple):
        return [_plain(v, typing.get_args(hint)[0]) for v in value]
    if value is not None and float in (hint, *typing.get_args(hint)):
        return float(value) + 0.0  # and -0.0 as 0.0
    return value

"""A flow written down as C++: it is called once on quantities that record every operation, number by number.

Recorded are operators, integer and real powers, `@`, comparisons, and NumPy's or torch's sqrt, exp, log, abs, maximum,
minimum, clip, where, sum and max; what is reckoned twice is written once. A choice by `if`, an eigendecomposition or a
tensor that the flow brings along is refused.
"""

import functools
import math

import numpy as np
import torch

from stopgrad.linear_theory.simulation.runge_kutta import Problem, of_every_field

_MOST_LINES = 512  # of a flow: a longer one would outgrow the processor's registers and the compiler's patience

_FORMS = {
    "add": "{} + {}",
    "subtract": "{} - {}",
    "multiply": "{} * {}",
    "divide": "{} / {}",
    "negative": "-{}",
    "positive": "{}",
    "square": "{0} * {0}",
    "power": "pow({}, {})",
    "sqrt": "sqrt({})",
    "exp": "exp({})",
    "log": "log({})",
    "absolute": "magnitude({})",
    "maximum": "larger({}, {})",
    "minimum": "smaller({}, {})",
    "greater": "above({}, {})",
    "less": "below({}, {})",
    "greater_equal": "at_least({}, {})",
    "less_equal": "at_most({}, {})",
    "where": "chosen({}, {}, {})",
}
_POWERS = {1.0: "{0}", 2.0: "{0} * {0}", 3.0: "{0} * {0} * {0}", 0.5: "sqrt({0})", -1.0: "1.0 / {0}"}
_SAME = {"abs": "absolute", "pow": "power", "amax": "max", "clamp": "clip"}  # other names of what is recorded


def recorded(problem: Problem, fields, leaves) -> tuple[dict[str, str], list[str]]:
    """The lines of the flow, expression → name, and the names of its slopes; `fields`, `leaves`: shapes in one system.

    Numbers of the state are named y[0], y[1], … and those of the leaves x0, x1, … in the order of their cells. Raises
    TypeError, or whatever the flow does when called on what are no numbers, where it cannot be recorded.
    """
    lines: dict[str, str] = {}
    state = problem.kind(*_named("y[{}]", fields, lines))
    slopes = of_every_field(problem.flow(state, *problem.arguments(_named("x{}", leaves, lines))), problem.kind)
    return lines, [text for slope, shape in zip(slopes, fields) for text in np.broadcast_to(_texts(slope), shape).flat]


def _named(form: str, shapes, lines) -> list["_Recorded"]:
    """A recorded quantity of each shape; their numbers are counted through."""
    ends = np.cumsum([math.prod(shape) for shape in shapes], dtype=int)
    names = np.array([form.format(k) for k in range(ends[-1] if len(ends) else 0)], dtype=object)
    return [_Recorded(part.reshape(shape), lines) for part, shape in zip(np.split(names, ends[:-1]), shapes)]


def _texts(value) -> np.ndarray:
    """The C++ of a recorded quantity, or of finite numbers: an array of strings. Raises TypeError for anything else."""
    if isinstance(value, _Recorded):
        return value.texts
    if isinstance(value, torch.Tensor) or not np.isfinite(number := np.asarray(value, dtype=float)).all():
        raise TypeError("it brings a tensor along, or a number that is not finite")
    return np.asarray(np.frompyfunc(lambda v: f"({float(v)!r})", 1, 1)(number), dtype=object)


class _Recorded(np.lib.mixins.NDArrayOperatorsMixin):
    """Numbers inside the program, an array of them by their names: what is done to them writes the lines that do it."""

    __hash__ = None

    def __init__(self, texts, lines: dict[str, str]):
        self.texts, self.lines = np.asarray(texts, dtype=object), lines

    def __array_ufunc__(self, ufunc, method, *values, **options):
        return NotImplemented if method != "__call__" else self._do(ufunc.__name__, *values, **options)

    def __array_function__(self, function, types, values, options):
        return self._do(function.__name__, *values, **options)

    @classmethod
    def __torch_function__(cls, function, types, values=(), options=None):
        first = next(v for v in values if isinstance(v, _Recorded))
        return first._do(function.__name__, *values, **(options or {}))

    def _do(self, name, *values, **options):
        name = _SAME.get(name, name)
        if name in _FORMS and not options:
            return self._write(name, *values)
        if name == "matmul":
            return self._product(*values)
        if name in ("sum", "max", "clip"):
            return getattr(_Recorded, name)(*values, **options)
        return np.ones(self.shape) if name == "ones_like" else NotImplemented

    def _write(self, name, *values) -> "_Recorded":
        """One of `_FORMS` of the values, elementwise."""

        def line(*texts):
            form = _FORMS[name]
            if name == "power" and texts[1].startswith("("):  # a number
                form = _POWERS.get(float(texts[1][1:-1]), form)
            if len(self.lines) >= _MOST_LINES:
                raise TypeError(f"it takes more than {_MOST_LINES} operations")
            return self.lines.setdefault(form.format(*texts), f"v{len(self.lines)}")

        return _Recorded(np.frompyfunc(line, len(values), 1)(*map(_texts, values)), self.lines)

    def _product(self, left, right):
        parts = (self._write("multiply", left[..., k, None], right[..., k, None, :]) for k in range(left.shape[-1]))
        return functools.reduce(functools.partial(self._write, "add"), parts)

    def _fold(self, name, axis, keepdims):
        """Along one axis, or over everything."""
        texts = self.texts.reshape(-1) if axis is None else np.moveaxis(self.texts, axis, 0)
        total = functools.reduce(functools.partial(self._write, name), (_Recorded(one, self.lines) for one in texts))
        kept = tuple(range(self.ndim)) if axis is None else axis
        return _Recorded(np.expand_dims(total.texts, kept), self.lines) if keepdims else total

    def sum(self, axis=None, keepdims=False):
        return self._fold("add", axis, keepdims)

    def max(self, axis=None, keepdims=False):
        return self._fold("maximum", axis, keepdims)

    def clip(self, min=None, max=None):
        low = self if min is None else self._write("maximum", self, min)
        return low if max is None else self._write("minimum", low, max)

    def __bool__(self):
        raise TypeError("it chooses by a value")

    def __getitem__(self, index):
        return _Recorded(self.texts[index], self.lines)

    @property
    def shape(self):
        return self.texts.shape

    @property
    def ndim(self):
        return self.texts.ndim

    @property
    def mT(self):
        return _Recorded(self.texts.mT, self.lines)

"""A claim's numbers as a small inline SVG: one point a seed, the interval, the estimate, and the line it has to pass.

Colours are left to the page (classes, `currentColor`), so one drawing serves light, dark and paper.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup


class Numbers(NamedTuple):
    """What is drawn; what does not exist is None (`values`: of the seeds that have a finite value)."""

    estimate: float | None
    interval: tuple[float, float] | None
    threshold: float | None
    values: Sequence[float] = ()

    def drawn(self) -> list[float]:
        """Every number that has a place on the axis."""
        return [*self.values, *(self.interval or ()), *(v for v in (self.estimate, self.threshold) if v is not None)]


def number(value: float | None, digits: int = 4) -> str:
    """`value` to that many significant digits, with a true minus sign; a dash where there is none."""
    if value is None:
        return "–"
    if value and not 1e-4 <= abs(value) < 1e6:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}e{int(exponent)}".replace("-", "−")
    return f"{value:.{digits}g}".replace("-", "−")


def spoken(numbers: Numbers) -> str:
    """The drawing in words, for those who do not see it."""
    parts = [f"estimate {number(numbers.estimate)}"]
    if numbers.interval:
        parts.append(f"95 % interval {number(numbers.interval[0])} to {number(numbers.interval[1])}")
    if numbers.values:
        parts.append(f"{len(numbers.values)} seeds from {number(min(numbers.values))} to {number(max(numbers.values))}")
    if numbers.threshold is not None:
        parts.append(f"the claim needs more than {number(numbers.threshold)}")
    return "; ".join(parts)


def forest(numbers: Numbers) -> Markup:
    """One line of a forest plot, scaled to itself: the threshold (or 0) in the middle, support for the claim right."""
    if numbers.estimate is None:
        return Markup('<svg class="forest" viewBox="0 0 140 18" aria-hidden="true"></svg>')
    centre = numbers.threshold or 0.0
    reach = max((abs(v - centre) for v in numbers.drawn()), default=0) or 1.0

    def x(value: float) -> str:
        return f"{70 + 62 * (value - centre) / reach:.1f}"

    bar = f'<path class="bar" d="M{x(numbers.interval[0])} 9H{x(numbers.interval[1])}"/>' if numbers.interval else ""
    return Markup(
        '<svg class="forest" viewBox="0 0 140 18" aria-hidden="true">'
        f'{bar}<circle class="dot" cx="{x(numbers.estimate)}" cy="9" r="4"/></svg>'
    )


LEFT, RIGHT, HEIGHT = 14.0, 326.0, 96  # of a drawing 340 wide
_SEEDS, _BAR, _AXIS = 30, 48, 68  # heights of the seeds, of the interval and of the axis


def interval(numbers: Numbers) -> Markup:
    """Seeds, below them interval and estimate, an axis with numbers, the threshold dashed; empty without numbers."""
    if numbers.estimate is None and not numbers.values:
        return Markup("")
    from matplotlib.ticker import MaxNLocator

    low, high = min(numbers.drawn()), max(numbers.drawn())
    margin = 0.08 * (high - low) or 0.5 * abs(high) or 1.0
    low, high = low - margin, high + margin

    def x(value: float) -> float:
        return round(LEFT + (RIGHT - LEFT) * (value - low) / (high - low), 1)

    parts = [f'<path class="axis" d="M{LEFT:g} {_AXIS}H{RIGHT:g}"/>']
    for tick in MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(low, high):
        if low <= tick <= high:
            parts.append(f'<path class="axis" d="M{x(tick)} {_AXIS}v4"/>')
            text = number(0.0 if math.isclose(tick, 0, abs_tol=1e-12 * (high - low)) else float(tick))
            parts.append(f'<text x="{x(tick)}" y="{_AXIS + 16}" text-anchor="middle">{text}</text>')
    if numbers.threshold is not None:
        at = x(numbers.threshold)
        side = "end" if at > 220 else "start"
        parts.insert(0, f'<rect class="support" x="{at}" y="16" width="{round(RIGHT - at, 1)}" height="{_AXIS - 16}"/>')
        parts.append(f'<path class="threshold" d="M{at} 16V{_AXIS}"/>')
        label = f"must exceed {number(numbers.threshold)} →"
        parts.append(f'<text x="{at}" y="11" text-anchor="{side}">{label}</text>')
    parts += [
        f'<circle class="seed" cx="{x(v)}" cy="{_SEEDS + 5 * (k % 3 - 1)}" r="3"/>'
        for k, v in enumerate(numbers.values)
    ]
    if numbers.interval:
        ends = x(numbers.interval[0]), x(numbers.interval[1])
        parts.append(f'<path class="bar" d="M{ends[0]} {_BAR}H{ends[1]}"/>')
        parts += [f'<path class="cap" d="M{end} {_BAR - 5}v10"/>' for end in ends]
    if numbers.estimate is not None:
        parts.append(f'<path class="dot" d="M{x(numbers.estimate)} {_BAR - 6}l6 6l-6 6l-6 -6z"/>')
    label = spoken(numbers)
    return Markup(
        f'<svg class="interval" viewBox="0 0 340 {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    )

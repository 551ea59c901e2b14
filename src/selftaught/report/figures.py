"""Figures as SVG text: lines with intervals, and intervals side by side.

No script and no font is needed, so a figure is the same on a screen, on paper and in ten years.
Colours are those of Okabe and Ito (2008), which readers with any colour vision tell apart.
"""

import math
from collections.abc import Callable, Sequence
from html import escape

import msgspec

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#B8860B", "#000000")
_WIDTH = 760
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 150, 14, 44
_LABEL_PX = 15
_ROW_PX = 26
_NAME_PX = 190


class Point(msgspec.Struct, frozen=True):
    """A value at a place, with an interval where there is one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


class Series(msgspec.Struct, frozen=True):
    """One line of a figure; `dashed` ones are for comparison."""

    name: str
    points: tuple[Point, ...]
    dashed: bool = False


class Interval(msgspec.Struct, frozen=True):
    """One row of an interval plot: a value and the ends of its interval."""

    name: str
    value: float
    low: float
    high: float


def line_chart(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    whole_x: bool = True,
    height: int = 300,
) -> str:
    """Lines over a common axis, each named at its right end.

    Args:
        series: at least one, with at least one point in all.
        x_label, y_label: what the axes measure, with units.
        whole_x: ticks at whole numbers only.
        height: in pixels at full width.
    """
    points = [point for one in series for point in one.points]
    first, last = min(p.x for p in points), max(p.x for p in points)
    last = last if last > first else first + 1
    x_ticks = [t for t in ticks(first, last, whole=whole_x) if first <= t <= last]
    bounds = [b for p in points for b in (p.y, p.low, p.high) if b is not None]
    y_ticks = ticks(min(0.0, *bounds), max(bounds))
    right, bottom = _WIDTH - _RIGHT, height - _BOTTOM
    x_at = _scale(first, last, _LEFT, right)
    y_at = _scale(y_ticks[0], y_ticks[-1], bottom, _TOP)
    parts = [
        *(
            f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y_at(t):.1f}" y2="{y_at(t):.1f}"/>'
            f'<text x="{_LEFT - 8}" y="{y_at(t) + 4:.1f}" text-anchor="end">{number(t)}</text>'
            for t in y_ticks
        ),
        *(
            f'<text x="{x_at(t):.1f}" y="{bottom + 18}" text-anchor="middle">{number(t)}</text>'
            for t in x_ticks
        ),
        f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>',
        _label(x_label, f'x="{(_LEFT + right) / 2}" y="{height - 6}"'),
        _label(y_label, f'transform="translate(13 {(_TOP + bottom) / 2}) rotate(-90)"'),
    ]
    ends = []
    for place, one in enumerate(series):
        colour = COLOURS[place % len(COLOURS)]
        dash = ' stroke-dasharray="5 4"' if one.dashed else ""
        path = " ".join(f"{x_at(p.x):.1f},{y_at(p.y):.1f}" for p in one.points)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>'
        )
        for point in one.points:
            x, y = x_at(point.x), y_at(point.y)
            if point.low is not None and point.high is not None:
                parts.append(
                    f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y_at(point.low):.1f}" '
                    f'y2="{y_at(point.high):.1f}" stroke="{colour}" stroke-width="1.5"/>'
                )
            if len(one.points) <= _MANY_POINTS:
                parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" fill="{colour}"/>')
        ends.append((y_at(one.points[-1].y), one.name, colour))
    parts += [
        f'<text x="{right + 8}" y="{y + 4:.1f}" fill="{colour}">{escape(name)}</text>'
        for y, name, colour in _apart(ends, _TOP, bottom)
    ]
    return _svg(parts, height, f"{y_label} over {x_label}")


def interval_chart(rows: Sequence[Interval], *, x_label: str) -> str:
    """Values with their intervals one below the other, beside a line at zero."""
    height = _TOP + _ROW_PX * len(rows) + _BOTTOM
    bottom = height - _BOTTOM
    x_ticks = ticks(min(0.0, *(r.low for r in rows)), max(0.0, *(r.high for r in rows)))
    x_at = _scale(x_ticks[0], x_ticks[-1], _NAME_PX, _WIDTH - 20)
    zero = x_at(0.0)
    parts = [
        f'<line class="grid" x1="{x_at(t):.1f}" x2="{x_at(t):.1f}" y1="{_TOP}" y2="{bottom}"/>'
        f'<text x="{x_at(t):.1f}" y="{bottom + 18}" text-anchor="middle">{number(t)}</text>'
        for t in x_ticks
    ]
    parts.append(
        f'<line class="axis" x1="{zero:.1f}" x2="{zero:.1f}" y1="{_TOP}" y2="{bottom}"/>'
        + _label(x_label, f'x="{(_NAME_PX + _WIDTH - 20) / 2}" y="{height - 6}"')
    )
    for place, row in enumerate(rows):
        y = _TOP + _ROW_PX * (place + 0.5)
        colour = COLOURS[0] if row.low > 0 else COLOURS[1] if row.high < 0 else "#555"
        parts.append(
            f'<text x="{_NAME_PX - 12}" y="{y + 4:.1f}" text-anchor="end">{escape(row.name)}</text>'
            f'<line x1="{x_at(row.low):.1f}" x2="{x_at(row.high):.1f}" y1="{y}" y2="{y}" '
            f'stroke="{colour}" stroke-width="2"/>'
            f'<circle cx="{x_at(row.value):.1f}" cy="{y}" r="4" fill="{colour}"/>'
        )
    return _svg(parts, height, x_label)


def ticks(low: float, high: float, *, whole: bool = False, about: int = 5) -> list[float]:
    """Round numbers that cover a range, about as many as asked for and at least two."""
    if high - low <= 1e-9 * max(1.0, abs(low), abs(high)):
        # Too close to tell apart: a range around them.
        low, high = low - (0 if whole else 0.5), high + (1 if whole else 0.5)
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw)
    if whole:
        step = max(1.0, math.ceil(step))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def number(value: float) -> str:
    """A tick's text: no trailing zeros, no minus zero."""
    return f"{value + 0.0:.6g}"


_MANY_POINTS = 12


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _label(text: str, where: str) -> str:
    return f'<text class="label" text-anchor="middle" {where}>{escape(text)}</text>'


def _apart(
    labels: Sequence[tuple[float, str, str]], top: float, bottom: float
) -> list[tuple[float, str, str]]:
    """Move labels down until none covers another, then all up if the last has left the figure."""
    placed: list[tuple[float, str, str]] = []
    for y, name, colour in sorted(labels, key=lambda one: one[0]):
        least = placed[-1][0] + _LABEL_PX if placed else top
        placed.append((max(y, least), name, colour))
    over = max(0.0, placed[-1][0] - bottom) if placed else 0.0
    return [(y - over, name, colour) for y, name, colour in placed]


def _svg(parts: Sequence[str], height: float, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:g}" role="img" xmlns="http://www.w3.org/2000/svg">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )

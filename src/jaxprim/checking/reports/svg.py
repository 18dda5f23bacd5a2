"""Pictures of measurements: as data in a report, and drawn as SVG for the page.

Colours are classes in the page's style sheet, so that they follow light and dark mode.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import count

WIDTH, HEIGHT = 500, 290
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 12, 44
MOST_TICKS = 7
# Curves differ in their dashes too, not only in colour.
DASHES = ("", "7 4", "2 3", "10 3 2 3", "4 2", "12 3 2 3 2 3", "12 4", "6 2 2 2")
# A relative error below the first has no colour; above the second it has full colour.
SMALLEST_COLOURED, FULLY_COLOURED = 1e-9, 1.0
CELL = 30
LARGEST_WITH_NUMBERS = 10
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_ids = count(1)


# ----------------------------------------------------------------------------------------------------------- as data
@dataclass(frozen=True)
class Series:
    """A named line of points, all finite."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]

    @property
    def points(self) -> list[tuple[float, float]]:
        """The points of the line."""
        return list(zip(self.x, self.y, strict=True))


@dataclass(frozen=True)
class Lines:
    """Curves over logarithmic axes.

    Attributes:
        title: the title.
        caption: how to read the picture.
        example: the example of the measurement.
        x: the label of the horizontal axis.
        y: the label of the vertical axis.
        series: the curves.
    """

    title: str
    caption: str
    example: str
    x: str
    y: str
    series: tuple[Series, ...]


@dataclass(frozen=True)
class Heat:
    """A matrix of sizes, drawn as colours.

    Attributes:
        title: the title.
        caption: how to read the picture.
        example: the example of the measurement.
        rows: a name for each row.
        columns: a name for each column.
        values: a row of numbers for each row.
    """

    title: str
    caption: str
    example: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]


# ----------------------------------------------------------------------------------------------------------- as SVG
def draw(picture: Lines | Heat) -> str:
    """A picture as an ``<svg>`` element that a screen reader names by its title."""
    return _heat(picture) if isinstance(picture, Heat) else _lines(picture)


def _svg(width: float, height: float, title: str, description: str, parts: Sequence[str]) -> str:
    number = next(_ids)
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img" '
        f'aria-labelledby="t{number} d{number}">'
        f'<title id="t{number}">{escape(title)}</title><desc id="d{number}">{escape(description)}</desc>'
        + "".join(parts)
        + "</svg>"
    )


def _text(x: float, y: float, text: str, *, anchor: str = "middle", style: str = "", turn: str = "") -> str:
    more = (f' class="{style}"' if style else "") + (f' transform="{turn}"' if turn else "")
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(text)}</text>'


# ------------------------------------------------------------------------------------------------------------ curves
def _lines(picture: Lines) -> str:
    floor = _floor(picture.series)
    xs = _Axis.over([x for s in picture.series for x in s.x], LEFT, WIDTH - RIGHT)
    ys = _Axis.over([max(y, floor) for s in picture.series for y in s.y], HEIGHT - BOTTOM, TOP)
    parts = [*_grid(xs, ys), *_labels(picture)]
    for number, series in enumerate(picture.series):
        parts.append(_curve(series, number, xs, ys, floor))
    description = "; ".join(f"{s.name}: {_range_of(s)}" for s in picture.series)
    return _svg(WIDTH, HEIGHT, picture.title, description, parts)


def _floor(series: Sequence[Series]) -> float:
    """Where zeros are drawn on a logarithmic axis: below everything else."""
    positive = [y for s in series for y in s.y if y > 0]
    return min(positive, default=1.0) / 2


def _range_of(series: Series) -> str:
    if not series.y:
        return "no point"
    return f"between {min(series.y):.1e} and {max(series.y):.1e}"


class _Axis:
    """A logarithmic axis over whole decades."""

    def __init__(self, low: int, high: int, start: float, end: float) -> None:
        self.low, self.high, self.start, self.end = low, high, start, end

    @staticmethod
    def over(values: Sequence[float], start: float, end: float) -> _Axis:
        logs = [math.log10(v) for v in values if v > 0] or [0.0]
        low, high = math.floor(min(logs)), math.ceil(max(logs))
        return _Axis(low, max(high, low + 1), start, end)

    def at(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> Iterator[tuple[float, str]]:
        stride = math.ceil((self.high - self.low) / MOST_TICKS)
        for power in range(self.low, self.high + 1, stride):
            yield self.at(10.0**power), power_of_ten(power)


def power_of_ten(power: int) -> str:
    """A power of ten with a superscript."""
    return "1" if power == 0 else "10" + str(power).translate(_SUPERSCRIPT)


def _grid(xs: _Axis, ys: _Axis) -> Iterator[str]:
    for x, label in xs.ticks():
        yield f'<path class="grid" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>'
        yield _text(x, HEIGHT - BOTTOM + 16, label)
    for y, label in ys.ticks():
        yield f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
        yield _text(LEFT - 8, y + 4, label, anchor="end")


def _labels(picture: Lines) -> Iterator[str]:
    middle = (TOP + HEIGHT - BOTTOM) / 2
    yield _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, picture.x)
    yield _text(14, middle, picture.y, turn=f"rotate(-90 14 {middle:.1f})")


def _curve(series: Series, number: int, xs: _Axis, ys: _Axis, floor: float) -> str:
    points = " ".join(f"{xs.at(x):.1f},{ys.at(max(y, floor)):.1f}" for x, y in zip(series.x, series.y, strict=True))
    return f'<polyline class="curve c{number % 8}" {_dash(number)}points="{points}"/>'


def _dash(number: int) -> str:
    dash = DASHES[number % len(DASHES)]
    return f'stroke-dasharray="{dash}" ' if dash else ""


def sample(number: int) -> str:
    """A short piece of a curve, for the legend."""
    line = f'<path class="curve c{number % 8}" {_dash(number)}d="M0 6H36"/>'
    return f'<svg viewBox="0 0 36 12" width="36" height="12" aria-hidden="true">{line}</svg>'


# ---------------------------------------------------------------------------------------------------------- matrices
def _heat(picture: Heat) -> str:
    left = 12 + 7 * max(map(len, picture.rows), default=0)
    top = 12 + 7 * max(map(len, picture.columns), default=0)
    numbers = max(len(picture.rows), len(picture.columns)) <= LARGEST_WITH_NUMBERS
    cell = 1.6 * CELL if numbers else 0.8 * CELL
    parts = [_text(left - 8, top + cell * (i + 0.5) + 4, name, anchor="end") for i, name in enumerate(picture.rows)]
    for j, name in enumerate(picture.columns):
        x = left + cell * (j + 0.5) + 4
        parts.append(_text(x, top - 8, name, anchor="start", turn=f"rotate(-90 {x:.1f} {top - 8})"))
    for i, row in enumerate(picture.values):
        for j, value in enumerate(row):
            parts.append(
                _cell(left + cell * j, top + cell * i, cell, value, picture.rows[i], picture.columns[j], numbers)
            )
    worst = max((v for row in picture.values for v in row if math.isfinite(v)), default=math.nan)
    description = f"{len(picture.rows)} by {len(picture.columns)} elements; the largest error is {worst:.1e}"
    size = left + cell * len(picture.columns) + 2, top + cell * len(picture.rows) + 2
    return _svg(*size, picture.title, description, parts)


def _cell(x: float, y: float, size: float, value: float, row: str, column: str, numbers: bool) -> str:
    title = f"{row} by {column}: {value:.2e}"
    strength = shade(value)
    box = (
        f'<rect class="cell" x="{x:.1f}" y="{y:.1f}" width="{size - 2:.1f}" height="{size - 2:.1f}" rx="2" '
        f'fill-opacity="{strength:.2f}"><title>{escape(title)}</title></rect>'
    )
    style = "on-cell strong" if strength > 0.6 else "on-cell"
    return box + (_text(x + size / 2 - 1, y + size / 2 + 3, _short(value), style=style) if numbers else "")


def _short(value: float) -> str:
    if not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf"
    return "0" if value == 0 else f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")


def shade(value: float) -> float:
    """The strength of the colour of a relative error: from 0 for rounding to 1 for a completely wrong number."""
    if not value > SMALLEST_COLOURED:
        return 1.0 if math.isnan(value) else 0.0
    return min(1.0, math.log(value / SMALLEST_COLOURED) / math.log(FULLY_COLOURED / SMALLEST_COLOURED))

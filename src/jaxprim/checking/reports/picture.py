"""What a page draws, as data."""

from __future__ import annotations

from dataclasses import dataclass


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
        title: what it shows.
        caption: how to read it.
        example: the example that it was measured at.
        x: what the horizontal axis is.
        y: what the vertical axis is.
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
        title: what it shows.
        caption: how to read it.
        example: the example that it was measured at.
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

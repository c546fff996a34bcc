"""Curves over steps, drawn with braille dots between two axes that show the scale."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TypeAlias

from rich.text import Text
from textual.widget import Widget

Point: TypeAlias = tuple[float, float]
"""A step and its measurement."""

COLOURS = ("cyan", "yellow", "magenta", "green")

LABEL_WIDTH_CHARS = 9
"""Width of the scale to the left of the vertical axis, in characters."""

MIN_PLOT_WIDTH_CHARS = 10
"""Minimum width of a plot, in characters. If the window is narrower, no plot is shown."""

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bits of the dots in a braille cell, by row and column (Unicode, block Braille Patterns)."""


class Chart(Widget):
    """A frame with one or more named curves. `plot` replaces them."""

    DEFAULT_CSS = "Chart { height: 9; }"

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.series: dict[str, list[Point]] = {}
        """The curves shown, keyed by name."""

    def plot(self, series: Mapping[str, Sequence[Point]]) -> None:
        """Show the given curves instead of the previous ones. Values that are not numbers are skipped."""
        self.series = {
            name: [point for point in points if all(map(math.isfinite, point))]
            for name, points in series.items()
        }
        self.refresh()

    def render(self) -> Text:
        return draw(self.series, self.size.width, self.size.height)


def draw(series: Mapping[str, Sequence[Point]], width: int, height: int) -> Text:
    """Draw the curves with ``width`` × ``height`` characters: a legend, the plot with its scale, and the steps
    below it.
    """
    drawn_series = {name: points for name, points in series.items() if points}
    columns, rows = width - LABEL_WIDTH_CHARS - 1, height - 3
    if not drawn_series or columns < MIN_PLOT_WIDTH_CHARS or rows < 1:
        return Text("")
    xs = [x for points in drawn_series.values() for x, _y in points]
    ys = [y for points in drawn_series.values() for _x, y in points]
    (left_edge, right), (low, high) = _scale(xs), _scale(ys)
    cells: dict[tuple[int, int], tuple[int, int]] = {}
    for number, points in enumerate(drawn_series.values()):
        dots = [
            (
                round((x - left_edge) / (right - left_edge) * (columns * 2 - 1)),
                round((high - y) / (high - low) * (rows * 4 - 1)),
            )
            for x, y in _thinned(points, columns * 2)
        ]
        for x, y in _line_dots(dots):
            bits, _owner = cells.get((y // 4, x // 2), (0, number))
            cells[y // 4, x // 2] = (bits | _DOTS[y % 4][x % 2], number)
    text = Text(no_wrap=True, end="")
    text.append(" " * (LABEL_WIDTH_CHARS + 1))
    for number, (name, points) in enumerate(drawn_series.items()):
        text.append(f"── {name} {points[-1][1]:.4g}   ", COLOURS[number % len(COLOURS)])
    for row in range(rows):
        value = high - (high - low) * (row * 4 + 2) / (rows * 4)
        label = f"{value:.4g}" if row in (0, rows // 2, rows - 1) else ""
        text.append(f"\n{label:>{LABEL_WIDTH_CHARS}}", "dim").append("┤" if label else "│", "dim")
        for column in range(columns):
            bits, owner = cells.get((row, column), (0, 0))
            text.append(chr(0x2800 + bits) if bits else " ", COLOURS[owner % len(COLOURS)])
    middle = f"{(left_edge + right) / 2:g}" if right - left_edge > 2 else ""
    text.append("\n" + " " * LABEL_WIDTH_CHARS + "└" + "─" * columns, "dim")
    space = columns - len(f"{left_edge:g}{right:g}")
    text.append(f"\n{' ' * LABEL_WIDTH_CHARS}step {left_edge:g}{middle:^{max(space - 5, 0)}}{right:g}", "dim")
    return text


def _scale(values: Sequence[float]) -> tuple[float, float]:
    """Return the lowest and highest value of an axis. If all values are equal, place them in the middle."""
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _thinned(points: Sequence[Point], limit: int) -> list[Point]:
    """Reduce the points to at most ``limit`` by averaging neighbours."""
    if len(points) <= limit:
        return list(points)
    parts = [points[n * len(points) // limit : (n + 1) * len(points) // limit] for n in range(limit)]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts]


def _line_dots(dots: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield all dots of the lines that connect consecutive dots."""
    yield dots[0]
    for (x0, y0), (x1, y1) in pairwise(dots):
        steps = max(abs(x1 - x0), abs(y1 - y0), 1)
        for step in range(1, steps + 1):
            yield round(x0 + (x1 - x0) * step / steps), round(y0 + (y1 - y0) * step / steps)

"""The texts of charts and of SmartArt diagrams, which Office documents keep in parts of their own."""

from __future__ import annotations

from typing import Any, Final

_A: Final = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_C: Final = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"
_DGM: Final = "{http://schemas.openxmlformats.org/drawingml/2006/diagram}"

CHART: Final = f"{_C}chart"
"""Element that refers to a chart by its attribute ``r:id``."""

DIAGRAM: Final = f"{_DGM}relIds"
"""Element that refers to a diagram by its attribute ``r:dm``."""

MAX_POINTS: Final = 1_000
"""Maximum number of values of a series that are read."""


def chart_lines(chart: Any) -> list[str]:
    """Return the titles of a chart, and a line for each series with its categories and values."""
    lines = [
        "".join(text.text or "" for text in title.iter(f"{_A}t", f"{_C}v"))
        for title in chart.iter(f"{_C}title")
    ]
    for series in chart.iter(f"{_C}ser"):
        name = " ".join(_points(series, "tx").values())
        categories = _points(series, "cat") or _points(series, "xVal")
        values = _points(series, "val") or _points(series, "yVal")
        pairs = (f"{categories.get(place, '')} {value}".strip() for place, value in values.items())
        lines.append(f"{name}: {'; '.join(pairs)}" if name else "; ".join(pairs))
    return [line for line in map(str.strip, lines) if line]


def _points(series: Any, kind: str) -> dict[str, str]:
    """Return the cached texts of a part of a series, by their place."""
    points: dict[str, str] = {}
    for value in series.iterfind(f"{_C}{kind}//{_C}v"):
        points[value.getparent().get("idx", "0")] = value.text or ""
        if len(points) == MAX_POINTS:
            break
    return points


def diagram_lines(diagram: Any) -> list[str]:
    """Return the text of each shape of a diagram, in the order of the file."""
    texts = (
        " ".join("".join(text.text or "" for text in line.iter(f"{_A}t")) for line in shape.iter(f"{_A}p"))
        for shape in diagram.iter(f"{_DGM}t")
    )
    return [text for text in map(str.strip, texts) if text]

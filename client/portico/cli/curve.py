"""Draws a loss curve with block characters, and formats durations."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

BLOCKS = "▁▂▃▄▅▆▇█"


def curve(values: Sequence[float], width: int = 60) -> str:
    """Draw the values on one line of at most ``width`` characters. If there are more values, neighbours are averaged;
    values that are not finite are skipped.
    """
    finite_values = [value for value in values if value == value and abs(value) != float("inf")]
    if not finite_values:
        return ""
    count = min(width, len(finite_values))
    ends = [part * len(finite_values) // count for part in range(count + 1)]
    points = [sum(finite_values[start:end]) / (end - start) for start, end in pairwise(ends)]
    low, high = min(points), max(points)
    if high == low:
        return BLOCKS[0] * len(points)
    return "".join(BLOCKS[round((point - low) / (high - low) * (len(BLOCKS) - 1))] for point in points)


def lasts(seconds: float | None) -> str:
    """Format a duration as ``45 s``, ``12 min`` or ``3.5 h``."""
    if seconds is None:
        return ""
    if seconds < 90:
        return f"{max(0, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

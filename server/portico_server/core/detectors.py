"""Finds parts of a text by patterns and checks, without a model.

Patterns are searched in linear time (`portico_server.core.pattern`). Texts are first normalized to what a person sees:
full-width and styled letters and digits become plain ones, and zero-width characters are ignored. Encoded content,
such as base64, is not decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache

from portico_server.core.dataclass import dataclass
from portico_server.core.look_alikes import fold_text
from portico_server.core.pattern import LinearPattern, linear

Check = Callable[[str, int, int], int]
"""A function of a text and the start and end of a match. Returns the end of a genuine match, otherwise 0."""


@dataclass(frozen=True, slots=True)
class Detection:
    """A detection: its position in the text and the kind of content."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True, slots=True)
class Detector:
    """A detector for one kind of content.

    ``label`` replaces a masked match. ``reach`` is the number of characters of a stream that may be needed before a
    match can be recognized. ``group`` is the group of the pattern that forms the match. ``bounded`` marks a pattern
    from the user.
    """

    kind: str
    label: str
    patterns: tuple[str, ...]
    check: Check | None = None
    group: int = 0
    reach: int = 64
    bounded: bool = False

    def compiled(self) -> tuple[LinearPattern, ...]:
        """Return the compiled patterns. Raises `UnsupportedPattern`."""
        return (
            tuple(linear(text) for text in self.patterns)
            if self.bounded
            else _compile_patterns(self.patterns)
        )


@cache
def _compile_patterns(patterns: tuple[str, ...]) -> tuple[LinearPattern, ...]:
    return tuple(map(LinearPattern, patterns))


def find(text: str, detectors: Iterable[Detector]) -> list[Detection]:
    """Return the detections in a text from left to right. Overlapping detections are merged; the first and longest
    sets the kind.

    Raises `UnsupportedPattern` if the text is too long for a pattern from the user.
    """
    read, places = fold_text(text)
    data = read.encode("utf-8", "replace")
    plain = len(data) == len(read)
    detections: list[Detection] = []
    for detector in detectors:
        for pattern in detector.compiled():
            if detector.bounded:
                pattern.require_affordable(data)
            at, char_index = 0, 0
            for first, last in pattern.spans(data, detector.group):
                if plain:
                    start, end = first, last
                else:  # spans are ordered from left to right, so each offset is counted from the previous match
                    start = char_index + len(data[at:first].decode("utf-8", "replace"))
                    end = start + len(data[first:last].decode("utf-8", "replace"))
                    at, char_index = first, start
                if detector.check is not None:
                    end = detector.check(read, start, end)
                if end > start:
                    detections.append(Detection(start, end, detector.kind))
    if places is not None:
        detections = [Detection(places[hit.start], places[hit.end - 1] + 1, hit.kind) for hit in detections]
    return _apart(detections)


def mask(text: str, hits: Sequence[Detection], labels: Callable[[str], str]) -> str:
    """Return the text with each hit replaced by the label of its kind."""
    parts, at = [], 0
    for hit in hits:
        parts += [text[at : hit.start], labels(hit.kind)]
        at = hit.end
    return "".join([*parts, text[at:]])


def _apart(hits: list[Detection]) -> list[Detection]:
    detections: list[Detection] = []
    for hit in sorted(hits, key=lambda hit: (hit.start, -hit.end)):
        if not detections or hit.start >= detections[-1].end:
            detections.append(hit)
        elif hit.end > detections[-1].end:  # the overlapping hit extends the range of the detection
            detections[-1] = Detection(detections[-1].start, hit.end, detections[-1].kind)
    return detections

"""Chunkers that split where the topic or the meaning changes."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from portico_server.features.chunkers.document import Part
from portico_server.features.chunkers.sentences import cut_wide, sentences
from portico_server.features.chunkers.spans import Span
from portico_server.features.chunkers.units import chunk_units, units_from

BLOCK_SENTENCES = 4
"""Number of sentences before a gap that are compared with the same number after it."""

MAX_GAPS = 50
"""Maximum number of gaps on each side of a valley that are searched for a peak."""

_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7ff"
_WORD = re.compile(rf"[{_CJK}]+|[^\W_{_CJK}]{{4,}}")


def chunk_topics(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Return runs of sentences with a common vocabulary, one run per chunk. Split runs wider than ``size`` columns by
    sentences.
    """
    return chunk_units(parts, _topics, size, overlap, together=False)


def _topics(text: str) -> Iterable[Span]:
    sentence_spans = list(sentences(text))
    words = [Counter(_words(text[start:end])) for start, end in sentence_spans]
    alike = [
        _similarity(words[max(0, i - BLOCK_SENTENCES) : i], words[i : i + BLOCK_SENTENCES])
        for i in range(1, len(sentence_spans))
    ]
    return units_from(text, (sentence_spans[i + 1][0] for i in _valleys(alike)))


def _words(text: str) -> Iterator[str]:
    """Yield words of at least four letters, because shorter words occur in every topic. Chinese, Japanese and Korean
    text yields pairs of characters.
    """
    for run in _WORD.findall(text.lower()):
        if "\u3040" <= run[0] <= "\ud7ff":
            yield from (run[i : i + 2] for i in range(len(run) - 1))
        else:
            yield run[:6]  # an approximation of the stem


def _similarity(before: Sequence[Counter[str]], after: Sequence[Counter[str]]) -> float:
    """Return the cosine similarity between the words before and after a gap."""
    counts: Counter[str] = Counter()
    reference_counts: Counter[str] = Counter()
    for item in before:
        counts.update(item)
    for item in after:
        reference_counts.update(item)
    shared_weight = sum(
        count * reference_counts[word] for word, count in counts.items() if word in reference_counts
    )
    norm = math.sqrt(sum(n * n for n in counts.values()) * sum(n * n for n in reference_counts.values()))
    return shared_weight / norm if norm else 0.0


def _valleys(alike: Sequence[float]) -> list[int]:
    """Return the gaps at which the similarity falls clearly more than average below the peaks on both sides."""
    depths = [_rise(alike, i, -1) + _rise(alike, i, 1) for i in range(len(alike))]
    if not depths:
        return []
    mean = sum(depths) / len(depths)
    spread = math.sqrt(sum((depth - mean) ** 2 for depth in depths) / len(depths))
    min_depth = max(mean + spread / 2, 0.1)
    return [
        i
        for i, depth in enumerate(depths)
        if depth >= min_depth and depth == max(depths[max(0, i - 2) : i + 3])
    ]


def _rise(alike: Sequence[float], at: int, step: int) -> float:
    top, i = alike[at], at + step
    while 0 <= i < len(alike) and abs(i - at) <= MAX_GAPS and alike[i] >= top:
        top = alike[i]
        i += step
    return top - alike[at]


def split_sentences(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Split into sentences, including the white space after them, so that joined sentences reproduce the text."""
    found_parts: list[Part] = []
    for part in parts:
        line, counted_offset = part.place.line, 0
        for start, end in cut_wide(part.text, sentences(part.text), size):
            text = part.text[start:end]
            if not text.strip():
                continue
            if line is not None:
                line += part.text.count("\n", counted_offset, start)
                counted_offset = start
            place = replace(part.place, line=line, start=part.place.start + start, end=part.place.start + end)
            found_parts.append(Part(text, place))
    return found_parts

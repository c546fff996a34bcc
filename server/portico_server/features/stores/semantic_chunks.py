"""Chunks of sentences on one topic: splits the text where the distance between neighbouring sentences is large.

Each sentence is embedded together with its neighbours. The text is split where the vectors of consecutive sentences
are further apart than most (G. Kamradt, 5 Levels of Text Splitting, 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.features.chunkers.document import Part
from portico_server.features.chunkers.spans import width
from portico_server.features.stores.embedding import embed_texts

NEIGHBOUR_SENTENCES = 1
"""Number of sentences on each side that are embedded together with a sentence."""


MIN_SENTENCES = 4
"""Minimum number of sentences in a chunk, if they fit."""


async def semantic_chunks(
    sentences: Sequence[Part], size: int, percentile: int, model: str, context: Context
) -> list[Part]:
    """Join sentences into chunks of up to ``size`` columns. The text is split where the distance between sentences is
    above the ``percentile`` of the document's distances.
    """
    runs = [run for run in _adjacent_runs(sentences) if run]
    windows = [
        "".join(
            item.text for item in run[max(0, i - NEIGHBOUR_SENTENCES) : i + NEIGHBOUR_SENTENCES + 1]
        ).strip()
        for run in runs
        if len(run) > MIN_SENTENCES
        for i in range(len(run))
    ]
    vectors = await embed_texts(windows, model, context)
    distances = await pools.INDEX.run(_distances, vectors) if vectors else []
    parts: list[Part] = []
    at = 0
    for run in runs:
        if len(run) <= MIN_SENTENCES:
            parts.extend(_cut_at_distances(run, [0.0] * len(run), 1.0, size))
            continue
        # The distance from the previous sentence, for each sentence of the run. The first has no previous
        # sentence.
        before = [0.0, *distances[at : at + len(run) - 1]]
        at += len(run)
        parts.extend(_cut_at_distances(run, before, _percentile_distance(before[1:], percentile), size))
    return parts


def _adjacent_runs(sentences: Sequence[Part]) -> list[list[Part]]:
    """Return runs of adjacent sentences on one page and under one heading."""
    runs: list[list[Part]] = []
    for item in sentences:
        last = runs[-1][-1] if runs else None
        if last is not None and last.place.end == item.place.start and _location(last) == _location(item):
            runs[-1].append(item)
        else:
            runs.append([item])
    return runs


def _location(part: Part) -> tuple[object, ...]:
    place = part.place
    return place.page, place.heading, place.row, place.sheet, place.cell, place.seconds


def _distances(vectors: Sequence[bytes]) -> list[float]:
    """Return the cosine distance from each vector to the next."""
    import numpy as np  # imported here so that the daemon does not import it at its start

    rows = np.frombuffer(b"".join(vectors), dtype="<f4").reshape(len(vectors), -1)
    norms = np.linalg.norm(rows, axis=1)
    products = (rows[:-1] * rows[1:]).sum(axis=1)
    return [float(x) for x in 1 - products / np.maximum(norms[:-1] * norms[1:], 1e-12)]


def _percentile_distance(distances: Sequence[float], percentile: int) -> float:
    """Return the distance above which the text is split: the given percentile, interpolated between two ranks."""
    sorted_distances = sorted(distances)
    rank = (len(sorted_distances) - 1) * percentile / 100
    low = int(rank)
    high = min(low + 1, len(sorted_distances) - 1)
    return sorted_distances[low] + (sorted_distances[high] - sorted_distances[low]) * (rank - low)


def _cut_at_distances(run: Sequence[Part], before: Sequence[float], limit: float, size: int) -> list[Part]:
    parts: list[list[Part]] = []
    wide = 0
    for item, distance in zip(run, before, strict=True):
        columns = width(item.text)
        if not parts or distance > limit or wide + columns > size:
            parts.append([])
            wide = 0
        parts[-1].append(item)
        wide += columns
    return [_join_sentences(items) for items in parts]


def _join_sentences(items: Sequence[Part]) -> Part:
    """Join sentences into one chunk, without white space at the beginning and the end."""
    text = "".join(item.text for item in items)
    place = items[0].place
    stripped_text = text.lstrip()
    skipped_chars = len(text) - len(stripped_text)
    line = None if place.line is None else place.line + text.count("\n", 0, skipped_chars)
    start = place.start + skipped_chars
    stripped_text = stripped_text.rstrip()
    return Part(stripped_text, replace(place, line=line, start=start, end=start + len(stripped_text)))

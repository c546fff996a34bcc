"""Groups passages by the words that they share: weights of words (tf-idf), fewer dimensions, spherical k-means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Any, TypeAlias

import numpy as np

from portico_server.core.dataclass import dataclass

MAX_WORDS = 2_000
"""Maximum number of different words that are compared, the most frequent ones."""

MAX_WORD_SHARE = 0.3
"""Maximum share of passages that contain a word. A more frequent word belongs to no theme."""

DIMENSION_COUNT = 60

MAX_CLUSTERS = 12

MIN_CLUSTER_SIZE = 3
"""Minimum average number of passages in a cluster."""

START_COUNT = 4
"""Number of starting points of k-means, of which the best is used."""

ROUND_COUNT = 30
"""Maximum number of rounds of k-means."""

LABEL_WORD_COUNT = 3

_Matrix: TypeAlias = "np.ndarray[Any, np.dtype[np.float32]]"


@dataclass(frozen=True, slots=True)
class Cluster:
    """A group of passages. ``members`` are numbers of passages, the most typical first; ``words`` describe it."""

    members: list[int]
    words: list[str]


def cluster(passages: Sequence[Sequence[tuple[str, str]]]) -> list[Cluster]:
    """Return the clusters of passages, the largest first. Each passage is a list of (stem, spelling)."""
    stem_counts = [Counter(stem for stem, _ in words) for words in passages]
    frequencies = Counter(chain.from_iterable(stem_counts))
    points = _reduce(_weigh(stem_counts, frequencies))
    if len(points) < 2 * MIN_CLUSTER_SIZE:
        labels = np.zeros(len(points), dtype=np.intp)
    else:
        counts = range(2, min(MAX_CLUSTERS, len(points) // MIN_CLUSTER_SIZE) + 1)
        labels = max(
            (_k_means(points, count) for count in counts), key=lambda labels: _silhouette(points, labels)
        )
    spellings: dict[str, Counter[str]] = {}
    for stem, spelling in chain.from_iterable(passages):
        spellings.setdefault(stem, Counter())[spelling] += 1
    clusters = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        typical = members[np.argsort(-(points[members] @ points[members].sum(axis=0)), kind="stable")]
        inside = Counter(chain.from_iterable(stem_counts[number] for number in members.tolist()))
        # Words of many members that few other passages contain.
        worth = {
            stem: count * count / frequencies[stem]
            for stem, count in inside.items()
            if count > 1 or len(members) == 1
        }
        stems = sorted(worth, key=lambda stem: (-worth[stem], stem))[:LABEL_WORD_COUNT]
        words = [spellings[stem].most_common(1)[0][0] for stem in stems]
        clusters.append(Cluster(typical.tolist(), words))
    return sorted(clusters, key=lambda item: (-len(item.members), item.members))


def _weigh(stem_counts: Sequence[Counter[str]], frequencies: Counter[str]) -> _Matrix:
    """Return a row of word weights for each passage, each of length 1 or 0."""
    size = len(stem_counts)
    limit = max(2.0, MAX_WORD_SHARE * size)
    columns = {
        stem: column
        for column, stem in enumerate(
            [stem for stem, count in frequencies.most_common() if 2 <= count <= limit][:MAX_WORDS]
        )
    }
    weights = np.zeros((size, len(columns)), dtype=np.float32)
    for row, counts in enumerate(stem_counts):
        for stem, count in counts.items():
            if stem in columns:
                weights[row, columns[stem]] = (1 + np.log(count)) * np.log(size / frequencies[stem])
    return _normalised(weights)


def _reduce(weights: _Matrix) -> _Matrix:
    """Return the rows in the `DIMENSION_COUNT` directions of most variation: words that occur together are one."""
    if not weights.size:
        return weights
    values, vectors = np.linalg.eigh(weights @ weights.T)
    strongest = slice(None, -DIMENSION_COUNT - 1, -1)
    return _normalised(vectors[:, strongest] * np.sqrt(np.clip(values[strongest], 0, None)))


def _k_means(points: _Matrix, count: int) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Return the number of the cluster of each point, from 0."""
    random = np.random.default_rng(0)
    best_fit, best_labels = -1.0, np.zeros(len(points), dtype=np.intp)
    for _start in range(START_COUNT):
        centres = points[random.integers(len(points), size=1)]
        while len(centres) < count:
            distances = np.clip(1 - (points @ centres.T).max(axis=1), 1e-9, None)
            centres = np.vstack([centres, points[random.choice(len(points), p=distances / distances.sum())]])
        labels = best_labels
        for number in range(ROUND_COUNT):
            new_labels = np.argmax(points @ centres.T, axis=1)
            if number and (new_labels == labels).all():
                break
            labels = new_labels
            centres = _normalised(np.eye(count, dtype=np.float32)[labels].T @ points)
        fit = float((points * centres[labels]).sum())
        if fit > best_fit:
            best_fit, best_labels = fit, labels
    return best_labels


def _silhouette(points: _Matrix, labels: np.ndarray[Any, np.dtype[np.intp]]) -> float:
    """Return how much nearer points are to their own cluster than to the next, from −1 to 1 (Rousseeuw 1987); −1 for a
    single cluster.
    """
    members = np.eye(labels.max() + 1, dtype=np.float32)[labels]
    sizes = members.sum(axis=0)
    if np.count_nonzero(sizes) < 2:
        return -1.0
    similarities = points @ (points.T @ members)
    rows = np.arange(len(points))
    own_sizes = sizes[labels]
    inner_distances = 1 - (similarities[rows, labels] - (points * points).sum(axis=1)) / np.maximum(
        own_sizes - 1, 1
    )
    outer_distances = 1 - similarities / np.maximum(sizes, 1)
    outer_distances[rows, labels] = np.inf
    outer_distances[:, sizes == 0] = np.inf
    nearest_distances = outer_distances.min(axis=1)
    largest = np.maximum(np.maximum(nearest_distances, inner_distances), 1e-9)
    widths = np.where(own_sizes > 1, (nearest_distances - inner_distances) / largest, 0.0)
    return float(widths.mean())


def _normalised(rows: _Matrix) -> _Matrix:
    normalised_rows: _Matrix = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return normalised_rows

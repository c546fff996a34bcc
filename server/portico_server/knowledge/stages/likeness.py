"""How alike two texts are, by the short runs of words and characters that they share. Needs no model."""

from __future__ import annotations

import re

from portico_server.knowledge.cjk import RUN

_WORD = re.compile(r"[^\W_]+")

_RUN_OF_WORDS = 2


def shingles(text: str) -> frozenset[str]:
    """Words, pairs of words, and pairs of Chinese, Japanese and Korean characters."""
    found: set[str] = set()
    for run in RUN.findall(text):
        found.update(run[i : i + 2] for i in range(max(1, len(run) - 1)))
    words = _WORD.findall(RUN.sub(" ", text).lower())
    found.update(words)
    found.update(" ".join(words[i : i + _RUN_OF_WORDS]) for i in range(len(words) - _RUN_OF_WORDS + 1))
    return frozenset(found)


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """The share of what both have in what either has, in [0, 1]."""
    both = len(one & other)
    return both / (len(one) + len(other) - both) if both else 0.0

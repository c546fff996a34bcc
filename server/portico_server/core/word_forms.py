"""Forms of words from native libraries: simplified Chinese characters, English stems, and words of Chinese.

The libraries load slowly, so they are imported with the first text that needs them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from functools import cache
from typing import Any

_STEMMER_LOCK = threading.Lock()


def simplify(text: str) -> str:
    """Return ``text`` with simplified Chinese characters instead of traditional characters."""
    simplified_text: str = _simplifier().convert(text)
    return simplified_text


def english_stems(words: Iterable[str]) -> list[str]:
    """Return the English stem of each word."""
    with _STEMMER_LOCK:  # a Snowball stemmer is not thread-safe: it stores the current word
        stems: list[str] = _stemmer().stemWords(list(words))
    return stems


@cache
def jieba() -> Any:
    """Return the module that splits Chinese text into words. Its dictionary loads in 0.14 s and takes 32 MB."""
    import rjieba

    return rjieba


@cache
def _simplifier() -> Any:
    import opencc

    return opencc.OpenCC("t2s")


@cache
def _stemmer() -> Any:
    import Stemmer

    return Stemmer.Stemmer("english")

"""The words that tell what a passage is about: content words of any script, and nouns of Chinese.

The first Chinese text loads the dictionaries of `portico_server.features.readers.analyse`, so use a worker thread.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from portico_server.core.stopwords import ENGLISH_STOPWORDS
from portico_server.core.word_forms import english_stems, jieba
from portico_server.core.words import CJK_RUN, HAN_RUN
from portico_server.features.readers.analyse import fold

MIN_WORD_CHARS = 3
"""Minimum length of a word in an alphabetic script, in characters."""

_WORD = re.compile(r"[^\W\d_][^\W_]+(?:-[^\W_]+)*")
_LINK = re.compile(r"\bhttps?://\S+")


def theme_words(text: str) -> list[tuple[str, str]]:
    """Return each content word of a text as (stem, spelling), as often as it occurs."""
    folded_text = fold(_LINK.sub(" ", text))
    spellings = [
        word
        for word in _WORD.findall(CJK_RUN.sub(" ", folded_text))
        if len(word) >= MIN_WORD_CHARS and word not in ENGLISH_STOPWORDS
    ]
    words = list(zip(english_stems(spellings), spellings, strict=True))
    nouns = _chinese_nouns(HAN_RUN.findall(folded_text))
    return words + [(noun, noun) for noun in nouns]


def _chinese_nouns(runs: Sequence[str]) -> list[str]:
    if not runs:
        return []
    return [
        word
        for word, tag in jieba().tag("\n".join(runs))
        if (len(word) > 1 and tag[:1] == "n") or tag == "vn"
    ]

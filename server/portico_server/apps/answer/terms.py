"""The terms by which a question and a sentence are compared: rough stems of words, and pairs of CJK characters."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from portico_server.apps.language import CJK
from portico_server.apps.relevance import STOP_CJK, STOP_WORDS, stem

_TOKEN = re.compile(rf"[^\W_{CJK}]+|[{CJK}]+")
_IS_CJK = re.compile(rf"[{CJK}]")


def fold(text: str) -> str:
    """``text`` in lower case and simplified characters, of the same length save in rare cases."""
    lowered = text.lower()
    return _simplifier().convert(lowered) if _IS_CJK.search(lowered) else lowered


def words(text: str) -> list[str]:
    """The words of folded ``text`` that carry meaning, in order; a run of CJK as its pairs of characters."""
    found: list[str] = []
    for token in _TOKEN.findall(text):
        if _IS_CJK.match(token):
            for part in STOP_CJK.split(token):
                found += (part,) if len(part) == 1 else (part[i : i + 2] for i in range(len(part) - 1))
        elif token not in STOP_WORDS and (len(token) > 1 or token.isdigit()):
            found.append(token)
    return found


def stems(found: list[str]) -> list[str]:
    """The terms of `words`."""
    return [word if _IS_CJK.match(word) else stem(word).removesuffix("e") for word in found]


def characters(text: str) -> frozenset[str]:
    """The CJK characters of folded ``text`` that carry meaning."""
    runs = (token for token in _TOKEN.findall(text) if _IS_CJK.match(token))
    return frozenset(char for run in runs for part in STOP_CJK.split(run) for char in part)


def has_cjk(text: str) -> bool:
    """Whether there is any character of Chinese, Japanese or Korean."""
    return _IS_CJK.search(text) is not None


@cache
def _simplifier() -> Any:
    import opencc  # its dictionaries are read by the first CJK text

    return opencc.OpenCC("t2s")

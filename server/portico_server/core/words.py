"""Words of texts and file names: Chinese, Japanese and Korean runs, names in words, stopwords. Patterns and lists
only."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from itertools import pairwise

_HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_KANA = "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
_HANGUL = "\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3"

HAN_RUN = re.compile(f"[{_HAN}]+")
"""A run of Chinese characters."""

CJK_RUN = re.compile(f"[{_HAN}{_KANA}]+|[{_HANGUL}]+")
"""A run of a script that is written without spaces between words, or with particles glued to them."""


_MONTH_NAMES = "january february march april may june july august september october november december"
MONTHS = tuple(_MONTH_NAMES.split())
"""The English names of months, in small letters."""

_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)


def without_thought(answer: str) -> str:
    """What a model answered, without what it thought aloud before."""
    return _THOUGHT.sub("", answer).strip()


MAX_NUMBER_DIGITS = 18
"""Digits of a whole number in a text from outside: what a database holds."""


def whole_number(text: str, digits: int = MAX_NUMBER_DIGITS) -> int | None:
    """The number that ``text`` writes with at most so many digits of ASCII; ``None`` for anything else.

    The one way from a text of somebody else to a whole number: ``isdigit`` is true of ``²``, which ``int`` refuses, and
    ``int`` raises for thousands of digits.
    """
    return int(text) if 0 < len(text) <= digits and text.isascii() and text.isdigit() else None


_PYTHON_ALONE = frozenset(
    ("idna", "mbcs", "oem", "palmos", "punycode", "raw_unicode_escape", "undefined", "unicode_escape")
)
"""Encodings of Python that no document has: some take time by the square of what they decode, or raise."""


def decoded(data: bytes, charset: str) -> str:
    """The text of a document of somebody else, who also says its ``charset``: UTF-8 where that is none. What it
    does not explain is replaced.
    """
    try:
        name = codecs.lookup(charset).name.replace("-", "_")
        # What calls itself GB2312 is written in its larger successor.
        encoding = "gb18030" if name in ("gb2312", "gbk") else name
        if encoding not in _PYTHON_ALONE:
            return data.decode(encoding, "replace")
    except (LookupError, ValueError):  # unknown, no encoding of texts, or not even a name
        pass
    return data.decode("utf-8", "replace")


def has_cjk(text: str) -> bool:
    """Whether there is any such run in ``text``."""
    return CJK_RUN.search(text) is not None


def bigrams(run: str) -> list[str]:
    """Each pair of neighbours in ``run``; the character itself if it stands alone."""
    return [run[i : i + 2] for i in range(len(run) - 1)] or [run]


_PARTICLES = frozenset(["up", "down", "out", "off", "in", "on", "over", "back", "away", "through"])


def compounds(words: Sequence[str], stop_words: AbstractSet[str]) -> list[str]:
    """Verbs with a particle written as one word, as their noun is: "back up" as "backup"."""
    return [
        f"{first}{second}"
        for first, second in pairwise(words)
        if second in _PARTICLES and len(first) > 2 and first not in stop_words
    ]

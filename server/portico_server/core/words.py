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
        known = "gb18030" if name in ("gb2312", "gbk") else name
        if known not in _PYTHON_ALONE:
            return data.decode(known, "replace")
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


# What of a file's name a search looks at: its last parts, in words.


MAX_NAME_PARTS = 3
"""The name itself and the folders right above it, so many in all."""

_WORD = re.compile(r"[^\W_]+")
_HUMP = re.compile(
    r"(?<=[^\W\d_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=\d)(?=[^\W\d_])|(?<=[^\W\d_]{2})(?=\d{2})"
)
"""Between the words of ``unitPrice``, ``HTTPServer``, ``2024Q3`` and ``IMG1234``."""


def searched_name(path: str) -> str:
    """The part of a file's path in its store that is looked at: files that are moved further up are found as before."""
    return "/".join(path.split("/")[-MAX_NAME_PARTS:])


def name_in_words(path: str) -> str:
    """The same as a text: words that are written as one stand there whole and apart."""
    text = searched_name(path)
    apart = [
        part
        for word in _WORD.findall(text)
        if len(parts := _HUMP.split(word)) > 1
        for part in parts
        if len(part) > 1
    ]
    return " ".join((text, *apart))


# Words that questions are full of and that carry no meaning in a search. Dropped from questions only.


_ENGLISH = """
a about all also am an and any are as at be because been being but by can could did do does doing for from had
has have having he her here hers him his how i if in into is it its just me more most my no nor not of on or
other our ours out over own s same she should so some such t than that the their theirs them then there these
they this those through to too under until up very was we were what when where which while who whom why will
with would you your yours
"""

_CHINESE = """
的 了 是 在 和 与 及 或 也 都 就 而 着 过 吗 呢 吧 啊 么 之 其 这 那 哪 个 被 把 将 对 从 到 为 以 于 有
什么 哪些 哪个 哪里 哪儿 怎么 怎样 如何 为什么 为何 多少 几 谁 何时 何 这个 那个 这些 那些 一个 一种 以及
我 你 他 她 它 我们 你们 他们 她们 它们 请问 是否 可以 能 会
"""

ENGLISH_STOPWORDS = frozenset(_ENGLISH.split())

CHINESE_STOPWORDS = frozenset(_CHINESE.split())
"""In simplified characters, as the analyser writes them."""


def says(text: str, name: str) -> bool:
    """Whether a folded text has a folded name in it, as whole words where it has letters at its ends."""
    at = text.find(name)
    while at >= 0:
        end = at + len(name)
        before = at > 0 and _is_letter(text[at - 1]) and _is_letter(name[0])
        behind = end < len(text) and _is_letter(text[end]) and _is_letter(name[-1])
        if not before and not behind:
            return True
        at = text.find(name, at + 1)
    return False


def _is_letter(char: str) -> bool:
    """Whether words are written with it, between spaces: not what Chinese is written with."""
    return char.isalnum() and not "\u2e80" <= char <= "\u9fff"

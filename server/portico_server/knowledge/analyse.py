"""One analyser for what is indexed and what is asked: text to words and character bigrams.

Traditional Chinese is folded to simplified (OpenCC); runs of Chinese become words (jieba) and bigrams, runs
of kana and of hangul bigrams; everything else becomes lower-case words, stemmed as English (Snowball).
Measured against other recipes on seven public sets: bigrams at half weight beside words beat either alone.

Importing this loads the dictionaries' packages: do so in a worker thread.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import Any

import opencc
import rjieba
import Stemmer

from portico_server.core.dataclass import dataclass
from portico_server.core.stopwords import CHINESE_STOPWORDS, ENGLISH_STOPWORDS
from portico_server.core.words import CJK_RUN, HAN_RUN, bigrams, compounds

ANALYSER_VERSION = 3
"""Raised whenever the same text may give other terms, or an index has other fields: those made by another version are
built again."""

MAX_TERM_CHARS = 64
"""Characters of a term that are kept; what is longer (base64, hashes) is cut."""

MAX_QUESTION_TERMS = 1_024
"""Different terms of a question that are looked for; those after them are left out."""

_WORD = re.compile(r"[^\W_]+")
_MARKS = "\uff0c\uff1a\uff1b\uff01\uff1f\uff08\uff09\u2026"
"""Full-width , : ; ! ? ( ) and the ellipsis: NFKC makes others of them, none of which is part of a word."""

_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of a text, in no order that means anything; repeated as often as they occur."""

    words: list[str]
    grams: list[str]

    def joined(self) -> tuple[str, str]:
        """Words and bigrams, each with spaces between."""
        return " ".join(self.words), " ".join(self.grams)


def analyse(text: str) -> Terms:
    """The terms under which ``text`` is indexed."""
    plain, chinese, grams = _split(text)
    return Terms(_stems(plain) + chinese, grams)


def analyse_question(text: str) -> Terms:
    """The different terms to look for: those of `analyse` without stop words, unless there are no others."""
    plain, chinese, grams = _split(text)
    telling = _stems(
        [*(word for word in plain if word not in ENGLISH_STOPWORDS), *compounds(plain, ENGLISH_STOPWORDS)]
    )
    telling += [word for word in chinese if word not in CHINESE_STOPWORDS]
    words = telling or _stems(plain) + chinese
    return Terms(
        list(dict.fromkeys(words))[:MAX_QUESTION_TERMS], list(dict.fromkeys(grams))[:MAX_QUESTION_TERMS]
    )


def fold(text: str) -> str:
    """``text`` in lower case, compatibility form and simplified characters, as words are compared."""
    if text.isascii():
        return text.lower()
    folded_text = _folded(text)
    simplified_text: str = _simplifier().convert(folded_text) if HAN_RUN.search(folded_text) else folded_text
    return simplified_text


def _split(text: str) -> tuple[list[str], list[str], list[str]]:
    """(words of alphabets, words of Chinese, bigrams) of ``text``, folded but not stemmed."""
    folded_text = _folded(text)
    runs = CJK_RUN.findall(folded_text)
    if not runs:
        return [word[:MAX_TERM_CHARS] for word in _WORD.findall(folded_text)], [], []
    plain = _WORD.findall(CJK_RUN.sub(" ", folded_text))
    chinese: list[str] = []
    # All runs at once: most of a call is the way to the other language and back.
    joined_runs = "\n".join(runs)
    if HAN_RUN.search(joined_runs):
        joined_runs = _simplifier().convert(joined_runs)
        runs = joined_runs.split("\n")
        # Only runs of Chinese: jieba would keep "il-10" and "full-term" whole.
        chinese = [word for word in rjieba.cut("\n".join(HAN_RUN.findall(joined_runs))) if word != "\n"]
    grams = [gram for run in runs for gram in bigrams(run)]
    return [word[:MAX_TERM_CHARS] for word in plain], chinese, grams


@cache
def _simplifier() -> Any:
    return opencc.OpenCC("t2s")


@cache
def _stemmer() -> Any:
    return Stemmer.Stemmer("english")


def _stems(words: Iterable[str]) -> list[str]:
    with _lock:  # a Snowball stemmer keeps the word it works on in itself
        stems: list[str] = _stemmer().stemWords(list(words))
    return stems


def _folded(text: str) -> str:
    """``text`` in lower case and compatibility form.

    Nearly all that is not in that form in a Chinese text is its punctuation, which ends words in either form: without
    it the text is usually seen to be folded already, which is several times faster than folding it.
    """
    for mark in _MARKS:
        text = text.replace(mark, " ")
    if not unicodedata.is_normalized("NFKC", text):
        text = unicodedata.normalize("NFKC", text)
    return text.lower()

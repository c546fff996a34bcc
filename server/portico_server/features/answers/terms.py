"""The terms with which a question and a sentence are compared: rough stems of words, and pairs of CJK characters.

Chinese text is also split into words with parts of speech. They distinguish words from pairs across word boundaries,
and names of persons and places from other words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from portico_server.core import words as core_words
from portico_server.core.dataclass import dataclass
from portico_server.core.word_forms import jieba, simplify
from portico_server.features.answers.language import CJK
from portico_server.features.answers.relevance import ASKING_CJK, STOP_CJK, STOP_WORDS, stem

_TOKEN = re.compile(rf"[^\W_{CJK}]+|[{CJK}]+")
_IS_CJK = re.compile(rf"[{CJK}]")
_FUNCTION_TAGS = frozenset(["x", "uj", "u", "r", "p", "c", "d", "f", "ul", "y", "uz", "ug", "ud"])
"""jieba's tags for punctuation, particles, pronouns, prepositions, conjunctions, adverbs and directions."""


def fold(text: str) -> str:
    """Return ``text`` in lower case and in simplified characters. Its length stays the same except in rare cases."""
    lower_text = text.lower()
    return simplify(lower_text) if _IS_CJK.search(lower_text) else lower_text


def words(text: str) -> list[str]:
    """Return the meaningful words of folded ``text`` in order. A run of CJK characters is returned as pairs of
    characters.
    """
    tokens: list[str] = []
    for token in _TOKEN.findall(text):
        if _IS_CJK.match(token):
            for part in STOP_CJK.split(token):
                tokens += (part,) if len(part) == 1 else (part[i : i + 2] for i in range(len(part) - 1))
        elif token not in STOP_WORDS and (len(token) > 1 or token.isdigit()):
            tokens.append(token)
    return tokens


def compounds(text: str) -> list[str]:
    """Return words of folded ``text``, each joined with the particle that follows it: "back up" becomes "backup"."""
    return core_words.compounds(_TOKEN.findall(text), STOP_WORDS)


def stems(tokens: list[str]) -> list[str]:
    """Return the terms for the words that `words` returned."""
    return [word if _IS_CJK.match(word) else stem(word).removesuffix("e") for word in tokens]


def characters(text: str) -> frozenset[str]:
    """Return the meaningful CJK characters of folded ``text``."""
    runs = (token for token in _TOKEN.findall(text) if _IS_CJK.match(token))
    return frozenset(char for run in runs for part in STOP_CJK.split(run) for char in part)


_NOUN_TAGS = ("n", "m", "j", "l", "i", "q", "a", "b", "s", "g", "eng", "vn", "t")
"""Beginnings of jieba's tags for the words of a noun phrase: nouns, numbers, abbreviations, idioms, measure words,
adjectives, places and times.
"""


@dataclass(frozen=True, slots=True)
class Tagged:
    """A Chinese word and jieba's tag for its part of speech (``nr``: a person, ``ns``: a place …)."""

    word: str
    tag: str

    @property
    def is_number(self) -> bool:
        return self.tag == "m"

    @property
    def is_person(self) -> bool:
        return self.tag.startswith("nr") and len(self.word) > 1

    @property
    def is_place(self) -> bool:
        return self.tag in ("ns", "nt", "nrt")

    @property
    def is_name(self) -> bool:
        return self.tag[:2] in ("nr", "ns", "nt", "nz", "en")


def tag_words(text: str) -> list[Tagged]:
    """Return the meaningful words of folded Chinese ``text`` in order."""
    return [
        Tagged(word, tag)
        for word, tag in jieba().tag(ASKING_CJK.sub("，", text))
        if tag not in _FUNCTION_TAGS and (len(word) > 1 or tag in ("m", "eng")) and STOP_CJK.sub("", word)
    ]


def noun_phrases(text: str) -> tuple[str, ...]:
    """Return the noun phrases of folded Chinese ``text``: runs of adjacent nouns, numbers and adjectives.

    A name that is not in jieba's dictionary is split into words, but remains one phrase.
    """
    phrases: list[str] = []
    end = position = 0
    for item in tag_words(text):
        start = text.find(item.word, position)
        if start < 0:
            continue
        position = start + len(item.word)
        if item.tag.startswith(_NOUN_TAGS):
            if phrases and start == end:
                phrases[-1] += item.word
            else:
                phrases.append(item.word)
            end = position
    return tuple(phrases)


def joined_nouns(text: str) -> Iterator[str]:
    """Yield each word of folded Chinese ``text`` with the single characters before it that the tagger takes for nouns.

    The tagger splits unknown names: 祥昌平台 into 祥, 昌平 and 台, and 宏和课程 into 宏, 和 and 课程.
    """
    prefix = ""
    for word, tag in jieba().tag(ASKING_CJK.sub("，", text)):
        if len(word) == 1 and (tag.startswith("n") or (prefix and word == "和")):
            prefix += word
            continue
        if prefix and len(word) > 1 and has_cjk(word):
            yield prefix + word
        prefix = ""


def has_cjk(text: str) -> bool:
    """Return whether ``text`` contains a Chinese, Japanese or Korean character."""
    return _IS_CJK.search(text) is not None

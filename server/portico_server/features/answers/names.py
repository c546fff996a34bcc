"""Names in a sentence. An answer must not change them. Pure functions."""

from __future__ import annotations

import re

from portico_server.core.dataclass import dataclass
from portico_server.core.words import FAMILY_NAMES, MONTHS
from portico_server.features.answers.dates import WEEKDAYS
from portico_server.features.answers.language import CJK
from portico_server.features.answers.relevance import STOP_WORDS
from portico_server.features.answers.terms import has_cjk, stems, tag_words

_CODE = re.compile(
    r"`([^`\n]+)`|(?<!\S)(--?[a-zA-Z][\w-]*)|\b(https?://[^\s)\]>]+)|\b([A-Za-z0-9_-]+(?:[._/][A-Za-z0-9_-]+)+)\b"
)
_CAPITAL = re.compile(
    r"[A-Z](?:[\w’'-](?<![\u3400-\u9fff]))*|(?<![A-Za-z0-9])[a-z]+[A-Z][A-Za-z0-9]*|(?<![A-Za-z0-9])[A-Za-z0-9]*\d[A-Za-z][A-Za-z0-9]*"
)
_FIRST_WORD = re.compile(r"[\s\"'“‘(\[*_>#-]*")
_VERB_NEXT = re.compile(r"[\w’'-]+\s+(?:is|was|are|were|has|had|have|can|will|[a-z]+ed|[a-z]{3,}s)\b")
_FOREIGN_ZH = re.compile(rf"[{CJK}]{{0,4}}(?:[·・][{CJK}]{{1,5}})+")
"""A name in phonetic transcription. The match may include neighbouring characters, because the start and end of the
name cannot be determined.
"""

_TITLE_ZH = re.compile(rf"《([^》]+)》|[{CJK}]{{1,2}}[·・][{CJK}]{{1,2}}|[A-Za-z][A-Za-z0-9_.-]+")
_OFFICE_ZH = re.compile(
    rf"(?:是|为|由|：)(?P<person>[{CJK}]{{2,3}})(?=[。，、；！？\s]|(?:担任|兼任|出任|接任|任|负责)|$)"
)
"""Text that names the person in an office. It is a name if it begins with a family name."""

_COUNTED = re.compile(
    r"\d[\d.,]*[a-z%]{0,3}$|[零〇一二三四五六七八九十百千万亿]{2,}|第[一二三四五六七八九十]"
)
"""Text that begins with a number. It is compared as a number, not as a name."""

_PLAIN = frozenset(("i", "the", "yes", "however", "also", *MONTHS, *WEEKDAYS))


@dataclass(frozen=True, slots=True)
class NameWord:
    """A folded word of a name. ``certain``: more than a capital letter at the beginning of a sentence shows that it is
    a name. ``at``: its position in the text, from 0 to 1.
    """

    word: str
    certain: bool
    at: float = 0.0


def names_in(text: str, folded_text: str) -> tuple[NameWord, ...]:
    """Return the words of names, identifiers and code in ``text``; ``folded_text`` is the folded form of ``text``."""
    name_words: dict[str, NameWord] = {}
    size = max(len(text), 1)
    for match in _CODE.finditer(text):
        code = next(group for group in match.groups() if group).strip().rstrip(".,:;").lower()
        if len(code) > 1 and not re.fullmatch(
            r"[\d.,/:-]+[a-z]?|and/or|e\.g|i\.e|[a-z]\.[a-z](?:\.[a-z])*", code
        ):
            name_words[code] = NameWord(
                code, match[1] is not None or not code.isalpha(), match.start() / size
            )
    first_match = _FIRST_WORD.match(text)
    first = first_match.end() if first_match is not None else 0
    for match in _CAPITAL.finditer(text):
        word = re.sub(r"[’']s?$", "", match.group()).lower()
        if len(word) < 2 or word in STOP_WORDS or word in _PLAIN or _COUNTED.fullmatch(word):
            continue
        following = text[match.end() : match.end() + 2].strip()
        begins = (
            match.start() == first
            and not following[:1].isupper()
            and not any(char.isupper() or char.isdigit() for char in match.group()[1:])
        )
        if begins and _VERB_NEXT.match(text, match.start()) is None:
            continue
        name_words.setdefault(word, NameWord(word, not begins, match.start() / size))
    if has_cjk(text):
        for match in _TITLE_ZH.finditer(folded_text):
            word = (match[1] or match.group()).strip()
            if len(word) > 1 and word not in STOP_WORDS and not _COUNTED.match(word):
                name_words.setdefault(word, NameWord(word, True, match.start() / size))
        for match in _OFFICE_ZH.finditer(folded_text):
            if match["person"][0] in FAMILY_NAMES:
                word = match["person"]
                name_words.setdefault(word, NameWord(word, True, match.start("person") / size))
        for item in tag_words(_FOREIGN_ZH.sub("，", folded_text)):
            if item.is_name and len(item.word) > 1 and not _COUNTED.match(item.word):
                word = _with_family_name(item.word, folded_text) if item.is_person else item.word
                name_words.setdefault(word, NameWord(word, True, folded_text.find(word) / size))
    return tuple(name_words.values())


def _with_family_name(person: str, folded_text: str) -> str:
    """Return a person's name with the family name before it, if the tagger has split a name in two."""
    prefix = folded_text[: folded_text.find(person)][-1:]
    return f"{prefix}{person}" if len(person) == 2 and prefix in FAMILY_NAMES - {person[0]} else person


def holds_name(name: NameWord, folded_text: str, terms: frozenset[str]) -> bool:
    """Return whether a name occurs in folded text, whose stems are ``terms``."""
    if name.word in folded_text:
        return True
    return name.word.isalpha() and name.word.isascii() and stems([name.word])[0] in terms

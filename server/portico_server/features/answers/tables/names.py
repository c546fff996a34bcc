"""Names of columns and tables, and the words of a question that are a form of them. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

from portico_server.core.dataclass import dataclass
from portico_server.core.tables import StoreTable
from portico_server.core.template import substitute
from portico_server.core.word_forms import english_stems
from portico_server.core.words import whole_number
from portico_server.features.answers.tables.lexicon import (
    CHINESE_SYNONYM,
    CHINESE_SYNONYMS,
    GENERIC_ENDINGS,
    GENERIC_STEMS,
    ID_ENDINGS,
    ID_STEMS,
    SYNONYMS,
)
from portico_server.features.answers.terms import fold

MAX_NAME_WORDS: Final = 5
"""Maximum number of words of a question that name one column."""

MIN_NAME_CHARACTERS: Final = 2
MAX_NAME_CHARACTERS: Final = 12
"""Minimum and maximum number of Chinese characters of a name in a question."""

MAX_CACHED_NAMES: Final = 4_096
"""Maximum number of names whose forms are cached."""

HAN: Final = "\u3400-\u4dbf\u4e00-\u9fff"
"""Chinese characters, as the contents of a regular expression's character class."""

_LATIN_WORD = re.compile(rf"[^\W\d_{HAN}]+")
_BETWEEN_WORDS = re.compile(r"\s+|_|-|/")
_COUNT_OF = re.compile(r"^(?:total )?(?:number|no\.?|nr\.?|count|#) of ")
_CAMEL_CASE = re.compile(r"(?<=[a-z])(?=[A-Z])|_")
_PREPOSITIONS = frozenset(["of", "in", "per", "for", "by", "with", "to", "at", "from"])
_PARTICIPLE_ENDINGS = ("ed", "sold", "paid", "made", "sent", "bought")
_GENERIC_NAMES = frozenset(
    ["sheet", "table", "data", "export", "report", "list", "file", "final", "copy", "new", "old", "tabelle"]
)
_GENERIC_CHINESE = re.compile(
    r"(?:明细|一览|清单|列表|数据|汇总|统计|台账|名单|信息|档案|登记|工作表|表格|报表|表|文件|导出)+$"
)


@dataclass(frozen=True, slots=True)
class TableNoun:
    """Words from ``start`` to ``end`` of a question that may name one of ``columns``, or what the rows of a table are.

    ``is_exact``: they are the whole name of the columns, apart from words such as "ID".
    """

    start: int
    end: int
    columns: tuple[int, ...]
    is_table: bool
    is_exact: bool


@dataclass(frozen=True, slots=True)
class _Name:
    """A name of a column or a table, folded: the stems of its Latin words, and its Chinese characters.

    ``head`` is the stem that every shorter form of the name has, if there are any, and ``short`` the stems without
    words such as "ID". ``short_chinese`` is the Chinese name without such an ending.
    """

    stems: frozenset[str]
    head: str
    short: frozenset[str]
    chinese: str
    short_chinese: str
    is_identifier: bool

    def has_form(self, stems: frozenset[str]) -> bool:
        """Return whether stems are a form of the name."""
        return stems <= self.stems and (self.head in stems or stems in (self.short, self.stems))

    def has_chinese_form(self, text: str) -> bool:
        """Return whether Chinese characters are a form of the name: its end, with or without words such as 编号."""
        return self.chinese.endswith(text) or self.short_chinese.endswith(text)


def table_nouns(question: str, table: StoreTable, *, names_file: bool) -> Iterator[TableNoun]:
    """Yield the words of a folded question that name columns, or the table itself.

    ``names_file``: the name of the file is a name of the table, because the file has no other table.
    """
    question = _canonical(question)
    columns = [_name(column.name) for column in table.columns]
    names = [table.sheet, table.title]
    if names_file:
        names.append(table.filename.rpartition("/")[2].rpartition(".")[0])
    titles = [_name(_specific(name)) for name in names]
    dates = [column.kind == "date" for column in table.columns]
    for words in _word_runs(question):
        stems = _stems([word.group() for word in words])
        holders = [
            number
            for number, name in enumerate(columns)
            if name.has_form(stems) or (dates[number] and stems <= name.stems)
        ]
        exact = [number for number in holders if stems in (columns[number].stems, columns[number].short)]
        is_table = any(name.has_form(stems) for name in titles) or any(
            name.is_identifier and name.short == stems for name in columns
        )
        if holders or is_table:
            yield TableNoun(
                words[0].start(), words[-1].end(), tuple(exact or holders), is_table, is_exact=bool(exact)
            )
    for start, end in _chinese_runs(question):
        text = question[start:end]
        holders = [
            number
            for number, name in enumerate(columns)
            if name.has_chinese_form(text) or (dates[number] and text in name.chinese)
        ]
        exact = [
            number for number in holders if text in (columns[number].chinese, columns[number].short_chinese)
        ]
        is_table = any(name.has_chinese_form(text) for name in titles) or any(
            name.is_identifier and name.short_chinese == text for name in columns
        )
        if holders or is_table:
            yield TableNoun(start, end, tuple(exact or holders), is_table, is_exact=bool(exact))


def is_identifier(table: StoreTable, column: int) -> bool:
    """Return whether a column contains identifiers of the rows, such as "Order ID" or running numbers."""
    return _name(table.columns[column].name).is_identifier or (column == 0 and table.is_unique(column))


@lru_cache(MAX_CACHED_NAMES)
def _name(name: str) -> _Name:
    folded_name = _COUNT_OF.sub("", _canonical(fold(_CAMEL_CASE.sub(" ", name))))
    words = _LATIN_WORD.findall(folded_name)
    stems = _stems(words)
    chinese = "".join(re.findall(f"[{HAN}]+", folded_name))
    return _Name(
        stems,
        _head(words),
        stems - GENERIC_STEMS or stems,
        chinese,
        GENERIC_ENDINGS.sub("", chinese) or chinese,
        is_identifier=not stems.isdisjoint(ID_STEMS) or ID_ENDINGS.search(chinese) is not None,
    )


def _head(words: Sequence[str]) -> str:
    """Return the stem of the word that a name is about: "price" of "unit price", "date" of "date of birth"."""
    if "per" in words:
        return ""  # without its second part, the name means something else
    first = next(
        (number for number, word in enumerate(words) if word in _PREPOSITIONS and number), len(words)
    )
    phrase = list(words[:first])
    while len(phrase) > 1 and phrase[-1].endswith(_PARTICIPLE_ENDINGS):
        phrase.pop()
    return _stem(phrase[-1]) if phrase else ""


def _specific(name: str) -> str:
    """Return the name of a file or a sheet in words, without words that name nothing."""
    words = " ".join(
        word
        for word in re.split(r"[_\-.\s]+", _CAMEL_CASE.sub(" ", name))
        if word.lower() not in _GENERIC_NAMES and whole_number(word) is None
    )
    return _GENERIC_CHINESE.sub("", words)


def _canonical(text: str) -> str:
    """Return a text with one word for all Chinese synonyms of it, without changing its length."""
    return substitute(CHINESE_SYNONYM, lambda match: CHINESE_SYNONYMS[match.group()], text)


def _word_runs(question: str) -> Iterator[list[re.Match[str]]]:
    """Yield the runs of up to `MAX_NAME_WORDS` Latin words that neither begin nor end with a preposition."""
    words = list(_LATIN_WORD.finditer(question))
    for first in range(len(words)):
        if words[first].group() in _PREPOSITIONS:
            continue
        for last in range(first, min(first + MAX_NAME_WORDS, len(words))):
            if last > first and not _BETWEEN_WORDS.fullmatch(
                question, words[last - 1].end(), words[last].start()
            ):
                break
            if words[last].group() not in _PREPOSITIONS:
                yield words[first : last + 1]


def _chinese_runs(question: str) -> Iterator[tuple[int, int]]:
    """Yield the spans of Chinese characters that may be a name."""
    for run in re.finditer(f"[{HAN}]+", question):
        for start in range(run.start(), run.end()):
            for end in range(start + MIN_NAME_CHARACTERS, min(run.end(), start + MAX_NAME_CHARACTERS) + 1):
                yield start, end


def _stems(words: Sequence[str]) -> frozenset[str]:
    """Return the stems of words other than prepositions."""
    return frozenset(_stem(word) for word in words if word not in _PREPOSITIONS)


def _stem(word: str) -> str:
    [stem] = english_stems([word])
    return SYNONYMS.get(stem, stem)

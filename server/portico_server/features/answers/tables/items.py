"""Divides a question into words with a role: names and values of one table, numbers, dates, and words of `LEXICON`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Final, Literal, TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.core.tables import StoreTable
from portico_server.core.words import whole_number
from portico_server.features.answers.chinese_numbers import chinese_number
from portico_server.features.answers.quantities import NUMBER_WORDS, number_of_words
from portico_server.features.answers.tables.lexicon import CURRENCIES, LEXICON, WordKind
from portico_server.features.answers.tables.names import table_nouns
from portico_server.features.answers.tables.periods import Period, find_periods
from portico_server.features.answers.terms import fold

ItemKind: TypeAlias = WordKind | Literal["noun", "value", "number", "date", "unit"]

_SKIPPED = re.compile(r"[\s.?!。？！:：;；\"'“”‘’()（）《》「」\[\]]+")
_SENTENCE_END = re.compile(r"[.](?=\s+\S)|[?!。？！;；\n](?=\s*\S)")
_DIGITS = re.compile(
    r"(?<![a-z0-9.])(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)(?![\d.,]*\d)"
    r"(?:\s?(?P<scale>thousand\b|million\b|billion\b|k\b|百万|千万|[百千万亿]))?"
    rf"|\b(?P<words>(?:{'|'.join(sorted(NUMBER_WORDS))})(?:[\s-]+(?:and\s+)?(?:{'|'.join(sorted(NUMBER_WORDS))}))*)\b"
    r"|(?P<chinese>[零〇一二两三四五六七八九十百千万亿]+(?:点[零〇一二三四五六七八九]+)?)"
)
_UNCLEAR_NUMBER = re.compile(r"[1-9]\d{0,2}\.\d{3}")
"""A number such as 1.200, which may be more than a thousand."""

_SCALES: Final = {
    "thousand": 1e3, "k": 1e3, "million": 1e6, "billion": 1e9,
    "百": 1e2, "千": 1e3, "万": 1e4, "百万": 1e6, "千万": 1e7, "亿": 1e8,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class QuestionItem:
    """Words of a question with a role. ``columns`` are those that a noun may name, or that hold a value or a unit.

    ``is_table``: the noun names the table or what its rows are. ``is_exact``: the noun is the whole name of its column.
    ``cells`` are the spellings of a value by column. A year is a ``date`` with a ``number``.
    """

    start: int
    end: int
    kind: ItemKind
    text: str
    detail: str = ""
    columns: tuple[int, ...] = ()
    is_table: bool = False
    is_exact: bool = False
    cells: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    number: float | None = None
    period: Period | None = None


def question_items(question: str, table: StoreTable, *, names_file: bool) -> list[QuestionItem] | None:
    """Return the items of a question in order, or ``None`` if some of its words have no role.

    ``names_file``: see `table_nouns`. The longest item is chosen at each position. A word that may be a value and the
    name of a column has no clear role.
    """
    folded_question = fold(question)
    if len(folded_question) != len(question) or _SENTENCE_END.search(question.strip()):
        return None
    starts: dict[int, list[QuestionItem]] = {}
    for item in (
        *_dates(folded_question),
        *_values(question, folded_question, table),
        *_nouns(folded_question, table, names_file=names_file),
    ):
        starts.setdefault(item.start, []).append(item)
    items: list[QuestionItem] = []
    position = 0
    while position < len(question):
        skipped_part = _SKIPPED.match(question, position)
        if skipped_part is not None:
            position = skipped_part.end()
            continue
        candidates = [
            *starts.get(position, ()),
            *_units(folded_question, position, table, items),
            *_numbers(folded_question, position),
            *_words(folded_question, position),
        ]
        position = max((item.end for item in candidates), default=position)
        best = [item for item in candidates if item.end == position]
        if not best or {"noun", "value"} <= {item.kind for item in best if item.columns}:
            return None
        items.append(next((item for item in best if item.kind != "noun" or item.columns), best[0]))
    return items


def _nouns(question: str, table: StoreTable, *, names_file: bool) -> Iterator[QuestionItem]:
    for noun in table_nouns(question, table, names_file=names_file):
        yield QuestionItem(
            noun.start,
            noun.end,
            "noun",
            question[noun.start : noun.end],
            columns=noun.columns,
            is_table=noun.is_table,
            is_exact=noun.is_exact,
        )


def _dates(question: str) -> Iterator[QuestionItem]:
    for period in find_periods(question):
        text = question[period.start : period.end]
        year = None if (number := whole_number(text)) is None else float(number)
        yield QuestionItem(period.start, period.end, "date", text, number=year, period=period)


def _values(question: str, folded_question: str, table: StoreTable) -> Iterator[QuestionItem]:
    """Yield the values of cells in a question. A value that is also another word, such as IT, counts only if it is
    spelled like its cells.
    """
    cells: dict[str, dict[int, tuple[str, ...]]] = {}
    for number, column in enumerate(table.columns):
        for mention in column.mentions:
            cells.setdefault(mention.words, {})[number] = mention.spellings
    for words, by_column in cells.items():
        for match in re.finditer(re.escape(words), folded_question):
            start, end = match.span()
            is_word = any(item.end == end for item in _words(folded_question, start))
            if is_word and question[start:end] not in {
                text for texts in by_column.values() for text in texts
            }:
                continue
            yield QuestionItem(start, end, "value", words, columns=tuple(by_column), cells=by_column)


def _words(question: str, position: int) -> Iterator[QuestionItem]:
    for kind, detail, pattern in LEXICON:
        match = pattern.match(question, position)
        if match is not None and match.end() > position:
            yield QuestionItem(position, match.end(), kind, match.group(), detail)


def _numbers(question: str, position: int) -> Iterator[QuestionItem]:
    match = _DIGITS.match(question, position)
    if match is None or _UNCLEAR_NUMBER.fullmatch(match["digits"] or ""):
        return
    if match["digits"] is not None:
        value = float(match["digits"].replace(",", "")) * _SCALES.get(match["scale"] or "", 1.0)
    elif match["words"] is not None:
        value = number_of_words(match["words"])
    else:
        value = chinese_number(match["chinese"]) or 0.0
    yield QuestionItem(position, match.end(), "number", match.group(), number=value)


def _units(
    question: str, position: int, table: StoreTable, items: Sequence[QuestionItem]
) -> Iterator[QuestionItem]:
    """Yield the unit after a number, or before it, with the columns that have this unit."""
    after_number = bool(items) and items[-1].number is not None
    after_question = bool(items) and items[-1].text.endswith("多少")
    for name in {*CURRENCIES, *(column.unit.lower() for column in table.columns if column.unit)}:
        end = position + len(name)
        if not question.startswith(name, position) or (
            name[-1].isascii() and question[end : end + 1].isalpha()
        ):
            continue
        if after_question:
            yield QuestionItem(position, end, "glue", name)
        elif after_number or whole_number(question[end : end + 1]) is not None:
            columns = tuple(
                number for number, column in enumerate(table.columns) if same_unit(column.unit, name)
            )
            yield QuestionItem(position, end, "unit", name, columns=columns)


def same_unit(unit: str, name: str) -> bool:
    """Return whether two names stand for the same unit."""
    return bool(unit) and CURRENCIES.get(unit.lower(), unit.lower()) == CURRENCIES.get(name, name)

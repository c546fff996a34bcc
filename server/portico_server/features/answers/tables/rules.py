"""Builds the query of a question over one table, or none if anything in the question is unclear."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from portico_server.core.dataclass import dataclass
from portico_server.core.tables import Aggregate, ColumnCondition, StoreColumn, StoreTable, TableQuery
from portico_server.features.answers.tables.columns import (
    can_be_added,
    date_columns,
    has_one_unit,
    is_countable,
    may_mean_sums,
    names_rows,
    person_columns,
    price_columns,
    row_names,
)
from portico_server.features.answers.tables.conditions import ConditionReader, UnclearQuestion
from portico_server.features.answers.tables.items import QuestionItem, question_items
from portico_server.features.answers.tables.lexicon import ROW_WORDS, SUM_WORDS
from portico_server.features.answers.tables.names import is_identifier

_AGGREGATES: Final = ("count", "sum", "mean", "max", "min", "most", "least")
_ASKING: Final = ("which", "who", "when")


@dataclass(frozen=True, slots=True)
class TableReading:
    """A query for a question, and how well the table fits.

    ``naming``: the question names the things in its rows (2), or the table (1). ``exact_names`` counts whole names of
    columns in the question.
    """

    table: StoreTable
    query: TableQuery
    naming: int
    exact_names: int


def read_question(question: str, table: StoreTable, *, names_file: bool = True) -> TableReading | None:
    """Return the query of a question over a table, or ``None`` unless every word of the question has a role.

    ``names_file``: see `question_items`.
    """
    items = question_items(question, table, names_file=names_file)
    if items is None:
        return None
    try:
        query = _QueryRules(items, table).query()
    except UnclearQuestion:
        return None
    nouns = [item for item in items if item.kind == "noun"]
    naming = max((_naming(item, table) for item in nouns), default=0)
    return TableReading(table, query, naming, sum(item.is_exact for item in nouns))


def _naming(noun: QuestionItem, table: StoreTable) -> int:
    return 2 if _names_rows(noun, table) else int(noun.is_table)


def _names_rows(noun: QuestionItem, table: StoreTable) -> bool:
    """Return whether a noun names a column that says what each row is."""
    return noun.is_exact and all(names_rows(table, column) for column in noun.columns)


def best_reading(readings: Sequence[TableReading]) -> TableReading | None:
    """Return the reading of the table that fits best, or ``None`` if two tables fit equally or it is too large."""
    best_first = sorted(readings, key=_fit, reverse=True)
    if (
        not best_first
        or best_first[0].table.is_partial
        or (len(best_first) > 1 and _fit(best_first[0]) == _fit(best_first[1]))
    ):
        return None
    return best_first[0]


def _fit(reading: TableReading) -> tuple[int, int]:
    return reading.naming, reading.exact_names


def _is_verb(noun: QuestionItem) -> bool:
    """Return whether a noun is rather a verb with the same stem, such as "ordered"."""
    return noun.text.isascii() and noun.text.endswith(("ed", "ing"))


def _without_totals_of_counts(items: Sequence[QuestionItem]) -> list[QuestionItem]:
    """Return the words that compute, without a "total" that directly precedes a word that counts."""
    return [
        item
        for number, item in enumerate(items)
        if item.kind != "sum"
        or not any(count.kind == "count" and count.start == item.end for count in items[number + 1 :])
    ]


class _QueryRules:
    """The rules for the items of one question over one table."""

    def __init__(self, items: Sequence[QuestionItem], table: StoreTable) -> None:
        self._table = table
        conditions = ConditionReader(items, table)
        self._conditions = conditions.read()
        self._every_item = items
        self._compared = [items[number] for number in sorted(conditions.compared)]
        self._items = [item for number, item in enumerate(items) if number not in conditions.consumed]
        self._nouns = [item for item in self._items if item.kind == "noun"]
        self._asking = [item.kind for item in self._items if item.kind in _ASKING]
        self._aggregates = _without_totals_of_counts(
            [item for item in self._items if item.kind in _AGGREGATES]
        )

    def query(self) -> TableQuery:
        """Return the query. Raise `UnclearQuestion` if the items have no clear meaning together."""
        kinds = [item.kind for item in self._aggregates]
        if len(self._asking) > 1 or (kinds and len(kinds) != len({*kinds})):
            raise UnclearQuestion("two questions")
        if not kinds:
            return self._named_total()
        if kinds == ["count"]:
            return self._count()
        if kinds in (["sum"], ["mean"]) and not self._asking:
            return self._aggregate("sum" if kinds == ["sum"] else "mean")
        if kinds in (["max"], ["min"]):
            return self._extreme("max" if kinds == ["max"] else "min")
        return self._group(kinds)

    def _has(self, kind: str) -> bool:
        return any(item.kind == kind for item in self._items)

    def _query(
        self,
        aggregate: Aggregate,
        column: int | None,
        *,
        label: int | None = None,
        group: int | None = None,
        largest: bool = True,
    ) -> TableQuery:
        table = self._table
        if column is not None and aggregate not in ("count", "distinct"):
            compared_columns = frozenset(condition.column for condition in self._conditions)
            if not has_one_unit(table, column, compared_columns):
                raise UnclearQuestion("numbers in different units")
            if aggregate == "sum" and not can_be_added(table, column):
                raise UnclearQuestion("a sum of values that cannot be added up")
        is_additive = label is not None and column is not None and may_mean_sums(table, column)
        conditions: tuple[ColumnCondition, ...] = self._conditions
        return TableQuery(
            self._table.file_id,
            self._table.sheet,
            aggregate,
            column,
            conditions,
            label,
            group,
            largest,
            is_additive,
        )

    def _column(self, number: int) -> StoreColumn:
        return self._table.columns[number]

    def _named_total(self) -> TableQuery:
        """Return the sum of a column that is itself called a total, or of one whose values "in total" are asked for."""
        measures = [item for item in self._nouns if self._numeric(item)]
        if self._asking or len(measures) != 1 or self._has("distinct"):
            raise UnclearQuestion("nothing to compute")
        if not self._has("in_total") and SUM_WORDS.match(measures[0].text) is None:
            raise UnclearQuestion("nothing to compute")
        return self._aggregate("sum")

    def _numeric(self, item: QuestionItem) -> list[int]:
        return [
            column
            for column in item.columns
            if self._column(column).kind == "number" and not is_identifier(self._table, column)
        ]

    def _measure(self, kinds: Sequence[str]) -> tuple[int, list[QuestionItem]]:
        """Return the column to aggregate, and the nouns that do not name it."""
        candidates: list[tuple[int, QuestionItem]] = []
        for item in self._nouns:
            columns = (
                self._numeric(item)
                if "number" in kinds
                else [column for column in item.columns if self._column(column).kind in kinds]
            )
            if len(columns) > 1:
                raise UnclearQuestion(item.text)
            if columns and not (item.is_table and len(item.columns) > 1):
                candidates.append((columns[0], item))
        if not candidates:
            candidates = [
                (columns[0], item) for item in self._compared if len(columns := self._numeric(item)) == 1
            ]
        if len({column for column, _item in candidates}) != 1:
            raise UnclearQuestion("no clear column")
        return candidates[0][0], [
            item for item in self._nouns if item not in [noun for _c, noun in candidates]
        ]

    def _aggregate(self, aggregate: Aggregate) -> TableQuery:
        if self._has("distinct"):
            raise UnclearQuestion("distinct values of a sum")
        column, further_nouns = self._measure(["number"])
        self._require_table_nouns(further_nouns)
        self._require_no_count()
        return self._query(aggregate, column)

    def _require_no_count(self) -> None:
        """Raise `UnclearQuestion` for "the 数量 of orders", which is their number or the sum of a column."""
        for first, second in pairwise(item for item in self._items if item.kind not in ("glue", "sum")):
            if first.kind == "noun" and first.is_table and second.text == "数量":
                raise UnclearQuestion(second.text)

    def _require_table_nouns(self, nouns: Sequence[QuestionItem]) -> None:
        for item in nouns:
            if not item.is_table and not _names_rows(item, self._table):
                raise UnclearQuestion(item.text)

    def _count(self) -> TableQuery:
        """Return a query that counts rows, or the different values of a column."""
        if self._asking:
            raise UnclearQuestion("which, and how many")
        is_distinct = self._has("distinct")
        if not self._nouns:
            if is_distinct or not self._has("rows"):
                raise UnclearQuestion("nothing to count")
            return self._query("count", None)
        first, further_nouns = self._split_counted()
        self._require_table_nouns(further_nouns)
        if self._has("rows"):
            self._require_table_nouns([first])
            return self._query("count", None)
        if not is_distinct and (_names_rows(first, self._table) or (first.is_table and not first.is_exact)):
            return self._query("count", None)
        if not is_distinct and further_nouns and not first.is_table:
            raise UnclearQuestion(further_nouns[0].text)
        if not is_distinct and self._is_quantity(first):
            return self._query("sum", first.columns[0])
        columns = [column for column in first.columns if is_distinct or is_countable(self._table, column)]
        if len(columns) != 1:
            raise UnclearQuestion(first.text)
        return self._query("distinct", columns[0])

    def _split_counted(self) -> tuple[QuestionItem, list[QuestionItem]]:
        """Return the noun that is counted, which is next to the words that count, and the other nouns.

        In "how many lamps were ordered", lamps are counted, which no column names.
        """
        [count] = self._aggregates
        following = [item for item in self._nouns if item.start >= count.end]
        first = following[0] if following else self._nouns[-1]
        between = [
            item
            for item in self._every_item
            if min(count.end, first.end) <= item.start < max(count.start, first.start)
        ]
        values = [number for number, item in enumerate(between) if item.kind == "value"]
        if _is_verb(first) or (
            values and following and any(item.text != "的" for item in between[values[-1] + 1 :])
        ):
            raise UnclearQuestion(first.text)
        return first, [item for item in self._nouns if item is not first]

    def _is_quantity(self, noun: QuestionItem) -> bool:
        """Return whether "how many in total" asks for the sum of a column with whole numbers, such as pieces."""
        [count] = self._aggregates
        is_total = self._has("in_total") or count.text.startswith(("total", "overall", "总"))
        return (
            is_total
            and len(noun.columns) == 1
            and can_be_added(self._table, noun.columns[0])
            and self._column(noun.columns[0]).decimals == 0
        )

    def _extreme(self, aggregate: Aggregate) -> TableQuery:
        word = self._aggregates[0]
        if self._has("distinct") or self._has("in_total"):
            raise UnclearQuestion("distinct values of an extreme")
        if word.detail == "date" or "when" in self._asking:
            column, further_nouns = self._hinted(date_columns(self._table), ["date"])
        elif word.detail == "price":
            column, further_nouns = self._hinted(price_columns(self._table), ["number"])
        else:
            column, further_nouns = self._measure(["number"])
        return self._query(aggregate, column, label=self._label(further_nouns))

    def _hinted(self, columns: Sequence[int], kinds: Sequence[str]) -> tuple[int, list[QuestionItem]]:
        """Return the column that a word such as "cheapest" refers to, if the question does not name it."""
        if any(
            self._column(column).kind in kinds
            for item in self._nouns
            if not item.is_table
            for column in item.columns
        ):
            return self._measure(kinds)
        if len(columns) != 1:
            raise UnclearQuestion("no clear column")
        return columns[0], self._nouns

    def _label(self, nouns: Sequence[QuestionItem]) -> int | None:
        """Return the column that names the row with the value; ``None`` if the question does not ask for it."""
        labels: set[int] = set()
        for item in nouns:
            texts = [column for column in item.columns if self._column(column).kind == "text"]
            if item.is_table and "which" not in self._asking:
                continue
            if item.is_table and not texts:
                labels.update(row_names(self._table))
                continue
            if len(texts) != 1:
                raise UnclearQuestion(item.text)
            labels.add(texts[0])
        if len(labels) > 1:
            raise UnclearQuestion("two labels")
        if labels:
            return labels.pop()
        if "who" in self._asking:
            return self._person_column()
        asking = next((item for item in self._items if item.kind == "which"), None)
        if (
            asking is not None
            and not asking.text.endswith(ROW_WORDS)
            and not any(item.is_table for item in nouns)
        ):
            raise UnclearQuestion("which")
        return None

    def _person_column(self) -> int:
        columns = person_columns(self._table)
        if len(columns) != 1:
            raise UnclearQuestion("who")
        return columns[0]

    def _group(self, kinds: Sequence[str]) -> TableQuery:
        """Return a query for the group with the most rows, or with the largest or smallest aggregate."""
        if self._has("distinct"):
            raise UnclearQuestion("distinct values in groups")
        extremes = [kind for kind in kinds if kind in ("max", "min", "most", "least")]
        aggregates = [kind for kind in kinds if kind not in extremes]
        if len(extremes) != 1 or len(aggregates) > 1 or any(item.detail for item in self._aggregates):
            raise UnclearQuestion("two aggregates")
        largest = extremes[0] in ("max", "most")
        labels = [item for item in self._nouns if self._names_groups(item)]
        measures = [item for item in self._nouns if self._numeric(item)]
        if not labels and not aggregates and measures and self._asking != ["who"]:
            return self._extreme("max" if largest else "min")
        if (
            self._asking not in (["which"], ["who"], [])
            or len(labels) > 1
            or not (labels or self._asking == ["who"])
        ):
            raise UnclearQuestion("which")
        if labels:
            columns = self._text_columns(labels[0])
            if len(columns) != 1:
                raise UnclearQuestion(labels[0].text)
            group = columns[0]
        else:
            group = self._person_column()
        further_nouns = [item for item in self._nouns if item not in labels]
        if aggregates in (["sum"], ["mean"]) or (
            not aggregates and any(self._numeric(item) for item in further_nouns)
        ):
            column, tables = self._measure(["number"])
            self._require_table_nouns([item for item in tables if item not in labels])
            return self._query(
                "mean" if aggregates == ["mean"] else "sum", column, group=group, largest=largest
            )
        if aggregates not in ([], ["count"]) or (
            not self._has("rows") and all(_is_verb(item) for item in further_nouns)
        ):
            raise UnclearQuestion("nothing to count")
        self._require_table_nouns(further_nouns)
        return self._query("count", None, group=group, largest=largest)

    def _names_groups(self, item: QuestionItem) -> bool:
        """Return whether a noun names a column with the same text in several rows."""
        columns = self._text_columns(item)
        return (
            not self._numeric(item)
            and (item.is_exact or not item.is_table)
            and any(not self._table.is_unique(column) for column in columns)
        )

    def _text_columns(self, item: QuestionItem) -> list[int]:
        return [column for column in item.columns if self._column(column).kind == "text"]

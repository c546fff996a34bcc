"""Conditions in a question: values, comparisons with numbers, and periods, each with the column that it concerns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from portico_server.core.tables import ColumnCondition, ColumnKind, Comparison, StoreTable
from portico_server.features.answers.tables.columns import date_columns
from portico_server.features.answers.tables.items import QuestionItem
from portico_server.features.answers.tables.lexicon import YEARS
from portico_server.features.answers.tables.periods import Period

_RANGE_WORDS: Final = ("to", "until", "till", "through", "–", "—", "-", "到", "至", "~", "～")
_UNCLEAR_LIMITS: Final = ("以后", "以前")
"""Words after a year or a month that may include it."""

_ALTERNATIVES: Final = ("or", "或", "或者")
"""Words between two values of one column. Between two conditions, they would not mean that both hold."""

_NUMBER_COMPARISONS: Final[Mapping[str, Comparison]] = {
    "eq": "eq",
    "gt": "gt",
    "gte": "gte",
    "lt": "lt",
    "lte": "lte",
}


class UnclearQuestion(Exception):
    """A part of a question has no clear meaning for a table, so nothing is computed."""


class ConditionReader:
    """Reads the conditions among the items of a question. ``consumed`` are the numbers of the items that belong to
    them.
    """

    def __init__(self, items: Sequence[QuestionItem], table: StoreTable) -> None:
        self._items = items
        self._table = table
        self.consumed: set[int] = set()
        self.compared: set[int] = set()
        """The numbers of the nouns whose columns are compared with a number: they may also be what is computed."""

    def read(self) -> tuple[ColumnCondition, ...]:
        """Return the conditions. Raise `UnclearQuestion` if one of them has no clear column or comparison."""
        conditions = [*self._periods(), *self._numbers(), *self._values()]
        for number, item in enumerate(self._items):
            if number not in self.consumed and (
                item.text in _ALTERNATIVES
                or item.kind in ("date", "number", "value", "unit", "compare", "compare_after", "between",
                              "between_end", "not", "not_end")
            ):  # fmt: skip
                raise UnclearQuestion(item.text)
        return tuple(conditions)

    def _kind(self, column: int) -> ColumnKind:
        return self._table.columns[column].kind

    def _neighbour(self, number: int, step: int, *, over: Sequence[str] = ("glue",)) -> int | None:
        """Return the number of the next item before or after an item, skipping those of the kinds ``over``."""
        number += step
        while 0 <= number < len(self._items):
            if self._items[number].kind not in over:
                return number
            number += step
        return None

    def _consume(self, *numbers: int | None) -> None:
        self.consumed.update(number for number in numbers if number is not None)

    def _item(self, number: int | None, *kinds: str) -> QuestionItem | None:
        """Return an item if it exists, is one of ``kinds`` and belongs to no other condition."""
        if number is None or number in self.consumed or not 0 <= number < len(self._items):
            return None
        item = self._items[number]
        return item if item.kind in kinds else None

    def _periods(self) -> Iterator[ColumnCondition]:
        columns: set[int] = set()
        for number, item in enumerate(self._items):
            if item.kind == "date" and number not in self.consumed and not self._is_amount(number):
                yield from self._period(number, columns)

    def _is_amount(self, number: int) -> bool:
        """Return whether a year is rather a number: it has a unit, or follows a comparison of numbers."""
        if self._items[number].number is None:
            return False
        preceding = self._item(self._neighbour(number, -1), "compare")
        return self._item(number + 1, "unit") is not None or (
            preceding is not None and preceding.detail in _NUMBER_COMPARISONS
        )

    def _period(self, number: int, columns: set[int]) -> Iterator[ColumnCondition]:
        first, last, comparison, outer = self._range(number)
        period = first
        column, is_year = self._date_column(min(outer), max(outer))
        if column in columns:
            raise UnclearQuestion("two periods")
        columns.add(column)
        self._consume(*outer)
        if is_year:
            if last is not first or comparison != "in" or period.month:
                raise UnclearQuestion("a period of years")
            yield ColumnCondition(column, "eq", (float(period.first[:4]),))
            return
        if comparison in ("in", "since"):
            yield ColumnCondition(column, "gte", (period.first,))
        if comparison == "after":
            yield ColumnCondition(column, "gte", (last.following,))
        if comparison in ("in", "until"):
            yield ColumnCondition(column, "lt", (last.following,))
        if comparison == "before":
            yield ColumnCondition(column, "lt", (period.first,))

    def _range(self, number: int) -> tuple[Period, Period, str, list[int]]:
        """Return the first and the last period, how they are compared, and the items that say so."""
        first = self._items[number].period
        assert first is not None
        joint, following = number + 1, number + 2
        preceding = self._neighbour(number, -1)
        begins = self._item(preceding, "between")
        last = first
        outer = [number]
        if following < len(self._items) and self._items[following].kind == "date":
            following_period = self._items[following].period
            assert following_period is not None
            ends = self._item(following + 1, "between_end")
            if self._items[joint].text not in _RANGE_WORDS and not (
                self._items[joint].kind == "and" and (begins is not None or ends is not None)
            ):
                raise UnclearQuestion("two periods")
            first, last = _in_same_year(first, following_period)
            outer += [joint, following, *([following + 1] if ends is not None else [])]
            if begins is not None:
                outer.append(preceding if preceding is not None else number)
            return first, last, "in", outer
        if not first.first:
            raise UnclearQuestion("a period without a year")
        sign = self._item(preceding, "compare")
        if sign is not None and preceding is not None:
            if sign.detail not in ("since", "after", "before", "until"):
                raise UnclearQuestion(sign.text)
            return first, last, sign.detail, [number, preceding]
        sign = self._item(number + 1, "compare_after")
        if sign is not None:
            if sign.detail not in ("since", "after", "before", "until") or (
                sign.text in _UNCLEAR_LIMITS and not first.day
            ):
                raise UnclearQuestion(sign.text)
            return first, last, sign.detail, [number, number + 1]
        return first, last, "in", outer

    def _date_column(self, first: int, last: int) -> tuple[int, bool]:
        """Return the column of a period between two items, and whether it contains numbers of years."""
        for neighbour in (self._neighbour(first, -1), self._neighbour(last, 1)):
            noun = self._item(neighbour, "noun")
            if noun is None or noun.is_table:
                continue
            dates = [column for column in noun.columns if self._kind(column) == "date"]
            if len(dates) == 1 and len(dates) == len(noun.columns):
                self._consume(neighbour)
                return dates[0], False
        columns = date_columns(self._table)
        if len(columns) == 1:
            return columns[0], False
        years = [
            number
            for number, column in enumerate(self._table.columns)
            if column.kind == "number" and YEARS.fullmatch(column.name.lower())
        ]
        if columns or len(years) != 1:
            raise UnclearQuestion("a period, and no clear column")
        for neighbour in (self._neighbour(first, -1), self._neighbour(last, 1)):
            noun = self._item(neighbour, "noun")
            if noun is not None and noun.columns == (years[0],):
                self._consume(neighbour)
        return years[0], True

    def _numbers(self) -> Iterator[ColumnCondition]:
        for number, item in enumerate(self._items):
            if number in self.consumed or item.number is None:
                continue
            assert item.number is not None
            end = number + 1 if self._item(number + 1, "unit") is not None else number
            start = number - 1 if self._item(number - 1, "unit") is not None else number
            joint = self._item(end + 1, "to", "and")
            upper = self._items[end + 2] if end + 2 < len(self._items) else None
            if joint is not None and upper is not None and upper.number is not None:
                yield from self._number_range(start, number, end)
                continue
            preceding, following = self._neighbour(start, -1), self._neighbour(end, 1)
            sign, sign_number = self._item(preceding, "compare"), preceding
            if sign is None:
                sign, sign_number = self._item(end + 1, "compare_after"), end + 1
                following = self._neighbour(end + 1, 1) if sign is not None else following
            comparison = _NUMBER_COMPARISONS.get(sign.detail) if sign is not None else "eq"
            if comparison is None:
                raise UnclearQuestion(item.text)
            if sign is not None:
                self._consume(sign_number)
                if sign.kind == "compare":
                    preceding = self._neighbour(sign_number or 0, -1)
            column = self._number_column(preceding, following, start, end, comparison)
            self._consume(*range(start, end + 1))
            yield ColumnCondition(column, comparison, (item.number,))

    def _number_range(self, start: int, number: int, end: int) -> Iterator[ColumnCondition]:
        upper = end + 2
        last = upper + 1 if self._item(upper + 1, "unit") is not None else upper
        preceding, ends = self._neighbour(start, -1), self._item(last + 1, "between_end")
        begins = self._item(preceding, "between")
        if begins is None and ends is None:
            raise UnclearQuestion("two numbers")
        if begins is not None and preceding is not None:
            self._consume(preceding)
            preceding = self._neighbour(preceding, -1)
        last = last + 1 if ends is not None else last
        column = self._number_column(preceding, self._neighbour(last, 1), start, last, "gte")
        self._consume(*range(start, last + 1))
        low, high = self._items[number].number, self._items[upper].number
        assert low is not None
        assert high is not None
        yield ColumnCondition(column, "gte", (low,))
        yield ColumnCondition(column, "lte", (high,))

    def _number_column(
        self, preceding: int | None, following: int | None, start: int, end: int, comparison: Comparison
    ) -> int:
        """Return the column that a number is compared with: the column named beside it, or the only
        column with its unit.
        """
        units = [item.columns for item in self._items[start : end + 1] if item.kind == "unit"]
        for neighbour in (preceding, following):
            noun = self._item(neighbour, "noun")
            if noun is None:
                continue
            columns = [
                column
                for column in noun.columns
                if self._kind(column) == "number" and all(column in unit for unit in units)
            ]
            if len(columns) == 1:
                self._consume(neighbour)
                self.compared.add(neighbour or 0)
                return columns[0]
        if len(units) == 1 and len(units[0]) == 1 and comparison != "eq":
            return units[0][0]
        raise UnclearQuestion("a number, and no clear column")

    def _values(self) -> Iterator[ColumnCondition]:
        cells: dict[tuple[int, bool], list[str]] = {}
        previous: tuple[int, int, bool] | None = None
        for number, item in enumerate(self._items):
            if item.kind != "value" or number in self.consumed:
                continue
            first, is_denied = self._sign(number)
            column = self._value_column(first, number)
            is_joined = previous is not None and self._are_joined(previous[0], number)
            if is_joined and previous is not None and previous[1] == column:
                is_denied = is_denied or previous[2]
                self._consume(*range(previous[0], number))
            elif any(column == compared_column for compared_column, _is_denied in cells):
                raise UnclearQuestion("two values")
            cells.setdefault((column, is_denied), []).extend(item.cells[column])
            self._consume(number)
            previous = (number, column, is_denied)
        columns = [column for column, _is_denied in cells]
        if len(columns) != len({*columns}):
            raise UnclearQuestion("a value, and another that is excluded")
        for (column, is_denied), spellings in cells.items():
            yield ColumnCondition(column, "ne" if is_denied else "eq", tuple(dict.fromkeys(spellings)))

    def _are_joined(self, first: int, last: int) -> bool:
        """Return whether only words such as "and" are between two items."""
        return all(item.kind in ("and", "glue") for item in self._items[first + 1 : last]) and any(
            item.kind == "and" for item in self._items[first + 1 : last]
        )

    def _sign(self, number: int) -> tuple[int, bool]:
        """Return the first item of a condition with a value, such as "not", and whether it excludes the value."""
        preceding = self._neighbour(number, -1)
        sign = self._item(preceding, "not", "compare")
        if sign is None or preceding is None or (sign.kind == "compare" and sign.detail != "eq"):
            return number, False
        self._consume(preceding)
        end = self._neighbour(number, 1)
        if sign.kind == "not" and self._item(end, "not_end") is not None:
            self._consume(end)
        return preceding, sign.kind == "not"

    def _value_column(self, first: int, number: int) -> int:
        """Return the column of a value: the only column that has it, or the column named beside it."""
        item = self._items[number]
        for neighbour in (self._neighbour(first, -1), self._neighbour(number, 1)):
            noun = self._item(neighbour, "noun")
            if noun is None or neighbour is None or noun.is_table:
                continue
            shared_columns = [column for column in noun.columns if column in item.columns]
            if len(shared_columns) == 1 and not self._item(self._neighbour(neighbour, -1), "which"):
                self._consume(neighbour)
                return shared_columns[0]
        if len(item.columns) != 1:
            raise UnclearQuestion(item.text)
        return item.columns[0]


def _in_same_year(first: Period, last: Period) -> tuple[Period, Period]:
    """Return two periods, of which one may have no year, in the year of the other."""
    if not first.first and last.first:
        first = first.in_year(int(last.first[:4])) or first
    elif not last.first and first.first:
        last = last.in_year(int(first.first[:4])) or last
    if not first.first or not last.first or first.first >= last.following:
        raise UnclearQuestion("a period without a year")
    return first, last

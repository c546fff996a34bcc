"""What the columns of a table are good for, judged by their names and values. Pure functions."""

from __future__ import annotations

from portico_server.core.tables import StoreTable
from portico_server.features.answers.tables.lexicon import INTENSIVE, MEASURES, PERSONS, PRICES, ROW_VALUES
from portico_server.features.answers.tables.names import is_identifier


def can_be_added(table: StoreTable, number: int) -> bool:
    """Return whether the numbers of a column can be added up."""
    column = table.columns[number]
    return (
        column.kind == "number"
        and column.unit != "%"
        and INTENSIVE.search(column.name.lower()) is None
        and not is_identifier(table, number)
    )


def may_mean_sums(table: StoreTable, number: int) -> bool:
    """Return whether the "highest" value of a column may also mean the highest sum of several rows."""
    return can_be_added(table, number) and ROW_VALUES.search(table.columns[number].name.lower()) is None


def has_one_unit(table: StoreTable, number: int, compared_columns: frozenset[int]) -> bool:
    """Return whether no column has different units or currencies for the numbers of another.

    ``compared_columns`` have only the values of a condition.
    """
    return bool(table.columns[number].unit) or not any(
        column.kind == "text"
        and column.distinct_count > 1
        and other_number not in compared_columns
        and MEASURES.search(column.name.lower())
        for other_number, column in enumerate(table.columns)
    )


def is_countable(table: StoreTable, number: int) -> bool:
    """Return whether the different values of a column are what "how many" asks for.

    They are if they are repeated, and so name things, or if they are identifiers.
    """
    column = table.columns[number]
    if column.kind == "text" and 2 * column.distinct_count <= table.row_count:
        return True
    return column.kind != "date" and is_identifier(table, number)


def names_rows(table: StoreTable, number: int) -> bool:
    """Return whether a column says what each row is: all values are different texts or identifiers."""
    return table.is_unique(number) and (table.columns[number].kind == "text" or is_identifier(table, number))


def row_names(table: StoreTable) -> list[int]:
    """Return the first column if it names the rows."""
    return [0] if table.columns[0].kind == "text" and table.is_unique(0) else []


def person_columns(table: StoreTable) -> list[int]:
    """Return the columns that "who" may ask for."""
    return [
        number
        for number, column in enumerate(table.columns)
        if column.kind == "text" and PERSONS.search(column.name.lower())
    ]


def price_columns(table: StoreTable) -> list[int]:
    """Return the columns that "cheapest" may refer to."""
    return [
        number
        for number, column in enumerate(table.columns)
        if column.kind == "number" and PRICES.search(column.name.lower())
    ]


def date_columns(table: StoreTable) -> list[int]:
    """Return the columns with dates."""
    return [number for number, column in enumerate(table.columns) if column.kind == "date"]

"""Shared functions for commands that list, show, change and remove objects. With ``--json``, they print one
document.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Annotated, Any

import typer

from portico.cli.render import amount, moment, print_fields, print_json, print_rows, safe, shorten
from portico.schemas.resource import Column

Everyone = Annotated[
    bool, typer.Option("--all", help="For admins: include objects of other keys, with the ids of the keys.")
]

Limit = Annotated[
    int | None, typer.Option(min=1, max=1_000, help="Maximum number of objects (default: all).")
]
After = Annotated[
    str | None, typer.Option("--after", metavar="ID", help="Only objects after the object with this id.")
]
NameQuery = Annotated[str | None, typer.Option("--query", help="Only objects whose names contain this text.")]

ID = Column("ID")
OWNER = Column("OWNER", kind="owner")
"""The column that ``--all`` adds."""


def print_listing(
    listing: Any,
    as_json: bool,
    columns: Sequence[Column],
    empty: str = "",
    cells: Mapping[str, Callable[[Any], Any]] | None = None,
) -> None:
    """Print a list or a page of values as a table with ``columns``.

    ``cells`` maps headings to functions that compute a cell, for columns that are not read from an attribute. The
    other parameters are those of `print_table`.
    """
    computed_cells = cells or {}
    headings = [column.heading for column in columns]
    readers = [computed_cells.get(column.heading) or _cell(column) for column in columns]
    print_table(listing, as_json, headings, lambda item: [read(item) for read in readers], empty)


def print_table(
    listing: Any, as_json: bool, headings: Sequence[str], row: Callable[[Any], Sequence[Any]], empty: str = ""
) -> None:
    """Print a list or a page of values as a table. ``row`` returns the cells for a value. Without values, the sentence
    ``empty`` is printed.

    ``as_json``: print the page, or an object with the list as its ``data``.
    """
    if as_json:
        print_json(listing if is_dataclass(listing) else {"data": listing})
    elif empty and not len(listing):
        typer.echo(empty)
    else:
        print_rows(headings, map(row, listing))


def _cell(column: Column) -> Callable[[Any], Any]:
    """Return the function that reads a cell of ``column`` from a value."""
    path = (column.attribute or column.heading.lower()).split(".")
    write = _WRITERS[column.kind]

    def read(item: Any) -> Any:
        for name in path:
            item = None if item is None else getattr(item, name)
        return shorten(write(item), column.width) if column.width else write(item)

    return read


_WRITERS: Mapping[str, Callable[[Any], Any]] = {
    "text": lambda value: value,
    "bytes": amount,
    "count": lambda value: value or "",
    "moment": moment,
    "names": lambda values: [value["name"] if isinstance(value, Mapping) else value.name for value in values],
    "number": lambda value: f"{value:g}",
    "owner": lambda value: value or "shared",
    "pairs": lambda values: [f"{name}={value}" for name, value in (values or {}).items()],
    "share": lambda value: f"{value:.1%}",
    "size": len,
}


def print_item(value: Any, as_json: bool, *fields: tuple[str, Any]) -> None:
    """Print the ``fields`` of a value, one per line, or print the value as JSON."""
    if as_json:
        print_json(value)
    else:
        print_fields(fields)


def fields_of(value: Any, *names: str) -> list[tuple[str, Any]]:
    """Return attributes of a value as fields for `print_item`, each with the attribute's name."""
    return [(name.replace("_", " "), getattr(value, name)) for name in names]


def print_outcome(value: Any, as_json: bool, text: object) -> None:
    """Print ``text``, which reports what a command did, or print the resulting value as JSON."""
    if as_json:
        print_json(value)
    else:
        typer.echo(text)


def print_removed(key: str, subject: str, dry_run: bool, as_json: bool, verb: str = "remove") -> None:
    """Report that ``subject`` was removed, or with ``dry_run`` would be removed. As JSON, report its ``key``."""
    text = f"Would {verb} {safe(subject)}." if dry_run else f"{verb.capitalize()}d {safe(subject)}."
    print_outcome({"removed": None if dry_run else key, "would_remove": key}, as_json, text)

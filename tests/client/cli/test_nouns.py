"""The columns of listings: nouns declare them and the command line prints them."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass, fields, is_dataclass
from types import NoneType
from typing import Any, get_args, get_type_hints

import pytest

from portico import schemas
from portico.cli.nouns import ID, OWNER, print_listing
from portico.schemas.resource import Column, Resource

RESOURCES = [
    member
    for module in pkgutil.iter_modules(schemas.__path__)
    for member in vars(importlib.import_module(f"portico.schemas.{module.name}")).values()
    if isinstance(member, Resource)
]


def listed_class(resource: Resource) -> Any:
    """Return the class of a listing's rows, as the noun's verbs return it."""
    for name in ("list", "change", "get"):
        for verb in resource.verbs:
            if verb.name == name:
                return next(iter(get_args(verb.returns)), verb.returns)
    raise AssertionError(resource.name)


@pytest.mark.parametrize("resource", [each for each in RESOURCES if each.columns], ids=lambda each: each.name)
def test_every_column_is_an_attribute_of_what_is_listed(resource: Resource) -> None:
    item_class = listed_class(resource)
    for column in resource.columns:
        kind = item_class
        for name in (column.attribute or column.heading.lower()).split("."):
            if not is_dataclass(kind):
                break  # JSON, where the daemon has more fields
            assert hasattr(kind, name) or name in {field.name for field in fields(kind)}, column
            hint = get_type_hints(kind).get(name)
            kind = next((each for each in get_args(hint) if each is not NoneType), hint)


@dataclass(frozen=True, slots=True)
class Counts:
    """A nested part of a row."""

    failed: int


@dataclass(frozen=True, slots=True)
class Row:
    """A row with a value of each kind."""

    id: str = "x1"
    name: str = "a\tb"
    size: int = 1_500
    at: float | None = None
    share: float = 0.125
    scale: float = 0.50
    counts: Counts | None = None
    tools: tuple[str, ...] = ("read", "write")
    arguments: tuple[Any, ...] = ({"name": "q"}, {"name": "n"})
    limits: Any = None
    owner: str | None = None
    text: str = "one two three"


COLUMNS = (
    ID,
    Column("NAME"),
    OWNER,
    Column("SIZE", kind="bytes"),
    Column("AT", kind="moment"),
    Column("SHARE", kind="share"),
    Column("SCALE", kind="number"),
    Column("FAILED", "counts.failed", kind="count"),
    Column("TOOLS", kind="size"),
    Column("TAKES", "arguments", kind="names"),
    Column("LIMITS", kind="pairs"),
    Column("TEXT", width=8),
)


def test_a_value_is_printed_by_the_kind_of_its_column(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [Row(), Row(counts=Counts(2), limits={"concurrency": 4, "storage_mb": 9}, owner="ann", text="one")]
    print_listing(rows, False, COLUMNS, "Nothing yet.", {"NAME": lambda row: row.name.upper()})
    headings, first, second = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert headings == [column.heading for column in COLUMNS]
    assert first == ["x1", "A B", "shared", "1.5 kB", "", "12.5%", "0.5", "", "2", "q, n", "", "one two…"]
    assert second[7] == "2"
    assert (second[2], *second[-2:]) == ("ann", "concurrency=4, storage_mb=9", "one")


def test_an_empty_listing_says_how_it_is_filled(capsys: pytest.CaptureFixture[str]) -> None:
    print_listing([], False, COLUMNS, "Nothing yet.")
    print_listing([], True, COLUMNS, "Nothing yet.")
    assert capsys.readouterr().out.splitlines() == ["Nothing yet.", '{"data": []}']

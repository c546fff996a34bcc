"""A field that comes later to an SDK type has a default, so that newer clients read the answers of older daemons.

``older/required_fields.txt`` lists the fields that every daemon sends, as ``Type: fields``. A new type adds its line;
a new field of a listed_lines type needs a default, or metadata of `portico.schemas.added_later`, and is not added.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from portico import _read, schemas, wire
from portico.errors import NotPortico

REQUIRED_FIELDS = Path(__file__).parent / "older" / "required_fields.txt"


def required_fields() -> Iterator[str]:
    """Yield one line for each SDK type with required fields."""
    names = [f"portico.schemas.{module.name}" for module in pkgutil.iter_modules(schemas.__path__)]
    for module in (wire, *map(import_module, names)):
        for name, kind in vars(module).items():
            if isinstance(kind, type) and is_dataclass(kind) and kind.__module__ == module.__name__:
                names_of_fields = [item.name for item in fields(kind)]
                required_names = [
                    field for field in names_of_fields if is_required(kind, field, names_of_fields)
                ]
                if required_names:
                    yield f"{name}: {', '.join(required_names)}"


def is_required(kind: type[Any], field: str, names_of_fields: list[str]) -> bool:
    """Return whether an object that lacks only ``field`` cannot be read."""
    try:
        _read.read_object(kind, {}, **{name: None for name in names_of_fields if name != field})
    except NotPortico:
        return True
    return False


def test_a_new_field_has_a_default() -> None:
    listed_lines = REQUIRED_FIELDS.read_text(encoding="utf-8").splitlines()
    assert sorted(required_fields()) == listed_lines, "see the first lines of this file"

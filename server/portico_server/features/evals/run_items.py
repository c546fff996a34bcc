"""The items of a run: lines of a file or of the request, all checked before any call."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from portico_server.core.errors import InvalidRequest, nearest
from portico_server.core.invalid import wrong, wrong_type
from portico_server.db.evals import ItemRow

MAX_ITEMS: Final = 50_000
"""Maximum number of items in a run."""

MAX_LINE_BYTES: Final = 4 * 2**20
"""Maximum size of a line in bytes."""


def of_content(content: Any, schema: Mapping[str, Any], param: str) -> list[ItemRow]:
    """Parse the items in a request. Raises `InvalidRequest` that names the first invalid item."""
    if not isinstance(content, list):
        wrong_type(param, "a list of objects with an 'item'", content)
    return _check_items(((f"{param}[{n}]", item) for n, item in enumerate(content)), schema, param)


def of_file(path: Path, schema: Mapping[str, Any], param: str) -> list[ItemRow]:
    """Parse the items in a file of JSON lines. Blocks. Raises `InvalidRequest` that names the first invalid line."""
    return _check_items(_lines(path, param), schema, param)


def _lines(path: Path, param: str) -> Iterator[tuple[str, Any]]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            at = f"line {number} of the file"
            if len(line) > MAX_LINE_BYTES:
                raise InvalidRequest(
                    f"{at} exceeds {MAX_LINE_BYTES // 2**20} MiB.", code="invalid_line", param=param
                )
            if not line.strip():
                continue
            try:
                yield at, json.loads(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
            except (ValueError, RecursionError) as error:
                raise InvalidRequest(
                    f'{at} is not JSON: {error}. Each line must be an object {{"item": {{…}}}}.',
                    code="invalid_line",
                    param=param,
                ) from error


def _check_items(items: Iterable[tuple[str, Any]], schema: Mapping[str, Any], param: str) -> list[ItemRow]:
    from portico_server.core.json_schema import JsonSchema

    shape = JsonSchema("the item schema", schema)
    item_rows: list[ItemRow] = []
    for at, item_document in items:
        item = item_document.get("item") if isinstance(item_document, Mapping) else None
        sample = item_document.get("sample") if isinstance(item_document, Mapping) else None
        if not isinstance(item, Mapping) or not isinstance(sample, Mapping | None):
            raise InvalidRequest(
                f'{at} must be an object {{"item": {{…}}}}, with a "sample" {{…}} if it includes an answer.',
                code="invalid_line",
                param=param,
            )
        fault = shape.fault(item)
        if fault is not None:
            raise InvalidRequest(
                f"{at} does not match the item schema: item{fault.path}: {fault.message}.",
                code="invalid_item",
                param=param,
            )
        item_rows.append(ItemRow(len(item_rows), item, sample))
        if len(item_rows) > MAX_ITEMS:
            wrong(param, f"has more than {MAX_ITEMS:,} items; split them into several runs")
    if not item_rows:
        raise InvalidRequest(
            'The data contain no items: supply at least one line {"item": {…}}.',
            code="empty_dataset",
            param=param,
        )
    return item_rows


def need(fields: Collection[str], items: Sequence[ItemRow], param: str) -> None:
    """Raise `InvalidRequest` if a template uses a field that no item has."""
    known_fields: set[str] = set()
    for item_row in items:
        known_fields.update(item_row.item)
    for name in sorted(fields):
        if name not in known_fields:
            hint = nearest(name, known_fields) or f" They have {', '.join(sorted(known_fields)[:20])}."
            raise InvalidRequest(
                f"A template uses 'item.{name}', which no item has.{hint}",
                code="unknown_field",
                param=param,
            )

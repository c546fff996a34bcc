"""How the outputs of steps that ran at once become one value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from portico_server.apps.flow.budget import ValueBudget
from portico_server.apps.flow.expression import as_text
from portico_server.apps.flow.scope import SKIPPED
from portico_server.apps.flow.spec import Join
from portico_server.core.errors import InvalidRequest


def joined(
    join: Join, separator: str, names: Sequence[str], outputs: Sequence[Any], path: str, budget: ValueBudget
) -> Any:
    """``outputs`` in one value; those of skipped steps are left out.

    ``list``: as they are. ``dict``: by the steps' names. ``sum``: added up (numbers), put together (lists, texts,
    objects). ``text``: with ``separator`` between them. ``zip``: the first items together, the second, and so on.
    Raises `InvalidRequest` if that is larger than ``budget``, before it is made.
    """
    kept = [(name, output) for name, output in zip(names, outputs, strict=True) if output is not SKIPPED]
    values = [output for _name, output in kept]
    budget.require(values, path)
    match join:
        case "list":
            return values
        case "dict":
            return dict(kept)
        case "text":
            return _text(separator, values, path, budget)
        case "sum":
            return _sum(values, path)
        case "zip":
            if not all(isinstance(value, list) for value in values):
                raise InvalidRequest(
                    "'join': 'zip' needs a list from every step.", code="type_clash", param=path
                )
            return [list(row) for row in zip(*values, strict=False)]


def _text(separator: str, values: Sequence[Any], path: str, budget: ValueBudget) -> str:
    texts: list[str] = []
    size = 0
    for value in values:
        texts.append(as_text(value))
        size += len(separator) + len(texts[-1])
        budget.require_size(size, path)
    return separator.join(texts)


def _sum(values: Sequence[Any], path: str) -> Any:
    if not values:
        return []
    total = values[0]
    for value in values[1:]:
        if isinstance(total, dict) and isinstance(value, dict):
            total = {**total, **value}
            continue
        try:
            total = total + value
        except TypeError:
            raise InvalidRequest(
                f"'join': 'sum' cannot add a {type(value).__name__} to a {type(total).__name__}.",
                code="type_clash",
                param=path,
            ) from None
    return total

"""Joins the outputs of concurrent steps into one value."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, NoReturn

from portico_server.core.errors import InvalidRequest
from portico_server.features.flows.budget import ValueBudget
from portico_server.features.flows.expression import as_text
from portico_server.features.flows.scope import SKIPPED
from portico_server.features.flows.spec import Join


def join_outputs(
    join: Join, separator: str, names: Sequence[str], outputs: Sequence[Any], path: str, budget: ValueBudget
) -> Any:
    """Join ``outputs`` into one value; outputs of skipped steps are omitted.

    ``list``: a list of the outputs. ``dict``: an object whose keys are the names of the steps. ``sum``: the outputs
    are added (numbers) or concatenated (lists, texts, objects). ``text``: the outputs as text, joined with
    ``separator``. ``zip``: a list with the first items together, the second items together, and so on. If the result
    would be larger than ``budget`` allows, raise `InvalidRequest` before creating it.
    """
    kept_outputs = [
        (name, output) for name, output in zip(names, outputs, strict=True) if output is not SKIPPED
    ]
    values = [output for _name, output in kept_outputs]
    budget.require(values, path)
    match join:
        case "list":
            return values
        case "dict":
            return dict(kept_outputs)
        case "text":
            return _text(separator, values, path, budget)
        case "sum":
            return _sum(values, path)
        case "zip":
            if not all(isinstance(value, list) for value in values):
                raise InvalidRequest(
                    "'join': 'zip' requires a list from every step.", code="type_clash", param=path
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
    first = values[0]
    for kind in (list, str, dict, int | float):
        if isinstance(first, kind):
            for value in values:
                if not isinstance(value, kind):
                    _cannot_add(value, first, path)
    # Each output is processed only once, however many outputs there are.
    if isinstance(first, list):
        return list(chain.from_iterable(values))
    if isinstance(first, str):
        return "".join(values)
    if isinstance(first, dict):
        return dict(chain.from_iterable(value.items() for value in values))
    if isinstance(first, int | float):
        return sum(values[1:], first)
    return first if len(values) == 1 else _cannot_add(values[1], first, path)


def _cannot_add(value: Any, first: Any, path: str) -> NoReturn:
    raise InvalidRequest(
        f"'join': 'sum' cannot add a {type(value).__name__} to a {type(first).__name__}.",
        code="type_clash",
        param=path,
    )

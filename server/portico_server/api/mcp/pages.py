"""Lists in pages, by the place where the next page begins."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any, TypeVar

import mcp_types as types
from mcp.shared.exceptions import MCPError

T = TypeVar("T")


def page(items: Sequence[tuple[str, T]], cursor: str | None, size: int) -> tuple[list[T], str | None]:
    """Up to ``size`` items after the ``cursor``, and the cursor of the next page if there is one.

    ``items`` are sorted by their names, which the cursor is made of: a page begins where the last one ended, whatever
    has come or gone in between.
    """
    after = None if cursor is None else read(cursor)
    if after is not None and not isinstance(after, str):
        raise _foreign()
    rest = [item for item in items if after is None or item[0] > after]
    shown = rest[:size]
    more = write(shown[-1][0]) if len(rest) > size else None
    return [item for _name, item in shown], more


def write(place: Any) -> str:
    """A place, which is JSON, as an opaque cursor."""
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def read(cursor: str) -> Any:
    """The place that `write` was given. Raises `MCPError` for a cursor that is not ours."""
    try:
        return json.loads(base64.urlsafe_b64decode(cursor.encode()))
    except (ValueError, TypeError, binascii.Error, RecursionError) as error:
        raise _foreign() from error


def _foreign() -> MCPError:
    return MCPError(types.INVALID_PARAMS, "The cursor is not one that this server gave. Begin again.")

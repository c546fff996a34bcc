"""Pages of lists in Anthropic's format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, Self, TypeVar

from pydantic import BaseModel

Item = TypeVar("Item")


class AnthropicPage(BaseModel, Generic[Item]):
    """A page of an ordered list. To get the next page, pass ``last_id`` as ``after_id``."""

    data: list[Item]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def of(cls, data: Sequence[Any], *, has_more: bool) -> Self:
        """Return a page of objects with ids."""
        first_id, last_id = (data[0].id, data[-1].id) if data else (None, None)
        return cls(data=list(data), first_id=first_id, last_id=last_id, has_more=has_more)

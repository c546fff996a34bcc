"""The contents of a store, as material for training; injected by the composition root."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from portico_server.core.dataclass import dataclass
from portico_server.core.principal import Principal


@dataclass(frozen=True, slots=True)
class StorePassage:
    """A passage of a store. ``file`` is the name of its file; ``headings`` are the headings above the passage,
    outermost first.
    """

    id: int
    file: str
    headings: tuple[str, ...]
    text: str


class ReadableStores(Protocol):
    """Returns the contents of stores that a caller may read."""

    async def readable(self, ref: str, caller: Principal) -> str:
        """Return the name that ``caller`` uses for a store. Raises `NotFound`, `Forbidden`."""

    async def passages(self, ref: str, caller: Principal, limit: int) -> Sequence[StorePassage]:
        """Return at most ``limit`` passages of a store. If the store has more, return a sample, which is the same on
        each call. Raises the same errors as `readable`.
        """

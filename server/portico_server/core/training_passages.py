"""What a store holds, for training on it: put in by the composition root."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from portico_server.core.dataclass import dataclass
from portico_server.core.principal import Principal


@dataclass(frozen=True, slots=True)
class StorePassage:
    """A passage of a store. ``file`` is the name of its file, ``headings`` are those above it, from the outermost."""

    id: int
    file: str
    headings: tuple[str, ...]
    text: str


class ReadableStores(Protocol):
    """Gives out what stores hold, as far as a caller may read it."""

    async def readable(self, ref: str, caller: Principal) -> str:
        """The name that ``caller`` reaches a store by. Raises `NotFound`, `Forbidden`."""

    async def passages(self, ref: str, caller: Principal, limit: int) -> Sequence[StorePassage]:
        """At most ``limit`` passages, of more the same sample each time. Raises as `readable`."""

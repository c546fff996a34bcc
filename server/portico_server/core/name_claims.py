"""Claims on names: which names are free, and which are reserved while their object is created."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Iterable
from contextlib import asynccontextmanager
from typing import Final

from portico_server.core.errors import Conflict
from portico_server.core.servable import Servable

RESERVED: Final = frozenset({"default", "default-embedding", "default-image", "client"})
"""Names with a special meaning, which no key may give to its own objects."""


class NameClaims:
    """Grants one claim on names at a time. ``find_owned`` returns the object of a name that belongs to exactly this
    owner; `None` as the owner means shared objects.
    """

    def __init__(
        self, find_owned: Callable[[str, str | None], Awaitable[Servable | None]], aliases: Container[str]
    ) -> None:
        self._find_owned = find_owned
        self._aliases = aliases
        self._reserved: set[str] = set(RESERVED)
        self._naming = asyncio.Lock()

    def reserve(self, names: Iterable[str]) -> None:
        """Reserve names for the operator: from now on, no key can give these names to its own objects."""
        self._reserved.update(names)

    def require_unreserved(self, name: str, owner: str | None) -> None:
        """Raise `Conflict` if a key claims a name that the operator has reserved."""
        if owner is not None and name in self._reserved:
            raise Conflict(
                f"The name '{name}' is reserved by the operator. Choose another name.",
                code="name_reserved",
                param="name",
            )

    @asynccontextmanager
    async def hold(self, owner: str | None, *keys: str, aliases: Iterable[str] = ()) -> AsyncIterator[None]:
        """Claim names for ``owner`` (``None``: shared) while the block creates the object.

        Raises `Conflict` for a name that is reserved, or that belongs to a shared object or to another object of the
        owner. A name in ``aliases`` may be an existing alias, whose target then changes. Objects of other keys may
        have the same name, because a shared object can coexist with them.
        """
        async with self._naming:
            for key in keys:
                await self._require_free(key, owner)
                if key in self._aliases:
                    raise name_taken_error(key, "alias")
            for alias in aliases:
                if alias not in self._aliases:
                    await self._require_free(alias, None)
            yield

    async def _require_free(self, key: str, owner: str | None) -> None:
        name = key.rpartition("/")[2] if key.startswith(("store/", "tool/")) else key
        self.require_unreserved(name, owner)
        servable = await self._find_owned(key, owner)
        if servable is None and owner is not None:
            servable = await self._find_owned(key, None)
        if servable is not None and not servable.card.labels.get("fallback"):
            raise name_taken_error(name, servable.card.kind)


def name_taken_error(name: str, kind: str) -> Conflict:
    """Return the error for a name that already belongs to an object of the kind ``kind``."""
    return Conflict(
        f"The name '{name}' already belongs to {'an' if kind[0] in 'ai' else 'a'} {kind}. Choose another "
        "name.",
        code="name_taken",
        param="name",
    )

"""Claims on names: which names are free, and who reserves a name while its object is created."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Iterable
from contextlib import asynccontextmanager
from typing import Final

from portico_server.core.errors import Conflict
from portico_server.core.servable import Servable

RESERVED: Final = frozenset({"default", "default-embedding", "default-image", "client"})
"""Names that have a meaning everywhere, so that no key may give them to its own objects."""


class NameClaims:
    """Allows one claim on a name at a time. ``find_owned`` finds the object that exactly this owner has under a name;
    `None` means shared objects.
    """

    def __init__(
        self, find_owned: Callable[[str, str | None], Awaitable[Servable | None]], aliases: Container[str]
    ) -> None:
        self._find_owned = find_owned
        self._aliases = aliases
        self._reserved: set[str] = set(RESERVED)
        self._naming = asyncio.Lock()

    def reserve(self, names: Iterable[str]) -> None:
        """Reserve names for the operator: from now on, no key can give them to its own objects."""
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
        """Claim names for ``owner`` (``None``: shared) while the block creates their object.

        Raises `Conflict` for a name that is reserved, shared or already the owner's. A name in ``aliases`` may be an
        existing alias, whose target then changes. Objects of other keys with that name do not matter: a shared object
        may coexist with them.
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
    """Return the error for a name that belongs to an object of ``kind``."""
    return Conflict(
        f"The name '{name}' already belongs to {'an' if kind[0] in 'ai' else 'a'} {kind}. Choose another "
        "name.",
        code="name_taken",
        param="name",
    )

"""Giving names: which are free, and who holds one while what is to have it is made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Iterable
from contextlib import asynccontextmanager
from typing import Final

from portico_server.core.errors import Conflict
from portico_server.core.servable import Servable

RESERVED: Final = frozenset({"default", "default-embedding", "default-image", "client"})
"""Names that mean something everywhere, so that no key may give them to a thing of its own."""


class NameClaims:
    """One name is given at a time. ``find_owned`` finds what exactly an owner has under a name; `None`: what
    is shared.
    """

    def __init__(
        self, find_owned: Callable[[str, str | None], Awaitable[Servable | None]], aliases: Container[str]
    ) -> None:
        self._owned = find_owned
        self._aliases = aliases
        self._reserved: set[str] = set(RESERVED)
        self._naming = asyncio.Lock()

    def reserve(self, names: Iterable[str]) -> None:
        """Keep names for the operator: from now on no key gives them to a thing of its own."""
        self._reserved.update(names)

    def require_unreserved(self, name: str, owner: str | None) -> None:
        """Raise `Conflict` if a key wants a name that the operator keeps."""
        if owner is not None and name in self._reserved:
            raise Conflict(
                f"The name '{name}' is reserved by the operator. Choose another name.",
                code="name_reserved",
                param="name",
            )

    @asynccontextmanager
    async def hold(self, owner: str | None, *keys: str, aliases: Iterable[str] = ()) -> AsyncIterator[None]:
        """Hold names for ``owner`` (``None``: shared) while the block makes what is to have them.

        Raises `Conflict` for a name that is reserved, shared or the owner's already; one that is to be an alias may be
        one, which moves. What other keys have of that name does not matter: a shared thing may come beside it.
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
        servable = await self._owned(key, owner)
        if servable is None and owner is not None:
            servable = await self._owned(key, None)
        if servable is not None and not servable.card.labels.get("fallback"):
            raise name_taken_error(name, servable.card.kind)


def name_taken_error(name: str, kind: str) -> Conflict:
    """A name belongs to a thing of ``kind``."""
    return Conflict(
        f"The name '{name}' belongs to {'an' if kind[0] in 'ai' else 'a'} {kind} here. Choose another name.",
        code="name_taken",
        param="name",
    )

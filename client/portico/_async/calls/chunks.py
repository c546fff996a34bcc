# Generated from the verbs of portico.schemas by scripts/sdk: change them there.
"""Calls of `portico.schemas.chunks`."""

from __future__ import annotations

from collections.abc import Sequence

from portico._async.group import Group
from portico.schemas.chunks import Chunker


class Chunkers(Group):
    """Strategies for splitting documents into chunks."""

    async def list(self) -> Sequence[Chunker]:
        """List the strategies for splitting documents."""
        return await self._transport.request("GET", "/api/chunkers", list[Chunker])

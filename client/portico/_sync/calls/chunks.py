# Generated from portico._async by scripts/sdk: change it there.
"""Calls of `portico.schemas.chunks`."""

from __future__ import annotations

from collections.abc import Sequence

from portico._sync.group import Group
from portico.schemas.chunks import Chunker


class Chunkers(Group):
    """Strategies for splitting documents into chunks."""

    def list(self) -> Sequence[Chunker]:
        """List the strategies for splitting documents."""
        return self._transport.request("GET", "/api/chunkers", list[Chunker])

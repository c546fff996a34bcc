"""Facts that outlive a conversation: what an agent asks of the knowledge, put in by the composition root."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from portico_server.core.principal import Principal


class Facts(Protocol):
    """Keeps short texts in a store, where a search finds them."""

    async def add(
        self,
        store: str,
        texts: Sequence[str],
        attributes: Mapping[str, str | float | bool],
        caller: Principal,
    ) -> None:
        """Keep each text as a file of the store; a search sees them a moment later.

        Raises `NotFound` or `Forbidden` if the caller may not write to it.
        """

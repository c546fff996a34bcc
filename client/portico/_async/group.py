"""What the groups of calls have in common."""

from __future__ import annotations

from portico._transport import AsyncTransport


class Group:
    """Calls about one noun."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

# Made from portico/_async by scripts/twin: change it there.
"""What the groups of calls have in common."""

from __future__ import annotations

from portico._transport import Transport


class Group:
    """Calls about one noun."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

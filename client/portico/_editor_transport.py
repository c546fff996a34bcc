"""Messages of the Agent Client Protocol, one JSON object a line.

The transport of the protocol's SDK ends the connection after a line of JSON that is no object.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from acp._transport import NdjsonTransport
from acp.task import MessageSender, TaskSupervisor

PARSE_ERROR, INVALID_REQUEST = -32700, -32600
"""Error codes of JSON-RPC."""


class EditorTransport(NdjsonTransport):
    """Receives messages, and answers each line that is not a message with an error."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(reader, MessageSender(writer, TaskSupervisor(source="portico.agent_server")))

    async def receive(self) -> dict[str, Any] | None:
        """Return the next message; ``None`` at the end of the connection."""
        while line := await self._read_line():
            if not line.strip():
                continue
            try:
                message = json.loads(line)
            except (ValueError, RecursionError):
                await self._refuse(PARSE_ERROR, "The line is not valid JSON. Send one JSON object a line.")
                continue
            if not isinstance(message, dict):
                await self._refuse(
                    INVALID_REQUEST, "The message is not a JSON object. Send one object a line."
                )
            elif not isinstance(message.get("id"), str | int | None):
                await self._refuse(INVALID_REQUEST, "The field 'id' must be text or a whole number.")
            else:
                return message
        return None

    async def _refuse(self, code: int, reason: str) -> None:
        await self.send({"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": reason}})

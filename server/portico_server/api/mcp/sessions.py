"""Room for new sessions: where as many are open as may be, one of the key that has most makes way."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

from mcp.server.streamable_http import MCP_SESSION_ID_HEADER
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

_SESSION: Final = MCP_SESSION_ID_HEADER.encode("ascii")
_VERSION: Final = b"mcp-protocol-version"


class Sessions:
    """ASGI middleware around the package's session manager, which refuses a session beyond ``most``.

    Assistants that are closed without a word leave their sessions behind. Of the key that has most, the one that nobody
    has used for longest is ended as if its client had said so, and its id is a 404 from then on, upon which a client
    begins a new session. One with a request or a stream in progress is never ended; where all are, the package refuses
    with a 503.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most
        self._idle: dict[str, None] = {}
        """Nobody uses these now; in order, the one that was left longest ago first."""
        self._used: Counter[str] = Counter()
        self._users: dict[str, object] = {}
        """Who began each: nobody else may end it."""
        self._opening = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        given = headers.get(_SESSION)
        if given is not None:
            await self._use(given.decode("latin-1"), scope, receive, send)
        elif headers.get(_VERSION, b"").decode("latin-1") in ("", *HANDSHAKE_PROTOCOL_VERSIONS):
            await self._open(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _use(self, session: str, scope: Scope, receive: Receive, send: Send) -> None:
        if session not in self._idle and session not in self._used:
            await self._app(scope, receive, send)  # none of ours, or none any more
            return
        gone = False

        async def told(message: Message) -> None:
            nonlocal gone
            if message["type"] == "http.response.start":
                status = message["status"]
                gone = status == 404 or (scope["method"] == "DELETE" and status == 200)
            await send(message)

        self._take(session)
        try:
            await self._app(scope, receive, told)
        finally:
            self._leave(session)
        if gone and session in self._idle:
            del self._idle[session], self._users[session]

    async def _open(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = ""

        async def told(message: Message) -> None:
            nonlocal session
            if message["type"] == "http.response.start" and message["status"] < 400:
                session = dict(message["headers"]).get(_SESSION, b"").decode("latin-1")
                if session:  # before its client knows of it
                    self._take(session)
                    self._users[session] = scope.get("user")
                    self._opening -= 1
            await send(message)

        self._opening += 1
        try:
            await self._make_room()
            await self._app(scope, receive, told)
        finally:
            if session:
                self._leave(session)
            else:
                self._opening -= 1

    async def _make_room(self) -> None:
        while self._idle and len(self._idle) + len(self._used) + self._opening > self._most:
            held = Counter(map(_key, self._users.values()))
            most = max(held[_key(self._users[session])] for session in self._idle)
            session = next(one for one in self._idle if held[_key(self._users[one])] == most)
            del self._idle[session]
            logger.info("the session %s makes way for a new one", session)
            await self._end(session)

    async def _end(self, session: str) -> None:
        """What the package does when a client ends its session."""
        scope: Scope = {
            "type": "http",
            "method": "DELETE",
            "path": "/mcp",
            "query_string": b"",
            "headers": [(_SESSION, session.encode("latin-1"))],
            "user": self._users.pop(session),
        }

        async def nothing() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def unheard(_message: Message) -> None:
            """Nobody waits for the answer."""

        await self._app(scope, nothing, unheard)

    def _take(self, session: str) -> None:
        self._idle.pop(session, None)
        self._used[session] += 1

    def _leave(self, session: str) -> None:
        self._used[session] -= 1
        if not self._used[session]:
            del self._used[session]
            self._idle[session] = None


def _key(user: object) -> str:
    """The id of the key that began a session."""
    return str(getattr(user, "username", ""))

"""MCP sessions: a limit for open sessions, and sessions shared between daemons on the same database.

Each session has a row with its owner and the requests that define its state. A daemon that does not have the session
reopens it from this row. A call's questions are stored in the database, so the client's answer may arrive at any
daemon. The feed tells other daemons about cancellations, changes and the end of a session.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter, deque
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final

from mcp.server.streamable_http import MCP_SESSION_ID_HEADER, StreamableHTTPServerTransport
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from pydantic import ValidationError
from starlette.types import Message, Receive, Scope, Send

from portico_server.core.errors import PorticoError, Unavailable
from portico_server.core.principal import Principal
from portico_server.db import tasks as rows
from portico_server.db.database import Database
from portico_server.db.feed import Feed
from portico_server.db.tasks import McpSessionRow
from portico_server.features.mcp import inquiry
from portico_server.runs.questions import QuestionService, asked_event

logger = logging.getLogger(__name__)

IDLE_TIMEOUT_S: Final = 30 * 60.0
"""Seconds after which an unused session is closed; the default of the ``mcp`` package."""

RENEW_INTERVAL_S: Final = 60.0
"""Interval, in seconds, at which the use of sessions is recorded in the database."""

TAKE_OVER_TIMEOUT_S: Final = 30.0
"""Seconds within which a daemon must reopen a session of another daemon."""

MAX_NOTED_BYTES: Final = 1024 * 1024
"""Maximum size, in bytes, of a message whose content is read for other daemons. Most such messages answer a question
that another daemon asked.
"""

MAX_KEPT_BYTES: Final = 64 * 1024
"""Maximum size of a stored request, in bytes. A session opened by a larger request exists only on the daemon that
opened it.
"""

MAX_KEPT_REQUESTS: Final = 256
"""Maximum number of stored requests per session: the opening request, the log level, and the watched files."""

MAX_UNSENT_NOTICES: Final = 1_000
"""Maximum number of queued notifications for other daemons. Beyond it, the oldest notifications are dropped."""

_SESSION: Final = MCP_SESSION_ID_HEADER.encode("ascii")
_VERSION: Final = b"mcp-protocol-version"
_OPENING: Final = "initialize"
_NOTED: Final = (b"cancelled", b"setLevel", b"subscribe")
"""Every message whose method concerns other daemons contains one of these words."""
_INITIALIZED: Final = {"jsonrpc": "2.0", "method": "notifications/initialized"}

_taken_over: ContextVar[str] = ContextVar("taken_over", default="")
"""The id of the session that is being reopened. It replaces the id that the ``mcp`` package would assign."""


class SessionManager(StreamableHTTPSessionManager):
    """The session manager of the ``mcp`` package, extended so that a session from another daemon can be reopened with
    the same id.
    """

    def has(self, session: str) -> bool:
        """Return whether a session exists on this daemon."""
        return session in self._server_instances

    def _admit_session(self, requestor: Any) -> StreamableHTTPServerTransport | None:
        transport = super()._admit_session(requestor)
        session = _taken_over.get()
        if transport is not None and session:
            assert transport.mcp_session_id is not None
            self._server_instances[session] = self._server_instances.pop(transport.mcp_session_id)
            if transport.mcp_session_id in self._session_owners:
                self._session_owners[session] = self._session_owners.pop(transport.mcp_session_id)
            transport.mcp_session_id = session
        return transport


class McpSessions:
    """ASGI middleware around the session manager that limits the number of open sessions to ``max_sessions``.

    Assistants that are closed abruptly leave their sessions behind. When a new session needs room, the least recently
    used session
    of the key with the most sessions is ended as if its client had ended it. Its id then returns 404, upon which the
    client begins a
    new session. A session with a request or stream in progress is never ended; if all are busy, the ``mcp`` package
    refuses with a
    503. A session that is stored in ``sessions`` is reopened when its client returns.
    """

    def __init__(
        self, manager: SessionManager, max_sessions: int, sessions: KeptSessions | None = None
    ) -> None:
        self._manager = manager
        self._app = manager.handle_request
        self._max_sessions = max_sessions
        self._store = sessions
        self._idle: dict[str, None] = {}
        """Sessions without a request or stream in progress, least recently used first."""
        self._use_counts: Counter[str] = Counter()
        self._scopes: dict[str, Scope] = {}
        """The scope of each session's last request, which identifies the session's user. Only this user can end the
        session.
        """
        self._opening = 0
        self._taking_over = asyncio.Lock()
        self._messages: dict[str, dict[str, Any]] = {}
        """Stored requests that this daemon has applied to each session."""
        self._renewed_sessions: set[str] = set()

    def take_used(self) -> frozenset[str]:
        """Return the sessions that were used on this daemon since the last call, or that are in use."""
        used_sessions, self._renewed_sessions = self._renewed_sessions | self._use_counts.keys(), set()
        return frozenset(used_sessions)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        session_header = headers.get(_SESSION)
        in_session = headers.get(_VERSION, b"").decode("latin-1") in ("", *HANDSHAKE_PROTOCOL_VERSIONS)
        if session_header is not None:
            session = session_header.decode("latin-1")
            if in_session and self._store is not None:
                await self._take_over(session, self._store, scope)
            await self._use(session, scope, receive, send)
        elif in_session:
            await self._open(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _use(self, session: str, scope: Scope, receive: Receive, send: Send) -> None:
        if session not in self._idle and session not in self._use_counts:
            await self._app(scope, receive, send)  # the session is unknown on this daemon, or has ended
            return
        is_own = _key(scope) == _key(self._scopes[session])
        body = _Body(receive)
        has_left = False

        async def send_noting(message: Message) -> None:
            nonlocal has_left
            if message["type"] == "http.response.start":
                status = message["status"]
                has_left = status == 404 or (scope["method"] == "DELETE" and status == 200)
                if self._store is not None and is_own and status < 300:
                    await self._note(session, self._store, scope, body.data)
            await send(message)

        self._take(session)
        try:
            if is_own:
                self._scopes[session] = _kept_scope(scope)
            await self._app(scope, body.receive if self._store is not None else receive, send_noting)
        finally:
            self._leave(session)
        if has_left and is_own and session in self._idle:
            self._forget(session)

    async def _note(self, session: str, sessions: KeptSessions, scope: Scope, body: bytes) -> None:
        """Record the parts of a request that concern other daemons, before its client gets the response."""
        if scope["method"] == "DELETE":
            await sessions.end(session)
        elif scope["method"] == "POST":
            request = await sessions.note(session, body, scope["portico.caller"])
            if request is not None:
                self._messages.setdefault(session, {}).update(request)

    async def _open(self, scope: Scope, receive: Receive, send: Send, taken_over: str = "") -> None:
        session = ""
        body = _Body(receive)

        async def send_noting(message: Message) -> None:
            nonlocal session
            if message["type"] == "http.response.start" and message["status"] < 400:
                session = dict(message["headers"]).get(_SESSION, b"").decode("latin-1")
                if session:  # register the session before its client learns the id
                    self._take(session)
                    self._scopes[session] = _kept_scope(scope)
                    self._opening -= 1
                    if self._store is not None and not taken_over:
                        self._messages[session] = await self._store.open(session, _key(scope), body.data)
            await send(message)

        self._opening += 1
        token = _taken_over.set(taken_over)
        try:
            await self._make_room()
            await self._app(scope, body.receive if self._store is not None else receive, send_noting)
        finally:
            _taken_over.reset(token)
            if session:
                self._leave(session)
            else:
                self._opening -= 1

    async def _take_over(self, session: str, sessions: KeptSessions, scope: Scope) -> None:
        """Reopen a session from another daemon on this daemon, if it belongs to this caller. Before a stream, apply
        the requests that other daemons received.
        """
        if self._manager.has(session) and scope["method"] != "GET":
            return
        try:
            async with asyncio.timeout(TAKE_OVER_TIMEOUT_S), self._taking_over:
                row = await sessions.find(session, _key(scope))
                if row is None:
                    return
                if not self._manager.has(session):
                    logger.info("the session %s continues on this daemon", session)
                    self._forget(session)
                    opening = row.requests[_OPENING]
                    await self._open(*_internal(_kept_scope(scope), opening), taken_over=session)
                    if not self._manager.has(session):
                        return
                    self._messages[session] = {_OPENING: opening}
                await self._catch_up(session, row, _kept_scope(scope))
        except TimeoutError:
            raise Unavailable(
                f"This daemon could not continue the session within {TAKE_OVER_TIMEOUT_S:g} s. Try again."
            ) from None

    async def _catch_up(self, session: str, row: McpSessionRow, scope: Scope) -> None:
        """Apply the session's requests that other daemons received."""
        await self._repeat(session, scope, _INITIALIZED)
        applied_messages = self._messages.setdefault(session, {})
        for name, request in row.requests.items():
            if name != _OPENING and applied_messages.get(name) != request:
                applied_messages[name] = request
                await self._repeat(session, scope, request)
        for name in applied_messages.keys() - row.requests.keys():
            request = applied_messages.pop(name)
            if request["method"] == "resources/subscribe":
                await self._repeat(session, scope, {**request, "method": "resources/unsubscribe"})

    async def _repeat(self, session: str, scope: Scope, request: Mapping[str, Any]) -> None:
        await self._app(*_internal(scope, request, session))

    async def hear(self, notice: Mapping[str, Any]) -> None:
        """Handle a notification from another daemon about a client's message in a session that also exists on this
        daemon.
        """
        session = str(notice["session"])
        scope = self._scopes.get(session)
        if self._store is None or scope is None or not self._manager.has(session):
            return
        match notice["what"]:
            case "ended":
                self._idle.pop(session, None)
                await self._end(session)
            case "cancelled":
                params = {"requestId": notice["request"]}
                cancellation = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}
                await self._repeat(session, scope, cancellation)
            case _:
                async with self._taking_over:
                    row = await self._store.find(session, _key(scope))
                    if row is not None:
                        await self._catch_up(session, row, scope)

    async def _make_room(self) -> None:
        while self._idle and len(self._idle) + len(self._use_counts) + self._opening > self._max_sessions:
            counts = Counter(map(_key, self._scopes.values()))
            limit = max(counts[_key(self._scopes[session])] for session in self._idle)
            session = next(
                session_id for session_id in self._idle if counts[_key(self._scopes[session_id])] == limit
            )
            del self._idle[session]
            logger.info("the session %s is ended to make room for a new one", session)
            await self._end(session)

    async def _end(self, session: str) -> None:
        """End a session as the ``mcp`` package does when a client ends its session."""
        scope = self._scopes.pop(session)
        self._messages.pop(session, None)
        await self._app(*_internal(scope, None, session, "DELETE"))

    def _forget(self, session: str) -> None:
        self._idle.pop(session, None)
        self._scopes.pop(session, None)
        self._messages.pop(session, None)

    def _take(self, session: str) -> None:
        self._renewed_sessions.add(session)
        self._idle.pop(session, None)
        self._use_counts[session] += 1

    def _leave(self, session: str) -> None:
        self._use_counts[session] -= 1
        if not self._use_counts[session]:
            del self._use_counts[session]
            if session in self._scopes:
                self._idle[session] = None


class KeptSessions:
    """The database rows of sessions, and the notifications about sessions between daemons on one database."""

    def __init__(self, database: Database, questions: QuestionService, feed: Feed, max_sessions: int) -> None:
        self._database = database
        self._questions = questions
        self._max_sessions = max_sessions
        self._unsent: deque[dict[str, Any]] = deque(maxlen=MAX_UNSENT_NOTICES)
        self._notices: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue(MAX_UNSENT_NOTICES)
        self._send = feed.report("mcp", self._collect)
        feed.receive("mcp", self._hear)

    async def open(self, session: str, owner: str, body: bytes) -> dict[str, Any]:
        """Store a new session and return its stored requests. If storing fails, the session exists only on this
        daemon.
        """
        message = _message(body)
        if message.get("method") != _OPENING or len(body) > MAX_KEPT_BYTES:
            return {}
        row = McpSessionRow(session, owner, {_OPENING: message})
        try:
            await self._database.write(rows.open_session, row, IDLE_TIMEOUT_S, self._max_sessions)
        except PorticoError as error:
            logger.warning("an MCP session exists only on this daemon: %s", error.message)
        return {_OPENING: message}

    async def find(self, session: str, owner: str) -> McpSessionRow | None:
        """Return an open session if it belongs to this owner."""
        row = await self._database.read(rows.get_session, session, IDLE_TIMEOUT_S)
        return row if row is not None and row.owner == owner else None

    async def note(self, session: str, body: bytes, caller: Principal) -> dict[str, Any] | None:
        """Notify other daemons if a session's message concerns them. Return the request if it is stored."""
        if b'"method"' in body and not any(word in body for word in _NOTED):
            return None
        message = _message(body)
        params = message.get("params")
        params = params if isinstance(params, dict) else {}
        match message.get("method"):
            case None:
                await self._answer(message, caller)
            case "notifications/cancelled":
                self._tell({"session": session, "what": "cancelled", "request": params.get("requestId")})
            case "logging/setLevel":
                return await self._change(session, "logging/setLevel", message)
            case "resources/subscribe" if isinstance(params.get("uri"), str):
                return await self._change(session, f"resources/subscribe {params['uri']}", message)
            case "resources/unsubscribe" if isinstance(params.get("uri"), str):
                await self._change(session, f"resources/subscribe {params['uri']}", None)
        return None

    async def _change(
        self, session: str, name: str, request: Mapping[str, Any] | None
    ) -> dict[str, Any] | None:
        if request is not None and len(json.dumps(request)) > MAX_KEPT_BYTES:
            return None
        try:
            await self._database.write(rows.change_session, session, name, request, MAX_KEPT_REQUESTS)
        except PorticoError as error:
            logger.warning("a change of an MCP session was not stored for other daemons: %s", error.message)
        self._tell({"session": session, "what": "changed"})
        return None if request is None else {name: request}

    async def end(self, session: str) -> None:
        """Remove a session that its client has ended."""
        try:
            await self._database.write(rows.end_session, session)
        except PorticoError as error:
            logger.warning("the end of an MCP session was not stored for other daemons: %s", error.message)
        self._tell({"session": session, "what": "ended"})

    async def _answer(self, message: Mapping[str, Any], caller: Principal) -> None:
        """Accept the answer to a question that a call on another daemon asked. The message has the question's id."""
        question_id = message.get("id")
        if not isinstance(question_id, str) or self._questions.is_awaited_here(question_id):
            return
        try:
            row = await self._questions.get(question_id, caller)
            if row.status != "pending":
                return
            question = asked_event(row)
            if "error" in message:
                if question.kind == "chat":  # no other client has this model
                    note = str((message["error"] or {}).get("message"))[:1_000]
                    await self._questions.answer(question_id, caller, is_accepted=False, note=note)
                return
            elicited_answer = inquiry.answer_in(question, inquiry.read(question, message.get("result") or {}))
            if elicited_answer is not None:
                await self._questions.answer(
                    question_id,
                    caller,
                    is_accepted=elicited_answer.accepted,
                    value=elicited_answer.value,
                    note=elicited_answer.note,
                )
        except (PorticoError, ValidationError) as error:
            logger.warning("an answer over MCP to '%s' was not accepted: %s", question_id[:80], error)

    def _tell(self, notice: dict[str, Any]) -> None:
        self._unsent.append(notice)
        self._send()

    def _collect(self, _each_second: bool) -> Mapping[str, Any]:
        notices = {str(number): notice for number, notice in enumerate(self._unsent)}
        self._unsent.clear()
        return notices

    def _hear(self, _origin: str, notices: Mapping[str, Any]) -> None:
        for notice in notices.values():
            if not self._notices.full():
                self._notices.put_nowait(notice)

    async def run(self, sessions: McpSessions) -> None:
        """Handle other daemons' notifications about sessions, and record which sessions are used. Runs until
        cancelled.
        """
        loop = asyncio.get_running_loop()
        renew_at = loop.time() + RENEW_INTERVAL_S
        while True:
            try:
                async with asyncio.timeout_at(renew_at):
                    notice = await self._notices.get()
            except TimeoutError:
                renew_at = loop.time() + RENEW_INTERVAL_S
                await self._renew(sessions.take_used())
                continue
            try:
                await sessions.hear(notice)
            except (PorticoError, KeyError, TypeError) as error:
                logger.warning("ignoring a notification of another daemon about an MCP session: %s", error)

    async def _renew(self, session_ids: frozenset[str]) -> None:
        try:
            if session_ids:
                await self._database.write_soon(rows.renew_sessions, sorted(session_ids))
        except PorticoError as error:
            logger.warning("the use of MCP sessions was not recorded: %s", error.message)


class _Body:
    """Records the first bytes of a request body while the application receives it."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._pieces = bytearray()

    @property
    def data(self) -> bytes:
        """Return the body, or empty bytes if it is too large."""
        return bytes(self._pieces) if len(self._pieces) <= MAX_NOTED_BYTES else b""

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request" and len(self._pieces) <= MAX_NOTED_BYTES:
            self._pieces += message.get("body", b"")
        return message


def _message(body: bytes) -> dict[str, Any]:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


def _kept_scope(scope: Scope) -> Scope:
    """Return the parts of a request's scope that identify its caller and endpoint."""
    return {key: scope[key] for key in ("type", "http_version", "scheme", "path", "user") if key in scope} | {
        key: value for key, value in scope.items() if key.startswith("portico.")
    }


def _internal(
    scope: Scope, message: Mapping[str, Any] | None, session: str = "", method: str = "POST"
) -> tuple[Scope, Receive, Send]:
    """Return an internal request to the ``mcp`` package, which discards the response."""
    headers = [(b"content-type", b"application/json"), (b"accept", b"application/json, text/event-stream")]
    if session:
        headers.append((_SESSION, session.encode("latin-1")))
    body = b"" if message is None else json.dumps(message).encode()
    has_sent = False

    async def receive() -> Message:
        nonlocal has_sent
        if has_sent:
            await asyncio.Event().wait()
        has_sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def discard(_message: Message) -> None: ...

    return {**scope, "method": method, "query_string": b"", "headers": headers}, receive, discard


def _key(scope: Scope) -> str:
    """Return the id of the key with which a request was made."""
    return str(getattr(scope.get("user"), "username", ""))

"""Sessions of agents: stored as rows, limited to one turn at a time, exported and imported as a state dict."""

from __future__ import annotations

import json
import math
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, Final, Literal, get_args
from weakref import WeakValueDictionary

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict, InvalidRequest, NotFound
from portico_server.core.facts import FactStore
from portico_server.core.ids import new_id
from portico_server.core.names import has_dots
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.words import whole_number
from portico_server.db import sessions
from portico_server.db.conversations import MAX_WHOLE_CHARS, MAX_WHOLE_ITEMS
from portico_server.db.database import Database
from portico_server.db.rows import RowPage, json_bytes
from portico_server.db.sessions import MessageRow, RatedRow, Remembered, SessionKey, SessionRow
from portico_server.features.agents.long_term import LongTermMemory
from portico_server.features.agents.message import TOOL_RESULT, AgentMessage, message_of
from portico_server.features.agents.session import Additions, AgentSession, Recollection
from portico_server.features.agents.turn_queue import TurnQueue
from portico_server.runs.quotas import StorageQuota

STATE_VERSION: Final = 1
"""Version of the state dict that this module reads and writes."""

TITLE_CHARS: Final = 60
"""Maximum length of a title made from the first message, in characters."""

MAX_TITLE: Final = 500
MAX_METADATA_NAME: Final = 64
MAX_METADATA: Final = 16_384
"""Maximum size of a session's metadata, in characters of JSON."""

_ID: Final = "conv_"
"""Prefix of session ids. Session names must not begin with it."""

_VERSION_KEY: Final = "portico_session"
_MEMORY: Final = "memory"
_STATE: Final = "state"


RatingValue = Literal["good", "bad", "corrected"]
RATINGS: Final[tuple[RatingValue, ...]] = get_args(RatingValue)
MAX_RATED_MESSAGES: Final = 200
"""Maximum number of messages that are returned before a rated answer."""
MAX_SEQ_DIGITS: Final = 9


@dataclass(frozen=True, slots=True)
class AnswerRating:
    """A user's rating of an answer. ``correction`` is the answer that the user wanted; it is empty unless the rating
    is ``corrected``.
    """

    value: RatingValue
    correction: str = ""
    note: str = ""


class AgentSessions:
    """All sessions. A caller cannot see the sessions of other keys.

    A session belongs to the id of an app, so sessions with a caller's own app and with a shared app of the same name
    are separate.
    """

    def __init__(self, database: Database, registry: Registry, quota: StorageQuota | None = None) -> None:
        self._database = database
        self._registry = registry
        self._quota = quota or StorageQuota()
        self._floors: WeakValueDictionary[tuple[str, str, str], TurnQueue] = WeakValueDictionary()

    def long_memory(self, facts: FactStore) -> LongTermMemory:
        """Return the long-term memory of these sessions, which stores its facts in ``facts``."""
        return LongTermMemory(self._database, facts)

    def _app(self, ref: str, caller: Principal) -> tuple[str, str]:
        """Return the id and name of the app that the caller refers to. For an undeployed agent, both are the agent's
        name.
        """
        servable = self._registry.get(ref, caller)
        if servable is None or servable.card.kind != "app":
            return ref, ref
        return servable.card.id or servable.card.name, servable.card.name

    @asynccontextmanager
    async def turn(
        self,
        app: tuple[str, str],
        name: str,
        caller: Principal,
        *,
        path: str = "",
        busy: Literal["wait", "refuse"] = "wait",
    ) -> AsyncIterator[AgentSession]:
        """Open the session for one turn of the agent at ``path``. During the turn, this agent and the agents below it
        have exclusive use of the session.

        ``app``: the app's id and name; without an id, the caller's app with this name. ``name`` may be the session's
        id. Raise `Conflict` if another turn is running and ``busy`` is not ``wait``, or `TooLarge` if the owner's
        storage is full.
        """
        owner, (app_id, title) = caller.id, app
        if not app_id:
            app_id, title = self._app(title, caller)
        if name.startswith(_ID):
            row = await self.get(name, caller)
            if row.app_id != app_id:
                raise NotFound(
                    f"The session '{name}' belongs to the app '{row.app}', not to the called app '{title}'.",
                    code="session_not_found",
                    param="session",
                )
            owner, name = row.owner, row.name
        else:
            _check_name(name)
        await self._quota.admit(self._database, owner)
        session_key = (app_id, owner, name)
        floor = self._floors.get(session_key)
        if floor is None:
            floor = self._floors[session_key] = TurnQueue()
        in_use = Conflict(
            f"Another call is using the session '{name}' of '{title}'. Try again when the other call has "
            "ended.",
            code="session_busy",
            param="session",
        )
        if busy == "refuse" and floor.must_wait(path):
            raise in_use
        everywhere = self._database.exclusive(
            "\n".join(("session", *session_key)), wait_s=math.inf if busy == "wait" else 0
        )
        async with floor.hold(path), everywhere as is_ours:
            if not is_ours:
                raise in_use
            session_row, memory_rows = await self._database.read(sessions.entered, *session_key, path)
            key = SessionKey(
                session_row.id if session_row else new_id("conv_"),
                *session_key,
                title,
                fresh=session_row is None,
            )
            yield AgentSession(
                _Kept(self._database, key, self._quota),
                {path: _recollected(memory_rows)},
                app=title,
                name=name,
            )

    async def open(
        self,
        app: str,
        name: str,
        caller: Principal,
        *,
        title: str = "",
        metadata: Mapping[str, Any] | None = None,
    ) -> SessionRow:
        """Return the caller's session with this name, creating it if necessary. Without a name, the session's id
        becomes its name.
        """
        session_id = new_id("conv_")
        _check_described(title, metadata)
        if name:
            _check_name(name)
        app_id, app_name = self._app(app, caller)
        await self._quota.admit(self._database, caller.id, json_bytes(metadata or {}))
        key = SessionKey(session_id, app_id, caller.id, name or session_id, app_name)
        return await self._database.write(sessions.open_session, key, title=title, metadata=metadata)

    async def get(self, session_id: str, caller: Principal) -> SessionRow:
        """Return a session. Raises `NotFound`."""
        row = await self._database.read(sessions.get, session_id)
        if row is None or not caller.sees(row.owner):
            raise NotFound(
                f"The session '{session_id}' does not exist.", code="session_not_found", param="id"
            )
        return row

    async def list(
        self,
        caller: Principal,
        *,
        app: str | None = None,
        name: str | None = None,
        search: str = "",
        after: str | None = None,
        limit: int = 100,
    ) -> RowPage[SessionRow]:
        """List the caller's sessions that follow the session ``after``, most recently used first. A filter by name
        matches only the caller's own sessions. Raise `NotFound` if ``after`` does not exist.
        """
        last = None if after is None else await self._database.read(sessions.get, after)
        if after is not None and (last is None or not caller.sees(last.owner)):
            raise NotFound(f"The session '{after[:80]}' in 'after' does not exist.", param="after")
        if caller.admin and name is None:
            return await self._database.read(sessions.newest, limit, app=app, search=search, after=last)
        app_id = None if app is None else self._app(app, caller)[0]
        return await self._database.read(
            sessions.newest, limit, owner=caller.id, app_id=app_id, name=name, search=search, after=last
        )

    async def messages(
        self,
        session_id: str,
        caller: Principal,
        *,
        agent: str | None = None,
        after: int = 0,
        limit: int = 1000,
    ) -> RowPage[MessageRow]:
        """List messages in order, optionally only messages of one agent. `MAX_PAGE_CHARS` may end a page before
        ``limit``.
        """
        await self.get(session_id, caller)
        return await self._database.read(sessions.messages, session_id, agent=agent, after=after, limit=limit)

    async def describe(
        self,
        session_id: str,
        caller: Principal,
        *,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> SessionRow:
        """Change the title or the metadata of a session."""
        _check_described(title or "", metadata)
        row = await self.get(session_id, caller)
        await self._quota.admit(self._database, row.owner, json_bytes(metadata or {}))
        await self._database.write(sessions.describe, session_id, title=title, metadata=metadata)
        return await self.get(session_id, caller)

    async def add(
        self, session_id: str, caller: Principal, messages: Sequence[AgentMessage], *, agent: str = ""
    ) -> SessionRow:
        """Append messages to the memory of the agent at the path ``agent``."""
        row = await self.get(session_id, caller)
        rows = [(agent, message.to_json(), message.created_at) for message in messages]
        key = SessionKey(row.id, row.app_id, row.owner, row.name, row.app)
        title = headline(messages[0].text) if messages and not agent else ""
        await self._quota.admit(self._database, row.owner, sessions.messages_bytes(rows))
        await self._database.write(sessions.save, key, rows, {}, None, {}, title)
        return await self.get(session_id, caller)

    async def rate(
        self, session_id: str, seq: int, caller: Principal, rating: AnswerRating | None
    ) -> MessageRow:
        """Set the caller's rating of an answer. It replaces the previous rating; ``None`` removes the rating.

        Raise `NotFound`, or `InvalidRequest` if the message is not an answer.
        """
        if rating is not None and (rating.value == "corrected") != bool(rating.correction.strip()):
            raise InvalidRequest(
                "'correction' is the answer that you wanted: it is required with the value 'corrected', and "
                "not allowed with other values.",
                code="invalid_correction",
                param="correction",
            )
        session = await self.get(session_id, caller)
        message_rows = (await self._database.read(sessions.messages, session_id, after=seq - 1, limit=1)).data
        if not message_rows or message_rows[0].seq != seq:
            raise NotFound(
                f"The session '{session_id}' has no message {seq}.", code="message_not_found", param="seq"
            )
        message = message_of(message_rows[0].message)
        if message_rows[0].agent or message.type is not None or message.sender == "user":
            raise InvalidRequest(
                f"Message {seq} is not an answer of the session. Only answers can be rated.",
                code="not_an_answer",
                param="seq",
            )
        saved_rating = None if rating is None else {**asdict(rating), "rated_at": time.time()}
        if saved_rating is not None:
            await self._quota.admit(self._database, session.owner, json_bytes(saved_rating))
        row = await self._database.write(sessions.rate, session_id, seq, saved_rating)
        return row or message_rows[0]

    async def ratings(
        self,
        caller: Principal,
        *,
        app: str | None = None,
        model: str | None = None,
        value: RatingValue | None = None,
        after: str = "",
        limit: int = 100,
    ) -> RowPage[RatedRow]:
        """Return a page of the caller's ratings, oldest answer first.

        Filters: one ``app``, the ``model`` that answered, one ``value``.

        ``after`` is the id of a rating, which consists of the session's id and the message's number: ``conv_…:4``.
        """
        last: tuple[str, int] | None = None
        if after:
            session_id, _, digits = after.rpartition(":")
            number = whole_number(digits, MAX_SEQ_DIGITS)
            last = None if number is None else (session_id, number)
        row_page = None
        if last or not after:
            row_page = await self._database.read(
                sessions.rated,
                limit,
                values=RATINGS if value is None else (value,),
                history=MAX_RATED_MESSAGES,
                owner=None if caller.admin else caller.id,
                app=app,
                model=model,
                after=last,
            )
        if row_page is None:
            raise NotFound(
                f"The rating '{after[:80]}' does not exist.", code="rating_not_found", param="after"
            )
        return row_page

    async def reset(self, session_id: str, caller: Principal) -> SessionRow:
        """Delete all messages of a session, for all agents in its tree."""
        await self.get(session_id, caller)
        await self._database.write(sessions.reset, session_id)
        return await self.get(session_id, caller)

    async def fork(self, session_id: str, caller: Principal, name: str) -> SessionRow:
        """Copy a session under a new name. Raise `Conflict` if the name is in use."""
        row = await self.get(session_id, caller)
        new = new_id("conv_")
        if name:
            _check_name(name)
        size = await self._database.read(sessions.size, session_id)
        await self._quota.admit(self._database, row.owner, size)
        session_row = await self._database.write(sessions.fork, session_id, new, name or new)
        if session_row is None:
            raise NotFound(
                f"The session '{session_id}' does not exist.", code="session_not_found", param="id"
            )
        return session_row

    async def remove(self, session_id: str, caller: Principal) -> None:
        """Delete a session and all its messages."""
        await self.get(session_id, caller)
        await self._database.write(sessions.remove, session_id)

    async def state_dict(self, session_id: str, caller: Principal) -> dict[str, Any]:
        """``{"portico_session": 1, "memory": [...], "writer.memory": [...], "writer.state": {...}}``."""
        await self.get(session_id, caller)
        out: dict[str, Any] = {_VERSION_KEY: STATE_VERSION}
        page = await self._database.read(
            sessions.messages, session_id, limit=MAX_WHOLE_ITEMS, max_chars=MAX_WHOLE_CHARS
        )
        if page.has_more:
            raise InvalidRequest(
                f"The session '{session_id}' has more than {MAX_WHOLE_ITEMS:,} messages or "
                f"{MAX_WHOLE_CHARS:,} characters, too many for one state dict. Read its messages in pages.",
                code="session_too_large",
                param="id",
            )
        for row in page.data:
            out.setdefault(_key(row.agent, _MEMORY), []).append(dict(row.message))
        for agent, state in (await self._database.read(sessions.states, session_id)).items():
            if state:
                out[_key(agent, _STATE)] = dict(state)
        return out

    async def load_state_dict(
        self, session_id: str, caller: Principal, state: Mapping[str, Any]
    ) -> SessionRow:
        """Replace the messages with those in a state dict. If the dict is invalid, change nothing and raise
        `InvalidRequest`.
        """
        row = await self.get(session_id, caller)
        added_messages, saved_values = _read_state(state)
        size = sessions.messages_bytes(added_messages)
        size += sum(map(json_bytes, saved_values.values())) - await self._database.read(
            sessions.size, session_id
        )
        await self._quota.admit(self._database, row.owner, max(size, 0))
        await self._database.write(sessions.replace, session_id, added_messages, saved_values)
        return await self.get(session_id, caller)


class _Kept:
    """The `portico_server.features.agents.session.SessionStore` for one session."""

    def __init__(self, database: Database, key: SessionKey, quota: StorageQuota) -> None:
        self._database = database
        self._key = key
        self._quota = quota

    async def load(self, agent: str, *, last: int | None = None) -> Recollection:
        if self._key.fresh or last == 0:
            return Recollection()
        return _recollected(await self._database.read(sessions.memory, self._key.id, agent, last))

    async def save(self, additions: Additions, run_id: str) -> None:
        rows = [(agent, message.to_json(), message.created_at) for agent, message in additions.messages]
        title = headline(additions.messages[0][1].text) if additions.messages else ""
        outcome = await self._database.write_soon(
            sessions.save, self._key, rows, additions.states, run_id, additions.seen, title
        )
        if outcome == "saved":
            self._quota.count(self._key.owner, lambda: sessions.messages_bytes(rows))
        if outcome == "gone":
            raise NotFound(
                f"The session '{self._key.name}' was removed while its agent was running.",
                code="session_not_found",
                param="session",
            )
        if outcome == "changed":
            raise Conflict(
                f"The session '{self._key.name}' was changed while its agent was running; the answer was not "
                "stored.",
                code="session_changed",
                param="session",
            )


def headline(text: str) -> str:
    """Return the initial title of a session: the beginning of its first message."""
    words = " ".join(text[: 4 * TITLE_CHARS].split())
    return words if len(words) <= TITLE_CHARS else f"{words[: TITLE_CHARS - 1].rstrip()}…"


def _recollected(memory_rows: Remembered) -> Recollection:
    messages = [AgentMessage(**message) for message in memory_rows.messages]
    earlier = memory_rows.earlier
    if earlier:
        # Tool results whose calls are among the earlier messages, which are not loaded.
        begin = next(
            (at for at, message in enumerate(messages) if message.type != TOOL_RESULT), len(messages)
        )
        messages, earlier = messages[begin:], earlier + begin
    return Recollection(messages, dict(memory_rows.state), memory_rows.last, earlier)


def _check_described(title: str, metadata: Mapping[str, Any] | None) -> None:
    """Raise `InvalidRequest` if the title or the metadata exceeds its size limit."""
    if len(title) > MAX_TITLE:
        raise InvalidRequest(
            f"The title has {len(title)} characters; at most {MAX_TITLE} are allowed.", param="title"
        )
    if any(len(name) > MAX_METADATA_NAME for name in metadata or ()):
        raise InvalidRequest(
            f"A name in 'metadata' has more than {MAX_METADATA_NAME} characters; use a shorter name.",
            param="metadata",
        )
    size = len(json.dumps(metadata, ensure_ascii=False)) if metadata else 0
    if size > MAX_METADATA:
        raise InvalidRequest(
            f"'metadata' has {size} characters as JSON; at most {MAX_METADATA} are allowed.", param="metadata"
        )


def _check_name(name: str) -> None:
    if not name or len(name) > 256 or not name.isprintable() or name.startswith(_ID) or has_dots(name):
        raise InvalidRequest(
            "A session's name must have 1 to 256 printable characters, must not consist of dots only, and "
            f"must not begin with '{_ID}'.",
            code="invalid_name",
            param="session",
        )


def _key(agent: str, field_name: str) -> str:
    return f"{agent}.{field_name}" if agent else field_name


def _read_state(
    state: Mapping[str, Any],
) -> tuple[list[tuple[str, Mapping[str, Any], float]], dict[str, Mapping[str, Any]]]:
    version = state.get(_VERSION_KEY, STATE_VERSION)
    if version != STATE_VERSION:
        raise InvalidRequest(
            f"The state dict has version {version!r}; this daemon reads version {STATE_VERSION}.",
            code="unsupported_version",
            param=_VERSION_KEY,
        )
    added_messages: list[tuple[str, Mapping[str, Any], float]] = []
    saved_values: dict[str, Mapping[str, Any]] = {}
    for key, value in state.items():
        if key == _VERSION_KEY:
            continue
        agent, _, field_name = key.rpartition(".")
        if field_name == _STATE and isinstance(value, Mapping):
            saved_values[agent] = value
        elif field_name == _MEMORY and isinstance(value, list):
            messages = [message_of(item) for item in value]
            added_messages += [(agent, message.to_json(), message.created_at) for message in messages]
        else:
            raise InvalidRequest(
                f"'{key}' is not a valid key of a state dict: keys end in 'memory' (a list of messages) or "
                "'state'.",
                code="invalid_state",
                param=key,
            )
    return added_messages, saved_values

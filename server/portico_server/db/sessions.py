"""Sessions: conversations with an app, and the memories and states of its agents."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from dataclasses import replace as replace_fields
from typing import Any, Final, Literal, TypeAlias

import orjson
from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    String,
    Text,
    bindparam,
    cast,
    delete,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict
from portico_server.db.rows import RowPage, Rows, json_bytes
from portico_server.db.schema import session_messages, session_states, sessions


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session. For ``app_id``, see `SessionKey`; ``app`` is the name of the app; the owner chooses ``name``;
    ``last_seq`` is the number of the last message.
    """

    id: str
    app_id: str
    app: str
    owner: str
    name: str
    title: str
    metadata: Mapping[str, Any]
    last_seq: int
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class MessageRow:
    """A message in the memory of an agent; ``agent`` is the agent's path in the tree, empty for the root agent."""

    seq: int
    agent: str
    run_id: str | None
    message: Mapping[str, Any]
    created_at: float


@dataclass(frozen=True, slots=True)
class SessionKey:
    """Identifies the session of a turn. ``app_id`` is the id of the app or, for an undeployed agent, its name.

    If ``fresh``, the session is created when its first turn is saved. ``app`` is the name of the app.
    """

    id: str
    app_id: str
    owner: str
    name: str
    app: str
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Remembered:
    """The memory of an agent: its messages, oldest first, its other state, and the number of its last message.

    ``earlier`` is the number of earlier messages, which exceed the limits of a turn.
    """

    messages: Sequence[Mapping[str, Any]] = ()
    state: Mapping[str, Any] = field(default_factory=dict)
    last: int = 0
    earlier: int = 0


AddedMessage: TypeAlias = tuple[str, Mapping[str, Any], float]
"""A message to store: (path of the agent, message, time)."""

SessionSaved = Literal["saved", "gone", "changed"]
"""The outcome of saving a turn: the turn was saved (``saved``), the session was deleted (``gone``), or the messages
that the turn was based on have changed (``changed``).
"""

_SESSIONS = Rows(sessions, SessionRow)
MESSAGES = Rows(session_messages, MessageRow)

get = _SESSIONS.get

# The queries of every turn are built only once, because building them takes longer than running them.
_NAMED = _SESSIONS.select.where(
    sessions.c.app_id == bindparam("app_id"),
    sessions.c.owner == bindparam("owner"),
    sessions.c.name == bindparam("name"),
)
_LOCKED = _SESSIONS.select.where(sessions.c.id == bindparam("id")).with_for_update()
_OF_AGENT = (session_messages.c.session_id == bindparam("id"), session_messages.c.agent == bindparam("agent"))
MAX_TURN_MESSAGES: Final = 10_000
"""Maximum number of an agent's messages that a turn reads. Earlier messages can be read by listing the session's
messages.
"""
MAX_TURN_CHARS: Final = 8_000_000
"""Maximum number of characters of messages, as JSON, that a turn reads. The newest message is always read."""
# As text, because orjson takes a fifth of the time that the column's own parser takes. In portions, so that a
# driver that fetches all rows together reads only a few unneeded rows.
_MEMORY = (
    select(cast(session_messages.c.message, Text), session_messages.c.seq)
    .where(*_OF_AGENT, session_messages.c.seq <= bindparam("until"))
    .order_by(session_messages.c.seq.desc())
    .limit(MAX_TURN_MESSAGES + 1)
    .execution_options(stream_results=True, max_row_buffer=100)
)
_MAX_SEQ: Final = 2**31 - 1
_EARLIER = select(func.count()).where(*_OF_AGENT, session_messages.c.seq < bindparam("first"))
_STATE = select(session_states.c.state).where(
    session_states.c.session_id == bindparam("id"), session_states.c.agent == bindparam("agent")
)
_LAST = (
    select(session_messages.c.agent, func.max(session_messages.c.seq))
    .where(
        session_messages.c.session_id == bindparam("id"),
        session_messages.c.agent.in_(bindparam("agents", expanding=True)),
    )
    .group_by(session_messages.c.agent)
)
_ADD = insert(session_messages)
_USED = (
    update(sessions)
    .where(sessions.c.id == bindparam("session"))
    .values(
        last_seq=bindparam("last"), updated_at=bindparam("now"), bytes=sessions.c.bytes + bindparam("more")
    )
)
_TITLED = update(sessions).where(sessions.c.id == bindparam("session")).values(title=bindparam("given"))


def open_session(
    connection: Connection,
    key: SessionKey,
    *,
    title: str = "",
    metadata: Mapping[str, Any] | None = None,
) -> SessionRow:
    """Return the session with this key's name, and create it if necessary."""
    session_row = by_name(connection, key.app_id, key.owner, key.name)
    if session_row is not None:
        return session_row
    now = time.time()
    connection.execute(
        insert(sessions).values(
            id=key.id,
            app_id=key.app_id,
            app=key.app,
            owner=key.owner,
            name=key.name,
            title=title,
            metadata=dict(metadata or {}),
            last_seq=0,
            created_at=now,
            updated_at=now,
            bytes=json_bytes(metadata or {}),
        )
    )
    row = get(connection, key.id)
    assert row is not None
    return row


def by_name(connection: Connection, app_id: str, owner: str, name: str) -> SessionRow | None:
    """Return the session with this name, or ``None``."""
    row = connection.execute(_NAMED, {"app_id": app_id, "owner": owner, "name": name}).first()
    return SessionRow(*row) if row else None


def newest(
    connection: Connection,
    limit: int,
    *,
    owner: str | None = None,
    app_id: str | None = None,
    app: str | None = None,
    name: str | None = None,
    search: str = "",
    after: SessionRow | None = None,
) -> RowPage[SessionRow]:
    """Return sessions, most recently used first. Optional filters: the owner, the app by id or name, the name, and a
    text that the title or a message contains. ``after`` is the last session of the previous page.
    """
    query = _SESSIONS.select.order_by(sessions.c.updated_at.desc(), sessions.c.id.desc())
    if after is not None:
        query = query.where(tuple_(sessions.c.updated_at, sessions.c.id) < (after.updated_at, after.id))
    if app is not None:
        query = query.where(or_(sessions.c.app == app, sessions.c.app_id == app))
    for column, filter_value in (
        (sessions.c.owner, owner),
        (sessions.c.app_id, app_id),
        (sessions.c.name, name),
    ):
        if filter_value is not None:
            query = query.where(column == filter_value)
    if search:
        query = query.where(
            or_(sessions.c.title.icontains(search, autoescape=True), sessions.c.id.in_(_saying(search)))
        )
    return _SESSIONS.page(connection, query, limit)


def _saying(search: str) -> Select[tuple[str]]:
    """Return the query for sessions with messages that contain a text. Messages in parts are stored as JSON, which
    escapes non-ASCII characters.
    """
    content = session_messages.c.message["content"].as_string()
    within = json.dumps(search)[1:-1]
    return select(session_messages.c.session_id).where(
        or_(
            content.icontains(search, autoescape=True),
            cast(content, String).like("[%") & content.icontains(within, autoescape=True),
        )
    )


def memory(connection: Connection, session_id: str, agent: str, until: int | None = None) -> Remembered:
    """Return an agent's memory in a session: the newest messages, within the limits of a turn.

    ``until`` is the number of the last message to read.
    """
    parameters = {"id": session_id, "agent": agent}
    texts: list[str] = []
    first, last, chars, has_more = 0, 0, 0, False
    with connection.execute(_MEMORY, {**parameters, "until": _MAX_SEQ if until is None else until}) as rows:
        for text, seq in rows:
            chars += len(text)
            if texts and (chars > MAX_TURN_CHARS or len(texts) == MAX_TURN_MESSAGES):
                has_more = True
                break
            first, last = seq, last or seq
            texts.append(text)
    earlier = connection.execute(_EARLIER, {**parameters, "first": first}).scalar_one() if has_more else 0
    state = connection.execute(_STATE, parameters).scalar()
    return Remembered([orjson.loads(text) for text in reversed(texts)], state or {}, last, earlier)


def entered(
    connection: Connection, app_id: str, owner: str, name: str, agent: str
) -> tuple[SessionRow | None, Remembered]:
    """Return the session with this name, if it exists, and the memory of ``agent`` in it."""
    row = by_name(connection, app_id, owner, name)
    return row, Remembered() if row is None else memory(connection, row.id, agent)


MAX_PAGE_CHARS: Final = 8_000_000
"""Maximum number of characters of messages, as JSON, that a page contains. A message is never split."""

_MESSAGE_CHARS = func.length(cast(session_messages.c.message, Text)).label("chars")


def messages(
    connection: Connection,
    session_id: str,
    *,
    agent: str | None = None,
    after: int = 0,
    limit: int = 1000,
    max_chars: int = MAX_PAGE_CHARS,
) -> RowPage[MessageRow]:
    """Return messages with a number above ``after``, in order, optionally only of one agent. Returns at least one
    message if any exists.
    """
    table = session_messages.c
    condition: ColumnElement[bool] = (table.session_id == session_id) & (table.seq > after)
    if agent is not None:
        condition &= table.agent == agent
    last, chars, count, has_more = after, 0, 0, False
    for row in connection.execute(
        select(table.seq, _MESSAGE_CHARS).where(condition).order_by(table.seq).limit(limit + 1)
    ):
        chars += row.chars
        if count == limit or (count and chars > max_chars):
            has_more = True
            break
        last, count = row.seq, count + 1
    query = MESSAGES.select.where(condition, table.seq <= last).order_by(table.seq)
    return RowPage(tuple(MESSAGES.every(connection, query)), has_more)


def states(connection: Connection, session_id: str) -> dict[str, Mapping[str, Any]]:
    """Return the state of each agent apart from messages, keyed by agent."""
    rows = connection.execute(
        select(session_states.c.agent, session_states.c.state).where(
            session_states.c.session_id == session_id
        )
    )
    return {row.agent: row.state for row in rows}


def save(
    connection: Connection,
    key: SessionKey,
    added_messages: Sequence[AddedMessage],
    saved_values: Mapping[str, Mapping[str, Any]],
    run_id: str | None,
    seen_numbers: Mapping[str, int],
    title: str = "",
) -> SessionSaved:
    """Add messages, given as (agent, message, time), and replace states: everything or nothing.

    ``seen_numbers`` maps agents to the number of the last message on which the turn was based. ``title`` is used if
    the session has no title.
    """
    # Parallel agents in a new session all try to create it; all but the first find the session that the first
    # created.
    session_id = open_session(connection, key, title=title).id if key.fresh else key.id
    row = connection.execute(_LOCKED, {"id": session_id}).first()
    if row is None:
        return "gone"
    if seen_numbers and _last(connection, session_id, seen_numbers) != {
        agent: last for agent, last in seen_numbers.items() if last
    }:
        return "saved" if _is_kept(connection, session_id, run_id, seen_numbers) else "changed"
    session_row = SessionRow(*row)
    if title and not session_row.title:
        connection.execute(_TITLED, {"session": session_row.id, "given": title})
    _put(connection, session_row, added_messages, saved_values, [run_id] * len(added_messages))
    return "saved"


def _last(connection: Connection, session_id: str, agents: Mapping[str, int]) -> dict[str, int]:
    """Return the number of each agent's last message, except for agents without messages."""
    rows = connection.execute(_LAST, {"id": session_id, "agents": list(agents)})
    return dict(list(rows))


def _is_kept(
    connection: Connection, session_id: str, run_id: str | None, seen_numbers: Mapping[str, int]
) -> bool:
    """Return whether all messages added since ``seen_numbers`` belong to this run: then an earlier attempt of the run
    has already saved the turn.
    """
    conditions = [
        (session_messages.c.agent == agent) & (session_messages.c.seq > last)
        for agent, last in seen_numbers.items()
    ]
    query = select(session_messages.c.run_id).where(
        session_messages.c.session_id == session_id, or_(*conditions)
    )
    return run_id is not None and set(connection.execute(query.distinct()).scalars()) == {run_id}


RATING: Final = "rating"
"""Key of a user's rating in the ``extra_info`` of a message."""


def rate(
    connection: Connection, session_id: str, seq: int, rating: Mapping[str, Any] | None
) -> MessageRow | None:
    """Set the rating of a message, or remove it if ``None``. Return the message, or ``None`` if it does not exist."""
    connection.execute(_LOCKED, {"id": session_id})
    conditions = (session_messages.c.session_id == session_id, session_messages.c.seq == seq)
    row = MESSAGES.first(connection, MESSAGES.select.where(*conditions))
    if row is None:
        return None
    message = _with_rating(row.message, rating)
    connection.execute(update(session_messages).where(*conditions).values(message=message))
    _grow(connection, session_id, json_bytes(message) - json_bytes(row.message))
    return replace_fields(row, message=message)


def _grow(connection: Connection, session_id: str, added_bytes: int) -> None:
    """Increase the recorded size of a session on disk by ``added_bytes``."""
    statement = update(sessions).where(sessions.c.id == session_id)
    connection.execute(statement.values(bytes=sessions.c.bytes + added_bytes))


def _with_rating(message: Mapping[str, Any], rating: Mapping[str, Any] | None) -> dict[str, Any]:
    about = {name: value for name, value in (message.get("extra_info") or {}).items() if name != RATING}
    if rating is not None:
        about[RATING] = dict(rating)
    return {**message, "extra_info": about or None}


@dataclass(frozen=True, slots=True)
class RatedRow:
    """A rated message, its session, and the messages before it, oldest first."""

    session: SessionRow
    message: MessageRow
    before: Sequence[MessageRow]


def rated(
    connection: Connection,
    limit: int,
    *,
    values: Collection[str],
    history: int,
    owner: str | None = None,
    app: str | None = None,
    model: str | None = None,
    after: tuple[str, int] | None = None,
    max_chars: int = MAX_PAGE_CHARS,
) -> RowPage[RatedRow] | None:
    """Return messages whose rating is one of ``values``, oldest first, each with up to ``history`` messages before it.

    Optional filters: owner, app, model. ``after`` is the (session, number) of the last message on the previous page;
    returns ``None`` if that message does not exist. A page ends before it exceeds ``max_chars``, but has at least one
    message. The messages before each rated message are cut to the same limit.
    """
    table = session_messages.c
    query = (
        select(table.session_id, table.seq)
        .join(sessions, sessions.c.id == table.session_id)
        .where(table.message[("extra_info", RATING, "value")].as_string().in_(values), table.agent == "")
        .order_by(table.created_at, table.session_id, table.seq)
        .limit(limit + 1)
    )
    if owner is not None:
        query = query.where(sessions.c.owner == owner)
    if app is not None:
        query = query.where(or_(sessions.c.app == app, sessions.c.app_id == app))
    if model is not None:
        query = query.where(table.message["sender"].as_string() == model)
    if after is not None:
        last = select(table.created_at).where(table.session_id == after[0], table.seq == after[1])
        moment = connection.execute(last).scalar()
        if moment is None:
            return None
        query = query.where(tuple_(table.created_at, table.session_id, table.seq) > (moment, *after))
    rated_rows: list[RatedRow] = []
    total = 0
    for session_id, seq in connection.execute(query).all():
        condition = (table.session_id == session_id) & (table.agent == "") & (table.seq <= seq)
        shown_count, chars = _last_that_fit(connection, condition, history + 1, max_chars)
        total += chars
        if len(rated_rows) == limit or (rated_rows and total > max_chars):
            return RowPage(tuple(rated_rows), True)
        rows = MESSAGES.every(
            connection, MESSAGES.select.where(condition).order_by(table.seq.desc()).limit(shown_count)
        )
        session = get(connection, session_id)
        assert session is not None
        rated_rows.append(RatedRow(session, rows[0], rows[:0:-1]))
    return RowPage(tuple(rated_rows), False)


def _last_that_fit(
    connection: Connection, condition: ColumnElement[bool], limit: int, max_chars: int
) -> tuple[int, int]:
    """Return how many of the last messages fit into ``max_chars`` in total, at least one, and their total number of
    characters.
    """
    count = total = 0
    query = select(_MESSAGE_CHARS).where(condition).order_by(session_messages.c.seq.desc()).limit(limit)
    for chars in connection.execute(query).scalars():
        if count and total + chars > max_chars:
            break
        count, total = count + 1, total + chars
    return count, total


def messages_bytes(added_messages: Sequence[AddedMessage]) -> int:
    """Return the size of messages on disk, in bytes."""
    return sum(json_bytes(message) for _agent, message, _moment in added_messages)


def _put(
    connection: Connection,
    row: SessionRow,
    added_messages: Sequence[AddedMessage],
    saved_values: Mapping[str, Mapping[str, Any]],
    runs: Sequence[str | None],
) -> None:
    """Add messages, each with the run at its position in ``runs``, and replace agents' states."""
    now, added_bytes = time.time(), messages_bytes(added_messages)
    if added_messages:
        connection.execute(
            _ADD,
            [
                {
                    "session_id": row.id,
                    "seq": row.last_seq + number,
                    "agent": agent,
                    "run_id": run_id,
                    "message": dict(message),
                    "created_at": moment,
                }
                for number, ((agent, message, moment), run_id) in enumerate(
                    zip(added_messages, runs, strict=True), 1
                )
            ],
        )
    for agent, state in saved_values.items():
        before = connection.execute(_STATE, {"id": row.id, "agent": agent}).first()
        added_bytes += json_bytes(state) - (0 if before is None else json_bytes(before.state))
        connection.execute(
            delete(session_states).where(
                session_states.c.session_id == row.id, session_states.c.agent == agent
            )
        )
        connection.execute(
            insert(session_states).values(session_id=row.id, agent=agent, state=dict(state), updated_at=now)
        )
    connection.execute(
        _USED,
        {"session": row.id, "last": row.last_seq + len(added_messages), "now": now, "more": added_bytes},
    )


def reset(connection: Connection, session_id: str) -> None:
    """Delete all messages of all agents in a session. Message numbers are not reused."""
    connection.execute(delete(session_messages).where(session_messages.c.session_id == session_id))
    connection.execute(delete(session_states).where(session_states.c.session_id == session_id))
    row = get(connection, session_id)
    if row is not None:
        values = {"updated_at": time.time(), "bytes": json_bytes(row.metadata)}
        connection.execute(update(sessions).where(sessions.c.id == session_id).values(values))


def replace(
    connection: Connection,
    session_id: str,
    added_messages: Sequence[AddedMessage],
    saved_values: Mapping[str, Mapping[str, Any]],
) -> None:
    """Replace all messages and states of a session."""
    reset(connection, session_id)
    row = get(connection, session_id)
    if row is not None:
        _put(connection, row, added_messages, saved_values, [None] * len(added_messages))


def describe(
    connection: Connection, session_id: str, *, title: str | None, metadata: Mapping[str, Any] | None
) -> None:
    """Change the title or the metadata of a session."""
    values: dict[str, Any] = {"updated_at": time.time()}
    if title is not None:
        values["title"] = title
    row = get(connection, session_id)
    if metadata is not None and row is not None:
        values["metadata"] = dict(metadata)
        values["bytes"] = sessions.c.bytes + json_bytes(metadata) - json_bytes(row.metadata)
    connection.execute(update(sessions).where(sessions.c.id == session_id).values(values))


def fork(connection: Connection, session_id: str, new_id: str, name: str) -> SessionRow | None:
    """Return a copy of a session with another name, whose messages keep their runs; ``None`` if the session does not
    exist. Raises `Conflict` if the name is in use.

    Ratings are not copied, because each rating would count twice.
    """
    row = get(connection, session_id)
    if row is None:
        return None
    if by_name(connection, row.app_id, row.owner, name) is not None:
        raise Conflict(f"A session named '{name}' already exists.", code="name_taken", param="name")
    key = SessionKey(new_id, row.app_id, row.owner, name, row.app)
    session_row = open_session(connection, key, title=row.title, metadata=row.metadata)
    after, has_more = 0, True
    while has_more:
        page = messages(connection, session_id, after=after)
        new_messages = [(item.agent, _with_rating(item.message, None), item.created_at) for item in page.data]
        _put(connection, session_row, new_messages, {}, [item.run_id for item in page.data])
        session_row = replace_fields(session_row, last_seq=session_row.last_seq + len(new_messages))
        after, has_more = page.data[-1].seq if page.data else 0, page.has_more
    _put(connection, session_row, [], states(connection, session_id), [])
    return get(connection, session_row.id)


def size(connection: Connection, session_id: str) -> int:
    """Return the size of a session on disk, in bytes; 0 if it does not exist."""
    return connection.execute(select(sessions.c.bytes).where(sessions.c.id == session_id)).scalar() or 0


def remove(connection: Connection, session_id: str) -> bool:
    """Delete a session with all its messages; return whether it existed."""
    return connection.execute(delete(sessions).where(sessions.c.id == session_id)).rowcount > 0


def count_old(connection: Connection, before: float) -> int:
    """Return the number of sessions last used before a time."""
    old = select(func.count()).select_from(sessions).where(sessions.c.updated_at < before)
    return connection.execute(old).scalar_one()


def forget(connection: Connection, before: float, limit: int) -> int:
    """Delete sessions last used before a time; return the number deleted."""
    old = select(sessions.c.id).where(sessions.c.updated_at < before).limit(limit)
    return connection.execute(delete(sessions).where(sessions.c.id.in_(old))).rowcount

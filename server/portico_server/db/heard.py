"""In which message of which session an agent was told something: by the run that it was told in."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, select

from portico_server.db.schema import session_messages, sessions
from portico_server.db.sessions import MessageRow, SessionRow, get, named

Told = tuple[str, str]
"""An agent, by its path, and a run."""

_MESSAGE = [session_messages.c[name] for name in MessageRow.__dataclass_fields__]


def in_session(
    connection: Connection, app: str, owner: str, name: str, told: Told
) -> tuple[SessionRow | None, MessageRow | None]:
    """A session, and the message that an agent was given in it in a run."""
    row = named(connection, app, owner, name)
    if row is None:
        return None, None
    agent, run_id = told
    first = connection.execute(
        select(*_MESSAGE)
        .where(session_messages.c.session_id == row.id, session_messages.c.agent == agent)
        .where(session_messages.c.run_id == run_id)
        .order_by(session_messages.c.seq)
        .limit(1)
    ).first()
    return row, MessageRow(*first) if first else None


def in_copies(
    connection: Connection, app: str, owner: str, told: Collection[Told]
) -> dict[Told, tuple[SessionRow, MessageRow]]:
    """The same of any session of ``owner`` with ``app`` that has the message: the oldest one, where several do."""
    mine = select(sessions.c.id).where(sessions.c.app == app, sessions.c.owner == owner)
    rows = connection.execute(
        select(session_messages.c.session_id, *_MESSAGE)
        .where(session_messages.c.session_id.in_(mine))
        .where(session_messages.c.run_id.in_({run for _agent, run in told}))
        .order_by(session_messages.c.session_id, session_messages.c.seq)
    )
    first: dict[Told, tuple[str, MessageRow]] = {}
    for session_id, *row in rows:
        message = MessageRow(*row)
        first.setdefault((message.agent, str(message.run_id)), (session_id, message))
    found: dict[Told, tuple[SessionRow, MessageRow]] = {}
    for which in first.keys() & set(told):
        session_id, message = first[which]
        session = get(connection, session_id)
        if session is not None:
            found[which] = (session, message)
    return found

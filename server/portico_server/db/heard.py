"""In which message of which session an agent was told something: by the run that it was told in."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, select

from portico_server.db.schema import session_messages, sessions
from portico_server.db.sessions import MessageRow, SessionRow, get

Told = tuple[str, str]
"""An agent, by its path, and a run."""

_MESSAGE = [session_messages.c[name] for name in MessageRow.__dataclass_fields__]


def in_session(
    connection: Connection, app: str, owner: str, name: str, told: Told
) -> tuple[SessionRow | None, MessageRow | None]:
    """A session, and the message that an agent was given in it in a run.

    Apps of one name, one's own and the shared one, may each have a session of that name: the one with the message.
    """
    rows = connection.execute(
        select(sessions.c.id).where(sessions.c.app == app, sessions.c.owner == owner, sessions.c.name == name)
    ).scalars()
    found = [row for session_id in rows if (row := get(connection, session_id)) is not None]
    agent, run_id = told
    for row in found:
        first = connection.execute(
            select(*_MESSAGE)
            .where(session_messages.c.session_id == row.id, session_messages.c.agent == agent)
            .where(session_messages.c.run_id == run_id)
            .order_by(session_messages.c.seq)
            .limit(1)
        ).first()
        if first is not None:
            return row, MessageRow(*first)
    return (found[0] if found else None), None


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

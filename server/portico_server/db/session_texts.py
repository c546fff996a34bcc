"""Finds the message with which an agent received its task, by session and run."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import (
    Connection,
    select,
)

from portico_server.db.schema import session_messages, sessions
from portico_server.db.sessions import MESSAGES, MessageRow, SessionRow, get

RunText = tuple[str, str]
"""(path of an agent, id of a run)."""


def texts_in_session(
    connection: Connection, app: str, owner: str, name: str, texts: RunText
) -> tuple[SessionRow | None, MessageRow | None]:
    """Return a session, and the message that an agent received in it during a run.

    The caller's own app and a shared app of the same name may each have a session with that name. The session that
    contains the message is returned.
    """
    rows = connection.execute(
        select(sessions.c.id).where(sessions.c.app == app, sessions.c.owner == owner, sessions.c.name == name)
    ).scalars()
    session_rows = [row for session_id in rows if (row := get(connection, session_id)) is not None]
    agent, run_id = texts
    for row in session_rows:
        query = MESSAGES.select.where(
            session_messages.c.session_id == row.id,
            session_messages.c.agent == agent,
            session_messages.c.run_id == run_id,
        )
        first = MESSAGES.first(connection, query.order_by(session_messages.c.seq).limit(1))
        if first is not None:
            return row, first
    return (session_rows[0] if session_rows else None), None


def texts_in_copies(
    connection: Connection, app: str, owner: str, texts: Collection[RunText]
) -> dict[RunText, tuple[SessionRow, MessageRow]]:
    """Return, for each of ``texts``, the message and its session, among all sessions of ``owner`` with ``app``. If
    several sessions contain the message, return the oldest.
    """
    query = select(sessions.c.id).where(sessions.c.app == app, sessions.c.owner == owner)
    rows = connection.execute(
        MESSAGES.select.add_columns(session_messages.c.session_id)
        .where(session_messages.c.session_id.in_(query))
        .where(session_messages.c.run_id.in_({run for _agent, run in texts}))
        .order_by(session_messages.c.session_id, session_messages.c.seq)
    )
    first: dict[RunText, tuple[str, MessageRow]] = {}
    for *row, session_id in rows:
        message = MessageRow(*row)
        first.setdefault((message.agent, str(message.run_id)), (session_id, message))
    copies: dict[RunText, tuple[SessionRow, MessageRow]] = {}
    for text_key in first.keys() & set(texts):
        session_id, message = first[text_key]
        session = get(connection, session_id)
        if session is not None:
            copies[text_key] = (session, message)
    return copies

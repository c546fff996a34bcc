"""Stored responses, their chains, and the events of background responses."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias

import orjson
from sqlalchemy import Connection, delete, exists, func, insert, literal, select, true, update

from portico_server.core.dataclass import dataclass
from portico_server.db import conversations, dedupe, webhooks
from portico_server.db.database import Database
from portico_server.db.rows import Rows, portions, text_bytes
from portico_server.db.schema import agent_tasks, response_events, responses, runs

Status: TypeAlias = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]

OPEN_STATUSES = ("queued", "in_progress")
"""Statuses of a background response that has not ended."""


@dataclass(frozen=True, slots=True)
class ResponseRow:
    """A response. ``input``, ``document`` and ``ask`` are JSON text; for ``lost``, see the comment in the schema."""

    id: str
    owner: str
    run_id: str
    previous_id: str | None
    conversation_id: str | None
    status: Status
    background: bool
    input: str
    document: str
    created_at: float
    finished_at: float | None = None
    ask: str | None = None
    lost: Sequence[Sequence[int]] | None = None

    @property
    def bytes(self) -> int:
        """Size of the response on disk in bytes, without its events."""
        return text_bytes(self.input, self.document, self.ask)

    @property
    def items(self) -> list[dict[str, Any]]:
        """The items of the input, followed by those of the output."""
        before: list[dict[str, Any]] = orjson.loads(self.input)
        return before + list(orjson.loads(self.document)["output"])


SaveOutcome: TypeAlias = Literal["kept", "gone", "changed", "ended"]
"""The outcome of saving a response: it was stored (``kept``); its conversation was deleted (``gone``) or changed
(``changed``) in the meantime; or the response itself had ended or was deleted (``ended``).
"""

_RESPONSES = Rows(responses, ResponseRow)

get = _RESPONSES.get

_SHRUNK = b'{"kept":'
"""Prefix of a stored event from which parts that the document contains were removed; a complete event begins with its
type.
"""

_INSERT = (
    "INSERT INTO responses (id, owner, run_id, previous_id, conversation_id, status, background, input, document, "
    "created_at, finished_at, bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


def begin(connection: Connection, row: ResponseRow) -> None:
    """Store a response before the work on it starts."""
    _RESPONSES.add(connection, row, bytes=row.bytes)


async def keep_soon(database: Database, row: ResponseRow) -> None:
    """Store a response that belongs to no conversation, as `keep` does, but without SQLAlchemy if possible, because
    SQLAlchemy takes longer than writing the row.
    """
    values = (
        *(row.id, row.owner, row.run_id, row.previous_id, row.conversation_id, row.status, row.background),
        *(row.input, row.document, row.created_at, row.finished_at, row.bytes),
    )
    if database.row_groups is None:
        await database.write_soon(keep, row)
    else:
        await database.row_groups.write(_INSERT, values, len(row.input) + len(row.document))


def keep(connection: Connection, row: ResponseRow, after: int | None = None) -> SaveOutcome:
    """Store a response that has ended, and append its items to its conversation if the last item there still has the
    number ``after``.
    """
    if row.conversation_id is not None and after is not None:
        outcome = conversations.extend(connection, row.conversation_id, row.items, after)
        if outcome != "kept":
            return outcome
    _RESPONSES.add(connection, row, bytes=row.bytes)
    return "kept"


def finish(
    connection: Connection,
    response_id: str,
    status: Status,
    document: str,
    after: int | None = None,
    events: Sequence[tuple[int, bytes]] = (),
) -> SaveOutcome:
    """Store the end of a started response and its last ``events``, unless its end is already stored.

    The items are appended to the conversation if the last item there still has the number ``after``.
    """
    row = get(connection, response_id)
    if row is None or row.status not in OPEN_STATUSES:
        return "ended"
    if row.conversation_id is not None and after is not None:
        items = orjson.loads(row.input) + orjson.loads(document)["output"]
        outcome = conversations.extend(connection, row.conversation_id, items, after)
        if outcome != "kept":
            return outcome
    connection.execute(
        update(responses)
        .where(responses.c.id == response_id)
        .values(status=status, document=document, finished_at=time.time())
    )
    append_events(connection, response_id, events)
    _shrink_events(connection, response_id, document)
    size = replace(row, document=document).bytes + _bytes_beside(connection, response_id)
    connection.execute(update(responses).where(responses.c.id == response_id).values(bytes=size))
    if row.background:
        webhooks.announce(connection, row.owner, f"response.{status}", response_id)
    return "kept"


def _bytes_beside(connection: Connection, response_id: str) -> int:
    """Return the size on disk, in bytes, of a response's events and of its task's messages."""
    data = select(func.sum(func.length(response_events.c.data)))
    events = connection.execute(data.where(response_events.c.response_id == response_id)).scalar()
    messages = connection.execute(
        select(agent_tasks.c.messages).where(agent_tasks.c.id == response_id)
    ).scalar()
    return int(events or 0) + (0 if messages is None else text_bytes(messages))


def deserted(connection: Connection, limit: int) -> list[ResponseRow]:
    """Return background responses that have not ended although their runs have."""
    has_living_run = exists().where(runs.c.id == responses.c.run_id, runs.c.finished_at.is_(None))
    query = _RESPONSES.select.where(
        responses.c.finished_at.is_(None), responses.c.background, ~has_living_run
    )
    return _RESPONSES.every(connection, query.limit(limit))


def note(connection: Connection, response_id: str, status: Status, document: str) -> bool:
    """Store the progress of a response; return whether it is still in progress."""
    result = connection.execute(
        update(responses)
        .where(responses.c.id == response_id, responses.c.status.in_(OPEN_STATUSES))
        .values(status=status, document=document)
    )
    return result.rowcount == 1


def several(connection: Connection, ids: Sequence[str]) -> list[ResponseRow] | None:
    """Return the existing responses among ``ids``; ``None`` if they exceed `MAX_WHOLE_CHARS` together."""
    chars = 0
    for portion in portions(ids):
        size = select(func.coalesce(func.sum(_CHARS), 0)).where(responses.c.id.in_(portion))
        chars += connection.execute(size).scalar_one()
        if chars > conversations.MAX_WHOLE_CHARS:
            return None
    return of_ids(connection, ids)


def of_ids(connection: Connection, ids: Sequence[str]) -> list[ResponseRow]:
    """Return the existing responses among ``ids``, in any order."""
    queries = (_RESPONSES.select.where(responses.c.id.in_(portion)) for portion in portions(ids))
    return [row for query in queries for row in _RESPONSES.every(connection, query)]


_CHARS = func.length(responses.c.input) + func.length(responses.c.document)


def chain(connection: Connection, response_id: str, owner: str | None) -> list[ResponseRow] | None:
    """Return a response of ``owner`` (``None`` means all owners) and the existing responses that it continues, oldest
    first.

    Returns ``None`` if they exceed `MAX_WHOLE_ITEMS` or `MAX_WHOLE_CHARS` together; reading stops at these limits.
    """
    condition = responses.c.owner == owner if owner is not None else true()
    begin = select(responses.c.id, responses.c.previous_id, literal(1).label("links"), _CHARS.label("chars"))
    links = begin.where(responses.c.id == response_id, condition).cte("links", recursive=True)
    total = links.c.chars + _CHARS
    following = select(responses.c.id, responses.c.previous_id, links.c.links + 1, total).join(
        links, responses.c.id == links.c.previous_id
    )
    fits = (links.c.links <= conversations.MAX_WHOLE_ITEMS) & (links.c.chars <= conversations.MAX_WHOLE_CHARS)
    links = links.union_all(following.where(condition, fits))
    linked_rows = connection.execute(
        select(links.c.id, links.c.links, links.c.chars).order_by(links.c.links)
    ).all()
    if not linked_rows:
        return []
    if (
        linked_rows[-1].links > conversations.MAX_WHOLE_ITEMS
        or linked_rows[-1].chars > conversations.MAX_WHOLE_CHARS
    ):
        return None
    ids = [row.id for row in reversed(linked_rows)]
    by_id = {row.id: row for row in of_ids(connection, ids)}
    rows = [by_id[entry] for entry in ids]
    return rows if sum(len(row.items) for row in rows) <= conversations.MAX_WHOLE_ITEMS else None


def remove(connection: Connection, response_id: str) -> None:
    """Delete a response with its events."""
    webhooks.remove_of_tasks(connection, [response_id])
    connection.execute(delete(responses).where(responses.c.id == response_id))


def append_events(connection: Connection, response_id: str, events: Sequence[tuple[int, bytes]]) -> None:
    """Append numbered events, unless the response no longer exists."""
    if events and get(connection, response_id) is not None:
        rows = [{"response_id": response_id, "seq": seq, "data": data} for seq, data in events]
        connection.execute(insert(response_events), rows)


def lost_events(connection: Connection, response_id: str) -> Sequence[Sequence[int]]:
    """Return the ranges of events that were lost in crashes, each as [last event kept, last event lost]."""
    lost_ranges = connection.execute(select(responses.c.lost).where(responses.c.id == response_id)).scalar()
    return lost_ranges or ()


def events_after(connection: Connection, response_id: str, after: int, limit: int) -> list[tuple[int, bytes]]:
    """Return events with a number above ``after``, in order."""
    result = connection.execute(
        select(response_events.c.seq, response_events.c.data)
        .where(response_events.c.response_id == response_id, response_events.c.seq > after)
        .order_by(response_events.c.seq)
        .limit(limit)
    )
    events = [(row.seq, row.data) for row in result]
    if not any(data.startswith(_SHRUNK) for _seq, data in events):
        return events
    row = get(connection, response_id)
    document = orjson.loads(row.document) if row is not None else {}
    return [(seq, _restore_event(data, document)) for seq, data in events]


def _shrink_events(connection: Connection, response_id: str, document: str) -> None:
    """Replace the parts of an ended response's events that its document also contains, because each item occurs in
    four events.
    """
    long = select(response_events.c.seq, response_events.c.data).where(
        response_events.c.response_id == response_id,
        func.length(response_events.c.data) >= dedupe.MIN_PART_CHARS,
    )
    long_parts = dedupe.long_parts(orjson.loads(document))
    for row in connection.execute(long).all():
        smaller, parts = dedupe.replace_kept(orjson.loads(row.data), long_parts)
        if parts:
            data = _SHRUNK + orjson.dumps(parts) + b',"event":' + orjson.dumps(smaller) + b"}"
            at = (response_events.c.response_id == response_id) & (response_events.c.seq == row.seq)
            connection.execute(update(response_events).where(at).values(data=data))


def _restore_event(data: bytes, document: dict[str, Any]) -> bytes:
    """Return an event as it was before `_shrink_events`."""
    if not data.startswith(_SHRUNK):
        return data
    found_document = orjson.loads(data)
    return orjson.dumps(
        dedupe.restore_kept(
            found_document["event"], found_document["kept"], lambda place: dedupe.part(document, place)
        )
    )


def last_event(connection: Connection, response_id: str) -> int:
    """Return the number of the last event, or -1 without events."""
    sequence_number = connection.execute(
        select(func.max(response_events.c.seq)).where(response_events.c.response_id == response_id)
    ).scalar()
    return -1 if sequence_number is None else int(sequence_number)


def rewind(connection: Connection, response_id: str, after: int) -> None:
    """Delete the events above ``after``, which will be generated again, and record their range."""
    last = last_event(connection, response_id)
    row = get(connection, response_id)
    if row is None or last <= after:
        return
    connection.execute(
        delete(response_events).where(
            response_events.c.response_id == response_id, response_events.c.seq > after
        )
    )
    lost_ranges = [*(row.lost or ()), [after, last]]
    connection.execute(update(responses).where(responses.c.id == response_id).values(lost=lost_ranges))


def _old(before: float) -> Any:
    # A response is stored at least as long as a newer response that continues it.
    younger = responses.alias("younger")
    stands = exists().where(younger.c.previous_id == responses.c.id)
    return (responses.c.finished_at < before) & ~stands


def count_old(connection: Connection, before: float) -> int:
    """Return the number of responses that ended before a time and that no other response continues."""
    return connection.execute(select(func.count()).select_from(responses).where(_old(before))).scalar_one()


def forget(connection: Connection, before: float, limit: int) -> int:
    """Delete responses that ended before a time and that no other response continues; return the number deleted. The
    responses that they continued are deleted in the next pass.
    """
    old = connection.execute(select(responses.c.id).where(_old(before)).limit(limit)).scalars().all()
    if old:
        webhooks.remove_of_tasks(connection, old)
        connection.execute(delete(responses).where(responses.c.id.in_(old)))
    return len(old)

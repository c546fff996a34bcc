"""Stored responses, their chains, and the events of those in the background."""

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
"""What a response in the background goes through before it has ended."""


@dataclass(frozen=True, slots=True)
class ResponseRow:
    """One response. ``input``, ``document`` and ``ask`` are JSON text; ``lost`` is described in the schema."""

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
        """What it takes on the disk, its events aside."""
        return text_bytes(self.input, self.document, self.ask)

    @property
    def items(self) -> list[dict[str, Any]]:
        """The items of its input, then those of its output."""
        before: list[dict[str, Any]] = orjson.loads(self.input)
        return before + list(orjson.loads(self.document)["output"])


SaveOutcome: TypeAlias = Literal["kept", "gone", "changed", "ended"]
"""What became of a response: kept; its conversation was removed, or changed meanwhile; it was ended or deleted."""

_RESPONSES = Rows(responses, ResponseRow)

get = _RESPONSES.get

_SHRUNK = b'{"kept":'
"""How an event begins of which parts stand in the document: what is told itself begins with its type."""

_INSERT = (
    "INSERT INTO responses (id, owner, run_id, previous_id, conversation_id, status, background, input, document, "
    "created_at, finished_at, bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


def begin(connection: Connection, row: ResponseRow) -> None:
    """Write one that is about to be made."""
    _RESPONSES.add(connection, row, bytes=row.bytes)


async def keep_soon(database: Database, row: ResponseRow) -> None:
    """`keep` one that is in no conversation, past SQLAlchemy where that can be: it takes longer than the row."""
    values = (
        *(row.id, row.owner, row.run_id, row.previous_id, row.conversation_id, row.status, row.background),
        *(row.input, row.document, row.created_at, row.finished_at, row.bytes),
    )
    if database.row_groups is None:
        await database.write_soon(keep, row)
    else:
        await database.row_groups.write(_INSERT, values, len(row.input) + len(row.document))


def keep(connection: Connection, row: ResponseRow, after: int | None = None) -> SaveOutcome:
    """Keep one that has ended, and its items at the end of its conversation, which had ``after`` items."""
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
    """Write the end of a started one, once, with its last ``events``; its items go to the end of its conversation
    if that had ``after`` items.
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
    """What the events of one take on the disk, and what was said to it as a task."""
    data = select(func.sum(func.length(response_events.c.data)))
    events = connection.execute(data.where(response_events.c.response_id == response_id)).scalar()
    messages = connection.execute(
        select(agent_tasks.c.messages).where(agent_tasks.c.id == response_id)
    ).scalar()
    return int(events or 0) + (0 if messages is None else text_bytes(messages))


def deserted(connection: Connection, limit: int) -> list[ResponseRow]:
    """Responses in the background that have not ended, but whose runs have."""
    lives = exists().where(runs.c.id == responses.c.run_id, runs.c.finished_at.is_(None))
    query = _RESPONSES.select.where(responses.c.finished_at.is_(None), responses.c.background, ~lives)
    return _RESPONSES.every(connection, query.limit(limit))


def note(connection: Connection, response_id: str, status: Status, document: str) -> bool:
    """Write down how far one has come that is being made; whether it still is."""
    result = connection.execute(
        update(responses)
        .where(responses.c.id == response_id, responses.c.status.in_(OPEN_STATUSES))
        .values(status=status, document=document)
    )
    return result.rowcount == 1


def several(connection: Connection, ids: Sequence[str]) -> list[ResponseRow] | None:
    """Those of them that are there; ``None`` if they have more than `MAX_WHOLE_CHARS`."""
    chars = 0
    for portion in portions(ids):
        size = select(func.coalesce(func.sum(_CHARS), 0)).where(responses.c.id.in_(portion))
        chars += connection.execute(size).scalar_one()
        if chars > conversations.MAX_WHOLE_CHARS:
            return None
    return of_ids(connection, ids)


def of_ids(connection: Connection, ids: Sequence[str]) -> list[ResponseRow]:
    """Those of them that are there, in any order."""
    queries = (_RESPONSES.select.where(responses.c.id.in_(portion)) for portion in portions(ids))
    return [row for query in queries for row in _RESPONSES.every(connection, query)]


_CHARS = func.length(responses.c.input) + func.length(responses.c.document)


def chain(connection: Connection, response_id: str, owner: str | None) -> list[ResponseRow] | None:
    """A response of ``owner`` (``None`` for anybody's) and those that it continues, the first one first; as far as
    they are there. ``None`` if they have more than `MAX_WHOLE_ITEMS` or `MAX_WHOLE_CHARS`, of which no more is read.
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
    rows = [by_id[one] for one in ids]
    return rows if sum(len(row.items) for row in rows) <= conversations.MAX_WHOLE_ITEMS else None


def remove(connection: Connection, response_id: str) -> None:
    """Forget one, with its events."""
    webhooks.remove_of_tasks(connection, [response_id])
    connection.execute(delete(responses).where(responses.c.id == response_id))


def append_events(connection: Connection, response_id: str, events: Sequence[tuple[int, bytes]]) -> None:
    """Add numbered events; nothing if the response is gone."""
    if events and get(connection, response_id) is not None:
        rows = [{"response_id": response_id, "seq": seq, "data": data} for seq, data in events]
        connection.execute(insert(response_events), rows)


def lost_events(connection: Connection, response_id: str) -> Sequence[Sequence[int]]:
    """The ranges of events that crashes took, as in `ResponseRow`."""
    lost_ranges = connection.execute(select(responses.c.lost).where(responses.c.id == response_id)).scalar()
    return lost_ranges or ()


def events_after(connection: Connection, response_id: str, after: int, limit: int) -> list[tuple[int, bytes]]:
    """Events with a number above ``after``, in order."""
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
    return [(seq, _whole(data, document)) for seq, data in events]


def _shrink_events(connection: Connection, response_id: str, document: str) -> None:
    """Take out of the events of a response that has ended what stands in its document: each item is told four times."""
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


def _whole(data: bytes, document: dict[str, Any]) -> bytes:
    """An event as it was before `_shrink_events`."""
    if not data.startswith(_SHRUNK):
        return data
    found_document = orjson.loads(data)
    return orjson.dumps(
        dedupe.restore_kept(
            found_document["event"], found_document["kept"], lambda place: dedupe.part(document, place)
        )
    )


def last_event(connection: Connection, response_id: str) -> int:
    """The number of the last event so far; -1 before the first."""
    sequence_number = connection.execute(
        select(func.max(response_events.c.seq)).where(response_events.c.response_id == response_id)
    ).scalar()
    return -1 if sequence_number is None else int(sequence_number)


def rewind(connection: Connection, response_id: str, after: int) -> None:
    """Take back the events above ``after``, which are made again, and remember which they were."""
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
    # What a younger one continues stays as long as that.
    younger = responses.alias("younger")
    stands = exists().where(younger.c.previous_id == responses.c.id)
    return (responses.c.finished_at < before) & ~stands


def count_old(connection: Connection, before: float) -> int:
    """How many ended before a moment and are continued by none."""
    return connection.execute(select(func.count()).select_from(responses).where(_old(before))).scalar_one()


def forget(connection: Connection, before: float, limit: int) -> int:
    """Remove such responses; how many. Those that they continued come next time."""
    old = connection.execute(select(responses.c.id).where(_old(before)).limit(limit)).scalars().all()
    if old:
        webhooks.remove_of_tasks(connection, old)
        connection.execute(delete(responses).where(responses.c.id.in_(old)))
    return len(old)

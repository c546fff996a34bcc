"""Checks of the changes of guarded stores, and the decisions about them.

Each function that changes a review first locks the store's row, so that files that another daemon adds meanwhile are
never accepted unchecked.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

from sqlalchemy import Connection, delete, select, update

from portico_server.core.dataclass import dataclass
from portico_server.core.ids import new_id
from portico_server.db import files as file_rows
from portico_server.db import stores, webhooks
from portico_server.db.files import MIRRORED_OWNER
from portico_server.db.reviewed_files import Review, reviewed_files
from portico_server.db.rows import Rows
from portico_server.db.schema import guard_questions, store_files, store_reviews
from portico_server.db.schema import stores as store_table

ReviewState: TypeAlias = Literal["checking", "held", "passed", "warned", "accepted", "rejected"]

EVENTS: Final[Mapping[str, str]] = {"held": "store.change_held", "warned": "store.change_warned"}
"""The webhook event of each state that a check can end with, if it has an event."""


@dataclass(frozen=True, slots=True)
class ReviewRow:
    """The check of a store's change. ``judgements`` maps the ids of questions to (whether the answer was found, the
    ids of the files with the hits) after the change.
    """

    store_id: str
    id: str
    state: ReviewState
    report: Mapping[str, Any]
    judgements: Mapping[str, tuple[bool, Sequence[str]]]
    created_at: float


_REVIEWS = Rows(store_reviews, ReviewRow)


def start(connection: Connection, store_id: str, *, is_repeated: bool) -> ReviewRow | None:
    """Start the check of a store's change, unless nothing waits for a check. ``is_repeated`` checks a change again
    that is already held.
    """
    if not _lock(connection, store_id):
        return None
    row = of_store(connection, store_id)
    if row is not None and row.state == "held" and not is_repeated:
        return None
    connection.execute(delete(store_reviews).where(store_reviews.c.store_id == store_id))
    row = ReviewRow(store_id, new_id("review_"), "checking", {}, {}, time.time())
    _REVIEWS.add(connection, row)
    return row


def of_store(connection: Connection, store_id: str) -> ReviewRow | None:
    """Return the last review of a store, or ``None``."""
    return _REVIEWS.first(connection, _REVIEWS.select.where(store_reviews.c.store_id == store_id))


def record(connection: Connection, row: ReviewRow) -> list[str] | None:
    """Record the result of a check and notify the webhooks of the authors of the questions. Unless the change is
    ``held``, accept it.

    Return the digests that no row needs any more, or ``None`` if the files or the store's rule have changed since the
    check started, so that its result is void.
    """
    _lock(connection, row.store_id)
    started_row = of_store(connection, row.store_id)
    if started_row is None or (started_row.id, started_row.state) != (row.id, "checking"):
        return None
    store = stores.get(connection, row.store_id)
    if store is None or (row.state in EVENTS and (row.state == "held") is not (store.guard == "hold")):
        return None
    values = {
        "state": row.state,
        "report": dict(row.report),
        "judgements": dict(row.judgements),
        "created_at": row.created_at,
    }
    connection.execute(update(store_reviews).where(store_reviews.c.id == row.id).values(**values))
    if row.state in EVENTS:
        authors = select(guard_questions.c.author).where(guard_questions.c.store_id == row.store_id)
        for author in connection.execute(authors.distinct()).scalars():
            webhooks.announce(connection, author, EVENTS[row.state], row.store_id)
    return [] if row.state == "held" else _end(connection, row, "old")


def settle(connection: Connection, store_id: str, state: Literal["accepted", "rejected"]) -> list[str] | None:
    """Accept or reject the change that a store holds. Return the digests that no row needs any more, or
    ``None`` if no change is held.
    """
    _lock(connection, store_id)
    row = of_store(connection, store_id)
    if row is None or row.state != "held":
        return None
    connection.execute(update(store_reviews).where(store_reviews.c.id == row.id).values(state=state))
    return _end(connection, row, "old" if state == "accepted" else "new")


def _end(connection: Connection, row: ReviewRow, unneeded: Review) -> list[str]:
    """End a review: remove the ``unneeded`` files, and let searches find all others. Return the digests that no row
    needs any more.
    """
    removed_files = [item for item in reviewed_files(connection, row.store_id) if item.review == unneeded]
    connection.execute(
        update(store_files)
        .where(store_files.c.store_id == row.store_id, store_files.c.review.not_in(("", unneeded)))
        .values(review="")
    )
    mirrored_ids = []
    for item in removed_files:
        if item.owner == f"{MIRRORED_OWNER}{row.store_id}":
            mirrored_ids.append(item.file_id)
        else:
            stores.detach(connection, row.store_id, item.file_id)
    if unneeded == "old":
        judge(connection, row.judgements)
    store = stores.get(connection, row.store_id)
    values = {"has_review": False}
    if unneeded == "new" and store is not None and (store.folder or store.source):
        values["paused"] = True  # the next sync would bring the rejected change back
    stores.change(connection, row.store_id, values)
    return file_rows.delete_all(connection, mirrored_ids)


def judge(connection: Connection, judgements: Mapping[str, tuple[bool, Collection[str]]]) -> None:
    """Store the present judgements of questions, by the ids of the questions."""
    for question_id, (passes, hit_files) in judgements.items():
        connection.execute(
            update(guard_questions)
            .where(guard_questions.c.id == question_id)
            .values(passes=passes, hit_files=list(hit_files))
        )


def _lock(connection: Connection, store_id: str) -> bool:
    """Lock a store whose files wait for a review. Return whether any wait."""
    condition = (store_table.c.id == store_id) & store_table.c.has_review
    return connection.execute(update(store_table).where(condition).values(has_review=True)).rowcount > 0

"""Files of guarded stores that are under review.

In a guarded store, new files are marked ``new``, and searches leave them out. The files that they replace are marked
``old`` and stay searchable until `portico_server.db.store_reviews` ends the review.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from sqlalchemy import Connection, delete, select, update

from portico_server.core.dataclass import dataclass
from portico_server.db.rows import portions
from portico_server.db.schema import files, guard_questions, store_files, store_reviews, stores

Review: TypeAlias = Literal["new", "old"]
"""The review state of a file: ``new`` files replace ``old`` files when the change is accepted."""


@dataclass(frozen=True, slots=True)
class ReviewedFile:
    """A file under review. ``owner`` is the owner of the file itself."""

    file_id: str
    filename: str
    owner: str | None
    review: Review
    status: str


def begin_if_guarded(connection: Connection, store_id: str) -> bool:
    """Return whether a change of a store's files needs a review. If so, record that files wait for a check."""
    row = connection.execute(
        select(stores.c.guard, stores.c.has_review).where(stores.c.id == store_id)
    ).first()
    if row is None:
        return False
    if not row.has_review:
        questions = select(guard_questions.c.id).where(guard_questions.c.store_id == store_id)
        if row.guard == "off" or connection.execute(questions.limit(1)).first() is None:
            return False
    # Locks the store's row first, as every function that changes a review does: otherwise, a check of another daemon
    # could accept files that it has not seen.
    connection.execute(update(stores).where(stores.c.id == store_id).values(has_review=True))
    connection.execute(delete(store_reviews).where(store_reviews.c.store_id == store_id))
    return True


def retain(connection: Connection, store_id: str, file_ids: Sequence[str]) -> list[str]:
    """Mark the files that searches find as ``old``. Return the other files, which can be deleted."""
    new_ids = []
    for part in portions(file_ids):
        condition = (store_files.c.store_id == store_id) & store_files.c.file_id.in_(part)
        new = select(store_files.c.file_id).where(condition, store_files.c.review == "new")
        new_ids += list(connection.execute(new).scalars())
        connection.execute(
            update(store_files).where(condition, store_files.c.review != "new").values(review="old")
        )
    return new_ids


def reviewed_files(connection: Connection, store_id: str) -> list[ReviewedFile]:
    """Return the files of a store that are under review."""
    query = (
        select(
            store_files.c.file_id,
            files.c.filename,
            files.c.owner,
            store_files.c.review,
            store_files.c.status,
        )
        .join(files, files.c.id == store_files.c.file_id)
        .where(store_files.c.store_id == store_id, store_files.c.review != "")
    )
    return [ReviewedFile(**row._mapping) for row in connection.execute(query.order_by(files.c.filename))]

"""Files skipped by the last sync of a store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field

from sqlalchemy import Connection, delete, insert, select

from portico_server.core.dataclass import dataclass
from portico_server.db.schema import store_skips


@dataclass(frozen=True, slots=True)
class SkippedRows:
    """The number of skipped files and folders by reason, and the names of the first; ``looked_at`` is the time of the
    sync.
    """

    reasons: Mapping[str, int] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    looked_at: float = 0.0

    @property
    def complete(self) -> bool:
        """Return whether the names of all skipped files are included."""
        return sum(self.reasons.values()) == len(self.names)


def put_skips(connection: Connection, store_id: str, skips: SkippedRows) -> None:
    """Store the files that a sync skipped, replacing those of the previous sync."""
    connection.execute(delete(store_skips).where(store_skips.c.store_id == store_id))
    connection.execute(
        insert(store_skips).values(
            store_id=store_id,
            reasons=dict(skips.reasons),
            names=dict(skips.names),
            looked_at=skips.looked_at,
        )
    )


def skips_of(connection: Connection, store_id: str) -> SkippedRows | None:
    """Return the files that the last sync of a store skipped; ``None`` before the first sync."""
    row = connection.execute(
        select(store_skips.c.reasons, store_skips.c.names, store_skips.c.looked_at).where(
            store_skips.c.store_id == store_id
        )
    ).first()
    return None if row is None else SkippedRows(row.reasons, row.names, row.looked_at)


def skip_reasons(connection: Connection, store_ids: Iterable[str]) -> dict[str, Mapping[str, int]]:
    """Return the number of skipped files by reason, keyed by store, for each store that has skipped files."""
    rows = connection.execute(
        select(store_skips.c.store_id, store_skips.c.reasons).where(
            store_skips.c.store_id.in_(list(store_ids))
        )
    )
    return {row.store_id: row.reasons for row in rows if row.reasons}

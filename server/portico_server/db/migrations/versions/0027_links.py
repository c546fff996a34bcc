"""Links between passages: what each chunk names, and how far a store has been searched for it."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, SmallInteger, false

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    op.create_table(
        "links",
        Column("term", BigInteger, primary_key=True, autoincrement=False),
        Column("chunk_id", Integer, ForeignKey("chunks.id", ondelete="CASCADE"), primary_key=True),
        Column("kind", SmallInteger, nullable=False),
        Column("weight", SmallInteger, nullable=False),
        # With the terms, which end every index of a table without row ids, all that is asked of a chunk's links.
        Index("ix_links_chunk_id", "chunk_id", "kind", "weight"),
        sqlite_with_rowid=False,
    )
    op.add_column("stores", Column("links", Boolean, nullable=False, server_default=false()))
    op.add_column("stores", Column("linked_to", Integer))

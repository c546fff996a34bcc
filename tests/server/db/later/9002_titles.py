"""A migration for tests: a table that others refer to gets a sibling, which is filled from the table."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "9002"
down_revision = "9001"


def upgrade() -> None:
    op.create_table(
        "store_titles",
        sa.Column("store_id", sa.String(), sa.ForeignKey("stores.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("title", sa.String(), nullable=False),
    )
    op.execute("INSERT INTO store_titles (store_id, title) SELECT id, upper(name) FROM stores")
    op.create_index("ix_store_titles_title", "store_titles", ["title"])
    op.drop_index("ix_stores_name", "stores")
    op.add_column("stores", sa.Column("colour", sa.String(), nullable=False, server_default="blue"))
    op.execute("UPDATE stores SET colour = 'red' WHERE app")

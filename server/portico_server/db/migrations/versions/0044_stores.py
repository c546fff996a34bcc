"""Questions that guard a store, reviews of its changes, its index, rights of its files, and versions of facts."""

from __future__ import annotations

from alembic import op
from sqlalchemy import JSON, Boolean, Column, Float, ForeignKey, Integer, String, Text, false

revision = "0044"
down_revision = "0043"


def upgrade() -> None:
    op.add_column("stores", Column("guard", String, nullable=False, server_default="hold"))
    op.add_column("stores", Column("has_review", Boolean, nullable=False, server_default=false()))
    op.add_column("store_files", Column("review", String, nullable=False, server_default=""))
    op.add_column("stores", Column("index", String, nullable=False, server_default="embedded"))
    op.add_column("stores", Column("next_index", String))
    op.add_column("stores", Column("rights", JSON))
    op.add_column("store_files", Column("readers", JSON))
    op.add_column("keys", Column("groups", JSON))
    op.create_table(
        "guard_questions",
        Column("id", String, primary_key=True),
        Column("store_id", String, ForeignKey("stores.id", ondelete="CASCADE"), nullable=False),
        Column("author", String, nullable=False),
        Column("question", Text, nullable=False),
        Column("file", String, nullable=False),
        Column("passage", Text, nullable=False),
        Column("facts", JSON, nullable=False),
        Column("created_at", Float, nullable=False),
        Column("passes", Boolean, nullable=False),
        Column("hit_files", JSON, nullable=False),
    )
    op.create_index("ix_guard_questions_store_id", "guard_questions", ["store_id"])
    op.create_table(
        "store_reviews",
        Column("store_id", String, ForeignKey("stores.id", ondelete="CASCADE"), primary_key=True),
        Column("id", String, nullable=False),
        Column("state", String, nullable=False),
        Column("report", JSON, nullable=False),
        Column("judgements", JSON, nullable=False),
        Column("created_at", Float, nullable=False),
    )
    op.create_table(
        "fact_versions",
        Column("id", Integer, primary_key=True),
        Column("file_id", String, ForeignKey("files.id", ondelete="CASCADE"), nullable=False),
        Column("text", Text, nullable=False),
        Column("attributes", JSON, nullable=False),
        Column("changed_at", Float, nullable=False),
        Column("ended_at", Float, nullable=False),
        Column("reason", String, nullable=False),
    )
    op.create_index("ix_fact_versions_file_id", "fact_versions", ["file_id"])

"""The parts of 0044 that a database lacks if one of the 55 commits created it between which 0044 still changed.

A database that has them stays as it is.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import JSON, Column, Float, ForeignKey, Integer, String, Text, inspect

revision = "0045"
down_revision = "0044"


def upgrade() -> None:
    if op.get_context().as_sql:
        return  # SQL without a connection begins with the complete 0044
    schema = inspect(op.get_bind())
    for table, column in (
        ("stores", Column("index", String, nullable=False, server_default="embedded")),
        ("stores", Column("next_index", String)),
        ("stores", Column("rights", JSON)),
        ("store_files", Column("readers", JSON)),
        ("keys", Column("groups", JSON)),
    ):
        if all(existing["name"] != column.name for existing in schema.get_columns(table)):
            op.add_column(table, column)
    if not schema.has_table("fact_versions"):
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

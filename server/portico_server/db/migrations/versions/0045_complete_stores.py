"""The key whose facts agents remember in a store, so that the store hides them from other keys; and the parts of 0044
that a database lacks if one of the 55 commits created it between which 0044 still changed.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import (
    JSON,
    Column,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    cast,
    inspect,
    select,
)

revision = "0045"
down_revision = "0044"


def upgrade() -> None:
    op.add_column("stores", Column("facts_of", String))
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
    _record_owners_of_facts()


def _record_owners_of_facts() -> None:
    metadata = MetaData()
    stores = Table("stores", metadata, Column("id", String), Column("facts_of", String))
    files = Table("store_files", metadata, Column("store_id", String), Column("attributes", JSON))
    query = select(files.c.store_id, files.c.attributes).where(
        cast(files.c.attributes, Text).like('%"fact"%')
    )
    connection = op.get_bind()
    owners: dict[str, set[str]] = {}
    for store_id, attributes in connection.execute(query):
        if isinstance(attributes, dict) and attributes.get("fact") is True:
            owners.setdefault(store_id, set()).add(str(attributes.get("owner")))
    for store_id, keys in owners.items():
        facts_of = keys.pop() if len(keys) == 1 else "*"
        connection.execute(stores.update().where(stores.c.id == store_id).values(facts_of=facts_of))

"""The key whose facts agents remember in a store, so that the store hides them from other keys."""

from __future__ import annotations

from alembic import op
from sqlalchemy import JSON, Column, MetaData, String, Table, Text, cast, select

revision = "0045"
down_revision = "0044"


def upgrade() -> None:
    op.add_column("stores", Column("facts_of", String))
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

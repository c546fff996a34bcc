"""The model that answered each call, beside the name that was asked for. Of earlier calls it is not known: empty."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, Float, Integer, String

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    op.add_column("usage", Column("model", String, nullable=False, server_default=""))
    # A key cannot be widened in SQLite, and in PostgreSQL its name stays with a table that is renamed.
    op.execute("CREATE TABLE usage_days_before AS SELECT * FROM usage_days")
    op.drop_table("usage_days")
    op.create_table(
        "usage_days",
        Column("day", Integer, primary_key=True, autoincrement=False),
        Column("key_id", String, primary_key=True),
        Column("name", String, primary_key=True),
        Column("operation", String, primary_key=True),
        Column("model", String, primary_key=True),
        Column("calls", Integer, nullable=False),
        Column("prompt_tokens", BigInteger, nullable=False),
        Column("completion_tokens", BigInteger, nullable=False),
        Column("cached_tokens", BigInteger, nullable=False),
        Column("cost", Float),
        Column("milliseconds", Float, nullable=False),
    )
    op.execute(
        "INSERT INTO usage_days (day, key_id, name, operation, model, calls, prompt_tokens, completion_tokens, "
        "cached_tokens, cost, milliseconds) SELECT day, key_id, name, operation, '', calls, prompt_tokens, "
        "completion_tokens, cached_tokens, cost, milliseconds FROM usage_days_before"
    )
    op.drop_table("usage_days_before")

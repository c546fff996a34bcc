"""What was used, summed up by days, so that a look at months does not read every call."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_index("ix_usage_created_at", "usage", ["created_at"])
    op.create_table(
        "usage_days",
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("operation", sa.String(), nullable=False),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost", sa.Float(), nullable=True),
        sa.Column("milliseconds", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("day", "key_id", "name", "operation", name=op.f("pk_usage_days")),
    )
    # A cast cuts off in SQLite, and rounds in PostgreSQL.
    whole = "created_at / 86400" if op.get_bind().dialect.name == "sqlite" else "floor(created_at / 86400)"
    op.execute(
        f"""
        INSERT INTO usage_days
        SELECT CAST({whole} AS INTEGER), key_id, name, operation, count(*), sum(prompt_tokens),
            sum(completion_tokens), sum(cached_tokens), sum(cost), sum(milliseconds)
        FROM usage GROUP BY 1, 2, 3, 4
        """  # noqa: S608  # nothing in it comes from outside
    )

"""How often each table has changed that every daemon on one PostgreSQL holds in memory."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    op.create_table(
        "epochs",
        sa.Column("topic", sa.String(), primary_key=True),
        sa.Column("number", sa.BigInteger(), nullable=False),
    )

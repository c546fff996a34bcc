"""Stores: whether their app writes or quotes, where that is not left to its model."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    op.add_column("stores", sa.Column("answers", sa.String(), nullable=False, server_default="auto"))

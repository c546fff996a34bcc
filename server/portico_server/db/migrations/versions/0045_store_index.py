"""Where the vectors of a store are searched."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, String

revision = "0045"
down_revision = "0044"


def upgrade() -> None:
    op.add_column("stores", Column("index", String, nullable=False, server_default="embedded"))
    op.add_column("stores", Column("next_index", String))

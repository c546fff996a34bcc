"""Stores whose files stay when they are gone from what is mirrored."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Boolean, Column, false

revision = "0038"
down_revision = "0037"


def upgrade() -> None:
    op.add_column("stores", Column("keep_removed", Boolean, nullable=False, server_default=false()))

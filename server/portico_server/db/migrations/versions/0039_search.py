"""Stores say how their app searches."""

from __future__ import annotations

from alembic import op
from sqlalchemy import JSON, Column

revision = "0039"
down_revision = "0038"


def upgrade() -> None:
    op.add_column("stores", Column("search", JSON))

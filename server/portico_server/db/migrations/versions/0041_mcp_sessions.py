"""Sessions of MCP that any daemon on the database continues."""

from __future__ import annotations

from alembic import op
from sqlalchemy import JSON, Column, Float, Index, String

revision = "0041"
down_revision = "0039"


def upgrade() -> None:
    op.create_table(
        "mcp_sessions",
        Column("id", String, primary_key=True),
        Column("owner", String, nullable=False),
        Column("requests", JSON, nullable=False),
        Column("used_at", Float, nullable=False),
        Index("ix_mcp_sessions_owner_used_at", "owner", "used_at"),
        Index("ix_mcp_sessions_used_at", "used_at"),
    )

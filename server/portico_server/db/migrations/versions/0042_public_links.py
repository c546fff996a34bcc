"""Links with which anyone can read a copy of a session."""

from __future__ import annotations

from alembic import op
from sqlalchemy import JSON, BigInteger, Column, Float, ForeignKey, String

revision = "0042"
down_revision = "0041"


def upgrade() -> None:
    op.create_table(
        "public_links",
        Column("id", String, primary_key=True),
        Column("session_id", String, ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False),
        Column("owner", String, nullable=False),
        Column("hash", String, nullable=False, unique=True),
        Column("title", String, nullable=False),
        Column("messages", JSON, nullable=False),
        Column("created_at", Float, nullable=False),
        Column("expires_at", Float, nullable=False),
        Column("bytes", BigInteger, nullable=False),
    )
    op.create_index("ix_public_links_session_id", "public_links", ["session_id"])
    op.create_index("ix_public_links_owner_bytes", "public_links", ["owner", "bytes"])
    op.create_index("ix_public_links_expires_at", "public_links", ["expires_at"])

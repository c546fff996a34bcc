"""Uploads in parts, and stored chat completions."""

from __future__ import annotations

from alembic import op
from sqlalchemy import JSON, BigInteger, Column, Float, ForeignKey, Index, Integer, String, Text

revision = "0024"
down_revision = "0021"


def upgrade() -> None:
    op.create_table(
        "uploads",
        Column("id", String, primary_key=True),
        Column("owner", String, nullable=False),
        Column("filename", String, nullable=False),
        Column("purpose", String, nullable=False),
        Column("bytes", BigInteger, nullable=False),
        Column("media_type", String, nullable=False),
        Column("status", String, nullable=False),
        Column("file_keep_s", Integer),
        Column("file_id", String),
        Column("created_at", Float, nullable=False),
        Column("expires_at", Float, nullable=False),
        Index("ix_uploads_owner_status", "owner", "status"),
    )
    op.create_table(
        "upload_parts",
        Column("id", String, primary_key=True),
        Column("upload_id", String, ForeignKey("uploads.id", ondelete="CASCADE"), nullable=False),
        Column("bytes", BigInteger, nullable=False),
        Column("sha256", String, nullable=False),
        Column("created_at", Float, nullable=False),
        Index("ix_upload_parts_upload_id", "upload_id"),
        Index("ix_upload_parts_sha256", "sha256"),
    )
    op.create_table(
        "chat_completions",
        Column("id", String, primary_key=True),
        Column("owner", String, nullable=False),
        Column("model", String, nullable=False),
        Column("metadata", JSON, nullable=False),
        Column("messages", Text, nullable=False),
        Column("document", Text, nullable=False),
        Column("bytes", BigInteger, nullable=False),
        Column("created_at", Float, nullable=False),
        Index("ix_chat_completions_owner", "owner", "id", "bytes"),
        Index("ix_chat_completions_created_at", "created_at"),
    )

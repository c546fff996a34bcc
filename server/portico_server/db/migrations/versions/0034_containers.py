"""Containers, and which artifacts are their files."""

from __future__ import annotations

from alembic import op
from sqlalchemy import JSON, Boolean, Column, Float, ForeignKey, Index, Integer, String

revision = "0034"
down_revision = "0033"


def upgrade() -> None:
    op.create_table(
        "containers",
        Column("id", String, primary_key=True),
        Column("owner", String, nullable=False),
        Column("name", String, nullable=False),
        Column("automatic", Boolean, nullable=False),
        Column("minutes", Integer, nullable=False),
        Column("memory_limit", String),
        Column("skills", JSON, nullable=False),
        Column("bytes", Integer, nullable=False),
        Column("created_at", Float, nullable=False),
        Column("last_active_at", Float, nullable=False),
        Column("expires_at", Float, nullable=False),
        Index("ix_containers_owner", "owner"),
        Index("ix_containers_expires_at", "expires_at"),
    )
    op.create_table(
        "container_files",
        Column("id", String, ForeignKey("artifacts.id", ondelete="CASCADE"), primary_key=True),
        Column("container_id", String, ForeignKey("containers.id", ondelete="CASCADE"), nullable=False),
        Column("path", String, nullable=False),
        Column("source", String, nullable=False),
        Index("ix_container_files_container_id", "container_id", "path", unique=True),
    )

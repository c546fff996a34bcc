"""Marks of bytes in a bucket that come or go."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Float, Index, String

revision = "0035"
down_revision = "0034"


def upgrade() -> None:
    op.create_table(
        "blob_marks",
        Column("kind", String, primary_key=True),
        Column("sha256", String, primary_key=True),
        Column("holder", String, primary_key=True),
        Column("expires_at", Float, nullable=False),
        Index("ix_blob_marks_kind_expires_at", "kind", "expires_at"),
    )

"""Browsers in which somebody is signed in."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Float, ForeignKey, Index, Integer, String, Text

revision = "0037"
down_revision = "0036"


def upgrade() -> None:
    op.create_table(
        "sign_ins",
        Column("hash", String, primary_key=True),
        Column("owner", String, ForeignKey("keys.id", ondelete="CASCADE"), nullable=False),
        Column("issuer", String, nullable=False),
        Column("sealed", Text, nullable=False),
        Column("renewals", Integer, nullable=False),
        Column("renewing_until", Float, nullable=False),
        Column("created_at", Float, nullable=False),
        Column("used_at", Float, nullable=False),
        Index("ix_sign_ins_owner_used_at", "owner", "used_at"),
        Index("ix_sign_ins_used_at", "used_at"),
    )

"""Aliases whose calls are split, what was counted of each side, and what was done to them."""

from __future__ import annotations

from alembic import op
from sqlalchemy import JSON, BigInteger, Column, Float, ForeignKey, Index, Integer, String

revision = "0033"
down_revision = "0032"


def upgrade() -> None:
    op.create_table(
        "canaries",
        Column("id", String, primary_key=True),
        Column("alias", String, nullable=False),
        Column("running", String),
        Column("baseline", String, nullable=False),
        Column("target", String, nullable=False),
        Column("spec", JSON, nullable=False),
        Column("key", String, nullable=False),
        Column("created_at", Float, nullable=False),
        Column("ended_at", Float),
        Column("outcome", String),
        Column("reason", String),
        Index("ix_canaries_running", "running", unique=True),
        Index("ix_canaries_alias", "alias"),
    )
    op.create_table(
        "canary_sides",
        Column("canary_id", String, ForeignKey("canaries.id", ondelete="CASCADE"), primary_key=True),
        Column("side", String, primary_key=True),
        Column("calls", Integer, nullable=False),
        Column("errors", Integer, nullable=False),
        Column("milliseconds", Float, nullable=False),
        Column("tokens", BigInteger, nullable=False),
        Column("samples", Integer, nullable=False),
        Column("score", Float, nullable=False),
        Column("unjudged", Integer, nullable=False),
    )
    op.create_table(
        "canary_entries",
        Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True),
        Column("canary_id", String, ForeignKey("canaries.id", ondelete="CASCADE"), nullable=False),
        Column("at", Float, nullable=False),
        Column("by", String),
        Column("action", String, nullable=False),
        Column("reason", String, nullable=False),
        Column("figures", JSON, nullable=False),
        Index("ix_canary_entries_canary_id", "canary_id", "id"),
    )

"""Webhooks, and the journal of what was sent to them."""

from __future__ import annotations

from alembic import op
from sqlalchemy import JSON, Column, Float, ForeignKey, Index, Integer, String, Text

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    op.create_table(
        "webhooks",
        Column("id", String, primary_key=True),
        Column("owner", String, nullable=False),
        Column("name", String, nullable=False),
        Column("url", String, nullable=False),
        Column("event_types", JSON, nullable=False),
        Column("secret", String, nullable=False),
        Column("previous_secret", String),
        Column("previous_until", Float),
        Column("disabled", String),
        Column("created_at", Float, nullable=False),
        Column("updated_at", Float, nullable=False),
        Index("ix_webhooks_owner", "owner"),
    )
    op.create_table(
        "webhook_deliveries",
        Column("id", String, primary_key=True),
        Column("webhook_id", String, ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
        Column("owner", String, nullable=False),
        Column("event_type", String, nullable=False),
        Column("payload", Text, nullable=False),
        Column("state", String, nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("next_at", Float, nullable=False),
        Column("lease_owner", String),
        Column("lease_until", Float),
        Column("last_status", Integer),
        Column("last_error", String),
        Column("created_at", Float, nullable=False),
        Column("delivered_at", Float),
        Index("ix_webhook_deliveries_webhook_id", "webhook_id", "id"),
        Index("ix_webhook_deliveries_state", "state", "next_at"),
        Index("ix_webhook_deliveries_owner", "owner", "state"),
        Index("ix_webhook_deliveries_lease", "lease_until"),
        Index("ix_webhook_deliveries_created_at", "created_at"),
    )

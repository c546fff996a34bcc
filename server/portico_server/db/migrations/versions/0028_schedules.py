"""Schedules, and the journal of the times at which they were due; what each key keeps is found by its owner."""

from __future__ import annotations

from alembic import op
from sqlalchemy import JSON, BigInteger, Column, Float, ForeignKey, Index, Integer, String

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    op.create_table(
        "schedules",
        Column("id", String, primary_key=True),
        Column("name", String, nullable=False),
        Column("owner", String),
        Column("claim", String, nullable=False),
        Column("key", String, nullable=False),
        Column("kind", String, nullable=False),
        Column("target", String, nullable=False),
        Column("input", JSON),
        Column("cron", String),
        Column("every", String),
        Column("timezone", String, nullable=False),
        Column("missed", String, nullable=False),
        Column("overlap", String, nullable=False),
        Column("pause_after", Integer, nullable=False),
        Column("paused", String),
        Column("failures", Integer, nullable=False),
        Column("anchor", Float, nullable=False),
        Column("next_at", Float),
        Column("created_at", Float, nullable=False),
        Column("updated_at", Float, nullable=False),
        Index("ix_schedules_claim", "claim", unique=True),
        Index("ix_schedules_key", "key"),
        Index("ix_schedules_next_at", "next_at"),
    )
    op.create_table(
        "schedule_times",
        Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True),
        Column("schedule_id", String, ForeignKey("schedules.id", ondelete="CASCADE"), nullable=False),
        Column("due_at", Float, nullable=False),
        Column("cause", String, nullable=False),
        Column("run_id", String),
        Column("skipped", String),
        Column("created_at", Float, nullable=False),
        Index("ix_schedule_times_schedule_id", "schedule_id", "id"),
        Index("ix_schedule_times_run_id", "run_id"),
    )
    op.create_index("ix_artifacts_owner", "artifacts", ["owner"])

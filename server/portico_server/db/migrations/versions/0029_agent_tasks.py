"""Tasks that other agents gave to one of ours, and who is told of them."""

from __future__ import annotations

from alembic import op
from sqlalchemy import JSON, Column, Float, ForeignKey, Index, String, Text

revision = "0029"
down_revision = "0028"


def upgrade() -> None:
    op.create_table(
        "agent_tasks",
        Column("id", String, ForeignKey("responses.id", ondelete="CASCADE"), primary_key=True),
        Column("owner", String, nullable=False),
        Column("app", String, nullable=False),
        Column("context_id", String, nullable=False),
        Column("run_id", String, nullable=False),
        Column("messages", Text, nullable=False),
        Column("created_at", Float, nullable=False),
        Index("ix_agent_tasks_owner", "owner", "app", "created_at"),
        Index("ix_agent_tasks_run_id", "run_id"),
    )
    op.add_column("webhooks", Column("task_id", String))
    op.add_column("webhooks", Column("headers", JSON))
    op.create_index("ix_webhooks_task_id", "webhooks", ["task_id"])

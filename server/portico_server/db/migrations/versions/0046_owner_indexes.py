"""Indexes with which lists of one key read only the rows of this key."""

from __future__ import annotations

from alembic import op

revision = "0046"
down_revision = "0045"


def upgrade() -> None:
    op.create_index("ix_stores_owner", "stores", ["owner", "id"])
    op.create_index("ix_runs_owner", "runs", ["owner", "id"])
    op.create_index("ix_batches_owner", "batches", ["owner", "id"])
    op.create_index("ix_files_expires_at", "files", ["expires_at"])
    op.create_index("ix_usage_days_key_id", "usage_days", ["key_id", "day"])

"""Runs know the trace that they began in and what their names mean; sessions belong to an app by its id."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.add_column("runs", sa.Column("trace", sa.JSON(), nullable=True))
    op.add_column("runs", sa.Column("bound", sa.JSON(), nullable=True))
    op.execute("ALTER TABLE sessions RENAME COLUMN app TO app_id")
    op.add_column("sessions", sa.Column("app", sa.String(), nullable=False, server_default=""))
    op.execute("UPDATE sessions SET app = app_id")
    # A name meant one's own app, then the shared one; that of an agent which is not deployed stays a name.
    op.execute(
        "UPDATE sessions SET app_id = COALESCE("
        "(SELECT id FROM apps WHERE apps.claim = sessions.owner || '/' || sessions.app), "
        "(SELECT id FROM apps WHERE apps.claim = '/' || sessions.app), "
        "app_id)"
    )

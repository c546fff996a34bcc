"""Steps of flows: what each cost, and whether something of it was left out."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("steps", sa.Column("cost", sa.Float(), nullable=True))
    op.add_column("steps", sa.Column("redacted", sa.Boolean(), nullable=False, server_default=sa.false()))

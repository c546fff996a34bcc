"""Keys: which files of a store each may read."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.add_column("keys", sa.Column("filters", sa.JSON(), nullable=True))

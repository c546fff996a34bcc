"""Runs: a long result that is the output of a step is kept there alone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.add_column("runs", sa.Column("result_step", sa.String(), nullable=True))

"""Runs: a long result that is the output of a step is kept there alone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.add_column("runs", sa.Column("result_step", sa.String(), nullable=True))

"""How models did in the test that decides whether they answer in their own words."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.create_table(
        "answer_tests",
        sa.Column("identity", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("correct", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("tested_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("identity", name=op.f("pk_answer_tests")),
    )

"""A migration for tests: it rebuilds tables that others refer to and changes rows one by one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from portico_server.db.schema import HEAD

revision = "9001"
down_revision = HEAD


def upgrade() -> None:
    connection = op.get_bind()
    for name in ("runs", "files", "stores"):
        op.add_column(name, sa.Column("rank", sa.Integer(), nullable=True))
        table = sa.table(name, sa.column("id", sa.String()), sa.column("rank", sa.Integer()))
        for rank, row_id in enumerate(
            connection.scalars(sa.select(table.c.id).order_by(table.c.id)).all(), 1
        ):
            connection.execute(sa.update(table).where(table.c.id == row_id).values(rank=rank))
        with op.batch_alter_table(name) as batch:
            batch.alter_column("rank", existing_type=sa.Integer(), nullable=False)
            batch.create_unique_constraint(f"uq_{name}_rank", ["rank"])

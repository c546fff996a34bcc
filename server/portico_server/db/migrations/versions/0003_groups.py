"""Chunk groups, stores that are paused, stores that change their embedding model."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("stores", sa.Column("next_embedding_model", sa.String(), nullable=True))
    op.add_column("stores", sa.Column("paused", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("changes", sa.Column("group_name", sa.String(), nullable=False, server_default="chunk"))
    op.create_index(
        "ix_chunks_store_id_file_id_group_name_ordinal",
        "chunks",
        ["store_id", "file_id", "group_name", "ordinal"],
        unique=False,
    )
    op.drop_index("ix_chunks_store_id_file_id_ordinal", "chunks")
    op.create_table(
        "groups",
        sa.Column("store_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("parent", sa.String(), nullable=False),
        sa.Column("chunking", sa.JSON(), nullable=False),
        sa.Column("embedding_model", sa.String(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["store_id"], ["stores.id"], name=op.f("fk_groups_store_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("store_id", "name", name=op.f("pk_groups")),
    )
    op.create_table(
        "group_files",
        sa.Column("store_id", sa.String(), nullable=False),
        sa.Column("group_name", sa.String(), nullable=False),
        sa.Column("file_id", sa.String(), nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["store_id", "group_name"],
            ["groups.store_id", "groups.name"],
            name="fk_group_files_group",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["store_id", "file_id"],
            ["store_files.store_id", "store_files.file_id"],
            name="fk_group_files_file",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("store_id", "group_name", "file_id", name=op.f("pk_group_files")),
    )

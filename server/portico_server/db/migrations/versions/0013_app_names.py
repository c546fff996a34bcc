"""Apps have ids, and their names have owners: a key may have an app of a name beside the shared one."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

_APP = ("name", "owner", "kind", "version", "limits", "created_at", "updated_at")
_VERSION = ("name", "version", "spec", "digest", "note", "created_by", "created_at")


def upgrade() -> None:
    connection = op.get_bind()
    apps = [row._mapping for row in connection.execute(sa.select(*_columns("apps", _APP)))]
    versions = [row._mapping for row in connection.execute(sa.select(*_columns("app_versions", _VERSION)))]
    op.drop_table("app_versions")
    op.drop_table("apps")
    # Without names of their constraints, which those of before may still hold.
    made = op.create_table(
        "apps",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=True),
        sa.Column("claim", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("limits", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
    )
    op.create_index("ix_apps_claim", "apps", ["claim"], unique=True)
    numbered = op.create_table(
        "app_versions",
        sa.Column("app_id", sa.String(), sa.ForeignKey("apps.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
    )
    ids = {row["name"]: _id(row["created_at"]) for row in apps}
    if apps:
        more = (
            {"id": ids[row["name"]], "claim": f"{row['owner'] or ''}/{row['name']}", **row} for row in apps
        )
        op.bulk_insert(made, list(more))
    rows = [{"app_id": ids[row["name"]], **row} for row in versions if row["name"] in ids]
    for row in rows:
        del row["name"]
    if rows:
        op.bulk_insert(numbered, rows)


def _columns(table: str, names: tuple[str, ...]) -> list[sa.ColumnClause[object]]:
    kinds = {"limits": sa.JSON(), "spec": sa.JSON()}
    found = sa.table(table, *(sa.column(name, kinds.get(name)) for name in names))
    return [found.c[name] for name in names]


def _id(created: float) -> str:
    return f"app_{int(created * 1000) & 0xFFFFFFFFFFFF:012x}{secrets.token_hex(10)}"

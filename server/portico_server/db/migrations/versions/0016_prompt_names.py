"""Prompts have ids, and their names have owners: a key may have a prompt of a name beside the shared one."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"

_COLUMNS = ("name", "version", "owner", "spec", "origin", "created_at")


def upgrade() -> None:
    connection = op.get_bind()
    kinds = {"spec": sa.JSON()}
    before = sa.table("prompts", *(sa.column(name, kinds.get(name)) for name in _COLUMNS))
    rows = [
        dict(row._mapping)
        for row in connection.execute(sa.select(before).order_by(before.c.name, before.c.version))
    ]
    op.drop_table("prompts")
    # Without the name of its key, which that of before may still hold.
    made = op.create_table(
        "prompts",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=True),
        sa.Column("claim", sa.String(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
    )
    op.create_index("ix_prompts_claim_version", "prompts", ["claim", "version"], unique=True)
    known: dict[str, tuple[str, str | None]] = {}
    for row in rows:
        # The first version says whose the name was; a later one by an admin was of the same prompt.
        prompt_id, owner = known.setdefault(row["name"], (_id(row["created_at"]), row["owner"]))
        claim = f"{owner or ''}/" + row["name"].replace("/", "\x1f")
        row.update(id=prompt_id, owner=owner, claim=claim)
    if rows:
        op.bulk_insert(made, rows)


def _id(created: float) -> str:
    return f"prompt_{int(created * 1000) & 0xFFFFFFFFFFFF:012x}{secrets.token_hex(10)}"

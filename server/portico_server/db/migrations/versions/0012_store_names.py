"""The names of stores have owners: one owner gives a name once, and other stores of that name are titles."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.add_column("stores", sa.Column("claim", sa.String(), nullable=True))
    stores = sa.table("stores", *(sa.column(name, sa.String()) for name in ("id", "name", "owner", "claim")))
    connection = op.get_bind()
    rows = connection.execute(
        sa.select(stores.c.id, stores.c.name, stores.c.owner).order_by(stores.c.id)
    ).all()
    claimed: set[str] = set()
    for row in rows:  # the oldest first: it was called by its name so far
        claim = f"{row.owner or ''}/{row.name}"
        # Beside an older shared store of the name a key reached its own by the id alone.
        if not _is_name(row.name) or claim in claimed or f"/{row.name}" in claimed:
            continue
        claimed.add(claim)
        connection.execute(sa.update(stores).where(stores.c.id == row.id).values(claim=claim))
    op.create_index("ix_stores_claim", "stores", ["claim"], unique=True)


def _is_name(name: str) -> bool:
    return (
        0 < len(name) <= 128
        and name == name.strip()
        and name.isprintable()
        and not name.startswith("vs_")
        and not set(name) & set(":/\\[]<>`")
    )

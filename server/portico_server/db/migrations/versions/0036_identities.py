"""Who signs in by an issuer, among the keys."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Float, String

revision = "0036"
down_revision = "0035"


def upgrade() -> None:
    op.add_column("keys", Column("issuer", String))
    op.add_column("keys", Column("subject", String))
    op.add_column("keys", Column("signed_in_at", Float))

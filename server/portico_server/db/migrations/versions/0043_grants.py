"""OAuth clients, and the access that people have granted to them."""

from __future__ import annotations

from alembic import op
from sqlalchemy import JSON, Column, Float, String

revision = "0043"
down_revision = "0042"


def upgrade() -> None:
    op.create_table(
        "oauth_clients",
        Column("id", String, primary_key=True),
        Column("name", String, nullable=False),
        Column("redirect_uris", JSON, nullable=False),
        Column("address", String, nullable=False),
        Column("created_at", Float, nullable=False),
        Column("granted_at", Float),
    )
    op.create_index("ix_oauth_clients_address_created_at", "oauth_clients", ["address", "created_at"])
    op.create_index("ix_oauth_clients_granted_at_created_at", "oauth_clients", ["granted_at", "created_at"])
    op.create_table(
        "grants",
        Column("id", String, primary_key=True),
        Column("name", String, nullable=False),
        Column("client_id", String, nullable=False),
        Column("owner", String, nullable=False),
        Column("scopes", JSON, nullable=False),
        Column("audience", String, nullable=False),
        Column("redirect_uri", String, nullable=False),
        Column("challenge", String, nullable=False),
        Column("code_hash", String, nullable=False, unique=True),
        Column("access_hash", String, unique=True),
        Column("expires_at", Float),
        Column("family_hash", String, unique=True),
        Column("refresh_hash", String),
        Column("created_at", Float, nullable=False),
        Column("issued_at", Float, nullable=False),
    )
    op.create_index("ix_grants_owner_issued_at", "grants", ["owner", "issued_at"])
    op.create_index("ix_grants_issued_at", "grants", ["issued_at"])

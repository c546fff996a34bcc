"""Agent Skills, each with its versions."""

from __future__ import annotations

from alembic import op
from sqlalchemy import JSON, Column, Float, ForeignKey, Index, Integer, LargeBinary, String, Text

revision = "0030"
down_revision = "0029"


def upgrade() -> None:
    op.create_table(
        "skills",
        Column("id", String, primary_key=True),
        Column("name", String, nullable=False),
        Column("owner", String),
        Column("claim", String, nullable=False),
        Column("description", Text, nullable=False),
        Column("default_version", Integer, nullable=False),
        Column("latest_version", Integer, nullable=False),
        Column("origin", String, nullable=False),
        Column("created_at", Float, nullable=False),
        Index("ix_skills_claim", "claim", unique=True),
        Index("ix_skills_owner", "owner"),
    )
    op.create_table(
        "skill_versions",
        Column("id", String, primary_key=True),
        Column("skill_id", String, ForeignKey("skills.id", ondelete="CASCADE"), nullable=False),
        Column("version", Integer, nullable=False),
        Column("description", Text, nullable=False),
        Column("front_matter", JSON, nullable=False),
        Column("files", JSON, nullable=False),
        Column("bytes", Integer, nullable=False),
        Column("sha256", String, nullable=False),
        Column("created_at", Float, nullable=False),
        Column("data", LargeBinary, nullable=False),
        Index("ix_skill_versions_skill_id", "skill_id", "version", unique=True),
    )

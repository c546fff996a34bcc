"""What sessions, conversations and responses take on the disk, as `portico_server.db.rows` counts it."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, Connection, text

revision = "0031"
down_revision = "0030"

ROW_BYTES = 256


def upgrade() -> None:
    for table in ("sessions", "conversations", "responses"):
        op.add_column(table, Column("bytes", BigInteger, nullable=False, server_default="0"))
    fill(op.get_bind())
    for table in ("sessions", "conversations", "responses"):
        op.create_index(f"ix_{table}_owner_bytes", table, ["owner", "bytes"])


def fill(connection: Connection) -> None:
    """Count what the rows take that are there."""
    octets = (
        "octet_length({}::text)" if connection.dialect.name == "postgresql" else "length(CAST({} AS BLOB))"
    )

    def taken(*columns: str) -> str:
        return " + ".join((str(ROW_BYTES), *(f"coalesce({octets.format(column)}, 0)" for column in columns)))

    def summed(what: str, table: str, column: str) -> str:
        return f"coalesce((SELECT sum({what}) FROM {table} AS held WHERE held.{column} = kept.id), 0)"  # noqa: S608

    sizes = {
        "sessions": (
            taken("metadata"),
            summed(taken("message"), "session_messages", "session_id"),
            summed(taken("state"), "session_states", "session_id"),
        ),
        "conversations": (taken("metadata"), summed(taken("item"), "conversation_items", "conversation_id")),
        "responses": (
            taken("input", "document", "ask"),
            summed("length(data)", "response_events", "response_id"),
            summed(taken("messages"), "agent_tasks", "id"),
        ),
    }
    for table, parts in sizes.items():
        connection.execute(text(f"UPDATE {table} AS kept SET bytes = {' + '.join(parts)}"))  # noqa: S608

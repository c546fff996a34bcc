"""The tables of the Responses API: what was answered, and conversations. See `portico_server.db.schema`."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
)

from portico_server.db.metadata import metadata

# One row for each stored response. What is JSON goes in and out as text: orjson reads it, in a fifth of the time.
responses = Table(
    "responses",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("run_id", String, nullable=False),
    # The response that it goes on with. No foreign key: that one may be deleted.
    Column("previous_id", String),
    Column("conversation_id", String),
    Column("status", String, nullable=False),
    Column("background", Boolean, nullable=False),
    # The items of its input, and the whole response with its output.
    Column("input", Text, nullable=False),
    Column("document", Text, nullable=False),
    # What a background response was asked, so that it can be taken up again. Null in the foreground.
    Column("ask", Text),
    # The numbers of events that were lost and made anew when it was taken up again: [[after, last], …].
    Column("lost", JSON),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    Index("ix_responses_previous_id", "previous_id"),
    Index("ix_responses_finished_at", "finished_at"),
)

# The stream of a background response, for who comes late or comes back.
response_events = Table(
    "response_events",
    metadata,
    Column("response_id", String, ForeignKey("responses.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

conversations = Table(
    "conversations",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("last_seq", Integer, nullable=False, default=0),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Index("ix_conversations_updated_at", "updated_at"),
)

conversation_items = Table(
    "conversation_items",
    metadata,
    Column("conversation_id", String, ForeignKey("conversations.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("id", String, nullable=False),
    Column("item", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Index("ix_conversation_items_id", "id"),
)

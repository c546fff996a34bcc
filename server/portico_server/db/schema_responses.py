"""The tables of the Responses API: what was answered, and conversations. See `portico_server.db.schema`."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
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
    # The response that it continues. No foreign key: that one may be deleted.
    Column("previous_id", String),
    Column("conversation_id", String),
    Column("status", String, nullable=False),
    Column("background", Boolean, nullable=False),
    # The items of its input, and the whole response with its output.
    Column("input", Text, nullable=False),
    Column("document", Text, nullable=False),
    # What a background response was asked, so that it can be taken up again. Null in the foreground.
    Column("ask", Text),
    # The numbers of events that were lost and made again when it was resumed: [[after, last], …].
    Column("lost", JSON),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    # What it takes on the disk with its events.
    Column("bytes", BigInteger, nullable=False, default=0, server_default="0"),
    Index("ix_responses_previous_id", "previous_id"),
    Index("ix_responses_finished_at", "finished_at"),
    Index("ix_responses_owner_bytes", "owner", "bytes"),
)

# A task that another agent gave to an app: a response in the background, and what was said to it.
agent_tasks = Table(
    "agent_tasks",
    metadata,
    Column("id", String, ForeignKey("responses.id", ondelete="CASCADE"), primary_key=True),
    Column("owner", String, nullable=False),
    Column("app", String, nullable=False),
    # What its client calls the conversation.
    Column("context_id", String, nullable=False),
    Column("run_id", String, nullable=False),
    # The messages of its client as JSON, the first one first.
    Column("messages", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Index("ix_agent_tasks_owner", "owner", "app", "created_at"),
    Index("ix_agent_tasks_run_id", "run_id"),
)

# The stream of a background response, for who comes late or comes back.
response_events = Table(
    "response_events",
    metadata,
    Column("response_id", String, ForeignKey("responses.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

# Chat completions that were asked for with ``store``.
chat_completions = Table(
    "chat_completions",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("model", String, nullable=False),
    Column("metadata", JSON, nullable=False),
    # The messages of the request, and the answer with the options that it was made with, as JSON.
    Column("messages", Text, nullable=False),
    Column("document", Text, nullable=False),
    # Bytes of both.
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
    Index("ix_chat_completions_owner", "owner", "id", "bytes"),
    Index("ix_chat_completions_created_at", "created_at"),
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
    # What it takes on the disk with its items.
    Column("bytes", BigInteger, nullable=False, default=0, server_default="0"),
    Index("ix_conversations_updated_at", "updated_at"),
    Index("ix_conversations_owner_bytes", "owner", "bytes"),
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


# Webhooks: who wants to hear of what has ended, and the journal of what was sent. ``secret`` is what signs: it is
# needed as it is, and never shown again.

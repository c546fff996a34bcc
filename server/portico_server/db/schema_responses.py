"""The tables of the Responses API: responses and conversations. See `portico_server.db.schema`."""

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

# One row for each stored response. JSON is stored as text, because orjson parses it in a fifth of the time.
responses = Table(
    "responses",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("run_id", String, nullable=False),
    # The response that this response continues. There is no foreign key, because that response may be
    # deleted.
    Column("previous_id", String),
    Column("conversation_id", String),
    Column("status", String, nullable=False),
    Column("background", Boolean, nullable=False),
    # The items of the input, and the whole response with its output.
    Column("input", Text, nullable=False),
    Column("document", Text, nullable=False),
    # The request of a background response, with which it can be resumed. Null for other responses.
    Column("ask", Text),
    # The events that were lost in a crash and generated again after a resume: [[last event kept, last event
    # lost], …].
    Column("lost", JSON),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    # Size on disk in bytes, including the response's events.
    Column("bytes", BigInteger, nullable=False, default=0, server_default="0"),
    Index("ix_responses_previous_id", "previous_id"),
    Index("ix_responses_finished_at", "finished_at"),
    Index("ix_responses_owner_bytes", "owner", "bytes"),
)

# Tasks that other agents gave to an app: each is a background response with the messages of the task.
agent_tasks = Table(
    "agent_tasks",
    metadata,
    Column("id", String, ForeignKey("responses.id", ondelete="CASCADE"), primary_key=True),
    Column("owner", String, nullable=False),
    Column("app", String, nullable=False),
    # The client's id for the conversation.
    Column("context_id", String, nullable=False),
    Column("run_id", String, nullable=False),
    # The client's messages as JSON, oldest first.
    Column("messages", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Index("ix_agent_tasks_owner", "owner", "app", "created_at"),
    Index("ix_agent_tasks_run_id", "run_id"),
)

# The stream of a background response, for clients that connect late or reconnect.
response_events = Table(
    "response_events",
    metadata,
    Column("response_id", String, ForeignKey("responses.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

# Chat completions requested with ``store``.
chat_completions = Table(
    "chat_completions",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("model", String, nullable=False),
    Column("metadata", JSON, nullable=False),
    # The messages of the request, and the answer with its options, as JSON.
    Column("messages", Text, nullable=False),
    Column("document", Text, nullable=False),
    # Total size of both.
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
    # Size on disk in bytes, including the conversation's items.
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


# Webhooks: receivers of events about ended work, and the journal of deliveries. ``secret`` is the signing
# secret. It is stored unencrypted, because it is needed for signing, and is never shown again.

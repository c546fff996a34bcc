"""The schema shortly before the first release. Migrations with lower numbers were never released: see
`migrate.is_unreleased`.

The tables are defined explicitly, because the tables in `portico_server.db.schema` change with later migrations.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Text,
    UniqueConstraint,
    false,
)

revision = "0041"
down_revision = None


def upgrade() -> None:
    _keys_and_usage()
    _models()
    _runs()
    _steps()
    _questions_and_tasks()
    _files_and_stores()
    _files_of_stores()
    _chunks()
    _tools_and_prompts()
    _apps()
    _training()
    _responses()
    _batches()
    _evaluations()
    _results_of_evaluations()
    _links()
    _uploads_skills_and_containers()
    _chats_and_sign_ins()
    _webhooks_and_schedules()
    _canaries()
    _several_daemons()


def _keys_and_usage() -> None:
    op.create_table(
        "keys",
        Column("id", String, primary_key=True),
        Column("name", String, nullable=False),
        Column("hash", String, nullable=False, unique=True),
        Column("hint", String, nullable=False),
        Column("scopes", JSON, nullable=False),
        Column("created_at", Float, nullable=False),
        Column("revoked_at", Float),
        Column("limits", JSON),
        Column("filters", JSON),
        Column("issuer", String),
        Column("subject", String),
        Column("signed_in_at", Float),
        UniqueConstraint("hash", name="uq_keys_hash"),
    )
    op.create_table(
        "usage",
        Column("id", Integer, primary_key=True, autoincrement=True),
        Column("run_id", String, nullable=False),
        Column("key_id", String, nullable=False),
        Column("name", String, nullable=False),
        Column("operation", String, nullable=False),
        Column("status", String, nullable=False),
        Column("error_code", String),
        Column("created_at", Float, nullable=False),
        Column("milliseconds", Float, nullable=False),
        Column("first_byte_milliseconds", Float),
        Column("prompt_tokens", Integer, nullable=False),
        Column("completion_tokens", Integer, nullable=False),
        Column("cached_tokens", Integer, nullable=False),
        Column("cost", Float),
        Column("model", String, nullable=False, server_default=""),
        Index("ix_usage_created_at", "created_at"),
        Index("ix_usage_key_id_created_at", "key_id", "created_at"),
    )
    op.create_table(
        "usage_days",
        Column("day", Integer, primary_key=True, autoincrement=False),
        Column("key_id", String, primary_key=True),
        Column("name", String, primary_key=True),
        Column("operation", String, primary_key=True),
        Column("model", String, primary_key=True),
        Column("calls", Integer, nullable=False),
        Column("prompt_tokens", BigInteger, nullable=False),
        Column("completion_tokens", BigInteger, nullable=False),
        Column("cached_tokens", BigInteger, nullable=False),
        Column("cost", Float),
        Column("milliseconds", Float, nullable=False),
    )


def _models() -> None:
    op.create_table(
        "adapters",
        Column("name", String, primary_key=True),
        Column("base", String, nullable=False),
        Column("owner", String),
        Column("spec", JSON, nullable=False),
        Column("created_at", Float, nullable=False),
        Index("ix_adapters_base", "base"),
    )
    op.create_table(
        "aliases",
        Column("name", String, primary_key=True),
        Column("target", String, nullable=False),
    )
    op.create_table(
        "answer_tests",
        Column("identity", String, primary_key=True),
        Column("model", String, nullable=False),
        Column("correct", Integer, nullable=False),
        Column("total", Integer, nullable=False),
        Column("tested_at", Float, nullable=False),
    )
    op.create_table(
        "models",
        Column("name", String, primary_key=True),
        Column("owner", String),
        Column("spec", JSON, nullable=False),
        Column("created_at", Float, nullable=False),
    )


def _runs() -> None:
    op.create_table(
        "artifacts",
        Column("id", String, primary_key=True),
        Column("owner", String),
        Column("run_id", String, nullable=False),
        Column("name", String, nullable=False),
        Column("media_type", String, nullable=False),
        Column("bytes", BigInteger, nullable=False),
        Column("sha256", String, nullable=False),
        Column("created_at", Float, nullable=False),
        Index("ix_artifacts_owner", "owner"),
        Index("ix_artifacts_run_id", "run_id"),
        Index("ix_artifacts_sha256", "sha256"),
    )
    op.create_table(
        "runs",
        Column("id", String, primary_key=True),
        Column("kind", String, nullable=False),
        Column("name", String, nullable=False),
        Column("owner", String, nullable=False),
        Column("status", String, nullable=False),
        Column("payload", JSON, nullable=False),
        Column("result", JSON),
        Column("result_step", String),
        Column("error", JSON),
        Column("attempts", Integer, nullable=False),
        Column("lease_owner", String),
        Column("lease_expires", Float),
        Column("created_at", Float, nullable=False),
        Column("started_at", Float),
        Column("finished_at", Float),
        Column("trace", JSON),
        Column("bound", JSON),
        Index("ix_runs_status_kind_created_at", "status", "kind", "created_at"),
    )
    op.create_table(
        "run_events",
        Column("run_id", String, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
        Column("seq", Integer, primary_key=True),
        Column("created_at", Float, nullable=False),
        Column("event", JSON, nullable=False),
    )


def _steps() -> None:
    op.create_table(
        "step_cache",
        Column("key", String, primary_key=True),
        Column("value", Text, nullable=False),
        Column("expires_at", Float, nullable=False),
        Index("ix_step_cache_expires_at", "expires_at"),
    )
    op.create_table(
        "steps",
        Column("run_id", String, primary_key=True),
        Column("path", String, primary_key=True),
        Column("seq", Integer, nullable=False),
        Column("kind", String, nullable=False),
        Column("status", String, nullable=False),
        Column("attempt", Integer, nullable=False),
        Column("input", Text),
        Column("output", Text),
        Column("error", Text),
        Column("started_at", Float, nullable=False),
        Column("milliseconds", Float, nullable=False),
        Column("prompt_tokens", Integer, nullable=False),
        Column("completion_tokens", Integer, nullable=False),
        Column("cached_tokens", Integer, nullable=False),
        Column("hit", Boolean, nullable=False),
        Column("cost", Float),
        Column("redacted", Boolean, nullable=False, server_default=false()),
    )


def _questions_and_tasks() -> None:
    op.create_table(
        "mcp_tasks",
        Column("id", String, primary_key=True),
        Column("owner", String, nullable=False),
        Column("run_id", String, nullable=False),
        Column("status", String, nullable=False),
        Column("message", Text, nullable=False),
        Column("result", JSON),
        Column("lease_expires", Float, nullable=False),
        Column("created_at", Float, nullable=False),
        Column("finished_at", Float),
        Index("ix_mcp_tasks_finished_at", "finished_at"),
    )
    op.create_table(
        "questions",
        Column("id", String, primary_key=True),
        Column("run_id", String, nullable=False),
        Column("key", String, nullable=False),
        Column("owner", String, nullable=False),
        Column("kind", String, nullable=False),
        Column("name", String, nullable=False),
        Column("message", Text, nullable=False),
        Column("arguments", JSON, nullable=False),
        Column("answer_schema", JSON),
        Column("status", String, nullable=False),
        Column("accepted", Boolean),
        Column("value", JSON),
        Column("note", Text),
        Column("answered_by", String),
        Column("lease_owner", String),
        Column("lease_expires", Float),
        Column("created_at", Float, nullable=False),
        Column("expires_at", Float),
        Column("answered_at", Float),
        UniqueConstraint("run_id", "key", name="uq_questions_run_id_key"),
        Index("ix_questions_status_created_at", "status", "created_at"),
    )


def _files_and_stores() -> None:
    op.create_table(
        "files",
        Column("id", String, primary_key=True),
        Column("owner", String),
        Column("filename", String, nullable=False),
        Column("purpose", String, nullable=False),
        Column("bytes", BigInteger, nullable=False),
        Column("sha256", String, nullable=False),
        Column("created_at", Float, nullable=False),
        Column("expires_at", Float),
        Index("ix_files_owner_created_at", "owner", "created_at"),
        Index("ix_files_sha256", "sha256"),
    )
    op.create_table(
        "stores",
        Column("id", String, primary_key=True),
        Column("name", String, nullable=False),
        Column("description", String, nullable=False),
        Column("owner", String),
        Column("claim", String),
        Column("folder", String),
        Column("app", Boolean, nullable=False),
        Column("answers", String, nullable=False, server_default="auto"),
        Column("embedding_model", String, nullable=False),
        Column("next_embedding_model", String),
        Column("paused", Boolean, nullable=False, server_default=false()),
        Column("metadata", JSON, nullable=False),
        Column("expires_after_days", Integer),
        Column("last_active_at", Float, nullable=False),
        Column("created_at", Float, nullable=False),
        Column("last_change", Integer, nullable=False),
        Column("source", JSON),
        Column("keep_removed", Boolean, nullable=False, server_default=false()),
        Column("search", JSON),
        Column("vector_weight", Float),
        Column("links", Boolean, nullable=False, server_default=false()),
        Column("linked_to", Integer),
        Index("ix_stores_claim", "claim", unique=True),
        Index("ix_stores_name", "name"),
    )
    op.create_table(
        "store_skips",
        Column(
            "store_id",
            String,
            ForeignKey("stores.id", ondelete="CASCADE", name="fk_store_skips_store_id_stores"),
            primary_key=True,
        ),
        Column("reasons", JSON, nullable=False),
        Column("names", JSON, nullable=False),
        Column("looked_at", Float, nullable=False),
    )


def _files_of_stores() -> None:
    op.create_table(
        "file_batches",
        Column("id", String, primary_key=True),
        Column("store_id", String, ForeignKey("stores.id", ondelete="CASCADE"), nullable=False),
        Column("file_ids", JSON, nullable=False),
        Column("created_at", Float, nullable=False),
        Column("cancelled_at", Float),
        Index("ix_file_batches_store_id", "store_id"),
    )
    op.create_table(
        "store_files",
        Column("store_id", String, ForeignKey("stores.id", ondelete="CASCADE"), primary_key=True),
        Column("file_id", String, ForeignKey("files.id", ondelete="CASCADE"), primary_key=True),
        Column("status", String, nullable=False),
        Column("error_code", String),
        Column("error_message", String),
        Column("attributes", JSON, nullable=False),
        Column("chunking", JSON, nullable=False),
        Column("usage_bytes", BigInteger, nullable=False),
        Column("created_at", Float, nullable=False),
        Column("source_mtime_ns", BigInteger),
        Column("source_size", BigInteger),
        Index("ix_store_files_file_id", "file_id"),
        Index("ix_store_files_store_id_status", "store_id", "status"),
    )


def _chunks() -> None:
    op.create_table(
        "chunks",
        Column("id", Integer, primary_key=True, autoincrement=True),
        Column("store_id", String, nullable=False),
        Column("file_id", String, nullable=False),
        Column("group_name", String, nullable=False),
        Column("ordinal", Integer, nullable=False),
        Column("text", Text, nullable=False),
        Column("place", JSON, nullable=False),
        Index(
            "ix_chunks_store_id_file_id_group_name_ordinal", "store_id", "file_id", "group_name", "ordinal"
        ),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "changes",
        Column("store_id", String, ForeignKey("stores.id", ondelete="CASCADE"), primary_key=True),
        Column("seq", Integer, primary_key=True),
        Column("op", String, nullable=False),
        Column("file_id", String, nullable=False),
        Column("first_chunk", Integer),
        Column("last_chunk", Integer),
        Column("group_name", String, nullable=False, server_default="chunk"),
    )
    op.create_table(
        "groups",
        Column("store_id", String, ForeignKey("stores.id", ondelete="CASCADE"), primary_key=True),
        Column("name", String, primary_key=True),
        Column("parent", String, nullable=False),
        Column("chunking", JSON, nullable=False),
        Column("embedding_model", String),
        Column("created_at", Float, nullable=False),
    )
    op.create_table(
        "vectors",
        Column("chunk_id", Integer, ForeignKey("chunks.id", ondelete="CASCADE"), primary_key=True),
        Column("model", String, primary_key=True),
        Column("data", LargeBinary, nullable=False),
    )
    op.create_table(
        "group_files",
        Column("store_id", String, primary_key=True),
        Column("group_name", String, primary_key=True),
        Column("file_id", String, primary_key=True),
        Column("error", String),
        ForeignKeyConstraint(
            ["store_id", "group_name"],
            ["groups.store_id", "groups.name"],
            ondelete="CASCADE",
            name="fk_group_files_group",
        ),
        ForeignKeyConstraint(
            ["store_id", "file_id"],
            ["store_files.store_id", "store_files.file_id"],
            ondelete="CASCADE",
            name="fk_group_files_file",
        ),
    )


def _tools_and_prompts() -> None:
    op.create_table(
        "mcp_servers",
        Column("name", String, primary_key=True),
        Column("owner", String),
        Column("spec", JSON, nullable=False),
        Column("created_at", Float, nullable=False),
    )
    op.create_table(
        "prompts",
        Column("id", String, primary_key=True),
        Column("version", Integer, primary_key=True, autoincrement=False),
        Column("name", String, nullable=False),
        Column("owner", String),
        Column("claim", String, nullable=False),
        Column("spec", JSON, nullable=False),
        Column("origin", String, nullable=False),
        Column("created_at", Float, nullable=False),
        Column("bytes", BigInteger, nullable=False, server_default="0"),
        Index("ix_prompts_claim_version", "claim", "version", unique=True),
        Index("ix_prompts_owner_bytes", "owner", "bytes"),
    )
    op.create_table(
        "tools",
        Column("name", String, primary_key=True),
        Column("owner", String),
        Column("spec", JSON, nullable=False),
        Column("created_at", Float, nullable=False),
    )


def _apps() -> None:
    op.create_table(
        "apps",
        Column("id", String, primary_key=True),
        Column("name", String, nullable=False),
        Column("owner", String),
        Column("claim", String, nullable=False),
        Column("kind", String, nullable=False),
        Column("version", Integer, nullable=False),
        Column("limits", JSON),
        Column("created_at", Float, nullable=False),
        Column("updated_at", Float, nullable=False),
        Index("ix_apps_claim", "claim", unique=True),
    )
    op.create_table(
        "sessions",
        Column("id", String, primary_key=True),
        Column("app_id", String, nullable=False),
        Column("owner", String, nullable=False),
        Column("name", String, nullable=False),
        Column("app", String, nullable=False, server_default=""),
        Column("title", String, nullable=False),
        Column("metadata", JSON, nullable=False),
        Column("last_seq", Integer, nullable=False),
        Column("created_at", Float, nullable=False),
        Column("updated_at", Float, nullable=False),
        Column("bytes", BigInteger, nullable=False, server_default="0"),
        UniqueConstraint("app_id", "owner", "name", name="uq_sessions_app_owner_name"),
        Index("ix_sessions_owner_bytes", "owner", "bytes"),
        Index("ix_sessions_owner_updated_at", "owner", "updated_at"),
    )
    op.create_table(
        "app_versions",
        Column("app_id", String, ForeignKey("apps.id", ondelete="CASCADE"), primary_key=True),
        Column("version", Integer, primary_key=True),
        Column("spec", JSON, nullable=False),
        Column("digest", String, nullable=False),
        Column("note", String, nullable=False),
        Column("created_by", String, nullable=False),
        Column("created_at", Float, nullable=False),
        Column("bytes", BigInteger, nullable=False, server_default="0"),
        Index("ix_app_versions_app_id_bytes", "app_id", "bytes"),
    )
    op.create_table(
        "session_messages",
        Column("session_id", String, ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True),
        Column("seq", Integer, primary_key=True),
        Column("agent", String, nullable=False),
        Column("run_id", String),
        Column("message", JSON, nullable=False),
        Column("created_at", Float, nullable=False),
        Index("ix_session_messages_session_id_agent_seq", "session_id", "agent", "seq"),
    )
    op.create_table(
        "session_states",
        Column("session_id", String, ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True),
        Column("agent", String, primary_key=True),
        Column("state", JSON, nullable=False),
        Column("updated_at", Float, nullable=False),
    )


def _training() -> None:
    op.create_table(
        "tuning_jobs",
        Column("id", String, primary_key=True),
        Column("owner", String),
        Column("run_id", String, nullable=False),
        Column("base", String, nullable=False),
        Column("spec", JSON, nullable=False),
        Column("state", JSON, nullable=False),
        Column("status", String, nullable=False),
        Column("error", JSON),
        Column("created_at", Float, nullable=False),
        Column("finished_at", Float),
        Column("bytes", BigInteger, nullable=False, server_default="0"),
        Index("ix_tuning_jobs_created_at", "created_at"),
        Index("ix_tuning_jobs_owner_bytes", "owner", "bytes"),
    )
    op.create_table(
        "tuning_events",
        Column("job_id", String, ForeignKey("tuning_jobs.id", ondelete="CASCADE"), primary_key=True),
        Column("seq", Integer, primary_key=True),
        Column("kind", String, nullable=False),
        Column("level", String, nullable=False),
        Column("message", Text, nullable=False),
        Column("step", Integer),
        Column("data", JSON, nullable=False),
        Column("created_at", Float, nullable=False),
    )


def _responses() -> None:
    op.create_table(
        "conversations",
        Column("id", String, primary_key=True),
        Column("owner", String, nullable=False),
        Column("metadata", JSON, nullable=False),
        Column("last_seq", Integer, nullable=False),
        Column("created_at", Float, nullable=False),
        Column("updated_at", Float, nullable=False),
        Column("bytes", BigInteger, nullable=False, server_default="0"),
        Index("ix_conversations_owner_bytes", "owner", "bytes"),
        Index("ix_conversations_updated_at", "updated_at"),
    )
    op.create_table(
        "responses",
        Column("id", String, primary_key=True),
        Column("owner", String, nullable=False),
        Column("run_id", String, nullable=False),
        Column("previous_id", String),
        Column("conversation_id", String),
        Column("status", String, nullable=False),
        Column("background", Boolean, nullable=False),
        Column("input", Text, nullable=False),
        Column("document", Text, nullable=False),
        Column("ask", Text),
        Column("lost", JSON),
        Column("created_at", Float, nullable=False),
        Column("finished_at", Float),
        Column("bytes", BigInteger, nullable=False, server_default="0"),
        Index("ix_responses_finished_at", "finished_at"),
        Index("ix_responses_owner_bytes", "owner", "bytes"),
        Index("ix_responses_previous_id", "previous_id"),
    )
    op.create_table(
        "conversation_items",
        Column(
            "conversation_id", String, ForeignKey("conversations.id", ondelete="CASCADE"), primary_key=True
        ),
        Column("seq", Integer, primary_key=True),
        Column("id", String, nullable=False),
        Column("item", Text, nullable=False),
        Column("created_at", Float, nullable=False),
        Index("ix_conversation_items_id", "id"),
    )
    op.create_table(
        "response_events",
        Column("response_id", String, ForeignKey("responses.id", ondelete="CASCADE"), primary_key=True),
        Column("seq", Integer, primary_key=True),
        Column("data", LargeBinary, nullable=False),
    )


def _batches() -> None:
    op.create_table(
        "batches",
        Column("id", String, primary_key=True),
        Column("owner", String, nullable=False),
        Column("run_id", String, nullable=False),
        Column("status", String, nullable=False),
        Column("endpoint", String, nullable=False),
        Column("model", String, nullable=False),
        Column("input_file_id", String, nullable=False),
        Column("input_sha256", String, nullable=False),
        Column("spec", JSON, nullable=False),
        Column("total", Integer, nullable=False),
        Column("completed", Integer, nullable=False),
        Column("failed", Integer, nullable=False),
        Column("prompt_tokens", BigInteger, nullable=False),
        Column("completion_tokens", BigInteger, nullable=False),
        Column("cached_tokens", BigInteger, nullable=False),
        Column("output_file_id", String),
        Column("error_file_id", String),
        Column("errors", JSON),
        Column("times", JSON, nullable=False),
        Column("created_at", Float, nullable=False),
        Column("expires_at", Float, nullable=False),
        Column("finished_at", Float),
        Index("ix_batches_input_sha256", "input_sha256"),
        Index("ix_batches_run_id", "run_id"),
    )
    op.create_table(
        "batch_lines",
        Column("batch_id", String, ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True),
        Column("line", Integer, primary_key=True),
        Column("failed", Boolean, nullable=False),
        Column("data", LargeBinary, nullable=False),
    )


def _evaluations() -> None:
    op.create_table(
        "evals",
        Column("id", String, primary_key=True),
        Column("owner", String),
        Column("name", String, nullable=False),
        Column("spec", JSON, nullable=False),
        Column("metadata", JSON, nullable=False),
        Column("created_at", Float, nullable=False),
        Column("updated_at", Float, nullable=False),
        Column("bytes", BigInteger, nullable=False, server_default="0"),
        Index("ix_evals_owner_bytes", "owner", "bytes"),
    )
    op.create_table(
        "eval_items",
        Column("eval_id", String, ForeignKey("evals.id", ondelete="CASCADE"), nullable=False),
        Column("data_id", String, primary_key=True),
        Column("number", Integer, primary_key=True),
        Column("item", JSON, nullable=False),
        Column("sample", JSON),
        Index("ix_eval_items_eval_id", "eval_id"),
    )
    op.create_table(
        "eval_searches",
        Column("id", String, primary_key=True),
        Column("eval_id", String, ForeignKey("evals.id", ondelete="CASCADE"), nullable=False),
        Column("owner", String),
        Column("run_id", String, nullable=False),
        Column("name", String, nullable=False),
        Column("spec", JSON, nullable=False),
        Column("state", JSON, nullable=False),
        Column("status", String, nullable=False),
        Column("error", JSON),
        Column("total", Integer, nullable=False),
        Column("created_at", Float, nullable=False),
        Column("finished_at", Float),
        Column("bytes", BigInteger, nullable=False, server_default="0"),
        Index("ix_eval_searches_eval_id", "eval_id"),
        Index("ix_eval_searches_owner_bytes", "owner", "bytes"),
    )


def _results_of_evaluations() -> None:
    op.create_table(
        "eval_runs",
        Column("id", String, primary_key=True),
        Column("eval_id", String, ForeignKey("evals.id", ondelete="CASCADE"), nullable=False),
        Column("owner", String),
        Column("run_id", String, nullable=False),
        Column("search_id", String, ForeignKey("eval_searches.id", ondelete="CASCADE")),
        Column("name", String, nullable=False),
        Column("source", JSON, nullable=False),
        Column("settings", JSON),
        Column("metadata", JSON, nullable=False),
        Column("data_id", String, nullable=False),
        Column("total", Integer, nullable=False),
        Column("tally", JSON, nullable=False),
        Column("status", String, nullable=False),
        Column("error", JSON),
        Column("created_at", Float, nullable=False),
        Column("finished_at", Float),
        Column("bytes", BigInteger, nullable=False, server_default="0"),
        Index("ix_eval_runs_eval_id", "eval_id"),
        Index("ix_eval_runs_owner_bytes", "owner", "bytes"),
        Index("ix_eval_runs_search_id", "search_id"),
    )
    op.create_table(
        "eval_outputs",
        Column("eval_run_id", String, ForeignKey("eval_runs.id", ondelete="CASCADE"), primary_key=True),
        Column("number", Integer, primary_key=True),
        Column("status", String, nullable=False),
        Column("score", Float, nullable=False),
        Column("results", JSON, nullable=False),
        Column("sample", JSON, nullable=False),
        Column("tokens", BigInteger, nullable=False),
        Column("seconds", Float, nullable=False),
        Column("created_at", Float, nullable=False),
    )


def _links() -> None:
    op.create_table(
        "links",
        Column("term", BigInteger, primary_key=True, autoincrement=False),
        Column("chunk_id", Integer, ForeignKey("chunks.id", ondelete="CASCADE"), primary_key=True),
        Column("kind", SmallInteger, nullable=False),
        Column("weight", SmallInteger, nullable=False),
        Index("ix_links_chunk_id", "chunk_id", "kind", "weight"),
    )


def _uploads_skills_and_containers() -> None:
    op.create_table(
        "containers",
        Column("id", String, primary_key=True),
        Column("owner", String, nullable=False),
        Column("name", String, nullable=False),
        Column("automatic", Boolean, nullable=False),
        Column("minutes", Integer, nullable=False),
        Column("memory_limit", String),
        Column("skills", JSON, nullable=False),
        Column("bytes", Integer, nullable=False),
        Column("created_at", Float, nullable=False),
        Column("last_active_at", Float, nullable=False),
        Column("expires_at", Float, nullable=False),
        Index("ix_containers_expires_at", "expires_at"),
        Index("ix_containers_owner", "owner"),
    )
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
        "uploads",
        Column("id", String, primary_key=True),
        Column("owner", String, nullable=False),
        Column("filename", String, nullable=False),
        Column("purpose", String, nullable=False),
        Column("bytes", BigInteger, nullable=False),
        Column("media_type", String, nullable=False),
        Column("status", String, nullable=False),
        Column("file_keep_s", Integer),
        Column("file_id", String),
        Column("created_at", Float, nullable=False),
        Column("expires_at", Float, nullable=False),
        Index("ix_uploads_owner_status", "owner", "status"),
    )
    op.create_table(
        "container_files",
        Column("id", String, ForeignKey("artifacts.id", ondelete="CASCADE"), primary_key=True),
        Column("container_id", String, ForeignKey("containers.id", ondelete="CASCADE"), nullable=False),
        Column("path", String, nullable=False),
        Column("source", String, nullable=False),
        Index("ix_container_files_container_id", "container_id", "path", unique=True),
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
    op.create_table(
        "upload_parts",
        Column("id", String, primary_key=True),
        Column("upload_id", String, ForeignKey("uploads.id", ondelete="CASCADE"), nullable=False),
        Column("bytes", BigInteger, nullable=False),
        Column("sha256", String, nullable=False),
        Column("created_at", Float, nullable=False),
        Index("ix_upload_parts_sha256", "sha256"),
        Index("ix_upload_parts_upload_id", "upload_id"),
    )


def _chats_and_sign_ins() -> None:
    op.create_table(
        "chat_completions",
        Column("id", String, primary_key=True),
        Column("owner", String, nullable=False),
        Column("model", String, nullable=False),
        Column("metadata", JSON, nullable=False),
        Column("messages", Text, nullable=False),
        Column("document", Text, nullable=False),
        Column("bytes", BigInteger, nullable=False),
        Column("created_at", Float, nullable=False),
        Index("ix_chat_completions_created_at", "created_at"),
        Index("ix_chat_completions_owner", "owner", "id", "bytes"),
    )
    op.create_table(
        "mcp_sessions",
        Column("id", String, primary_key=True),
        Column("owner", String, nullable=False),
        Column("requests", JSON, nullable=False),
        Column("used_at", Float, nullable=False),
        Index("ix_mcp_sessions_owner_used_at", "owner", "used_at"),
        Index("ix_mcp_sessions_used_at", "used_at"),
    )
    op.create_table(
        "sign_ins",
        Column("hash", String, primary_key=True),
        Column("owner", String, ForeignKey("keys.id", ondelete="CASCADE"), nullable=False),
        Column("issuer", String, nullable=False),
        Column("sealed", Text, nullable=False),
        Column("renewals", Integer, nullable=False),
        Column("renewing_until", Float, nullable=False),
        Column("created_at", Float, nullable=False),
        Column("used_at", Float, nullable=False),
        Index("ix_sign_ins_owner_used_at", "owner", "used_at"),
        Index("ix_sign_ins_used_at", "used_at"),
    )


def _webhooks_and_schedules() -> None:
    op.create_table(
        "schedules",
        Column("id", String, primary_key=True),
        Column("name", String, nullable=False),
        Column("owner", String),
        Column("claim", String, nullable=False),
        Column("key", String, nullable=False),
        Column("kind", String, nullable=False),
        Column("target", String, nullable=False),
        Column("input", JSON),
        Column("cron", String),
        Column("every", String),
        Column("timezone", String, nullable=False),
        Column("missed", String, nullable=False),
        Column("overlap", String, nullable=False),
        Column("pause_after", Integer, nullable=False),
        Column("paused", String),
        Column("failures", Integer, nullable=False),
        Column("anchor", Float, nullable=False),
        Column("next_at", Float),
        Column("created_at", Float, nullable=False),
        Column("updated_at", Float, nullable=False),
        Index("ix_schedules_claim", "claim", unique=True),
        Index("ix_schedules_key", "key"),
        Index("ix_schedules_next_at", "next_at"),
    )
    op.create_table(
        "webhooks",
        Column("id", String, primary_key=True),
        Column("owner", String, nullable=False),
        Column("name", String, nullable=False),
        Column("url", String, nullable=False),
        Column("event_types", JSON, nullable=False),
        Column("secret", String, nullable=False),
        Column("previous_secret", String),
        Column("previous_until", Float),
        Column("disabled", String),
        Column("created_at", Float, nullable=False),
        Column("updated_at", Float, nullable=False),
        Column("task_id", String),
        Column("headers", JSON),
        Index("ix_webhooks_owner", "owner"),
        Index("ix_webhooks_task_id", "task_id"),
    )
    op.create_table(
        "agent_tasks",
        Column("id", String, ForeignKey("responses.id", ondelete="CASCADE"), primary_key=True),
        Column("owner", String, nullable=False),
        Column("app", String, nullable=False),
        Column("context_id", String, nullable=False),
        Column("run_id", String, nullable=False),
        Column("messages", Text, nullable=False),
        Column("created_at", Float, nullable=False),
        Index("ix_agent_tasks_owner", "owner", "app", "created_at"),
        Index("ix_agent_tasks_run_id", "run_id"),
    )
    op.create_table(
        "schedule_times",
        Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True),
        Column("schedule_id", String, ForeignKey("schedules.id", ondelete="CASCADE"), nullable=False),
        Column("due_at", Float, nullable=False),
        Column("cause", String, nullable=False),
        Column("run_id", String),
        Column("skipped", String),
        Column("created_at", Float, nullable=False),
        Index("ix_schedule_times_run_id", "run_id"),
        Index("ix_schedule_times_schedule_id", "schedule_id", "id"),
    )
    op.create_table(
        "webhook_deliveries",
        Column("id", String, primary_key=True),
        Column("webhook_id", String, ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
        Column("owner", String, nullable=False),
        Column("event_type", String, nullable=False),
        Column("payload", Text, nullable=False),
        Column("state", String, nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("next_at", Float, nullable=False),
        Column("lease_owner", String),
        Column("lease_until", Float),
        Column("last_status", Integer),
        Column("last_error", String),
        Column("created_at", Float, nullable=False),
        Column("delivered_at", Float),
        Index("ix_webhook_deliveries_created_at", "created_at"),
        Index("ix_webhook_deliveries_lease", "lease_until"),
        Index("ix_webhook_deliveries_owner", "owner", "state"),
        Index("ix_webhook_deliveries_state", "state", "next_at"),
        Index("ix_webhook_deliveries_webhook_id", "webhook_id", "id"),
    )


def _canaries() -> None:
    op.create_table(
        "canaries",
        Column("id", String, primary_key=True),
        Column("alias", String, nullable=False),
        Column("running", String),
        Column("baseline", String, nullable=False),
        Column("target", String, nullable=False),
        Column("spec", JSON, nullable=False),
        Column("key", String, nullable=False),
        Column("created_at", Float, nullable=False),
        Column("ended_at", Float),
        Column("outcome", String),
        Column("reason", String),
        Index("ix_canaries_alias", "alias"),
        Index("ix_canaries_running", "running", unique=True),
    )
    op.create_table(
        "canary_entries",
        Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True),
        Column("canary_id", String, ForeignKey("canaries.id", ondelete="CASCADE"), nullable=False),
        Column("at", Float, nullable=False),
        Column("by", String),
        Column("action", String, nullable=False),
        Column("reason", String, nullable=False),
        Column("figures", JSON, nullable=False),
        Index("ix_canary_entries_canary_id", "canary_id", "id"),
    )
    op.create_table(
        "canary_sides",
        Column("canary_id", String, ForeignKey("canaries.id", ondelete="CASCADE"), primary_key=True),
        Column("side", String, primary_key=True),
        Column("calls", Integer, nullable=False),
        Column("errors", Integer, nullable=False),
        Column("milliseconds", Float, nullable=False),
        Column("tokens", BigInteger, nullable=False),
        Column("samples", Integer, nullable=False),
        Column("score", Float, nullable=False),
        Column("unjudged", Integer, nullable=False),
    )


def _several_daemons() -> None:
    op.create_table(
        "blob_marks",
        Column("kind", String, primary_key=True),
        Column("sha256", String, primary_key=True),
        Column("holder", String, primary_key=True),
        Column("expires_at", Float, nullable=False),
        Index("ix_blob_marks_kind_expires_at", "kind", "expires_at"),
    )
    op.create_table(
        "epochs",
        Column("topic", String, primary_key=True),
        Column("number", BigInteger, nullable=False),
    )

"""The tables of batches, uploads, skills, containers, evaluations, responses, stored chats and conversations of
OpenAI's API. See `portico_server.db.schema`.
"""

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

batches = Table(
    "batches",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", String, nullable=False),
    # The durable run that does the work.
    Column("run_id", String, nullable=False),
    Column("status", String, nullable=False),
    Column("endpoint", String, nullable=False),
    # Empty until the file has been checked.
    Column("model", String, nullable=False, default=""),
    Column("input_file_id", String, nullable=False),
    # Keeps the bytes of the input file while the batch needs them, even if the file itself is deleted.
    Column("input_sha256", String, nullable=False),
    # Other options: completion window, metadata, how long the result files are stored.
    Column("spec", JSON, nullable=False),
    Column("total", Integer, nullable=False, default=0),
    Column("completed", Integer, nullable=False, default=0),
    Column("failed", Integer, nullable=False, default=0),
    Column("prompt_tokens", BigInteger, nullable=False, default=0),
    Column("completion_tokens", BigInteger, nullable=False, default=0),
    Column("cached_tokens", BigInteger, nullable=False, default=0),
    Column("output_file_id", String),
    Column("error_file_id", String),
    Column("errors", JSON),
    # When the batch reached each status: {"in_progress": 1781234567.8, …}.
    Column("times", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("finished_at", Float),
    Index("ix_batches_run_id", "run_id"),
    Index("ix_batches_input_sha256", "input_sha256"),
    Index("ix_batches_owner", "owner", "id"),
)

# Finished lines, in the form in which result files contain them. They are deleted once the files exist.
batch_lines = Table(
    "batch_lines",
    metadata,
    Column("batch_id", String, ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True),
    Column("line", Integer, primary_key=True),
    # Whether the line belongs to the error file.
    Column("failed", Boolean, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

# Files uploaded in parts. A row remains for some time after the upload ends, so that a client can learn the
# outcome.
uploads = Table(
    "uploads",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("filename", String, nullable=False),
    Column("purpose", String, nullable=False),
    # The announced size; the parts must add up to it.
    Column("bytes", BigInteger, nullable=False),
    Column("media_type", String, nullable=False),
    Column("status", String, nullable=False),
    # How long the completed file is stored, in seconds. Null: indefinitely.
    Column("file_keep_s", Integer),
    Column("file_id", String),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Index("ix_uploads_owner_status", "owner", "status"),
)

# Keeps the bytes of a part, stored under their digest, until the upload ends.
upload_parts = Table(
    "upload_parts",
    metadata,
    Column("id", String, primary_key=True),
    Column("upload_id", String, ForeignKey("uploads.id", ondelete="CASCADE"), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String, nullable=False),
    Column("created_at", Float, nullable=False),
    Index("ix_upload_parts_upload_id", "upload_id"),
    Index("ix_upload_parts_sha256", "sha256"),
)


# The tables of evaluations: their items, their results, and searches for the best settings. See
# `portico_server.db.schema`.


evals = Table(
    "evals",
    metadata,
    Column("id", String, primary_key=True),
    # Null if an operator created the evaluation, which is then shared.
    Column("owner", String),
    Column("name", String, nullable=False),
    # The schema of the items, and the graders.
    Column("spec", JSON, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    # Size on disk.
    Column("bytes", BigInteger, nullable=False, default=0, server_default="0"),
    Index("ix_evals_owner_bytes", "owner", "bytes"),
)

# The items of a run, as they were when the run began. All trials of a search share the search's items.
eval_items = Table(
    "eval_items",
    metadata,
    Column("eval_id", String, ForeignKey("evals.id", ondelete="CASCADE"), nullable=False),
    # The id of the run or the search to which the items belong.
    Column("data_id", String, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("item", JSON, nullable=False),
    # An answer supplied with the item, which is judged as it is.
    Column("sample", JSON),
    Index("ix_eval_items_eval_id", "eval_id"),
)

eval_searches = Table(
    "eval_searches",
    metadata,
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
    # Size on disk.
    Column("bytes", BigInteger, nullable=False, default=0, server_default="0"),
    Index("ix_eval_searches_eval_id", "eval_id"),
    Index("ix_eval_searches_owner_bytes", "owner", "bytes"),
)

eval_runs = Table(
    "eval_runs",
    metadata,
    Column("id", String, primary_key=True),
    Column("eval_id", String, ForeignKey("evals.id", ondelete="CASCADE"), nullable=False),
    Column("owner", String),
    # The durable run that does the work; the trials of a search share the search's durable run.
    Column("run_id", String, nullable=False),
    Column("search_id", String, ForeignKey("eval_searches.id", ondelete="CASCADE")),
    Column("name", String, nullable=False),
    Column("source", JSON, nullable=False),
    # The settings of a trial, keyed by path. Null for a run that is not a trial.
    Column("settings", JSON),
    Column("metadata", JSON, nullable=False),
    Column("data_id", String, nullable=False),
    Column("total", Integer, nullable=False),
    # Totals of the finished items: counts, scores by grader, tokens by model, seconds.
    Column("tally", JSON, nullable=False),
    Column("status", String, nullable=False),
    Column("error", JSON),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    # Size on disk.
    Column("bytes", BigInteger, nullable=False, default=0, server_default="0"),
    Index("ix_eval_runs_eval_id", "eval_id"),
    Index("ix_eval_runs_search_id", "search_id"),
    Index("ix_eval_runs_owner_bytes", "owner", "bytes"),
)

# One row for each finished item. The primary key prevents an item from being counted twice.
eval_outputs = Table(
    "eval_outputs",
    metadata,
    Column("eval_run_id", String, ForeignKey("eval_runs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    # "pass", "fail" or "error".
    Column("status", String, nullable=False),
    Column("score", Float, nullable=False),
    Column("results", JSON, nullable=False),
    Column("sample", JSON, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("created_at", Float, nullable=False),
)


webhooks = Table(
    "webhooks",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("name", String, nullable=False),
    Column("url", String, nullable=False),
    Column("event_types", JSON, nullable=False),
    Column("secret", String, nullable=False),
    # Until ``previous_until``, deliveries are also signed with this secret.
    Column("previous_secret", String),
    Column("previous_until", Float),
    # The reason why deliveries to the webhook have stopped; null while it is active.
    Column("disabled", String),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    # The only agent task whose events the webhook receives, and the headers that its receiver expects. There
    # is no foreign key, because SQLite would have to rebuild the table for it.
    Column("task_id", String),
    Column("headers", JSON),
    Index("ix_webhooks_owner", "owner"),
    Index("ix_webhooks_task_id", "task_id"),
)

# One row for each event and webhook, written in the transaction that ends the object. ``next_at`` and the
# lease use the database's clock.
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", String, primary_key=True),
    Column("webhook_id", String, ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    Column("owner", String, nullable=False),
    Column("event_type", String, nullable=False),
    # The body, which every attempt sends unchanged.
    Column("payload", Text, nullable=False),
    # "pending", "delivered" or "failed".
    Column("state", String, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at", Float, nullable=False),
    Column("lease_owner", String),
    Column("lease_until", Float),
    Column("last_status", Integer),
    Column("last_error", String),
    Column("created_at", Float, nullable=False),
    Column("delivered_at", Float),
    Index("ix_webhook_deliveries_webhook_id", "webhook_id", "id"),
    Index("ix_webhook_deliveries_state", "state", "next_at"),
    Index("ix_webhook_deliveries_owner", "owner", "state"),
    Index("ix_webhook_deliveries_lease", "lease_until"),
    Index("ix_webhook_deliveries_created_at", "created_at"),
)

skills = Table(
    "skills",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("owner", String),
    # Owner and name as one value, see db/names.
    Column("claim", String, nullable=False),
    # The description of the default version.
    Column("description", Text, nullable=False),
    Column("default_version", Integer, nullable=False),
    Column("latest_version", Integer, nullable=False),
    # ``configuration`` for a skill from a configuration file; empty for a skill that a client uploaded.
    Column("origin", String, nullable=False, default=""),
    Column("created_at", Float, nullable=False),
    Index("ix_skills_claim", "claim", unique=True),
    Index("ix_skills_owner", "owner"),
)

skill_versions = Table(
    "skill_versions",
    metadata,
    Column("id", String, primary_key=True),
    Column("skill_id", String, ForeignKey("skills.id", ondelete="CASCADE"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("description", Text, nullable=False),
    # The front matter of the version's SKILL.md.
    Column("front_matter", JSON, nullable=False),
    # Path, size in bytes and SHA-256 of each file.
    Column("files", JSON, nullable=False),
    # Size of the archive.
    Column("bytes", Integer, nullable=False),
    Column("sha256", String, nullable=False),
    Column("created_at", Float, nullable=False),
    # A zip archive written by this daemon.
    Column("data", LargeBinary, nullable=False),
    Index("ix_skill_versions_skill_id", "skill_id", "version", unique=True),
)

containers = Table(
    "containers",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("name", String, nullable=False),
    # Whether the container was created for a response instead of by a client.
    Column("automatic", Boolean, nullable=False),
    # How many minutes the container is kept after its last use.
    Column("minutes", Integer, nullable=False),
    Column("memory_limit", String),
    # The skills in the form that code-running tools accept.
    Column("skills", JSON, nullable=False),
    # Size in bytes of the skills that were sent in the request.
    Column("bytes", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("last_active_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Index("ix_containers_owner", "owner"),
    Index("ix_containers_expires_at", "expires_at"),
)

# The artifacts that are files of a container, each with a path.
container_files = Table(
    "container_files",
    metadata,
    Column("id", String, ForeignKey("artifacts.id", ondelete="CASCADE"), primary_key=True),
    Column("container_id", String, ForeignKey("containers.id", ondelete="CASCADE"), nullable=False),
    Column("path", String, nullable=False),
    # ``user`` or ``assistant``.
    Column("source", String, nullable=False),
    Index("ix_container_files_container_id", "container_id", "path", unique=True),
)

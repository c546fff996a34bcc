"""The database tables. Times are seconds since 1970 as floats; JSON columns contain objects; ids come from core.ids."""

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
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

from portico_server.db.metadata import metadata
from portico_server.db.schema_knowledge import (
    changes,
    chunks,
    fact_versions,
    file_batches,
    files,
    group_files,
    groups,
    guard_questions,
    links,
    store_files,
    store_reviews,
    store_skips,
    stores,
    vectors,
)
from portico_server.db.schema_openai import (
    batch_lines,
    batches,
    container_files,
    containers,
    eval_items,
    eval_outputs,
    eval_runs,
    eval_searches,
    evals,
    skill_versions,
    skills,
    upload_parts,
    uploads,
    webhook_deliveries,
    webhooks,
)
from portico_server.db.schema_responses import (
    agent_tasks,
    chat_completions,
    conversation_items,
    conversations,
    response_events,
    responses,
)

__all__ = [
    "CHANNEL",
    "HEAD",
    "NEXT",
    "adapters",
    "agent_tasks",
    "aliases",
    "answer_tests",
    "app_versions",
    "apps",
    "artifacts",
    "batch_lines",
    "batches",
    "canaries",
    "canary_entries",
    "canary_sides",
    "changes",
    "chat_completions",
    "chunks",
    "container_files",
    "containers",
    "conversation_items",
    "conversations",
    "epochs",
    "eval_items",
    "eval_outputs",
    "eval_runs",
    "eval_searches",
    "evals",
    "fact_versions",
    "file_batches",
    "files",
    "grants",
    "group_files",
    "groups",
    "guard_questions",
    "keys",
    "links",
    "mcp_servers",
    "mcp_sessions",
    "mcp_tasks",
    "metadata",
    "models",
    "oauth_clients",
    "prompts",
    "public_links",
    "questions",
    "response_events",
    "responses",
    "run_events",
    "runs",
    "schedule_times",
    "schedules",
    "session_messages",
    "session_states",
    "sessions",
    "sign_ins",
    "skill_versions",
    "skills",
    "step_cache",
    "steps",
    "store_files",
    "store_reviews",
    "store_skips",
    "stores",
    "tools",
    "tuning_events",
    "tuning_jobs",
    "upload_parts",
    "uploads",
    "usage",
    "usage_days",
    "vectors",
    "webhook_deliveries",
    "webhooks",
]

HEAD = "0046"
"""The migration that this version needs; defined here so that a start without a migration does not import Alembic."""

NEXT = f"{int(HEAD) + 1:04}"
"""The migration that the next version needs. This version can work with it: a migration only adds to the schema."""

# Counts the changes of each table that all daemons cache in memory. Used only on PostgreSQL, see db/postgres.
epochs = Table(
    "epochs",
    metadata,
    Column("topic", String, primary_key=True),
    Column("number", BigInteger, nullable=False),
)

CHANNEL = "portico"
"""PostgreSQL channel for notices about changes of cached tables, and for messages between daemons."""

keys = Table(
    "keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("hash", String, nullable=False, unique=True),
    Column("hint", String, nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("revoked_at", Float),
    # Limits of the key, such as simultaneous calls and tokens per time span. Null: no limit.
    Column("limits", JSON),
    # The files of stores that the key may read: maps stores to filters on file attributes. Null: all files.
    Column("filters", JSON),
    # The groups that the key belongs to at the sources of stores. Null: none.
    Column("groups", JSON),
    # Set only for a user who signs in: the identity, and when the newest token was issued. Null: an ordinary
    # key.
    Column("issuer", String),
    Column("subject", String),
    Column("signed_in_at", Float),
)

# Browsers in which a user is signed in.
sign_ins = Table(
    "sign_ins",
    metadata,
    # Hash of the browser's secret; the tokens in "sealed" are encrypted with a key derived from the same
    # secret.
    Column("hash", String, primary_key=True),
    Column("owner", String, ForeignKey("keys.id", ondelete="CASCADE"), nullable=False),
    Column("issuer", String, nullable=False),
    Column("sealed", Text, nullable=False),
    # How often the tokens were renewed, and until when a daemon has claimed the next renewal.
    Column("renewals", Integer, nullable=False),
    Column("renewing_until", Float, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("used_at", Float, nullable=False),
    Index("ix_sign_ins_owner_used_at", "owner", "used_at"),
    Index("ix_sign_ins_used_at", "used_at"),
)

# OAuth clients: programs that a person can grant access to.
oauth_clients = Table(
    "oauth_clients",
    metadata,
    # Random for a registered client; the address of its metadata document for any other client.
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("redirect_uris", JSON, nullable=False),
    # The network address that registered the client; empty for a client with a metadata document.
    Column("address", String, nullable=False),
    Column("created_at", Float, nullable=False),
    # When a person last granted access to the client. Null: never.
    Column("granted_at", Float),
    Index("ix_oauth_clients_address_created_at", "address", "created_at"),
    Index("ix_oauth_clients_granted_at_created_at", "granted_at", "created_at"),
)

# Access that a person has granted to an OAuth client, with the hashes of its code and its tokens.
grants = Table(
    "grants",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("client_id", String, nullable=False),
    # The key of the person.
    Column("owner", String, nullable=False),
    Column("scopes", JSON, nullable=False),
    # The address of the resource at which the access token is valid.
    Column("audience", String, nullable=False),
    Column("redirect_uri", String, nullable=False),
    Column("challenge", String, nullable=False),
    Column("code_hash", String, nullable=False, unique=True),
    # Null until the client has exchanged the code.
    Column("access_hash", String, unique=True),
    Column("expires_at", Float),
    # Hash of the part that all refresh tokens of the grant share, and hash of the current refresh token.
    Column("family_hash", String, unique=True),
    Column("refresh_hash", String),
    Column("created_at", Float, nullable=False),
    # When the current tokens were issued, or the code.
    Column("issued_at", Float, nullable=False),
    Index("ix_grants_owner_issued_at", "owner", "issued_at"),
    Index("ix_grants_issued_at", "issued_at"),
)

usage = Table(
    "usage",
    metadata,
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
    Column("prompt_tokens", Integer, nullable=False, default=0),
    Column("completion_tokens", Integer, nullable=False, default=0),
    Column("cached_tokens", Integer, nullable=False, default=0),
    # In US dollars according to the price table; null if no price is known.
    Column("cost", Float),
    # The model that answered the call to ``name``; empty if no model was called, and for calls before
    # migration 0025.
    Column("model", String, nullable=False, server_default=""),
    Index("ix_usage_key_id_created_at", "key_id", "created_at"),
    Index("ix_usage_created_at", "created_at"),
)

# Daily totals of the usage, updated with each call's row. ``day``: whole days since 1970, in UTC;
# ``milliseconds``: the total duration.
usage_days = Table(
    "usage_days",
    metadata,
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
    Index("ix_usage_days_key_id", "key_id", "day"),
)

runs = Table(
    "runs",
    metadata,
    Column("id", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("name", String, nullable=False),
    Column("owner", String, nullable=False),
    Column("status", String, nullable=False),
    Column("payload", JSON, nullable=False),
    Column("result", JSON),
    # The parts of the result that are step outputs and are stored only with the steps: a list of [path in the
    # result, path of the step]. If it is a single path, the whole result is the output of that step.
    Column("result_step", String),
    Column("error", JSON),
    Column("attempts", Integer, nullable=False, default=0),
    Column("lease_owner", String),
    Column("lease_expires", Float),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    # The trace headers with which the run started, and the meanings of the names that it has looked up.
    Column("trace", JSON),
    Column("bound", JSON),
    Index("ix_runs_status_kind_created_at", "status", "kind", "created_at"),
    Index("ix_runs_owner", "owner", "id"),
)

run_events = Table(
    "run_events",
    metadata,
    Column("run_id", String, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("created_at", Float, nullable=False),
    Column("event", JSON, nullable=False),
)

models = Table(
    "models",
    metadata,
    Column("name", String, primary_key=True),
    Column("owner", String),
    Column("spec", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
)

aliases = Table(
    "aliases",
    metadata,
    Column("name", String, primary_key=True),
    Column("target", String, nullable=False),
)

# Aliases whose calls are split between the current target, ``baseline``, and a target that may replace it,
# ``target``.
canaries = Table(
    "canaries",
    metadata,
    Column("id", String, primary_key=True),
    Column("alias", String, nullable=False),
    # The alias while its calls are split, afterwards null.
    Column("running", String),
    Column("baseline", String, nullable=False),
    Column("target", String, nullable=False),
    # Weight, keys, the unit whose calls get the same side, the evaluation, and the rules that end the canary.
    Column("spec", JSON, nullable=False),
    # The key that started the canary; evaluations run on behalf of this key.
    Column("key", String, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("ended_at", Float),
    # "promoted" or "rolled_back".
    Column("outcome", String),
    Column("reason", String),
    Index("ix_canaries_running", "running", unique=True),
    Index("ix_canaries_alias", "alias"),
)

# The counts of each side, added up over all daemons.
canary_sides = Table(
    "canary_sides",
    metadata,
    Column("canary_id", String, ForeignKey("canaries.id", ondelete="CASCADE"), primary_key=True),
    # "baseline" or "canary".
    Column("side", String, primary_key=True),
    Column("calls", Integer, nullable=False),
    Column("errors", Integer, nullable=False),
    Column("milliseconds", Float, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("samples", Integer, nullable=False),
    Column("score", Float, nullable=False),
    Column("unjudged", Integer, nullable=False),
)

# The history of a canary: each action with its actor, reason and figures.
canary_entries = Table(
    "canary_entries",
    metadata,
    # In order of insertion. SQLite auto-increments only this type.
    Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True),
    Column("canary_id", String, ForeignKey("canaries.id", ondelete="CASCADE"), nullable=False),
    Column("at", Float, nullable=False),
    # The id of a key. Null: a rule of the canary.
    Column("by", String),
    # "set", "promoted" or "rolled_back".
    Column("action", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("figures", JSON, nullable=False),
    Index("ix_canary_entries_canary_id", "canary_id", "id"),
)

answer_tests = Table(
    "answer_tests",
    metadata,
    # A digest of a model's identity: its origin and its engine.
    Column("identity", String, primary_key=True),
    Column("model", String, nullable=False),
    Column("correct", Integer, nullable=False),
    Column("total", Integer, nullable=False),
    Column("tested_at", Float, nullable=False),
)

tools = Table(
    "tools",
    metadata,
    Column("name", String, primary_key=True),
    Column("owner", String),
    Column("spec", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
)

mcp_servers = Table(
    "mcp_servers",
    metadata,
    Column("name", String, primary_key=True),
    Column("owner", String),
    Column("spec", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
)

# Files that a run created, such as figures, tables, and results too large for an answer. The bytes are stored
# as blobs.
artifacts = Table(
    "artifacts",
    metadata,
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

# Bytes in a bucket that are being added and have no row yet, or that are being removed. The marks keep
# daemons that share the bucket from removing bytes that another daemon is adding. An empty holder means
# removal.
blob_marks = Table(
    "blob_marks",
    metadata,
    Column("kind", String, primary_key=True),
    Column("sha256", String, primary_key=True),
    Column("holder", String, primary_key=True),
    Column("expires_at", Float, nullable=False),
    Index("ix_blob_marks_kind_expires_at", "kind", "expires_at"),
)

# External input that a run waits for: an approval, a client's function, a form. There is one row per
# question, which remains after the answer, so that a resumed run does not ask twice.
questions = Table(
    "questions",
    metadata,
    Column("id", String, primary_key=True),
    Column("run_id", String, nullable=False),
    # Identifies the question within its run: the path of the step that asks.
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
    # The worker that has claimed the question, and the time when its lease expires.
    Column("lease_owner", String),
    Column("lease_expires", Float),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("answered_at", Float),
    UniqueConstraint("run_id", "key"),
    Index("ix_questions_status_created_at", "status", "created_at"),
)

# Calls over MCP that were reported to a client as tasks. The run itself is only in memory; its outcome is
# stored here for some time.
mcp_tasks = Table(
    "mcp_tasks",
    metadata,
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

# MCP sessions, stored if several daemons share the database: the requests with which any daemon can reopen a
# session.
mcp_sessions = Table(
    "mcp_sessions",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("requests", JSON, nullable=False),
    Column("used_at", Float, nullable=False),
    Index("ix_mcp_sessions_owner_used_at", "owner", "used_at"),
    Index("ix_mcp_sessions_used_at", "used_at"),
)

# Schedules. ``owner`` is null for a shared schedule; runs use the permissions of ``key``, the schedule's
# creator.
schedules = Table(
    "schedules",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("owner", String),
    # Owner and name as one value, see db/names.
    Column("claim", String, nullable=False),
    Column("key", String, nullable=False),
    # "app" or "store", and the name of the app or store.
    Column("kind", String, nullable=False),
    Column("target", String, nullable=False),
    Column("input", JSON),
    Column("cron", String),
    Column("every", String),
    Column("timezone", String, nullable=False),
    Column("missed", String, nullable=False),
    Column("overlap", String, nullable=False),
    Column("pause_after", Integer, nullable=False),
    # The reason why the schedule is paused; null if it is not.
    Column("paused", String),
    Column("failures", Integer, nullable=False),
    # The time from which intervals are counted, and the next due time, by the database's clock.
    Column("anchor", Float, nullable=False),
    Column("next_at", Float),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Index("ix_schedules_claim", "claim", unique=True),
    Index("ix_schedules_key", "key"),
    Index("ix_schedules_next_at", "next_at"),
)

# Outcomes of a schedule's due times: a run, or the reason why the due time was skipped.
schedule_times = Table(
    "schedule_times",
    metadata,
    # In order of insertion. SQLite auto-increments only this type.
    Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True),
    Column("schedule_id", String, ForeignKey("schedules.id", ondelete="CASCADE"), nullable=False),
    Column("due_at", Float, nullable=False),
    # "time", "missed" or "hand".
    Column("cause", String, nullable=False),
    Column("run_id", String),
    Column("skipped", String),
    Column("created_at", Float, nullable=False),
    Index("ix_schedule_times_schedule_id", "schedule_id", "id"),
    Index("ix_schedule_times_run_id", "run_id"),
)

prompts = Table(
    "prompts",
    metadata,
    # The same id for all versions of a prompt.
    Column("id", String, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("name", String, nullable=False),
    Column("owner", String),
    # Owner and name as one value, see db/names.
    Column("claim", String, nullable=False),
    Column("spec", JSON, nullable=False),
    # The source from which the prompt was imported; empty for a prompt created here.
    Column("origin", String, nullable=False, default=""),
    Column("created_at", Float, nullable=False),
    # Size on disk.
    Column("bytes", BigInteger, nullable=False, default=0, server_default="0"),
    Index("ix_prompts_claim_version", "claim", "version", unique=True),
    Index("ix_prompts_owner_bytes", "owner", "bytes"),
)

adapters = Table(
    "adapters",
    metadata,
    Column("name", String, primary_key=True),
    Column("base", String, nullable=False),
    Column("owner", String),
    Column("spec", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Index("ix_adapters_base", "base"),
)

# The journal of flows: one row per finished step, whose path includes the iteration. Values are JSON text.
steps = Table(
    "steps",
    metadata,
    Column("run_id", String, primary_key=True),
    Column("path", String, primary_key=True),
    # The order in which steps ended.
    Column("seq", Integer, nullable=False),
    Column("kind", String, nullable=False),
    Column("status", String, nullable=False),
    Column("attempt", Integer, nullable=False, default=1),
    Column("input", Text),
    Column("output", Text),
    Column("error", Text),
    Column("started_at", Float, nullable=False),
    Column("milliseconds", Float, nullable=False),
    Column("prompt_tokens", Integer, nullable=False, default=0),
    Column("completion_tokens", Integer, nullable=False, default=0),
    Column("cached_tokens", Integer, nullable=False, default=0),
    # Whether the output came from the step cache.
    Column("hit", Boolean, nullable=False, default=False),
    # In US dollars according to the price table; null if no price is known.
    Column("cost", Float),
    # Whether parts of the output were redacted, so that it differs from the step's real output.
    Column("redacted", Boolean, nullable=False, default=False, server_default=false()),
)

step_cache = Table(
    "step_cache",
    metadata,
    Column("key", String, primary_key=True),
    Column("value", Text, nullable=False),
    Column("expires_at", Float, nullable=False),
    Index("ix_step_cache_expires_at", "expires_at"),
)

# Deployed apps: flows and agents. Each row names the active version.
apps = Table(
    "apps",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("owner", String),
    # Owner and name as one value, see db/names.
    Column("claim", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("limits", JSON),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Index("ix_apps_claim", "claim", unique=True),
)

app_versions = Table(
    "app_versions",
    metadata,
    Column("app_id", String, ForeignKey("apps.id", ondelete="CASCADE"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("spec", JSON, nullable=False),
    Column("digest", String, nullable=False),
    Column("note", String, nullable=False, default=""),
    Column("created_by", String, nullable=False),
    Column("created_at", Float, nullable=False),
    # Size on disk.
    Column("bytes", BigInteger, nullable=False, default=0, server_default="0"),
    Index("ix_app_versions_app_id_bytes", "app_id", "bytes"),
)

# Conversations with an app, including what the app's agents remember. The caller chooses ``name``.
sessions = Table(
    "sessions",
    metadata,
    Column("id", String, primary_key=True),
    # The id of the app or, for an agent that is not deployed, its name.
    Column("app_id", String, nullable=False),
    Column("owner", String, nullable=False),
    Column("name", String, nullable=False),
    # The name of the app.
    Column("app", String, nullable=False, default="", server_default=""),
    Column("title", String, nullable=False, default=""),
    Column("metadata", JSON, nullable=False),
    Column("last_seq", Integer, nullable=False, default=0),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    # Size on disk in bytes, including the session's messages and states.
    Column("bytes", BigInteger, nullable=False, default=0, server_default="0"),
    # The constraint keeps its name from the time when its first column was called app.
    UniqueConstraint("app_id", "owner", "name", name="uq_sessions_app_owner_name"),
    Index("ix_sessions_owner_updated_at", "owner", "updated_at"),
    Index("ix_sessions_owner_bytes", "owner", "bytes"),
)

session_messages = Table(
    "session_messages",
    metadata,
    Column("session_id", String, ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    # The agent in whose memory the message is: the agent's path in the tree, such as "writer"; empty for the
    # root agent.
    Column("agent", String, nullable=False),
    Column("run_id", String),
    Column("message", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Index("ix_session_messages_session_id_agent_seq", "session_id", "agent", "seq"),
)

# The state that an agent stores for a session in addition to the messages: its running summary, facts,
# counters.
session_states = Table(
    "session_states",
    metadata,
    Column("session_id", String, ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True),
    Column("agent", String, primary_key=True),
    Column("state", JSON, nullable=False),
    Column("updated_at", Float, nullable=False),
)

# Links with which anyone can read a copy of a session.
public_links = Table(
    "public_links",
    metadata,
    Column("id", String, primary_key=True),
    Column("session_id", String, ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False),
    # The key that created the link.
    Column("owner", String, nullable=False),
    # Hash of the secret in the link.
    Column("hash", String, nullable=False, unique=True),
    Column("title", String, nullable=False),
    Column("messages", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    # Size on disk in bytes.
    Column("bytes", BigInteger, nullable=False),
    Index("ix_public_links_session_id", "session_id"),
    Index("ix_public_links_owner_bytes", "owner", "bytes"),
    Index("ix_public_links_expires_at", "expires_at"),
)

# Fine-tuning jobs; a durable run does the work of each job.
tuning_jobs = Table(
    "tuning_jobs",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", String),
    Column("run_id", String, nullable=False),
    Column("base", String, nullable=False),
    Column("spec", JSON, nullable=False),
    # Data from the recipe and the training: recipe, tokens, estimated end, name of the trained model.
    Column("state", JSON, nullable=False),
    Column("status", String, nullable=False),
    Column("error", JSON),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    # Size on disk.
    Column("bytes", BigInteger, nullable=False, default=0, server_default="0"),
    Index("ix_tuning_jobs_created_at", "created_at"),
    Index("ix_tuning_jobs_owner_bytes", "owner", "bytes"),
)

tuning_events = Table(
    "tuning_events",
    metadata,
    Column("job_id", String, ForeignKey("tuning_jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    # "message", "metrics" or "checkpoint".
    Column("kind", String, nullable=False),
    Column("level", String, nullable=False, default="info"),
    Column("message", Text, nullable=False, default=""),
    Column("step", Integer),
    Column("data", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
)

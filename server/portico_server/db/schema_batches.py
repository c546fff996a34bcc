"""The tables of batches: requests of one file, and the answers that are there. See `portico_server.db.schema`."""

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
    # Holds the bytes of the file while the batch needs them, whoever deletes the file itself.
    Column("input_sha256", String, nullable=False),
    # What was asked for besides: window, metadata, how long its files are kept.
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
    # When it came to each status that it has had: {"in_progress": 1781234567.8, …}.
    Column("times", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("finished_at", Float),
    Index("ix_batches_run_id", "run_id"),
    Index("ix_batches_input_sha256", "input_sha256"),
)

# Lines that are done, each as it will stand in a file of results. They are removed once that file is there.
batch_lines = Table(
    "batch_lines",
    metadata,
    Column("batch_id", String, ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True),
    Column("line", Integer, primary_key=True),
    # Whether it belongs in the file of errors.
    Column("failed", Boolean, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

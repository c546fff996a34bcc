"""The tables of evaluations: what is asked, how it was judged, and searches over settings. See
`portico_server.db.schema`.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
)

from portico_server.db.metadata import metadata

evals = Table(
    "evals",
    metadata,
    Column("id", String, primary_key=True),
    # Null for what an operator made: it belongs to the house.
    Column("owner", String),
    Column("name", String, nullable=False),
    # The form of the items and the graders.
    Column("spec", JSON, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
)

# The items of a run, as they were when it began; all trials of a search share those of the search.
eval_items = Table(
    "eval_items",
    metadata,
    Column("eval_id", String, ForeignKey("evals.id", ondelete="CASCADE"), nullable=False),
    # The id of the run or the search that they were read for.
    Column("data_id", String, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("item", JSON, nullable=False),
    # An answer that came with it and is judged as it is.
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
    Index("ix_eval_searches_eval_id", "eval_id"),
)

eval_runs = Table(
    "eval_runs",
    metadata,
    Column("id", String, primary_key=True),
    Column("eval_id", String, ForeignKey("evals.id", ondelete="CASCADE"), nullable=False),
    Column("owner", String),
    # The durable run that does the work; the trials of a search share that of the search.
    Column("run_id", String, nullable=False),
    Column("search_id", String, ForeignKey("eval_searches.id", ondelete="CASCADE")),
    Column("name", String, nullable=False),
    Column("source", JSON, nullable=False),
    # What a trial has set, by path. Null for a run of its own.
    Column("settings", JSON),
    Column("metadata", JSON, nullable=False),
    Column("data_id", String, nullable=False),
    Column("total", Integer, nullable=False),
    # Sums over what is done: counts, scores by grader, tokens by model, seconds.
    Column("tally", JSON, nullable=False),
    Column("status", String, nullable=False),
    Column("error", JSON),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    Index("ix_eval_runs_eval_id", "eval_id"),
    Index("ix_eval_runs_search_id", "search_id"),
)

# One row for each item that is done. Its key is what keeps an item from being counted twice.
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

"""Alembic's entry point: migrations run on the connection that `portico_server.db.migrate` passes."""

from __future__ import annotations

from alembic import context

from portico_server.db.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transaction_per_migration=False,
)
context.run_migrations()

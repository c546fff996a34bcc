"""What prompts, apps, evaluations and trainings take on the disk, as `portico_server.db.rows` counts it."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, Connection, text

revision = "0032"
down_revision = "0031"

ROW_BYTES = 256
OWNERS = {
    "prompts": "owner",
    "app_versions": "app_id",
    "evals": "owner",
    "eval_runs": "owner",
    "eval_searches": "owner",
    "tuning_jobs": "owner",
}
"""Tables that have the column from now on, and by what it is summed up."""


def upgrade() -> None:
    for table in OWNERS:
        op.add_column(table, Column("bytes", BigInteger, nullable=False, server_default="0"))
    fill(op.get_bind())
    for table, owner in OWNERS.items():
        op.create_index(f"ix_{table}_{owner}_bytes", table, [owner, "bytes"])


def fill(connection: Connection) -> None:
    """Count what the rows take that are there."""
    octets = (
        "octet_length({}::text)" if connection.dialect.name == "postgresql" else "length(CAST({} AS BLOB))"
    )

    def taken(*columns: str) -> str:
        return " + ".join((str(ROW_BYTES), *(f"coalesce({octets.format(column)}, 0)" for column in columns)))

    def summed(what: str, table: str, column: str) -> str:
        return f"coalesce((SELECT sum({what}) FROM {table} AS held WHERE held.{column} = kept.id), 0)"  # noqa: S608

    items = summed(taken("item", "sample"), "eval_items", "data_id")
    sizes = {
        "prompts": (taken("spec"),),
        "app_versions": (taken("spec"),),
        "evals": (taken("spec", "metadata"),),
        "eval_runs": (
            taken("source", "settings"),
            items,
            summed(taken("results", "sample"), "eval_outputs", "eval_run_id"),
        ),
        "eval_searches": (taken("spec"), items),
        "tuning_jobs": (taken("spec"),),
    }
    for table, parts in sizes.items():
        connection.execute(text(f"UPDATE {table} AS kept SET bytes = {' + '.join(parts)}"))  # noqa: S608

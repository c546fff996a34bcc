"""Models, aliases and adapters that an operator or a training run added, and how models did in the test of their
answers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict
from portico_server.db.names import require_free
from portico_server.db.rows import Rows
from portico_server.db.schema import adapters, aliases, answer_tests, canaries, models
from portico_server.db.specs import SpecRow, list_specs, put_spec, remove_spec


def list_models(connection: Connection) -> list[SpecRow]:
    """All of them, oldest first; ``spec`` is the JSON form of its ModelSpec."""
    return list_specs(connection, models)


def put_model(connection: Connection, name: str, owner: str | None, spec: Mapping[str, Any]) -> None:
    """Add a model or replace the one of this name. Raises `Conflict` if an app has the name."""
    require_free(connection, owner, name, "model")
    put_spec(connection, models, name, owner, spec)


def remove_model(connection: Connection, name: str) -> None:
    """Forget a model and the aliases that point to it."""
    remove_spec(connection, models, name)
    connection.execute(delete(aliases).where(aliases.c.target == name))


def list_aliases(connection: Connection) -> dict[str, str]:
    """Alias to name."""
    return {row.name: row.target for row in connection.execute(select(aliases.c.name, aliases.c.target))}


def put_alias(connection: Connection, name: str, target: str) -> None:
    """Let an alias mean ``target`` from now on. Raises `Conflict` if an app has the name, or if a canary runs."""
    require_free(connection, None, name, "model")
    _require_whole(connection, name)
    connection.execute(delete(aliases).where(aliases.c.name == name))
    connection.execute(insert(aliases).values(name=name, target=target))


def remove_alias(connection: Connection, name: str) -> None:
    """Forget an alias. Raises `Conflict` if a canary runs."""
    _require_whole(connection, name)
    connection.execute(delete(aliases).where(aliases.c.name == name))


def _require_whole(connection: Connection, name: str) -> None:
    """Raise `Conflict` for an alias whose calls are split."""
    if connection.execute(select(canaries.c.id).where(canaries.c.running == name)).first() is not None:
        raise Conflict(
            f"The calls of '{name}' are split by a canary. End that first: portico canaries promote '{name}', or "
            f"portico canaries rollback '{name}'.",
            code="canary_running",
            param="name",
        )


# Adapters that an operator or a training run added.


@dataclass(frozen=True, slots=True)
class AdapterRow(SpecRow):
    """One added adapter; ``spec`` says where it is kept, its scale and what it consists of."""

    base: str


_ADAPTERS = Rows(adapters, AdapterRow)


def list_adapters(connection: Connection) -> list[AdapterRow]:
    """All of them, oldest first."""
    return _ADAPTERS.every(connection, _ADAPTERS.select.order_by(adapters.c.created_at, adapters.c.name))


def add_adapter(connection: Connection, row: AdapterRow) -> None:
    """Keep a new one. Raises `Conflict` if an app has the name."""
    require_free(connection, row.owner, row.name, "model")
    _ADAPTERS.add(connection, row)


def change_adapter(connection: Connection, name: str, spec: Mapping[str, Any]) -> None:
    """Give one another spec."""
    connection.execute(update(adapters).where(adapters.c.name == name).values(spec=dict(spec)))


def remove_adapter(connection: Connection, name: str) -> None:
    """Forget one, and the aliases that point to it."""
    connection.execute(delete(adapters).where(adapters.c.name == name))
    connection.execute(delete(aliases).where(aliases.c.target == name))


# How models did in the test that decides whether they answer in their own words.


@dataclass(frozen=True, slots=True)
class AnswerTestRow:
    """``correct`` of ``total`` questions; ``model`` is the name that it had then."""

    identity: str
    model: str
    correct: int
    total: int
    tested_at: float


def answer_test(connection: Connection, identity: str) -> AnswerTestRow | None:
    """The result of a model, by what distinguishes it from others."""
    row = connection.execute(select(answer_tests).where(answer_tests.c.identity == identity)).one_or_none()
    return None if row is None else AnswerTestRow(**row._mapping)


def put_answer_test(connection: Connection, identity: str, model: str, correct: int, total: int) -> None:
    """Keep a result in the place of an earlier one."""
    connection.execute(delete(answer_tests).where(answer_tests.c.identity == identity))
    connection.execute(
        insert(answer_tests).values(
            identity=identity, model=model, correct=correct, total=total, tested_at=time.time()
        )
    )

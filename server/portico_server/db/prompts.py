"""Prompts, every version of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select

from portico_server.db.schema import prompts

_COLUMNS = (
    prompts.c.name,
    prompts.c.version,
    prompts.c.owner,
    prompts.c.spec,
    prompts.c.origin,
    prompts.c.created_at,
)


@dataclass(frozen=True, slots=True)
class PromptRow:
    """One version of one prompt; ``spec`` is its JSON form, ``origin`` where it was imported from."""

    name: str
    version: int
    owner: str | None
    spec: Mapping[str, Any]
    origin: str
    created_at: float


def newest(connection: Connection) -> list[PromptRow]:
    """The newest version of every prompt, by name."""
    last = select(prompts.c.name, func.max(prompts.c.version).label("version")).group_by(prompts.c.name)
    found = last.subquery()
    rows = connection.execute(
        select(*_COLUMNS)
        .join(found, (prompts.c.name == found.c.name) & (prompts.c.version == found.c.version))
        .order_by(prompts.c.name)
    )
    return [PromptRow(**row._mapping) for row in rows]


def versions(connection: Connection, name: str) -> list[PromptRow]:
    """Every version of one prompt, newest first."""
    rows = connection.execute(
        select(*_COLUMNS).where(prompts.c.name == name).order_by(prompts.c.version.desc())
    )
    return [PromptRow(**row._mapping) for row in rows]


def one(connection: Connection, name: str, version: int | None) -> PromptRow | None:
    """A version of a prompt, or its newest."""
    query = select(*_COLUMNS).where(prompts.c.name == name).order_by(prompts.c.version.desc()).limit(1)
    if version is not None:
        query = query.where(prompts.c.version == version)
    row = connection.execute(query).first()
    return None if row is None else PromptRow(**row._mapping)


def save(
    connection: Connection, name: str, owner: str | None, spec: Mapping[str, Any], origin: str
) -> tuple[PromptRow, bool]:
    """The newest version with this content, and whether it had to be made."""
    last = one(connection, name, None)
    if last is not None and last.spec == spec:
        return last, False
    row = PromptRow(name, last.version + 1 if last else 1, owner, dict(spec), origin, time.time())
    connection.execute(
        insert(prompts).values(
            name=row.name,
            version=row.version,
            owner=row.owner,
            spec=row.spec,
            origin=row.origin,
            created_at=row.created_at,
        )
    )
    return row, True


def remove(connection: Connection, name: str) -> int:
    """Forget all versions of a prompt; how many there were."""
    return connection.execute(delete(prompts).where(prompts.c.name == name)).rowcount

"""Prompts with all their versions."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

from sqlalchemy import Connection, delete, func, insert, or_, select
from sqlalchemy.exc import IntegrityError

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict
from portico_server.core.ids import new_id
from portico_server.db.names import claim_of, lock
from portico_server.db.rows import Rows, json_bytes
from portico_server.db.schema import prompts

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class PromptRow(Generic[S]):
    """A version of a prompt; ``id`` is the id of the prompt, and ``owner`` is the key that owns it (``None`` means
    shared).

    ``spec`` is the prompt as JSON; ``origin`` is the source from which it was imported.
    """

    id: str
    name: str
    version: int
    owner: str | None
    spec: S
    origin: str
    created_at: float


PromptJson: TypeAlias = PromptRow[Mapping[str, Any]]

_PROMPTS: Rows[PromptJson] = Rows(prompts, PromptRow)


def newest(connection: Connection, owner: str | None, *, include_all: bool = False) -> list[PromptJson]:
    """Return the newest version of each prompt of an owner and of each shared prompt, or with ``include_all`` of every
    prompt, sorted by name.
    """
    last = select(prompts.c.id, func.max(prompts.c.version).label("version")).group_by(prompts.c.id)
    subquery = last.subquery()
    query = _PROMPTS.select.join(
        subquery, (prompts.c.id == subquery.c.id) & (prompts.c.version == subquery.c.version)
    ).order_by(prompts.c.name, prompts.c.id)
    if not include_all:
        query = query.where(or_(prompts.c.owner.is_(None), prompts.c.owner == owner))
    return _PROMPTS.every(connection, query)


def versions(connection: Connection, prompt_id: str) -> list[PromptJson]:
    """Return every version of a prompt, newest first."""
    query = _PROMPTS.select.where(prompts.c.id == prompt_id).order_by(prompts.c.version.desc())
    return _PROMPTS.every(connection, query)


def by_name(connection: Connection, name: str, owner: str | None) -> PromptJson | None:
    """Return the newest version of the prompt ``name`` that belongs to exactly this owner; ``None`` as the owner means
    shared prompts.
    """
    query = _PROMPTS.select.where(prompts.c.claim == _claim(owner, name))
    return _PROMPTS.first(connection, query.order_by(prompts.c.version.desc()).limit(1))


def find_version(connection: Connection, prompt_id: str, version: int | None) -> PromptJson | None:
    """Return a version of a prompt; the default is the newest version."""
    query = _PROMPTS.select.where(prompts.c.id == prompt_id)
    if version is not None:
        query = query.where(prompts.c.version == version)
    return _PROMPTS.first(connection, query.order_by(prompts.c.version.desc()).limit(1))


def save(
    connection: Connection, name: str, owner: str | None, spec: Mapping[str, Any], origin: str
) -> tuple[PromptJson, bool]:
    """Store a new version of a prompt unless the newest version has the same content. Return the newest version, and
    whether it was created.

    Raises `Conflict` if a key uses the name of a shared prompt.
    """
    lock(connection, name)
    last = by_name(connection, name, owner)
    if last is not None and last.spec == spec:
        return last, False
    if last is None and owner is not None and by_name(connection, name, None) is not None:
        raise name_conflict(name)
    prompt_id, version = (last.id, last.version + 1) if last else (new_id("prompt_"), 1)
    row: PromptJson = PromptRow(prompt_id, name, version, owner, dict(spec), origin, time.time())
    try:
        with connection.begin_nested():
            _PROMPTS.add(connection, row, claim=_claim(owner, name), bytes=json_bytes(spec))
    except IntegrityError as error:  # another daemon has created this version
        raise Conflict(
            f"The prompt '{name}' was changed in the meantime. Save it again.",
            code="version_conflict",
            param="name",
        ) from error
    return row, True


def ship(connection: Connection, specs: Sequence[Mapping[str, Any]], origin: str) -> int:
    """Store the prompts of a release in one transaction; return the number of new versions.

    A prompt that a user has changed is not updated.
    """
    shipped_specs = {str(spec["name"]): dict(spec) for spec in specs}
    prompt_rows = {row.name: row for row in newest(connection, None)}
    fresh = shipped_specs.keys() - prompt_rows.keys()
    if fresh:
        for name in sorted(fresh):
            lock(connection, name)
        prompt_rows = {
            row.name: row for row in newest(connection, None)
        }  # another daemon may have stored the prompts
    first_version = {"version": 1, "owner": None, "origin": origin, "created_at": time.time()}
    new_rows = [
        {**first_version, "id": new_id("prompt_"), "name": name, "claim": _claim(None, name), "spec": spec}
        for name, spec in shipped_specs.items()
        if name not in prompt_rows
    ]
    if new_rows:  # at the first start, one statement inserts all prompts
        connection.execute(insert(prompts), new_rows)
    changed_names = [
        name
        for name, last in prompt_rows.items()
        if name in shipped_specs and last.origin == origin and last.spec != shipped_specs[name]
    ]
    for name in changed_names:
        save(connection, name, None, shipped_specs[name], origin)
    return len(new_rows) + len(changed_names)


def remove(connection: Connection, prompt_id: str) -> int:
    """Delete all versions of a prompt; return the number deleted."""
    return connection.execute(delete(prompts).where(prompts.c.id == prompt_id)).rowcount


def name_conflict(name: str) -> Conflict:
    """Return the error for a key that uses the name of a shared prompt."""
    return Conflict(
        f"The name '{name}' belongs to a shared prompt. Choose another name.",
        code="name_taken",
        param="name",
    )


def _claim(owner: str | None, name: str) -> str:
    return claim_of(owner, name.replace("/", "\x1f"))  # prompt names may contain slashes

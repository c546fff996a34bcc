"""Agent Skills: all versions, each with its files as one archive."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, or_, select, update
from sqlalchemy.exc import IntegrityError

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict
from portico_server.core.ids import new_id
from portico_server.db.names import claim_of, lock
from portico_server.db.rows import Order, RowPage, Rows, may_have_another
from portico_server.db.schema import skill_versions, skills


@dataclass(frozen=True, slots=True)
class SkillRow:
    """A skill; ``owner`` is the key that owns it, ``None`` if it is shared. ``description`` belongs to the default
    version.
    """

    id: str
    name: str
    owner: str | None
    description: str
    default_version: int
    latest_version: int
    origin: str
    created_at: float


@dataclass(frozen=True, slots=True)
class SkillVersionRow:
    """A version of a skill. ``files`` contains the path, size in bytes and SHA-256 of each file, sorted by path.
    ``bytes`` and ``sha256`` describe the archive.
    """

    id: str
    skill_id: str
    version: int
    description: str
    front_matter: Mapping[str, Any]
    files: Sequence[tuple[str, int, str]]
    bytes: int
    sha256: str
    created_at: float


@dataclass(frozen=True, slots=True)
class SkillBounds:
    """Limits: skills per key, and versions per skill."""

    skills: int
    versions: int


_SKILLS: Rows[SkillRow] = Rows(skills, SkillRow)
_VERSIONS: Rows[SkillVersionRow] = Rows(skill_versions, SkillVersionRow)

get = _SKILLS.get


def visible(connection: Connection, owner: str | None, *, include_all: bool = False) -> list[SkillRow]:
    """Return the skills of an owner and the shared skills, or with ``include_all`` all skills, sorted by name."""
    query = _SKILLS.select.order_by(skills.c.name, skills.c.id)
    if not include_all:
        query = query.where(or_(skills.c.owner.is_(None), skills.c.owner == owner))
    return _SKILLS.every(connection, query)


def by_name(connection: Connection, name: str, owner: str | None) -> SkillRow | None:
    """Return the skill of a name that belongs to exactly this owner; ``None`` as the owner means shared skills."""
    return _SKILLS.first(connection, _SKILLS.select.where(skills.c.claim == claim_of(owner, name)))


def version(connection: Connection, skill_id: str, number: int) -> SkillVersionRow | None:
    """Return a version of a skill."""
    query = _VERSIONS.select.where(skill_versions.c.skill_id == skill_id, skill_versions.c.version == number)
    return _VERSIONS.first(connection, query)


def versions(
    connection: Connection, skill_id: str, *, after: int | None, limit: int, order: Order
) -> RowPage[SkillVersionRow]:
    """Return a page of a skill's versions, sorted by number."""
    number = skill_versions.c.version
    query = _VERSIONS.select.where(skill_versions.c.skill_id == skill_id)
    if after is not None:
        query = query.where(number > after if order == "asc" else number < after)
    query = query.order_by(number.asc() if order == "asc" else number.desc())
    return _VERSIONS.page(connection, query, limit)


def archive(connection: Connection, version_id: str) -> bytes | None:
    """Return the zip archive with the files of a version, or ``None``."""
    row = connection.execute(select(skill_versions.c.data).where(skill_versions.c.id == version_id)).first()
    return None if row is None else bytes(row.data)


def create(
    connection: Connection,
    name: str,
    owner: str | None,
    version_row: SkillVersionRow,
    data: bytes,
    origin: str,
    bounds: SkillBounds,
) -> SkillRow:
    """Store a new skill with its first version. Raises `Conflict` if the name is already in use or the key has reached
    its limit.
    """
    lock(connection, name)
    if by_name(connection, name, owner) is not None:
        raise Conflict(
            f"The skill '{name}' already exists. Add a version to it, or delete it first.",
            code="name_taken",
            param="name",
        )
    if owner is not None and by_name(connection, name, None) is not None:
        raise name_conflict(name)
    if owner is not None and not may_have_another(connection, bounds.skills, skills.c.owner == owner):
        raise Conflict(
            f"This key has {bounds.skills} skills, which is the maximum. Delete one first.",
            code="too_many_skills",
        )
    row = SkillRow(
        version_row.skill_id, name, owner, version_row.description, 1, 1, origin, version_row.created_at
    )
    try:
        with connection.begin_nested():
            _SKILLS.add(connection, row, claim=claim_of(owner, name))
    except IntegrityError as error:  # another daemon has created the skill
        raise _conflict(name) from error
    _VERSIONS.add(connection, version_row, data=data)
    return row


def add_version(
    connection: Connection,
    row: SkillRow,
    version_row: SkillVersionRow,
    data: bytes,
    bounds: SkillBounds,
    *,
    default: bool,
) -> None:
    """Store another version. Raises `Conflict` if the skill has reached its limit or was changed in the meantime."""
    if not may_have_another(connection, bounds.versions, skill_versions.c.skill_id == row.id):
        raise Conflict(
            f"The skill '{row.name}' has {bounds.versions} versions, which is the maximum. Delete one first.",
            code="too_many_versions",
        )
    statement = update(skills).where(
        skills.c.id == row.id, skills.c.latest_version == version_row.version - 1
    )
    if not connection.execute(statement.values(latest_version=version_row.version)).rowcount:
        raise _conflict(row.name)
    _VERSIONS.add(connection, version_row, data=data)
    if default:
        set_default(connection, row.id, version_row)


def set_default(connection: Connection, skill_id: str, version_row: SkillVersionRow) -> None:
    """Make a version the default."""
    values = {"default_version": version_row.version, "description": version_row.description}
    connection.execute(update(skills).where(skills.c.id == skill_id).values(**values))


def remove(connection: Connection, skill_id: str) -> None:
    """Delete a skill with all its versions."""
    connection.execute(delete(skill_versions).where(skill_versions.c.skill_id == skill_id))
    connection.execute(delete(skills).where(skills.c.id == skill_id))


def remove_version(connection: Connection, row: SkillRow, version_row: SkillVersionRow) -> bool:
    """Delete a version unless it is the default version; return whether it was deleted."""
    condition = skill_versions.c.id == version_row.id
    default = select(skills.c.default_version).where(skills.c.id == row.id).scalar_subquery()
    return bool(
        connection.execute(
            delete(skill_versions).where(condition, skill_versions.c.version != default)
        ).rowcount
    )


def new_version(
    skill_id: str,
    number: int,
    front_matter: Mapping[str, Any],
    files: Sequence[tuple[str, int, str]],
    size: int,
    sha256: str,
) -> SkillVersionRow:
    """Return the row of a new version."""
    return SkillVersionRow(
        id=new_id("skillver_"),
        skill_id=skill_id,
        version=number,
        description=front_matter["description"],
        front_matter=front_matter,
        files=files,
        bytes=size,
        sha256=sha256,
        created_at=time.time(),
    )


def name_conflict(name: str) -> Conflict:
    """Return the error for a key that uses the name of a shared skill."""
    return Conflict(
        f"The name '{name}' belongs to a shared skill. Choose another name.",
        code="name_taken",
        param="name",
    )


def _conflict(name: str) -> Conflict:
    return Conflict(
        f"The skill '{name}' was changed in the meantime. Send the version again.",
        code="version_conflict",
        param="name",
    )

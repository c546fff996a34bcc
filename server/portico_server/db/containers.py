"""Code containers and their files, which are artifacts with a path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Literal, TypeAlias

from sqlalchemy import Connection, delete, func, select, update

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict
from portico_server.db.names import lock
from portico_server.db.rows import Order, RowPage, Rows, database_time, may_have_another
from portico_server.db.schema import artifacts, container_files, containers

MINUTE_S: Final = 60

FileSource: TypeAlias = Literal["user", "assistant"]


@dataclass(frozen=True, slots=True)
class ContainerRow:
    """A container. It expires ``minutes`` after its last use; ``skills`` are in the form that code-running tools
    accept.

    ``automatic`` marks a container created for a response. ``bytes`` is the size of the skills sent in the request.
    """

    id: str
    owner: str
    name: str
    automatic: bool
    minutes: int
    memory_limit: str | None
    skills: Sequence[str | Mapping[str, Any]]
    bytes: int
    created_at: float
    last_active_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class ContainerFileRow:
    """A file in a container; its id is the id of the artifact that contains its bytes."""

    id: str
    container_id: str
    path: str
    source: FileSource


@dataclass(frozen=True, slots=True)
class StoredContainerFile(ContainerFileRow):
    """A file with the details of its artifact. If no run created the file, ``run_id`` is the container's id."""

    bytes: int
    run_id: str
    created_at: float


@dataclass(frozen=True, slots=True)
class ContainerBounds:
    """Limits: containers per key, and per container, files and their total bytes."""

    containers: int
    files: int
    bytes: int


_CONTAINERS: Rows[ContainerRow] = Rows(containers, ContainerRow)
_FILES: Rows[ContainerFileRow] = Rows(container_files, ContainerFileRow)
_LISTED = select(
    *(container_files.c[name] for name in ("id", "container_id", "path", "source")),
    *(artifacts.c[name] for name in ("bytes", "run_id", "created_at")),
).join(artifacts, artifacts.c.id == container_files.c.id)


def get(connection: Connection, container_id: str) -> ContainerRow | None:
    """Return a container, unless it has expired."""
    row = _CONTAINERS.get(connection, container_id)
    return None if row is None or row.expires_at <= database_time(connection) else row


def use(connection: Connection, container_id: str) -> ContainerRow | None:
    """Return a container, and restart the time until it expires; ``None`` if it has expired."""
    row = get(connection, container_id)
    if row is None:
        return None
    moment = database_time(connection)
    container_row = replace(row, last_active_at=moment, expires_at=moment + row.minutes * MINUTE_S)
    times = {"last_active_at": container_row.last_active_at, "expires_at": container_row.expires_at}
    connection.execute(update(containers).where(containers.c.id == container_id).values(**times))
    return container_row


def every(
    connection: Connection, owner: str, *, name: str | None, after: str | None, limit: int, order: Order
) -> RowPage[ContainerRow]:
    """Return a page of an owner's containers by creation time; with ``name``, only containers with that name."""
    query = _CONTAINERS.select.where(
        containers.c.owner == owner, containers.c.expires_at > database_time(connection)
    )
    if name is not None:
        query = query.where(containers.c.name == name)
    if after is not None:
        query = query.where(containers.c.id > after if order == "asc" else containers.c.id < after)
    unary_expression = containers.c.id.asc() if order == "asc" else containers.c.id.desc()
    return _CONTAINERS.page(connection, query.order_by(unary_expression), limit)


def add(connection: Connection, row: ContainerRow, bounds: ContainerBounds) -> str | None:
    """Store a new container. If the owner has reached the limit, store nothing, and return the id of the owner's least
    recently used response container, which must be deleted first.

    Raises `Conflict` if the limit is reached and no response container can be deleted.
    """
    lock(connection, f"containers of {row.owner}")
    conditions = (containers.c.owner == row.owner, containers.c.expires_at > database_time(connection))
    if may_have_another(connection, bounds.containers, *conditions):
        _CONTAINERS.add(connection, row)
        return None
    oldest = select(containers.c.id).where(*conditions, containers.c.automatic.is_(True))
    oldest_id = connection.execute(oldest.order_by(containers.c.last_active_at).limit(1)).scalar_one_or_none()
    if oldest_id is None:
        raise Conflict(
            f"This key has {bounds.containers} containers, which is the maximum. Delete one first.",
            code="too_many_containers",
        )
    return str(oldest_id)


def remove(connection: Connection, container_id: str) -> None:
    """Delete a container with its list of files. The files' artifacts remain."""
    lock(connection, container_id)
    connection.execute(delete(container_files).where(container_files.c.container_id == container_id))
    connection.execute(delete(containers).where(containers.c.id == container_id))


def expired_ids(connection: Connection, limit: int) -> list[tuple[str, str]]:
    """Return the ids and owners of expired containers."""
    query = select(containers.c.id, containers.c.owner).where(
        containers.c.expires_at <= database_time(connection)
    )
    return [(row.id, row.owner) for row in connection.execute(query.limit(limit))]


def count_expired(connection: Connection) -> int:
    """Return the number of expired containers."""
    late = containers.c.expires_at <= database_time(connection)
    return int(connection.execute(select(func.count()).where(late)).scalar_one())


def files(connection: Connection, container_id: str) -> list[StoredContainerFile]:
    """Return the files of a container in creation order."""
    query = _LISTED.where(container_files.c.container_id == container_id).order_by(container_files.c.id)
    return [StoredContainerFile(**row._mapping) for row in connection.execute(query)]


def put(
    connection: Connection, rows: Sequence[ContainerFileRow], bounds: ContainerBounds
) -> tuple[list[str], list[StoredContainerFile]] | None:
    """Add artifacts to their container as files, replacing files with the same path.

    Returns the paths that were not added because of the limits, and the replaced files; ``None`` if the container no
    longer exists.
    """
    lock(connection, rows[0].container_id)
    if _CONTAINERS.get(connection, rows[0].container_id) is None:
        return None
    held_container_files = {file.path: file for file in files(connection, rows[0].container_id)}
    query = select(artifacts.c.id, artifacts.c.bytes).where(artifacts.c.id.in_([row.id for row in rows]))
    sizes = {row.id: row.bytes for row in connection.execute(query)}
    total = sum(file.bytes for file in held_container_files.values())
    remaining_paths: list[str] = []
    replaced_files: list[StoredContainerFile] = []
    for row in rows:
        before = held_container_files.get(row.path)
        room = total - (before.bytes if before else 0) + sizes[row.id]
        if room > bounds.bytes or (before is None and len(held_container_files) >= bounds.files):
            remaining_paths.append(row.path)
            continue
        if before is not None:
            replaced_files.append(before)
            take(connection, [before.id])
        _FILES.add(connection, row)
        total = room
        held_container_files[row.path] = StoredContainerFile(
            row.id, row.container_id, row.path, row.source, sizes[row.id], "", 0.0
        )
    return remaining_paths, replaced_files


def take(connection: Connection, file_ids: Sequence[str]) -> None:
    """Remove files from their containers; their artifacts remain."""
    connection.execute(delete(container_files).where(container_files.c.id.in_(file_ids)))

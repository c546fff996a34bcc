"""Deployed apps and their versions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict
from portico_server.db.names import claim_of, require_free
from portico_server.db.rows import Rows, json_bytes
from portico_server.db.schema import app_versions, apps


@dataclass(frozen=True, slots=True)
class AppRow:
    """An app and the number of its active version. ``kind`` is ``flow`` or ``agent``; an ``owner`` of ``None`` means
    shared.
    """

    id: str
    name: str
    owner: str | None
    kind: str
    version: int
    limits: Mapping[str, Any] | None
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A version of an app. ``digest`` is the digest of the version's specification."""

    app_id: str
    version: int
    spec: Mapping[str, Any]
    digest: str
    note: str
    created_by: str
    created_at: float


_APPS = Rows(apps, AppRow)
_VERSIONS = Rows(app_versions, VersionRow)

get = _APPS.get


def create(
    connection: Connection,
    row: AppRow,
    by: str,
    spec: Mapping[str, Any],
    digest: str,
    note: str,
) -> VersionRow:
    """Create an app with its first version. Raises `Conflict` if the owner already has an app with that name."""
    require_free(connection, row.owner, row.name, "app")
    try:
        with connection.begin_nested():
            values = {name: value for name, value in asdict(row).items() if name != "limits"}
            connection.execute(insert(apps).values(**values, claim=claim_of(row.owner, row.name)))
    except IntegrityError as error:
        raise Conflict(f"The app '{row.name}' already exists.", code="name_taken", param="name") from error
    return _number_version(connection, row.id, 1, by, spec, digest, note)


def deploy(
    connection: Connection,
    app_id: str,
    kind: str,
    by: str,
    spec: Mapping[str, Any],
    digest: str,
    note: str,
    expected_version: int | None,
) -> tuple[AppRow, VersionRow]:
    """Make a specification the active version. If it is already active, change nothing.

    ``expected_version`` is the version that the caller has seen. Raises `Conflict` if another version is active now,
    or if the app no longer exists.
    """
    app_row = get(connection, app_id)
    if app_row is None:
        raise Conflict(
            "The app was deleted in the meantime. Deploy it again.", code="app_removed", param="name"
        )
    if expected_version is not None and app_row.version != expected_version:
        raise Conflict(
            f"'{app_row.name}' is now at version {app_row.version}, not {expected_version}. Check the "
            "changes and deploy again.",
            code="version_conflict",
            param="expected_version",
        )
    current = version(connection, app_id, app_row.version)
    if current is not None and current.digest == digest and app_row.kind == kind:
        return app_row, current
    version_row = add_version(connection, app_id, by, spec, digest, note)
    connection.execute(
        update(apps)
        .where(apps.c.id == app_id)
        .values(version=version_row.version, kind=kind, updated_at=time.time())
    )
    row = get(connection, app_id)
    assert row is not None
    return row, version_row


def add_version(
    connection: Connection, app_id: str, by: str, spec: Mapping[str, Any], digest: str, note: str
) -> VersionRow:
    """Store a specification as the newest version of an app. The active version stays active."""
    last = connection.execute(
        select(func.max(app_versions.c.version)).where(app_versions.c.app_id == app_id)
    ).scalar()
    return _number_version(connection, app_id, int(last or 0) + 1, by, spec, digest, note)


def _number_version(
    connection: Connection, app_id: str, number: int, by: str, spec: Mapping[str, Any], digest: str, note: str
) -> VersionRow:
    row = VersionRow(app_id, number, dict(spec), digest, note, by, time.time())
    _VERSIONS.add(connection, row, bytes=json_bytes(spec))
    return row


def point(connection: Connection, app_id: str, number: int) -> AppRow | None:
    """Make an earlier version active again; return the app, or ``None`` if the version does not exist."""
    if version(connection, app_id, number) is None:
        return None
    connection.execute(update(apps).where(apps.c.id == app_id).values(version=number, updated_at=time.time()))
    return get(connection, app_id)


def limit(connection: Connection, app_id: str, limits: Mapping[str, Any] | None) -> None:
    """Set the limits of an app; ``None`` removes them."""
    connection.execute(
        update(apps).where(apps.c.id == app_id).values(limits=dict(limits) if limits else None)
    )


def remove(connection: Connection, app_id: str) -> bool:
    """Delete an app with all its versions; return whether it existed."""
    connection.execute(delete(app_versions).where(app_versions.c.app_id == app_id))
    return connection.execute(delete(apps).where(apps.c.id == app_id)).rowcount > 0


def all_of(connection: Connection) -> list[tuple[AppRow, VersionRow]]:
    """Return all apps with their active versions, shared apps first."""
    versioned_apps = []
    for app in _APPS.every(connection, _APPS.select.order_by(apps.c.owner.is_not(None), apps.c.name)):
        current = version(connection, app.id, app.version)
        if current is not None:
            versioned_apps.append((app, current))
    return versioned_apps


def version(connection: Connection, app_id: str, number: int) -> VersionRow | None:
    """Return a version of an app, or ``None``."""
    condition = (app_versions.c.app_id == app_id) & (app_versions.c.version == number)
    return _VERSIONS.first(connection, _VERSIONS.select.where(condition))


def versions(connection: Connection, app_id: str) -> list[VersionRow]:
    """Return all versions of an app, newest first."""
    query = _VERSIONS.select.where(app_versions.c.app_id == app_id)
    return _VERSIONS.every(connection, query.order_by(app_versions.c.version.desc()))


def shared_version(connection: Connection, name: str, number: int) -> tuple[AppRow, VersionRow] | None:
    """Return a version of the shared app ``name``, or ``None``."""
    condition = apps.c.claim == claim_of(None, name)
    app = _APPS.first(connection, _APPS.select.where(condition))
    version_row = None if app is None else version(connection, app.id, number)
    return None if app is None or version_row is None else (app, version_row)

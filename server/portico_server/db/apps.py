"""Deployed apps and their versions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from portico_server.core.errors import Conflict
from portico_server.db.schema import app_versions, apps


@dataclass(frozen=True, slots=True)
class AppRow:
    """An app and the version that answers now. ``kind``: ``flow`` or ``agent``."""

    name: str
    owner: str | None
    kind: str
    version: int
    limits: Mapping[str, Any] | None
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One version of an app. ``digest`` is that of its specification."""

    name: str
    version: int
    spec: Mapping[str, Any]
    digest: str
    note: str
    created_by: str
    created_at: float


_APP = [apps.c[name] for name in AppRow.__dataclass_fields__]
_VERSION = [app_versions.c[name] for name in VersionRow.__dataclass_fields__]


def deploy(
    connection: Connection,
    name: str,
    kind: str,
    owner: str | None,
    by: str,
    spec: Mapping[str, Any],
    digest: str,
    note: str,
    expected: int | None,
) -> tuple[AppRow, VersionRow]:
    """Make a specification the version that answers; the same one again changes nothing.

    ``expected``: the version that the caller has seen; `Conflict` if another one answers by now.
    """
    now = time.time()
    found = get(connection, name)
    if found is not None and expected is not None and found.version != expected:
        raise Conflict(
            f"'{name}' is at version {found.version} by now, not {expected}. Look at what changed and deploy again.",
            code="version_conflict",
            param="expected_version",
        )
    if found is None:
        connection.execute(
            insert(apps).values(name=name, owner=owner, kind=kind, version=1, created_at=now, updated_at=now)
        )
        number = 1
    else:
        current = version(connection, name, found.version)
        if current is not None and current.digest == digest and found.kind == kind:
            return found, current
        last = connection.execute(
            select(func.max(app_versions.c.version)).where(app_versions.c.name == name)
        ).scalar()
        number = int(last or 0) + 1
        connection.execute(
            update(apps).where(apps.c.name == name).values(version=number, kind=kind, updated_at=now)
        )
    connection.execute(
        insert(app_versions).values(
            name=name,
            version=number,
            spec=dict(spec),
            digest=digest,
            note=note,
            created_by=by,
            created_at=now,
        )
    )
    row, made = get(connection, name), version(connection, name, number)
    assert row is not None
    assert made is not None
    return row, made


def point(connection: Connection, name: str, number: int) -> AppRow | None:
    """Let an earlier version answer again; ``None`` if there is no such version."""
    if version(connection, name, number) is None:
        return None
    connection.execute(update(apps).where(apps.c.name == name).values(version=number, updated_at=time.time()))
    return get(connection, name)


def limit(connection: Connection, name: str, limits: Mapping[str, Any] | None) -> None:
    """Set the limits of an app; ``None``: none."""
    connection.execute(
        update(apps).where(apps.c.name == name).values(limits=dict(limits) if limits else None)
    )


def remove(connection: Connection, name: str) -> bool:
    """Remove an app with all its versions; whether there was one."""
    connection.execute(delete(app_versions).where(app_versions.c.name == name))
    return connection.execute(delete(apps).where(apps.c.name == name)).rowcount > 0


def get(connection: Connection, name: str) -> AppRow | None:
    """One app, or ``None``."""
    row = connection.execute(select(*_APP).where(apps.c.name == name)).first()
    return AppRow(*row) if row else None


def all_of(connection: Connection) -> list[tuple[AppRow, VersionRow]]:
    """Every app with the version that answers."""
    rows = connection.execute(select(*_APP).order_by(apps.c.name)).all()
    found = []
    for row in rows:
        app = AppRow(*row)
        current = version(connection, app.name, app.version)
        if current is not None:
            found.append((app, current))
    return found


def version(connection: Connection, name: str, number: int) -> VersionRow | None:
    """One version of an app, or ``None``."""
    row = connection.execute(
        select(*_VERSION).where(app_versions.c.name == name, app_versions.c.version == number)
    ).first()
    return VersionRow(*row) if row else None


def versions(connection: Connection, name: str) -> list[VersionRow]:
    """All versions of an app, newest first."""
    rows = connection.execute(
        select(*_VERSION).where(app_versions.c.name == name).order_by(app_versions.c.version.desc())
    )
    return [VersionRow(*row) for row in rows]

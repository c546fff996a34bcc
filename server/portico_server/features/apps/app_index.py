"""Finds deployed apps by id, or by owner and name: the app that a caller refers to, if the caller has the right to use
it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from portico_server.core.binding import bound_id
from portico_server.core.errors import Forbidden, NotFound, nearest
from portico_server.core.principal import Principal
from portico_server.db.apps import AppRow, VersionRow


class AppIndex:
    """Finds deployed apps: the active apps with their current versions, and the broken apps."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[AppRow, VersionRow]] = {}
        """The row and the current version of each app, keyed by app id."""
        self._ids: dict[tuple[str | None, str], str] = {}
        """App ids, keyed by owner and name."""
        self._broken_rows: dict[str, AppRow] = {}
        """Rows of broken apps, which do not answer, keyed by app id. Deploying another version can repair them."""
        self.unusable: dict[str, str] = {}
        """Apps that could not be built at startup, with the reasons. Their rows are kept, but the apps do not
        answer.
        """

    def put(self, row: AppRow, version: VersionRow) -> None:
        """Register a version of an app as current."""
        self._rows[row.id] = (row, version)
        self._ids[row.owner, row.name] = row.id
        self._broken_rows.pop(row.id, None)
        self.unusable.pop(_shown_name(row), None)

    def put_broken(self, row: AppRow, reason: str) -> None:
        """Register an app as broken, with the reason."""
        self._ids[row.owner, row.name] = row.id
        self._broken_rows[row.id] = row
        self.unusable[_shown_name(row)] = reason

    def remove(self, row: AppRow) -> None:
        """Remove an app."""
        self._rows.pop(row.id, None)
        self._broken_rows.pop(row.id, None)
        self._ids.pop((row.owner, row.name), None)

    def all_rows(self) -> Mapping[str, AppRow]:
        """Return all apps, including broken apps, keyed by id."""
        return {**{app_id: row for app_id, (row, _version) in self._rows.items()}, **self._broken_rows}

    def owners(self, name: str) -> Sequence[str]:
        """Return the ids of the keys that own an app with this name."""
        return [owner for owner, app_name in self._ids if app_name == name and owner is not None]

    def find_broken(self, owner: str | None, name: str) -> AppRow | None:
        """Return the broken app that the owner has under this name."""
        return self._broken_rows.get(self._ids.get((owner, name), ""))

    def find_owned(self, owner: str | None, name: str) -> AppRow | None:
        """Return the owner's app with this name. The owner ``None`` stands for shared apps."""
        return self.row(self._ids.get((owner, name), ""))

    def _find_named(self, ref: str, caller: Principal) -> tuple[AppRow, VersionRow] | None:
        """Resolve a name or an id for the caller. A name refers to the caller's own app or else to a shared app; an
        app of another key is found only by its id.
        """
        app_id = bound_id(ref) or self._ids.get((caller.id, ref)) or self._ids.get((None, ref)) or ref
        version = self._rows.get(app_id)
        return version if version is not None and caller.sees(version[0].owner) else None

    def find(self, ref: str, caller: Principal) -> tuple[AppRow, VersionRow]:
        """Return an app by its name or id, with its current version.

        Raise `NotFound` if the caller may not call such an app.
        """
        version = self._find_named(ref, caller)
        if version is None or not caller.allows(f"apps:{version[0].name}:call"):
            app_names = [
                row.name
                for row, _version in self._rows.values()
                if row.owner in (None, caller.id) and caller.allows(f"apps:{row.name}:call")
            ]
            raise NotFound(
                f"The deployed app '{ref[:200]}' does not exist.{nearest(ref, app_names)}",
                code="app_not_found",
                param="name",
            )
        return version

    def readable(self, ref: str, caller: Principal) -> tuple[AppRow, VersionRow]:
        """Return the app as `find` does, for reading its specification: prompts, instructions and code.

        Raise `Forbidden` unless the app is the caller's own or the caller is an admin. The right to call the app is
        not enough.
        """
        row, version = self.find(ref, caller)
        if not caller.owns(row.owner):
            raise Forbidden(
                f"Only admins can read the specification of the shared app '{row.name}'. This key may call "
                "the app: GET /api/apps/NAME returns the app's description and schemas."
            )
        return row, version

    def changeable(self, ref: str, caller: Principal) -> tuple[AppRow, VersionRow]:
        """Return the app as `find` does, for changing or exporting it. Raise `Forbidden` for a shared app, unless the
        caller is an admin.
        """
        row, version = self.find(ref, caller)
        caller.require(f"apps:{row.name}:deploy")
        if row.owner is None:
            caller.require("admin")
        return row, version

    def find_shared(self, name: str) -> AppRow | None:
        """Return the row of the shared app with this name."""
        return self.find_owned(None, name)

    def row(self, app_id: str) -> AppRow | None:
        """Return the row of a deployed app, whatever the caller's rights."""
        version = self._rows.get(app_id)
        return version[0] if version is not None else None

    def list(self, caller: Principal, *, include_all: bool = False) -> Sequence[tuple[AppRow, VersionRow]]:
        """List the deployed apps that the caller may call, by name. ``include_all``: list all apps, for admins."""
        return [
            (row, version)
            for row, version in sorted(self._rows.values(), key=lambda pair: (pair[0].name, pair[0].id))
            if (include_all and caller.admin)
            or (
                self._find_named(row.name, caller) == (row, version)
                and caller.allows(f"apps:{row.name}:call")
            )
        ]

    def is_current(self, name: str, kind: str, spec: Mapping[str, Any]) -> bool:
        """Return whether the current version of the shared app ``name`` has this specification."""
        row = self.find_shared(name)
        return row is not None and row.kind == kind and self._rows[row.id][1].digest == digest_of(spec)


def _shown_name(row: AppRow) -> str:
    """Return the name under which a broken app is listed. If a key owns the app, this is the app's id, because other
    keys may use the same name.
    """
    return row.name if row.owner is None else row.id


def digest_of(spec: Mapping[str, Any]) -> str:
    """Return a digest of a specification. It does not depend on the order of the specification's keys."""
    return hashlib.sha256(orjson.dumps(spec, option=orjson.OPT_SORT_KEYS)).hexdigest()

"""The deployed apps by id, owner and name: which app a caller means, and what the caller may do with it."""

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
    """Finds deployed apps. It has those that answer, with the version that does, and those that cannot."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[AppRow, VersionRow]] = {}
        """By id."""
        self._ids: dict[tuple[str | None, str], str] = {}
        """By owner and name."""
        self._broken: dict[str, AppRow] = {}
        """Those that do not answer, by id; another version may mend them."""
        self.unusable: dict[str, str] = {}
        """Apps that could not be read at the start, and why: their rows stay, they do not answer."""

    def put(self, row: AppRow, version: VersionRow) -> None:
        """Note that a version of an app answers."""
        self._rows[row.id] = (row, version)
        self._ids[row.owner, row.name] = row.id
        self._broken.pop(row.id, None)
        self.unusable.pop(_shown_name(row), None)

    def put_broken(self, row: AppRow, reason: str) -> None:
        """Note why an app does not answer."""
        self._ids[row.owner, row.name] = row.id
        self._broken[row.id] = row
        self.unusable[_shown_name(row)] = reason

    def remove(self, row: AppRow) -> None:
        """Forget an app."""
        self._rows.pop(row.id, None)
        self._broken.pop(row.id, None)
        self._ids.pop((row.owner, row.name), None)

    def all_rows(self) -> Mapping[str, AppRow]:
        """All apps by id, those that do not answer among them."""
        return {**{app_id: row for app_id, (row, _version) in self._rows.items()}, **self._broken}

    def owners(self, name: str) -> Sequence[str]:
        """The keys that have an app of this name."""
        return [owner for owner, app_name in self._ids if app_name == name and owner is not None]

    def broken(self, owner: str | None, name: str) -> AppRow | None:
        """The app of a name that does not answer."""
        return self._broken.get(self._ids.get((owner, name), ""))

    def owned(self, owner: str | None, name: str) -> AppRow | None:
        """The app that a key has under a name; ``None`` as the owner means the shared one."""
        return self.row(self._ids.get((owner, name), ""))

    def _named(self, ref: str, caller: Principal) -> tuple[AppRow, VersionRow] | None:
        """What the caller means by a name or an id: its own app, then a shared one, another key's by its id alone."""
        app_id = bound_id(ref) or self._ids.get((caller.id, ref)) or self._ids.get((None, ref)) or ref
        version = self._rows.get(app_id)
        return version if version is not None and caller.sees(version[0].owner) else None

    def find(self, ref: str, caller: Principal) -> tuple[AppRow, VersionRow]:
        """The app of a name or an id, and the version that answers.

        Raises `NotFound` if there is none for this caller.
        """
        version = self._named(ref, caller)
        if version is None or not caller.allows(f"apps:{version[0].name}:call"):
            app_names = [
                row.name
                for row, _version in self._rows.values()
                if row.owner in (None, caller.id) and caller.allows(f"apps:{row.name}:call")
            ]
            raise NotFound(
                f"There is no deployed app '{ref[:200]}'.{nearest(ref, app_names)}",
                code="app_not_found",
                param="name",
            )
        return version

    def readable(self, ref: str, caller: Principal) -> tuple[AppRow, VersionRow]:
        """`find` for who reads its specification: prompts, instructions and code. Raises `Forbidden` unless the app is
        the caller's own, or the caller is an admin: the right to call it is not enough.
        """
        row, version = self.find(ref, caller)
        if not caller.owns(row.owner):
            raise Forbidden(
                f"Only admins read the specification of '{row.name}', which is shared. This key may call the app: GET "
                "/api/apps/NAME has its description and its schemas."
            )
        return row, version

    def changeable(self, ref: str, caller: Principal) -> tuple[AppRow, VersionRow]:
        """`find` for who changes it, or takes it elsewhere. Raises `Forbidden` for a shared app, unless the caller is
        an admin.
        """
        row, version = self.find(ref, caller)
        caller.require(f"apps:{row.name}:deploy")
        if row.owner is None:
            caller.require("admin")
        return row, version

    def shared(self, name: str) -> AppRow | None:
        """The row of the shared app of a name."""
        return self.owned(None, name)

    def row(self, app_id: str) -> AppRow | None:
        """The row of a deployed app, whoever may call it."""
        version = self._rows.get(app_id)
        return version[0] if version is not None else None

    def list(self, caller: Principal, *, include_all: bool = False) -> Sequence[tuple[AppRow, VersionRow]]:
        """The deployed apps that the caller may call by name; ``include_all``: for an admin, all that there are."""
        return [
            (row, version)
            for row, version in sorted(self._rows.values(), key=lambda pair: (pair[0].name, pair[0].id))
            if (include_all and caller.admin)
            or (self._named(row.name, caller) == (row, version) and caller.allows(f"apps:{row.name}:call"))
        ]

    def same(self, name: str, kind: str, spec: Mapping[str, Any]) -> bool:
        """Whether this is what answers under the shared name now."""
        row = self.shared(name)
        return row is not None and row.kind == kind and self._rows[row.id][1].digest == digest_of(spec)


def _shown_name(row: AppRow) -> str:
    """How an app that does not answer is listed: a key's app by its id, because others may have the name too."""
    return row.name if row.owner is None else row.id


def digest_of(spec: Mapping[str, Any]) -> str:
    """The digest of a specification, whatever the order of its keys."""
    return hashlib.sha256(orjson.dumps(spec, option=orjson.OPT_SORT_KEYS)).hexdigest()

"""``/api/status``, ``/api/settings`` and ``/api/shutdown``: the daemon itself."""

from __future__ import annotations

import time
from collections.abc import Sequence, Set
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Depends, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from starlette.types import Receive, Scope, Send

from portico_server import __version__, config
from portico_server.api.auth import Auth
from portico_server.api.endpoint import Admin, Caller, TheParts
from portico_server.api.endpoint import new_router as new_router
from portico_server.api.native import deployments
from portico_server.api.native.deployments import Deployment
from portico_server.api.native.stores import Store, shown
from portico_server.api.parts import ApiServices
from portico_server.archives.stream import Blocks
from portico_server.backup.write import Backup, backup, check_here, noted
from portico_server.core.errors import InvalidRequest, nearest
from portico_server.core.limits import UsageLimits
from portico_server.core.servable import Card
from portico_server.db.keys import KeyRow
from portico_server.reconcile import KINDS

router = new_router(prefix="/api", tags=["Daemon"])


class Problem(BaseModel):
    """An entry of the configuration that cannot work, where it stands (``models[0].source``), and why."""

    name: str
    place: str
    reason: str


class SmallModel(BaseModel):
    """The tiny model that ``default`` means: its names, the apps that ask it themselves or through another app, and a
    line that says what it is and how to get a better one.
    """

    names: list[str]
    apps: list[str]
    hint: str
    fetching: bool
    """Whether the better one is under way."""


class Status(BaseModel):
    """What there is for this caller. ``home`` and ``problems`` are told to admins alone; ``startup``: the runs that the
    start began.
    """

    version: str
    home: str
    url: str
    started_at: float
    startup: list[str]
    models: list[Deployment]
    stores: list[Store]
    apps: list[str]
    recommended: dict[str, Any] | None
    problems: list[Problem]
    small_model: SmallModel | None


class SettingRow(BaseModel):
    """One setting, its value (secrets masked), where it came from and what it is for."""

    name: str
    value: Any
    origin: Literal["flag", "environment", "file", "default"]
    doc: str


class SettingList(BaseModel):
    """All settings."""

    data: list[SettingRow]


class Stopping(BaseModel):
    """The daemon ends after this answer."""

    stopping: bool = True


@router.get("/status")
async def daemon_status(parts: TheParts, caller: Caller) -> Status:
    """The daemon at a glance."""
    sees_models = caller.allows("models:read") or caller.allows("chat")
    found = await parts.stores.list(caller)
    recommended = parts.models.machine.recommended
    apps = await parts.registry.cards(caller, "app")
    return Status(
        version=__version__,
        home=str(parts.settings.home) if caller.admin else "",
        url=parts.url,
        started_at=parts.started_at,
        startup=list(parts.startup),
        models=deployments.shown(parts.models, caller) if sees_models else [],
        stores=[shown(info, parts, caller) for info in await parts.stores.describe(found, caller)],
        apps=[card.name for card in apps],
        recommended=asdict(recommended) if recommended else None,
        problems=[Problem(**asdict(each)) for each in await parts.problems.current()] if caller.admin else [],
        small_model=_small(parts, apps) if sees_models else None,
    )


@router.get("/settings")
async def daemon_settings(parts: TheParts, _caller: Admin) -> SettingList:
    """Every setting, and where its value came from."""
    return SettingList(data=[SettingRow(**asdict(setting)) for setting in parts.loaded.describe()])


@router.post("/shutdown")
async def shut_down(parts: TheParts, _caller: Admin) -> Stopping:
    """End the daemon, as SIGTERM does."""
    parts.stop()
    return Stopping()


def _small(parts: ApiServices, apps: Sequence[Card]) -> SmallModel | None:
    hint = parts.models.better.hint
    if hint is None:
        return None
    tiny = parts.models.get("default")
    names = [tiny.name, *tiny.aliases]
    return SmallModel(
        names=names, apps=_asking(set(names), apps), hint=hint, fetching=parts.models.better.fetching
    )


def _asking(names: Set[str], apps: Sequence[Card]) -> list[str]:
    """The apps that ask one of the models ``names``, or an app that does."""
    uses = {card.name: {*card.labels.get("uses", ()), card.labels.get("model")} for card in apps}
    found: set[str] = set()
    while more := {app for app, used in uses.items() if app not in found and used & (names | found)}:
        found |= more
    return [card.name for card in apps if card.name in found]


# ``POST /api/apply``: making the daemon what a configuration says.


apply_router = new_router(tags=["Daemon"])


class ApplyRequest(BaseModel):
    """``configuration``: as in a file (docs/configuration.md), its variables replaced. ``folder``: what paths in
    it are relative to, on the daemon's machine. ``prune``: kinds (``apps``, ``tools`` …) of which everything is removed
    that the configuration does not name.
    """

    configuration: dict[str, Any]
    folder: str = ""
    prune: list[str] = Field(default_factory=list)
    dry_run: bool = False


class Change(BaseModel):
    """What becomes, or would become, of one thing. ``detail`` names the fields that differ."""

    kind: str
    name: str
    action: Literal["create", "change", "remove", "unchanged"]
    detail: list[str]


class Applied(BaseModel):
    """What was done, in order; with ``dry_run`` what would be. ``ignored``: keys that only a start takes."""

    changes: list[Change]
    dry_run: bool
    ignored: list[str]


@apply_router.post("/api/apply")
async def apply_configuration(wish: ApplyRequest, parts: TheParts, caller: Admin) -> Applied:
    """Check a whole configuration, then create and change what differs. The same again changes nothing."""
    for kind in wish.prune:
        if kind not in KINDS:
            raise InvalidRequest(
                f"Nothing of the kind '{kind}' can be removed.{nearest(kind, KINDS)} It is one of {', '.join(KINDS)}.",
                param="prune",
            )
    folder = Path(wish.folder or "/")
    if not folder.is_absolute():
        raise InvalidRequest("'folder' must be an absolute path on the daemon's machine.", param="folder")
    wanted = config.parse(wish.configuration, folder, None)
    done = await parts.reconciler.apply(wanted, caller, prune=wish.prune, dry_run=wish.dry_run)
    if not wish.dry_run:
        parts.problems.applied(wanted)
    return Applied(
        changes=[Change(kind=x.kind, name=x.name, action=x.action, detail=list(x.detail)) for x in done],
        dry_run=wish.dry_run,
        ignored=[key for key in ("keys", "settings") if wish.configuration.get(key)],
    )


# ``/api/backup`` and ``/api/vacuum``: the home of a daemon as one archive, and room that is given back.


backup_router = new_router(prefix="/api", tags=["Daemon"])


class Vacuum(BaseModel):
    """Bytes of the database file before and after; ``converted``: it gives room back by itself from now on."""

    before: int
    after: int
    freed: int
    converted: bool


class _Held(StreamingResponse):
    """Lets go of what is sent, however the sending ends, also where it never began."""

    def __init__(self, stack: AsyncExitStack, pieces: Blocks, **given: Any) -> None:
        super().__init__(pieces, **given)
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._stack:
            await super().__call__(scope, receive, send)


async def _pieces(made: Backup, stack: AsyncExitStack) -> Blocks:
    """The archive; its last piece when all is let go, so that who has it may begin the next one."""
    last = b""
    async for piece in made.pieces():
        if last:
            yield last
        last = piece
    await stack.aclose()
    yield last


@backup_router.get("/backup", response_class=StreamingResponse)
async def back_up(parts: TheParts, _caller: Admin, models: bool = False) -> StreamingResponse:
    """A zip archive of everything that the daemon keeps, as it is at one moment; ``models``: with the model files."""
    settings = parts.settings
    check_here(settings)
    stack = AsyncExitStack()
    made = await stack.enter_async_context(
        backup(
            settings.home,
            version=__version__,
            settings=noted(parts.loaded),
            models=settings.models if models else None,
        )
    )
    name = time.strftime("portico-%Y%m%d-%H%M%S.zip")
    return _Held(
        stack,
        _pieces(made, stack),
        media_type="application/zip",
        headers={
            "Content-Disposition": f'attachment; filename="{name}"',
            "Portico-Backup-Bytes": str(made.held.bytes),
            "Portico-Backup-Missing": str(made.missing),
        },
    )


@backup_router.post("/vacuum")
async def vacuum(parts: TheParts, _caller: Admin) -> Vacuum:
    """Give back the room within the database file that nothing uses."""
    check_here(parts.settings)
    size = parts.settings.database_path.stat().st_size
    done = await parts.database.vacuum()
    if done is None:
        return Vacuum(before=size, after=size, freed=0, converted=False)
    return Vacuum(before=done.before, after=done.after, freed=done.freed, converted=done.converted)


# ``/api/keys``: make, list and revoke API keys.


key_router = new_router(prefix="/api/keys", tags=["Keys"])


def _auth(request: Request) -> Auth:
    auth: Auth = request.scope["portico.auth"]
    return auth


TheAuth = Annotated[Auth, Depends(_auth)]


class Key(BaseModel):
    """A key without its secret; ``hint`` is the last four characters of it. ``limits`` are those that are set.

    ``filters``: which files of a store it may read, by the name or id of the store.
    """

    id: str
    name: str
    scopes: list[str]
    hint: str
    created_at: float
    limits: dict[str, int]
    filters: dict[str, dict[str, Any]]


class NewKey(Key):
    """A key that was just made. ``key`` is shown this once."""

    key: str


class KeyList(BaseModel):
    """All keys that work."""

    data: list[Key]


class KeyWish(BaseModel):
    """A key to be made. ``limits``: concurrency, requests_per_minute, tokens_per_minute, tokens_per_day.

    ``filters``: for a store, by its name or id or ``*`` for any, what the attributes of its files must meet for this
    key to read them, in the form of the ``filters`` of a search.
    """

    name: str
    scopes: list[str]
    limits: dict[str, Any] = {}
    filters: dict[str, Any] = {}


class RevokedKey(BaseModel):
    """What was removed."""

    id: str
    deleted: bool = True


@key_router.get("")
async def list_keys(auth: TheAuth, _caller: Admin) -> KeyList:
    """All keys, oldest first."""
    return KeyList(data=[Key(**_fields(row)) for row in auth.list()])


@key_router.post("")
async def create_key(wish: KeyWish, auth: TheAuth, _caller: Admin) -> NewKey:
    """A new key; the answer holds the secret, which is kept nowhere."""
    row, secret = await auth.create(wish.name, wish.scopes, UsageLimits.parse(wish.limits), wish.filters)
    return NewKey(**_fields(row), key=secret)


@key_router.delete("/{key_id}")
async def revoke_key(key_id: str, auth: TheAuth, _caller: Admin) -> RevokedKey:
    """End a key, at once."""
    await auth.revoke(key_id)
    return RevokedKey(id=key_id)


def _fields(row: KeyRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "scopes": list(row.scopes),
        "hint": row.hint,
        "created_at": row.created_at,
        "limits": dict(row.limits),
        "filters": dict(row.filters),
    }

"""``/api/status``, ``/api/settings`` and ``/api/shutdown``: the daemon itself."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence, Set
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from starlette.types import Receive, Scope, Send

from portico.schemas.configuration import Applied, Problem
from portico.schemas.daemon import ConfiguredGuard, Plugin, Setting, Status, Vacuumed
from portico.schemas.deployments import SmallModel
from portico.schemas.keys import Key, NewKey
from portico.wire import misspelt
from portico_server import __version__, config
from portico_server.api.endpoint import Admin, Caller, TheAuth, TheServices, new_router
from portico_server.api.native import deployments
from portico_server.api.native.stores import shown
from portico_server.api.services import ApiServices
from portico_server.api.shapes import Listed, RemovedId, shaped
from portico_server.archives.stream import Blocks
from portico_server.backup.write import Backup, backup, check_here, noted
from portico_server.core.errors import InvalidRequest, NotFound, nearest
from portico_server.core.limits import KeyLimits
from portico_server.core.principal import Principal
from portico_server.core.servable import Card
from portico_server.guards.guard import PLACES
from portico_server.reconcile import PRUNABLE

router = new_router(prefix="/api", tags=["Daemon"])


class Stopping(BaseModel):
    """The daemon ends after this answer."""

    stopping: bool = True


@router.get("/status")
async def daemon_status(services: TheServices, caller: Caller) -> Status:
    """The daemon at a glance."""
    sees_models = caller.allows("models:read") or caller.allows("chat")
    found = await services.stores.list(caller)
    recommended = services.models.better.recommended
    names = dict.fromkeys((*services.start_apps, *(row.name for row in found)))
    places = {name: place for place, name in enumerate(names)}
    apps = sorted(
        await services.registry.cards(caller, "app"), key=lambda card: places.get(card.name, len(places))
    )
    return Status(
        version=__version__,
        home=str(services.settings.home) if caller.admin else "",
        url=services.url,
        started_at=services.started_at,
        startup=tuple(services.startup),
        models=tuple(deployments.shown(services.models, caller)) if sees_models else (),
        stores=tuple(
            [shown(info, services, caller) for info in await services.stores.describe(found, caller)]
        ),
        apps=tuple(card.name for card in apps),
        recommended=recommended,
        problems=tuple(await _problems(services)) if caller.admin else (),
        small_model=_small_model(services, apps) if sees_models else None,
    )


@router.get("/settings")
async def daemon_settings(services: TheServices, _caller: Admin) -> Listed[Setting]:
    """Every setting, and where its value came from."""
    return Listed(data=services.loaded.describe())


@router.post("/shutdown")
async def shut_down(services: TheServices, _caller: Admin) -> Stopping:
    """End the daemon, as SIGTERM does."""
    services.stop()
    return Stopping()


@router.get("/plugins")
async def list_plugins(services: TheServices, _caller: Admin) -> Listed[Plugin]:
    """What installed distributions add: engines, chunkers, tools and providers. All of it is imported for this."""
    return Listed(data=list(await services.plugins.list()))


@router.get("/guards")
async def list_guards(services: TheServices, _caller: Admin) -> Listed[ConfiguredGuard]:
    """The guards of the configuration, in the order in which they are asked."""
    return Listed(
        data=[
            ConfiguredGuard(
                name=guard.name,
                on=tuple(sorted(guard.on)),
                detects=tuple(dict.fromkeys(detector.kind for detector in guard.detectors)),
                where=tuple(place for place in PLACES if place in guard.where),
                action=guard.action,
                on_error=guard.on_error,
            )
            for guard in services.guards
        ]
    )


async def _problems(services: ApiServices) -> list[Problem]:
    """Those of the configuration and of the buckets, then the plugins that cannot be used."""
    found = list(await services.problems.current())
    if (wrong := await services.places.problem()) is not None:
        found.append(Problem(name="", place="settings.files", reason=wrong.message))
    if (wrong := await services.models.bucket_problem()) is not None:
        found.append(Problem(name="", place="settings.models_bucket", reason=wrong.message))
    return found + [
        Problem(
            name=plugin.name,
            place=f"plugins.{plugin.kind}",
            reason=f"{plugin} cannot be loaded: {plugin.reason}",
        )
        for plugin in await services.plugins.list()
        if plugin.state == "failed"
    ]


def _small_model(services: ApiServices, apps: Sequence[Card]) -> SmallModel | None:
    hint = services.models.better.hint
    if hint is None:
        return None
    tiny = services.models.get("default")
    names = (tiny.name, *tiny.aliases)
    return SmallModel(
        names=names, apps=_apps_using(set(names), apps), hint=hint, fetching=services.models.better.fetching
    )


def _apps_using(names: Set[str], apps: Sequence[Card]) -> tuple[str, ...]:
    """The apps that ask one of the models ``names``, or an app that does."""
    uses = {card.name: {*card.labels.get("uses", ()), card.labels.get("model")} for card in apps}
    found: set[str] = set()
    while more := {app for app, used in uses.items() if app not in found and used & (names | found)}:
        found |= more
    return tuple(card.name for card in apps if card.name in found)


# ``POST /api/apply``: making the daemon what a configuration says.


apply_router = new_router(tags=["Daemon"])


class ApplyRequest(BaseModel, extra="forbid"):
    """``configuration``: as in a file (docs/configuration.md), its variables replaced. ``folder``: what paths in
    it are relative to, on the daemon's machine. ``prune``: kinds (``apps``, ``tools`` …) of which everything is removed
    that the configuration does not name.
    """

    configuration: dict[str, Any]
    folder: str = ""
    prune: list[str] = Field(default_factory=list)
    dry_run: bool = False


@apply_router.post("/api/apply")
async def apply_configuration(body: ApplyRequest, services: TheServices, caller: Admin) -> Applied:
    """Check a whole configuration, then create and change what differs. The same again changes nothing."""
    for kind in body.prune:
        if kind not in PRUNABLE:
            raise InvalidRequest(
                f"Nothing of the kind '{kind}' can be removed.{nearest(kind, PRUNABLE)} It is one of "
                f"{', '.join(PRUNABLE)}.",
                param="prune",
            )
    folder = Path(body.folder or "/")
    if not folder.is_absolute():
        raise InvalidRequest("'folder' must be an absolute path on the daemon's machine.", param="folder")
    wanted = config.parse(body.configuration, folder, None)
    done = await services.reconciler.apply(wanted, caller, prune=body.prune, dry_run=body.dry_run)
    if not body.dry_run:
        services.problems.applied(wanted)
    return Applied(
        changes=tuple(done),
        dry_run=body.dry_run,
        ignored=tuple(key for key in ("keys", "guards", "settings") if body.configuration.get(key)),
    )


# ``/api/backup`` and ``/api/vacuum``: the home of a daemon as one archive, and room that is given back.


backup_router = new_router(prefix="/api", tags=["Daemon"])


class _Held(StreamingResponse):
    """Lets go of what is sent, however the sending ends, also where it never began."""

    def __init__(self, stack: AsyncExitStack, pieces: Blocks, **given: Any) -> None:
        super().__init__(pieces, **given)
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._stack:
            await super().__call__(scope, receive, send)


async def _archive_blocks(made: Backup, stack: AsyncExitStack) -> Blocks:
    """The archive; its last piece when all is let go, so that who has it may begin the next one."""
    last = b""
    async for piece in made.pieces():
        if last:
            yield last
        last = piece
    await stack.aclose()
    yield last


@backup_router.get("/backup", response_class=StreamingResponse)
async def back_up(services: TheServices, _caller: Admin, models: bool = False) -> StreamingResponse:
    """A zip archive of everything that the daemon keeps, as it is at one moment; ``models``: with the model files."""
    settings = services.settings
    check_here(settings)
    stack = AsyncExitStack()
    made = await stack.enter_async_context(
        backup(
            settings.home,
            version=__version__,
            settings=noted(services.loaded),
            models=settings.models if models else None,
        )
    )
    name = time.strftime("portico-%Y%m%d-%H%M%S.zip")
    return _Held(
        stack,
        _archive_blocks(made, stack),
        media_type="application/zip",
        headers={
            "Content-Disposition": f'attachment; filename="{name}"',
            "Portico-Backup-Bytes": str(made.held.bytes),
            "Portico-Backup-Missing": str(made.missing),
        },
    )


@backup_router.post("/vacuum")
async def vacuum(services: TheServices, _caller: Admin) -> Vacuumed:
    """Give back the room within the database file that nothing uses."""
    check_here(services.settings)
    done = await services.database.vacuum()
    if done is None:
        size = services.settings.database_path.stat().st_size
        return Vacuumed(before=size, after=size, freed=0, converted=False)
    return Vacuumed(before=done.before, after=done.after, freed=done.freed, converted=done.converted)


# ``/api/keys``: make, list, change and revoke API keys.


key_router = new_router(prefix="/api/keys", tags=["Keys"])


class KeyRequest(BaseModel, extra="forbid"):
    """A key to be made. ``limits``: concurrency, requests_per_minute, tokens_per_minute, tokens_per_day, storage_mb.

    ``filters``: for a store, by its name or id or ``*`` for any, what the attributes of its files must meet for this
    key to read them, in the form of the ``filters`` of a search.
    """

    name: str
    scopes: list[str]
    limits: dict[str, Any] = {}
    filters: dict[str, Any] = {}


class KeyChange(BaseModel, extra="forbid"):
    """``scopes``, ``filters``, ``limits``: all that the key has from then on. What is left out stays; ``{}`` is no
    filters, and no limits.
    """

    scopes: list[str] | None = None
    filters: dict[str, Any] | None = None
    limits: dict[str, Any] | None = None


@key_router.get("")
async def list_keys(auth: TheAuth, _caller: Admin, blocked: bool = False) -> Listed[Key]:
    """All keys, oldest first. ``blocked``: in their place those who signed in and are kept out."""
    stored = await auth.stored()
    return Listed(
        data=[
            shaped(Key, row, stored_bytes=stored.get(row.id, 0))
            for row in (await auth.blocked() if blocked else auth.list())
        ]
    )


async def _require_meant(filters: Mapping[str, Any], services: ApiServices, caller: Principal) -> None:
    """Raises `InvalidRequest` for a name of no store that is nearly one's: the filter would withhold nothing of that.
    Stores of other names may be made later.
    """
    for name in filters:
        try:
            if name != "*":
                await services.stores.get(name, caller)
        except NotFound:
            known = {card.name.casefold(): card.name for card in await services.stores.cards(caller)}
            folded = name.strip().casefold()
            if meant := known.get(folded) or known.get(misspelt(folded, known)):
                raise InvalidRequest(
                    f"There is no store '{name[:80]}', so this filter would withhold nothing. Did you mean '{meant}'? "
                    "If another one is to have this name, make it first.",
                    code="store_not_found",
                    param=f"filters.{name}"[:200],
                ) from None


@key_router.post("")
async def create_key(body: KeyRequest, auth: TheAuth, services: TheServices, caller: Admin) -> NewKey:
    """A new key; the answer holds the secret, which is kept nowhere. A filter on a store whose name is nearly that of
    another one is refused.
    """
    await _require_meant(body.filters, services, caller)
    row, secret = await auth.create(body.name, body.scopes, KeyLimits.parse(body.limits), body.filters)
    return shaped(NewKey, row, key=secret)


@key_router.patch("/{key_id}")
async def change_key(
    key_id: str, body: KeyChange, auth: TheAuth, services: TheServices, caller: Admin
) -> Key:
    """Let a key have other scopes, filters or limits, at once. If it may do or read less, its calls, streams and runs
    end as by a revocation; under other limits they continue, and what it used counts.
    """
    if body.scopes is None and body.filters is None and body.limits is None:
        raise InvalidRequest(
            "Say what changes: 'scopes', 'filters' or 'limits'.",
            code="missing_required_parameter",
            param="scopes",
        )
    await _require_meant(body.filters or {}, services, caller)
    limits = None if body.limits is None else KeyLimits.parse(body.limits)
    row = await auth.change(key_id, scopes=body.scopes, filters=body.filters, limits=limits)
    return shaped(Key, row)


@key_router.delete("/{key_id}")
async def revoke_key(key_id: str, auth: TheAuth, _caller: Admin) -> RemovedId:
    """End a key, at once. Somebody who signs in is kept out from then on, whatever token they bring."""
    await auth.revoke(key_id)
    return RemovedId(id=key_id)


@key_router.post("/{key_id}/unblock")
async def unblock_key(key_id: str, auth: TheAuth, _caller: Admin) -> Key:
    """Let somebody in again who signs in and was kept out. What they may do, their next token says."""
    return shaped(Key, await auth.unblock(key_id))

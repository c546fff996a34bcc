"""``/api/status``, ``/api/settings`` and ``/api/shutdown``: the daemon itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from pkgutil import resolve_name
from typing import Any

from pydantic import BaseModel

from portico import _build
from portico.schemas.configuration import Problem
from portico.schemas.daemon import Plugin, Setting, Status
from portico.schemas.deployments import SmallModel
from portico.schemas.stores import Store
from portico_server import __version__
from portico_server.api.endpoint import Admin, Caller, TheServices, new_router
from portico_server.api.native import deployments
from portico_server.api.services import ApiServices
from portico_server.api.shapes import Listed
from portico_server.core import pools
from portico_server.core.errors import nearest
from portico_server.core.principal import SYSTEM, Principal
from portico_server.core.servable import Card
from portico_server.db.schema import HEAD
from portico_server.feature_table import declarations

router = new_router(tagged=True, prefix="/api", tags=["Daemon"])


class Stopping(BaseModel):
    """Confirmation that the daemon stops after this response."""

    stopping: bool = True


@router.get("/status")
async def daemon_status(services: TheServices, caller: Caller) -> Status:
    """Return an overview of the daemon."""
    sees_models = caller.allows("models:read") or caller.allows("chat")
    fields = await _fields_of_features(services, caller)
    stores: Sequence[Store] = fields.get("stores", ())
    recommendation = services.models.better.recommended
    # A store whose name is its id is another store with a name that is already in use.
    store_names = (store.name for store in stores if store.name != store.id)
    names = dict.fromkeys((*services.start_apps, *store_names))
    places = {name: place for place, name in enumerate(names)}
    cards = await services.registry.cards_with(fields.get("apps", ()), caller, "app")
    apps = sorted(cards, key=lambda card: places.get(card.name, len(places)))
    return Status(
        version=__version__,
        build=await pools.FILES.run(_build.version) if caller.admin else "",
        schema=HEAD if caller.admin else "",
        home=str(services.settings.home) if caller.admin else "",
        url=services.url,
        started_at=services.started_at,
        startup=tuple(services.startup),
        models=tuple(deployments.visible_deployments(services.models, caller)) if sees_models else (),
        stores=tuple(stores),
        apps=tuple(card.name for card in apps),
        recommended=recommendation,
        problems=tuple(await _problems(services)) if caller.admin else (),
        small_model=_small_model(services, apps) if sees_models else None,
        memory_budget_bytes=services.models.machine.budget_bytes if sees_models else None,
        store_count=fields.get("store_count", 0),
        names=f"{services.started_at}-{services.registry.changes}",
    )


@router.get("/settings")
async def daemon_settings(services: TheServices, _caller: Admin) -> Listed[Setting]:
    """List every setting and the source of its value."""
    return Listed(data=services.loaded.describe())


@router.post("/shutdown")
async def shut_down(services: TheServices, _caller: Admin) -> Stopping:
    """Stop the daemon, as SIGTERM does."""
    services.stop()
    return Stopping()


@router.get("/plugins")
async def list_plugins(services: TheServices, _caller: Admin) -> Listed[Plugin]:
    """List the engines, chunkers, tools and providers that installed distributions add. This imports all of them."""
    return Listed(data=list(await services.plugins.list()))


async def _fields_of_features(services: ApiServices, caller: Principal) -> Mapping[str, Any]:
    """Return the fields of the status that features declare."""
    fields: dict[str, Any] = {}
    for feature in declarations():
        if feature.status:
            describe = await pools.LOADING.run(resolve_name, feature.status)
            fields |= await describe(services, caller)
    return fields


async def _problems(services: ApiServices) -> list[Problem]:
    """Return the problems of the configuration, of older daemons and of the buckets, followed by the plugins that
    cannot be used.
    """
    problems = list(await services.problems.current())
    if (reason := await services.older_daemons.problem()) is not None:
        problems.append(Problem(name="", place="daemons", reason=reason))
    if (wrong := await services.places.problem()) is not None:
        problems.append(Problem(name="", place="settings.files", reason=wrong.message))
    if (wrong := await services.models.downloads.bucket_problem()) is not None:
        problems.append(Problem(name="", place="settings.models_bucket", reason=wrong.message))
    if (guard := services.registry.content_guard) is not None:
        cards = await services.registry.cards(SYSTEM)
        problems += [
            Problem(
                name=guard_name,
                place="guards",
                reason=f"No shared object is called '{name}', so the guard does not protect it."
                + nearest(name, [card.key for card in cards]),
            )
            for guard_name, name in guard.unknown_names(cards)
        ]
    return problems + [
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
    """Return the apps that call any of the models ``names``, directly or through another app."""
    uses = {card.name: {*card.labels.get("uses", ()), card.labels.get("model")} for card in apps}
    dependents: set[str] = set()
    while new_dependents := {
        app for app, used_names in uses.items() if app not in dependents and used_names & (names | dependents)
    }:
        dependents |= new_dependents
    return tuple(card.name for card in apps if card.name in dependents)

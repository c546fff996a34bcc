"""``/api/status``, ``/api/settings`` and ``/api/shutdown``: the daemon itself."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import asdict
from typing import Any, Literal

from pydantic import BaseModel

from portico_server import __version__
from portico_server.api.depends import Caller, TheParts
from portico_server.api.native import deployments
from portico_server.api.native.deployments import Deployment
from portico_server.api.native.rights import Admin
from portico_server.api.native.stores import Store, shown
from portico_server.api.parts import Parts
from portico_server.api.router import router as new_router
from portico_server.core.servable import Card

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


def _small(parts: Parts, apps: Sequence[Card]) -> SmallModel | None:
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

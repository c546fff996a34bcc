"""``/api/engines``: what runs models, and the environments of the heavy ones."""

from __future__ import annotations

from pydantic import BaseModel

from portico_server.api.endpoint import Admin, TheParts
from portico_server.api.endpoint import new_router as new_router
from portico_server.api.native.deployments import Queued, RemovedDeployment
from portico_server.models.catalog import ENGINES

router = new_router(prefix="/api/engines", tags=["Engines"])


class Engine(BaseModel):
    """An engine. ``state`` is ``built in``, ``absent``, ``building``, ``ready``, ``outdated`` or ``broken``."""

    name: str
    state: str
    version: str = ""
    python: str = ""
    packages: int = 0
    gigabytes: float = 0
    path: str = ""
    built_at: float | None = None
    problem: str = ""


class EngineList(BaseModel):
    """All of them, by name."""

    data: list[Engine]


class Building(BaseModel):
    """``rebuild``: also if it is whole."""

    rebuild: bool = False


class Finding(BaseModel):
    """One thing that was looked at."""

    check: str
    ok: bool
    detail: str


class Findings(BaseModel):
    """In the order in which they were looked at."""

    data: list[Finding]


@router.get("")
async def list_engines(parts: TheParts, _caller: Admin) -> EngineList:
    """All engines; those with an environment say whether it is there."""
    apart = {info.name: Engine.model_validate(info.to_json()) for info in parts.models.environments.list()}
    inside = {name: Engine(name=name, state="built in") for name in ENGINES}
    return EngineList(data=[engine for _name, engine in sorted({**inside, **apart}.items())])


@router.post("/{name}/install")
async def install_engine(name: str, wish: Building, parts: TheParts, caller: Admin) -> Queued:
    """Build the environment of an engine, in a durable run."""
    return Queued(run=await parts.models.environments.install(name, caller, rebuild=wish.rebuild))


@router.post("/{name}/doctor")
async def examine_engine(name: str, parts: TheParts, _caller: Admin) -> Findings:
    """Look closely at the environment of an engine."""
    found = await parts.models.environments.doctor(name)
    return Findings(data=[Finding(check=one.check, ok=one.ok, detail=one.detail) for one in found])


@router.delete("/{name}")
async def remove_engine(name: str, parts: TheParts, _caller: Admin) -> RemovedDeployment:
    """Delete the environment of an engine; it can be built again."""
    await parts.models.environments.remove(name)
    return RemovedDeployment(name=name)

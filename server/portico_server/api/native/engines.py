"""``/api/engines``: the engines that run models, and the environments of the heavy engines."""

from __future__ import annotations

from pydantic import BaseModel

from portico.schemas.engines import Engine, EngineParameter, Finding
from portico_server.api.endpoint import Admin, TheServices, new_router
from portico_server.api.shapes import Listed, RemovedName, StartedRun
from portico_server.core import pools
from portico_server.core.errors import NotFound, nearest
from portico_server.models.catalog import ENGINES
from portico_server.models.protocol import NamesOptions

router = new_router(prefix="/api/engines", tags=["Engines"])


class Building(BaseModel, extra="forbid"):
    """``rebuild``: rebuild the environment even if it is complete."""

    rebuild: bool = False


@router.get("")
async def list_engines(services: TheServices, _caller: Admin) -> Listed[Engine]:
    """List all engines by name. If an engine has an environment, its entry says whether the environment is
    installed.
    """
    apart = {info.name: info for info in services.models.environments.list()}
    plugins = await pools.LOADING.run(ENGINES.plugins)
    inside = {
        p.name: Engine(name=p.name, state="broken", version=p.version, problem=p.reason) for p in plugins
    }
    inside |= {
        p.name: Engine(name=p.name, state="plugin", version=p.version) for p in plugins if not p.reason
    }
    inside |= {name: Engine(name=name, state="built in") for name in ENGINES.built_in}
    return Listed(data=[engine for _name, engine in sorted({**inside, **apart}.items())])


@router.get("/{name}/parameters")
async def engine_parameters(name: str, _caller: Admin) -> Listed[EngineParameter]:
    """List the parameters of an engine, if the engine publishes them."""
    engine = await pools.LOADING.run(ENGINES.get, name)
    if engine is None:
        raise NotFound(
            f"The engine '{name}' does not exist.{nearest(name, ENGINES)}",
            code="engine_not_found",
            param="name",
        )
    options = engine.options if isinstance(engine, NamesOptions) else {}
    return Listed(
        data=[
            EngineParameter(name=key, kind=engine_option.kind, doc=engine_option.doc)
            for key, engine_option in options.items()
        ]
    )


@router.post("/{name}/install")
async def install_engine(name: str, body: Building, services: TheServices, caller: Admin) -> StartedRun:
    """Build the environment of an engine, in a durable run."""
    return StartedRun(run=await services.models.environments.install(name, caller, rebuild=body.rebuild))


@router.post("/{name}/doctor")
async def examine_engine(name: str, services: TheServices, _caller: Admin) -> Listed[Finding]:
    """Check the environment of an engine in detail."""
    return Listed(data=list(await services.models.environments.doctor(name)))


@router.delete("/{name}")
async def remove_engine(name: str, services: TheServices, _caller: Admin) -> RemovedName:
    """Delete the environment of an engine; it can be built again."""
    await services.models.environments.remove(name)
    return RemovedName(name=name)

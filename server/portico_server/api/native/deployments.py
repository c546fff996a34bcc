"""``/api/deployments`` and ``/api/models/pull``: the models of this daemon and the processes behind them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel

from portico_server.api.endpoint import Admin, ModelsReader, TheParts
from portico_server.api.endpoint import new_router as new_router
from portico_server.core.errors import NotFound
from portico_server.core.principal import Principal
from portico_server.models.catalog import ENGINES
from portico_server.models.service import ModelService
from portico_server.models.spec import DeploymentInfo, ModelSpec

router = new_router(prefix="/api", tags=["Models"])


class Replica(BaseModel):
    """One process of a model that has several."""

    source: str
    engine: str
    state: Literal["cold", "downloading", "loading", "ready", "failed"]
    pid: int | None
    memory_bytes: int | None
    error: str | None
    calls: int
    starts: int
    crashes: int


class Deployment(BaseModel):
    """A model on an engine. Times in seconds since 1970; ``memory_bytes`` is what its process holds.

    ``calls`` wait for it or are being answered; ``starts`` and ``crashes`` are counted since the daemon started.
    With several ``replicas`` each number is their sum. ``gpus`` are the numbers of those that it has a share of.
    ``answers``, of one chat model: whether it answers from passages in its own words (``write``) or by quotation, as
    its configuration or its test says; null until it was tested.
    """

    name: str
    source: str
    engine: str
    task: str
    state: Literal["cold", "downloading", "loading", "ready", "failed"]
    pid: int | None
    memory_bytes: int | None
    error: str | None
    aliases: list[str]
    loaded_at: float | None
    last_used_at: float | None
    context_length: int | None
    dimensions: int | None
    description: str
    pin: bool
    keep_alive: float | None
    calls: int
    starts: int
    crashes: int
    replicas: list[Replica]
    gpus: list[int]
    answers: Literal["write", "quote"] | None = None


class DeploymentList(BaseModel):
    """All of them, by name."""

    data: list[Deployment]


class DeploymentWish(BaseModel):
    """A model to be registered; ``engine`` and ``task`` are found out unless they are given. ``replicas`` is a number
    of processes, or the sources of the further ones.
    """

    name: str
    source: str
    engine: str = "auto"
    task: str = "auto"
    parameters: dict[str, Any] = {}
    api_key: str = ""
    aliases: list[str] = []
    description: str = ""
    keep_alive: float | None = None
    pin: bool = False
    memory_mb: int | None = None
    queue_limit: int | None = None
    defaults: dict[str, Any] = {}
    replicas: int | list[str] = 1
    prompt: dict[str, Any] = {}
    answers: str = "auto"


class DeploymentLog(BaseModel):
    """Lines of a log, oldest first."""

    data: list[str]


class RemovedDeployment(BaseModel):
    """What was removed."""

    name: str
    deleted: bool = True


class PullWish(BaseModel):
    """A model source, such as ``hf://ORG/REPO/FILE``."""

    source: str


class PlanWish(BaseModel):
    """A model's name or source, and what to plan for; ``hardware`` is a preset's name, empty for this machine."""

    model: str
    hardware: str = ""
    parameters: dict[str, Any] = {}


class Estimate(BaseModel):
    """Bytes by what they are for; per GPU where there are several. ``available`` is what models may have."""

    device: Literal["cpu", "gpu"]
    weights: int
    cache: int
    other: int
    total: int
    available: int


class Plan(BaseModel):
    """What would run, and why; if it does not fit, ``nearest`` says what would."""

    model: str
    hardware: str
    engine: str
    parameters: dict[str, Any]
    estimate: Estimate
    fits: bool
    reasons: list[str]
    nearest: str


class Queued(BaseModel):
    """The id of the run that does the work; its events are at ``/api/runs/{id}/events``."""

    run: str


class TriedSource(BaseModel):
    """A source that was asked, and why it cannot be used."""

    source: str
    reason: str


class BetterOffer(BaseModel):
    """What could take the tiny model's place; ``seconds`` is about how long fetching it takes, null if unknown.

    ``none``: no better model fits this machine, or ``default`` means another model already. ``unreachable``: ``tried``
    says why no source can be used. ``fetching``: in ``run``. ``declined``: it is not to be offered again.
    """

    state: Literal["none", "available", "unreachable", "fetching", "declined"]
    name: str
    source: str
    size_bytes: int
    seconds: float | None
    reason: str
    tried: list[TriedSource]
    run: str | None


class BetterDecision(BaseModel):
    """Whether to fetch the better model."""

    accept: bool


class BetterDecided(BaseModel):
    """The run that fetches it and puts it in place; null if it was declined."""

    run: str | None


@router.get("/deployments")
async def list_deployments(parts: TheParts, caller: ModelsReader) -> DeploymentList:
    """All deployments."""
    return DeploymentList(data=shown(parts.models, caller))


@router.post("/deployments")
async def create_deployment(wish: DeploymentWish, parts: TheParts, _caller: Admin) -> Deployment:
    """Register a model; it is fetched and loaded at its first call, or by ``load``."""
    spec = ModelSpec(
        name=wish.name,
        source=wish.source,
        engine=wish.engine,
        task=wish.task,
        parameters=wish.parameters,
        api_key=wish.api_key,
        aliases=tuple(wish.aliases),
        description=wish.description,
        keep_alive=wish.keep_alive,
        pin=wish.pin,
        memory_mb=wish.memory_mb,
        queue_limit=wish.queue_limit,
        defaults=wish.defaults,
        prompt=wish.prompt,
        answers=wish.answers,
        replicas=tuple(wish.replicas) if isinstance(wish.replicas, list) else wish.replicas,
    )
    return _deployment(await parts.models.add(spec))


@router.get("/deployments/{name:path}/logs")
async def deployment_logs(
    name: str, parts: TheParts, _caller: Admin, lines: Annotated[int, Query(ge=1, le=10_000)] = 100
) -> DeploymentLog:
    """The last lines that the engine wrote."""
    return DeploymentLog(data=parts.models.logs(name, lines))


@router.post("/deployments/{name:path}/load")
async def load_deployment(name: str, parts: TheParts, _caller: Admin) -> Deployment:
    """Load a model, and wait until it is ready."""
    return _deployment(await parts.models.load(name))


@router.post("/deployments/{name:path}/unload")
async def unload_deployment(name: str, parts: TheParts, _caller: Admin) -> Deployment:
    """Unload a model, after the calls in flight."""
    return _deployment(await parts.models.unload(name))


@router.get("/deployments/{name:path}")
async def retrieve_deployment(name: str, parts: TheParts, caller: ModelsReader) -> Deployment:
    """One deployment, by name or alias."""
    info = parts.models.get(name)
    if not caller.sees(info.owner):
        raise NotFound(f"There is no deployment '{name}'.", code="model_not_found", param="name")
    card = parts.models.card(name)
    return _deployment(info).model_copy(
        update={"answers": await parts.trust.known(card) if "chat" in card.capabilities else None}
    )


@router.delete("/deployments/{name:path}")
async def delete_deployment(name: str, parts: TheParts, _caller: Admin) -> RemovedDeployment:
    """Forget a model; its files stay."""
    await parts.models.remove(name)
    return RemovedDeployment(name=name)


@router.post("/models/plan")
async def plan_model(wish: PlanWish, parts: TheParts, _caller: Admin) -> Plan:
    """Say how a model would run here or on other hardware, without running it."""
    found = await parts.models.plan(wish.model, wish.hardware, wish.parameters)
    return Plan.model_validate(found.to_json())


@router.get("/models/better")
async def better_model(parts: TheParts, _caller: Admin) -> BetterOffer:
    """A better model for this machine than the tiny one, and where it can be fetched from. Takes some seconds."""
    return BetterOffer(**asdict(await parts.models.better.offer()))


@router.post("/models/better")
async def decide_better_model(wish: BetterDecision, parts: TheParts, caller: Admin) -> BetterDecided:
    """Fetch that model in the background, whereupon `default` means it, or do not offer it again."""
    if wish.accept:
        return BetterDecided(run=await parts.models.better.accept(caller))
    await parts.models.better.decline()
    return BetterDecided(run=None)


@router.post("/models/pull")
async def pull_model(wish: PullWish, parts: TheParts, caller: Admin) -> Queued:
    """Fetch the files of a model source, in a durable run."""
    return Queued(run=await parts.models.pull(wish.source, caller))


def shown(models: ModelService, caller: Principal) -> list[Deployment]:
    """The deployments that exist for this caller."""
    return [_deployment(info) for info in models.list() if caller.sees(info.owner)]


def _deployment(info: DeploymentInfo) -> Deployment:
    return Deployment.model_validate(info.to_json())


# ``/api/aliases``: names that mean other names, such as ``default``.


alias_router = new_router(prefix="/api/aliases", tags=["Models"])


class Target(BaseModel):
    """The model or app that an alias means."""

    target: str


class Alias(BaseModel):
    """A name and what it means."""

    name: str
    target: str


class AliasList(BaseModel):
    """All aliases, by name."""

    data: list[Alias]


@alias_router.get("")
async def list_aliases(parts: TheParts, caller: ModelsReader) -> AliasList:
    """All aliases, save those of what other keys have trained."""
    pairs = [
        (name, target)
        for name, target in sorted(parts.registry.aliases.items())
        if ":" not in target or parts.registry.get(name, caller) is not None
    ]
    return AliasList(data=[Alias(name=name, target=target) for name, target in pairs])


@alias_router.put("/{name:path}")
async def set_alias(name: str, wish: Target, parts: TheParts, _caller: Admin) -> Alias:
    """Let a name mean a model or app from now on, and after a restart."""
    await parts.models.set_alias(name, wish.target)
    return Alias(name=name, target=parts.registry.aliases[name])


# ``/api/engines``: what runs models, and the environments of the heavy ones.


engine_router = new_router(prefix="/api/engines", tags=["Engines"])


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


@engine_router.get("")
async def list_engines(parts: TheParts, _caller: Admin) -> EngineList:
    """All engines; those with an environment say whether it is there."""
    apart = {info.name: Engine.model_validate(info.to_json()) for info in parts.models.environments.list()}
    inside = {name: Engine(name=name, state="built in") for name in ENGINES}
    return EngineList(data=[engine for _name, engine in sorted({**inside, **apart}.items())])


@engine_router.post("/{name}/install")
async def install_engine(name: str, wish: Building, parts: TheParts, caller: Admin) -> Queued:
    """Build the environment of an engine, in a durable run."""
    return Queued(run=await parts.models.environments.install(name, caller, rebuild=wish.rebuild))


@engine_router.post("/{name}/doctor")
async def examine_engine(name: str, parts: TheParts, _caller: Admin) -> Findings:
    """Look closely at the environment of an engine."""
    found = await parts.models.environments.doctor(name)
    return Findings(data=[Finding(check=one.check, ok=one.ok, detail=one.detail) for one in found])


@engine_router.delete("/{name}")
async def remove_engine(name: str, parts: TheParts, _caller: Admin) -> RemovedDeployment:
    """Delete the environment of an engine; it can be built again."""
    await parts.models.environments.remove(name)
    return RemovedDeployment(name=name)

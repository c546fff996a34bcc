"""``/api/deployments`` and ``/api/models/pull``: the models of this daemon and the processes behind them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel

from portico.schemas import deployments
from portico.schemas.deployments import BetterModel, Deployment
from portico_server.api.endpoint import Admin, ModelsReader, TheServices, new_router
from portico_server.api.shapes import Listed, RemovedName, StartedRun, shaped
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import NotFound
from portico_server.core.principal import Principal
from portico_server.models.service import ModelService
from portico_server.models.spec import DeploymentInfo, ModelSpec, check_defaults

router = new_router(prefix="/api", tags=["Models"])


class DeploymentRequest(BaseModel, extra="forbid"):
    """A model to be registered; ``engine`` and ``task`` are found out unless they are given. ``replicas`` is a number
    of processes, or the sources of the further ones. ``launcher`` starts them, the setting's if it is empty;
    ``resources`` are what they ask a scheduler for.
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
    launcher: str = ""
    resources: dict[str, int | str] = {}


class DeploymentChange(BaseModel, extra="forbid"):
    """Parameters to be set; those that are null are taken away, all others stay."""

    parameters: dict[str, Any]


class PullRequest(BaseModel, extra="forbid"):
    """A model source, such as ``hf://ORG/REPO/FILE``."""

    source: str


class PlanRequest(BaseModel, extra="forbid"):
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


@dataclass(frozen=True, slots=True)
class Plan(deployments.Plan):
    """What would run, and why; if it does not fit, ``nearest`` says what would."""

    estimate: Estimate  # type: ignore[assignment]  # the SDK has it as a JSON object


class BetterDecision(BaseModel, extra="forbid"):
    """Whether to fetch the better model."""

    accept: bool


class BetterDecided(BaseModel):
    """The run that fetches it and puts it in place; null if it was declined."""

    run: str | None


@router.get("/deployments")
async def list_deployments(services: TheServices, caller: ModelsReader) -> Listed[Deployment]:
    """All deployments, by name."""
    return Listed(data=shown(services.models, caller))


@router.post("/deployments")
async def create_deployment(body: DeploymentRequest, services: TheServices, _caller: Admin) -> Deployment:
    """Register a model; it is fetched and loaded at its first call, or by ``load``."""
    check_defaults(body.name, body.defaults)
    fields = body.model_dump() | {"aliases": tuple(body.aliases)}
    if isinstance(body.replicas, list):
        fields["replicas"] = tuple(body.replicas)
    return _deployment(await services.models.add(ModelSpec(**fields)))


@router.get("/deployments/{name:path}/logs")
async def deployment_logs(
    name: str, services: TheServices, _caller: Admin, lines: Annotated[int, Query(ge=1, le=10_000)] = 100
) -> Listed[str]:
    """The last lines that the engine wrote."""
    return Listed(data=services.models.logs(name, lines))


@router.post("/deployments/{name:path}/load")
async def load_deployment(name: str, services: TheServices, _caller: Admin) -> Deployment:
    """Load a model, and wait until it is ready."""
    return _deployment(await services.models.load(name))


@router.post("/deployments/{name:path}/unload")
async def unload_deployment(name: str, services: TheServices, _caller: Admin) -> Deployment:
    """Unload a model, after the calls in flight."""
    return _deployment(await services.models.unload(name))


@router.get("/deployments/{name:path}")
async def retrieve_deployment(name: str, services: TheServices, caller: ModelsReader) -> Deployment:
    """One deployment, by name or alias."""
    info = services.models.get(name)
    if not caller.sees(info.owner):
        raise NotFound(f"There is no deployment '{name}'.", code="model_not_found", param="name")
    card = services.models.card(name)
    answers = await services.trust.known(card) if "chat" in card.capabilities else None
    return shaped(Deployment, info.for_caller(caller), answers=answers)


@router.patch("/deployments/{name:path}")
async def change_deployment(
    name: str, body: DeploymentChange, services: TheServices, _caller: Admin
) -> Deployment:
    """Set parameters of a model's engine; it is unloaded, and starts with them at its next call."""
    return _deployment(await services.models.change(name, body.parameters))


@router.delete("/deployments/{name:path}")
async def delete_deployment(name: str, services: TheServices, _caller: Admin) -> RemovedName:
    """Forget a model; its files stay."""
    await services.models.remove(name)
    return RemovedName(name=name)


@router.post("/models/plan")
async def plan_model(body: PlanRequest, services: TheServices, _caller: Admin) -> Plan:
    """Say how a model would run here or on other hardware, without running it."""
    plan_outcome = await services.models.plan(body.model, body.hardware, body.parameters)
    return shaped(Plan, plan_outcome)


@router.get("/models/better")
async def better_model(services: TheServices, _caller: Admin) -> BetterModel:
    """A better model for this machine than the tiny one, and where it can be fetched from. Takes some seconds."""
    return await services.models.better.offer()


@router.post("/models/better")
async def decide_better_model(body: BetterDecision, services: TheServices, caller: Admin) -> BetterDecided:
    """Fetch that model in the background, whereupon `default` means it, or do not offer it again."""
    if body.accept:
        return BetterDecided(run=await services.models.better.accept(caller))
    await services.models.better.decline()
    return BetterDecided(run=None)


@router.post("/models/pull")
async def pull_model(body: PullRequest, services: TheServices, caller: Admin) -> StartedRun:
    """Fetch the files of a model source, in a durable run."""
    return StartedRun(run=await services.models.downloads.pull(body.source, caller))


def shown(models: ModelService, caller: Principal) -> list[Deployment]:
    """The deployments that exist for this caller."""
    return [_deployment(info.for_caller(caller)) for info in models.list() if caller.sees(info.owner)]


def _deployment(info: DeploymentInfo) -> Deployment:
    return shaped(Deployment, info)

"""``/api/deployments`` and ``/api/models/pull``: the models of this daemon and the processes that run them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel

from portico.schemas import deployments
from portico.schemas.deployments import BetterModel, BetterTask, Deployment
from portico_server.api.endpoint import Admin, ModelsReader, TheServices, new_router
from portico_server.api.shapes import Listed, RemovedName, StartedRun, shaped
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import NotFound
from portico_server.core.principal import Principal
from portico_server.models.service import ModelService
from portico_server.models.spec import DeploymentInfo, ModelSpec, check_defaults

router = new_router(prefix="/api", tags=["Models"])


class DeploymentRequest(BaseModel, extra="forbid"):
    """A model to register; ``engine`` and ``task`` are detected unless set.

    ``replicas`` is a number of processes, or the sources of the additional processes. ``launcher`` starts the
    processes; if empty, the launcher from the settings starts them. ``resources`` are requested from a scheduler for
    each process.
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
    """Parameters to set. A null value removes the parameter; parameters not listed stay unchanged."""

    parameters: dict[str, Any]


class PullRequest(BaseModel, extra="forbid"):
    """A model source, such as ``hf://ORG/REPO/FILE``."""

    source: str


class PlanRequest(BaseModel, extra="forbid"):
    """A model's name or source, and the conditions to plan for; ``hardware`` is the name of a preset, empty for this
    machine.
    """

    model: str
    hardware: str = ""
    parameters: dict[str, Any] = {}


class Estimate(BaseModel):
    """Memory in bytes by purpose, per GPU if the machine has several. ``available`` is the memory that models may
    use.
    """

    device: Literal["cpu", "gpu"]
    weights: int
    cache: int
    other: int
    total: int
    available: int


@dataclass(frozen=True, slots=True)
class Plan(deployments.Plan):
    """How a model would run, and why. If the model does not fit, ``nearest`` is the most similar plan that fits."""

    estimate: Estimate  # type: ignore[assignment]  # the SDK has it as a JSON object


class BetterDecision(BaseModel, extra="forbid"):
    """Whether to fetch the better model for a task."""

    accept: bool
    task: BetterTask = "chat"


class BetterDecided(BaseModel):
    """The run that fetches the better model and then switches to it; null if the offer was declined."""

    run: str | None


@router.get("/deployments")
async def list_deployments(services: TheServices, caller: ModelsReader) -> Listed[Deployment]:
    """List all deployments by name."""
    return Listed(data=visible_deployments(services.models, caller))


@router.post("/deployments")
async def create_deployment(body: DeploymentRequest, services: TheServices, _caller: Admin) -> Deployment:
    """Register a model. The model is fetched and loaded at its first call or by ``load``."""
    check_defaults(body.name, body.defaults)
    fields = body.model_dump() | {"aliases": tuple(body.aliases)}
    if isinstance(body.replicas, list):
        fields["replicas"] = tuple(body.replicas)
    return _deployment(await services.models.add(ModelSpec(**fields)))


@router.get("/deployments/{name:path}/logs")
async def deployment_logs(
    name: str, services: TheServices, _caller: Admin, lines: Annotated[int, Query(ge=1, le=10_000)] = 100
) -> Listed[str]:
    """Return the last lines of the log of a deployment's engine."""
    return Listed(data=services.models.logs(name, lines))


@router.post("/deployments/{name:path}/load")
async def load_deployment(name: str, services: TheServices, _caller: Admin) -> Deployment:
    """Load a model, and wait until it is ready."""
    return _deployment(await services.models.load(name))


@router.post("/deployments/{name:path}/unload")
async def unload_deployment(name: str, services: TheServices, _caller: Admin) -> Deployment:
    """Unload a model once its calls in progress have finished."""
    return _deployment(await services.models.unload(name))


@router.get("/deployments/{name:path}")
async def retrieve_deployment(name: str, services: TheServices, caller: ModelsReader) -> Deployment:
    """Return a deployment by name or alias."""
    info = services.models.get(name)
    if not caller.sees(info.owner):
        raise NotFound(f"The deployment '{name}' does not exist.", code="model_not_found", param="name")
    card = services.models.card(name)
    answers = await services.trust.verdict(card) if "chat" in card.capabilities else None
    return shaped(Deployment, info.for_caller(caller), answers=answers)


@router.patch("/deployments/{name:path}")
async def change_deployment(
    name: str, body: DeploymentChange, services: TheServices, _caller: Admin
) -> Deployment:
    """Set parameters of a model's engine. The model is unloaded and starts with the new parameters at its next call."""
    return _deployment(await services.models.change(name, body.parameters))


@router.delete("/deployments/{name:path}")
async def delete_deployment(name: str, services: TheServices, _caller: Admin) -> RemovedName:
    """Delete a deployment. The model's files stay on disk."""
    await services.models.remove(name)
    return RemovedName(name=name)


@router.post("/models/plan")
async def plan_model(body: PlanRequest, services: TheServices, _caller: Admin) -> Plan:
    """Plan how a model would run on this or other hardware, without running it."""
    plan_outcome = await services.models.plan(body.model, body.hardware, body.parameters)
    return shaped(Plan, plan_outcome)


@router.get("/models/better")
async def better_model(services: TheServices, _caller: Admin, task: BetterTask = "chat") -> BetterModel:
    """Return a better model for this machine than the built-in model for a task, and its source. This takes some
    seconds.
    """
    return await services.models.offers[task].offer()


@router.post("/models/better")
async def decide_better_model(body: BetterDecision, services: TheServices, caller: Admin) -> BetterDecided:
    """Fetch the better model in the background and point `default` or `default-embedding` to it, or decline the
    offer.
    """
    offer = services.models.offers[body.task]
    if body.accept:
        return BetterDecided(run=await offer.accept(caller))
    await offer.decline()
    return BetterDecided(run=None)


@router.post("/models/pull")
async def pull_model(body: PullRequest, services: TheServices, caller: Admin) -> StartedRun:
    """Download the files of a model source, in a durable run."""
    return StartedRun(run=await services.models.downloads.pull(body.source, caller))


def visible_deployments(models: ModelService, caller: Principal) -> list[Deployment]:
    """Return the deployments that are visible to this caller."""
    return [_deployment(info.for_caller(caller)) for info in models.list() if caller.sees(info.owner)]


def _deployment(info: DeploymentInfo) -> Deployment:
    return shaped(Deployment, info)

"""``/api/apps``: list apps, run an app with all its events, deploy and roll back."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

import orjson
from fastapi import Query, Response
from fastapi import Request as HttpRequest
from pydantic import BaseModel, ConfigDict, Field

from portico.schemas.apps import App, AppVersion
from portico_server.api.declarations import DRAWING, TEXT
from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.errors import unknown_parameter
from portico_server.api.openai.chat import refuse_unchecked
from portico_server.api.openai.message_fields import MESSAGES
from portico_server.api.services import ApiServices
from portico_server.api.shapes import Listed, shaped
from portico_server.api.sse import EventStream, events_of, while_present
from portico_server.core.errors import InvalidRequest, NotFound, nearest
from portico_server.core.limits import UsageLimits
from portico_server.core.principal import Principal
from portico_server.core.request import AppInput, AppOutput, Chat, ChatReply, Request
from portico_server.core.servable import Card, Servable
from portico_server.db.apps import AppRow, VersionRow
from portico_server.features.flows.model_options import model_options
from portico_server.runs.run import Run
from portico_server.runs.runner import Runner

router = new_router(tagged=True, prefix="/api/apps", tags=["Apps"])


class RunInput(BaseModel):
    """The input of a run: ``input``, which must match the app's input schema, or ``messages``, a conversation with the
    options of a chat completion. ``session`` names a conversation that the app remembers.
    """

    model_config = ConfigDict(extra="allow")

    messages: list[Any] | None = None
    input: Any = None
    session: str = ""


class RunOutput(BaseModel):
    """A run and its output."""

    run: str
    output: Any


class DeployedApp(BaseModel, extra="forbid"):
    """An app to deploy. If the current version is not ``expected_version``, the request is refused with 409.

    ``serve_later``: allow client functions that no worker serves yet; without it, such a flow is refused with 409.
    """

    name: str
    kind: str = "flow"
    spec: dict[str, Any]
    note: str = Field("", max_length=500)
    expected_version: int | None = None
    serve_later: bool = False


class Update(BaseModel, extra="forbid"):
    """A change to an app. ``set`` maps paths in the specification (``outline.system``) to new values; null removes a
    field.

    The result is a new version; all other fields stay unchanged. ``limits`` replace the app's limits and create no
    version.
    """

    set: dict[str, Any] = Field(default_factory=dict)
    limits: dict[str, Any] | None = None
    note: str = Field("", max_length=500)
    expected_version: int | None = None


class RollBack(BaseModel, extra="forbid"):
    """The version to restore; by default the version before the current one."""

    version: int | None = None


@router.get("")
async def list_apps(
    services: TheServices,
    caller: Caller,
    all: Annotated[
        bool, Query(description="For admins: include the deployed apps of other keys, listed by id")
    ] = False,
) -> Listed[App]:
    """List the apps that the caller may call."""
    cards = await services.registry.cards(caller, "app")
    if all:
        caller.require("admin")
        card_ids = {card.id for card in cards}
        for row, _version in services.apps.index.list(caller, include_all=True):
            servable = services.registry.get(row.id, caller)
            if row.id not in card_ids and servable is not None:
                cards.append(servable.card)
    return Listed(data=[_app(card, services, caller) for card in cards])


@router.post("")
async def deploy_app(body: DeployedApp, services: TheServices, caller: Caller) -> AppVersion:
    """Deploy an app, or a new version of an app, for all later calls. Deploying an identical app changes nothing."""
    if body.kind == "flow" and not body.serve_later:
        flows = await services.features.load("flows")
        await flows.refuse_unserved(body.name, body.spec, caller)
    row, version = await services.apps.deploy(
        body.name, body.kind, body.spec, caller, note=body.note, expected_version=body.expected_version
    )
    return await _deployed(row, version, services, caller)


@router.get("/{name}")
async def retrieve_app(name: str, services: TheServices, caller: Caller) -> App:
    """Return an app."""
    return _app((await _resolve(services, name, caller)).card, services, caller)


@router.patch("/{name}")
async def update_app(name: str, body: Update, services: TheServices, caller: Caller) -> AppVersion:
    """Change parts of a deployed app, or its limits. Runs and sessions in progress continue."""
    # Parse the limits first: if they are invalid, the changes to the specification must not be applied
    # either.
    limits = UsageLimits.parse(body.limits) if body.limits is not None else None
    row, version = services.apps.index.find(name, caller)
    if body.set:
        row, version = await services.apps.update(
            row.id, body.set, caller, note=body.note, expected_version=body.expected_version
        )
    if limits is not None:
        await services.apps.limit(row.id, limits, caller)
    return await _deployed(row, version, services, caller)


@router.get(
    "/{name}/drawing",
    response_class=Response,
    responses=DRAWING,
)
async def draw_app(
    name: str, services: TheServices, caller: Caller, format: Literal["mermaid", "svg"] = "mermaid"
) -> Response:
    """Draw a deployed app as the text of a Mermaid flowchart, or as SVG.

    Callers that may call the app but not read its specification see the app's steps without their conditions.
    """
    row, version = services.apps.index.find(name, caller)
    await services.features.load("flows")
    from portico_server.features.flows import read
    from portico_server.features.flows.drawing import diagram
    from portico_server.features.flows.drawing.svg import svg

    if row.kind == "flow":
        flow = read.flow({**version.spec, "name": row.name})
        root = diagram.of_flow(flow, conditions=caller.owns(row.owner))
    else:
        root = diagram.of_agent(row.name, version.spec)
    if format == "svg":
        return Response(svg(root), media_type="image/svg+xml")
    return Response(diagram.mermaid(root), media_type="text/plain")


@router.delete("/{name}", status_code=204, response_class=Response)
async def remove_app(name: str, services: TheServices, caller: Caller) -> None:
    """Remove a deployed app and all its versions. Runs in progress continue."""
    await services.apps.remove(name, caller)


@router.get("/{name}/versions")
async def list_versions(name: str, services: TheServices, caller: Caller) -> Listed[AppVersion]:
    """List the versions of a deployed app with their specifications, newest first. An admin can list the versions of
    any app, other callers only of their own apps.
    """
    row, _current = services.apps.index.readable(name, caller)
    return Listed(
        data=[_version(row, version_row) for version_row in await services.apps.versions(name, caller)]
    )


@router.post("/{name}/rollback")
async def roll_back_app(name: str, body: RollBack, services: TheServices, caller: Caller) -> AppVersion:
    """Restore an earlier version."""
    row, version = await services.apps.roll_back(name, caller, to=body.version)
    return await _deployed(row, version, services, caller)


@router.post(
    "/{name}/run",
    response_class=Response,
    responses={
        200: {
            "model": RunOutput,
            "content": {"application/json": {}, "text/event-stream": {"schema": TEXT}},
            "description": "The events of the run, in order; or its output, without ``stream``",
        }
    },
)
async def run_app(
    name: str,
    body: RunInput,
    services: TheServices,
    caller: Caller,
    request: HttpRequest,
    stream: Annotated[bool, Query(description="false for a single JSON response")] = True,
    keep: Annotated[bool, Query(description="true: the run continues when the client leaves")] = False,
) -> Response:
    """Run an app and stream its events; the header ``x-portico-run`` contains the run id. If the client leaves, the
    run is cancelled.

    With ``keep``, or if the app is a durable flow, the run continues when the client leaves. Without ``stream``, the
    response is ``{"run": …, "output": …}``.
    """
    servable = await _resolve(services, name, caller)
    asked_request = _request(body)
    if isinstance(asked_request, Chat):
        refuse_unchecked(servable.card, asked_request.options)
    flow = getattr(servable, "flow", None)
    if flow is not None and body.messages is None:
        with await services.runner.admitted(name, caller) as admission:
            flows = services.features.find("flows")
            run = await flows.begin(flow, body.input, caller, card=servable.card)
            admission.follow(run)
        stay = keep or flow.durability != "off"
    else:
        run = await services.runner.start("apps/run", name, asked_request, caller)
        stay = keep
    if not stream:
        output = await while_present(request, _output(services.runner, run, stay=stay))
        return Response(orjson.dumps({"run": run.id, "output": output}), media_type="application/json")
    return EventStream(events_of(services.runner, run, stay=stay), {"x-portico-run": run.id})


async def _output(runner: Runner, run: Run, *, stay: bool) -> Any:
    """Return the output of the run, or raise its error. ``stay``: the run continues if the waiting request ends."""
    if stay:
        async for _event in run.log.follow():
            pass
    result = await runner.wait(run)
    if isinstance(result, AppOutput):
        return result.value
    return result.content if isinstance(result, ChatReply) else result


def _request(run_input: RunInput) -> Request:
    options = dict(run_input.model_extra or {})
    if run_input.messages is None:
        if options:
            raise unknown_parameter(next(iter(options)), RunInput.model_fields)
        return AppInput(run_input.input, run_input.session)
    if run_input.input is not None:
        raise InvalidRequest("Give either 'input' or 'messages', not both.", param="input")
    MESSAGES.check(run_input.messages, "messages")
    options = model_options(options, "")
    if run_input.session:
        options["conversation"] = run_input.session
    return Chat(tuple(run_input.messages), options)


async def _resolve(services: ApiServices, name: str, caller: Principal) -> Servable:
    servable = await services.registry.resolve(name, caller)
    if servable.card.kind != "app":
        known_names = [card.name for card in await services.registry.cards(caller, "app")]
        raise NotFound(
            f"The app '{name}' does not exist.{nearest(name, known_names)}",
            code="app_not_found",
            param="name",
        )
    return servable


def _app(card: Card, services: ApiServices, caller: Principal) -> App:
    row = services.apps.index.row(card.id)
    return App(
        name=card.name,
        title=card.title,
        description=card.description,
        kind=str(card.labels.get("app") or "store"),
        version=int(card.labels.get("version") or 0),
        input_schema=dict(card.input_schema) if card.input_schema else None,
        output_schema=dict(card.output_schema) if card.output_schema else None,
        limits=dict(row.limits) if row is not None and row.limits else None,
        id=card.id,
        shared=card.owner is None,
        owner=card.owner if caller.admin else None,
    )


async def _deployed(row: AppRow, version: VersionRow, services: ApiServices, caller: Principal) -> AppVersion:
    """Return the version that is now current, with what it still lacks before it can run."""
    answers = services.registry.get(row.id, caller)
    flow, agent = getattr(answers, "flow", None), getattr(answers, "spec", None)
    needs: list[str] = []
    if flow is not None:
        needs = await services.features.find("flows").warnings(flow, caller)
    elif agent:
        needs = services.features.find("agents").unserved(agent, caller)
    return replace(_version(row, version), warnings=tuple(needs))


def _version(row: AppRow, version: VersionRow) -> AppVersion:
    return shaped(AppVersion, version, id=row.id, name=row.name, current=row.version == version.version)

"""``/api/apps``: what apps there are, and running one with all its events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from portico.wire import Failed
from portico_server.api.depends import Caller, TheParts
from portico_server.api.openai import validate
from portico_server.api.sse import EventStream, event_frame
from portico_server.core.errors import NotFound, nearest
from portico_server.core.request import Chat
from portico_server.runs.run import Run
from portico_server.runs.runner import Runner

router = APIRouter(prefix="/api/apps", tags=["Apps"])


class App(BaseModel):
    """An app; its name is also a model name."""

    name: str
    title: str
    description: str


class AppList(BaseModel):
    """The apps that the caller may call."""

    data: list[App]


class AppInput(BaseModel):
    """A conversation; every other field is an option, as in a chat completion."""

    model_config = ConfigDict(extra="allow")

    messages: list[Any]


@router.get("")
async def list_apps(parts: TheParts, caller: Caller) -> AppList:
    """The apps that the caller may call."""
    cards = await parts.registry.cards(caller, "app")
    return AppList(
        data=[App(name=card.name, title=card.title, description=card.description) for card in cards]
    )


@router.post(
    "/{name}/run",
    response_class=EventStream,
    responses={200: {"content": {"text/event-stream": {}}, "description": "The events of the run, in order"}},
)
async def run_app(name: str, given: AppInput, parts: TheParts, caller: Caller) -> EventStream:
    """Run an app and stream its events; the header ``x-portico-run`` names the run. Leaving cancels it."""
    validate.messages(given.messages)
    card = (await parts.registry.resolve(name, caller)).card
    if card.kind != "app":
        known = [found.name for found in await parts.registry.cards(caller, "app")]
        raise NotFound(f"There is no app '{name}'.{nearest(name, known)}", code="app_not_found", param="name")
    request = Chat(tuple(given.messages), dict(given.model_extra or {}))
    run = parts.runner.start("apps/run", name, request, caller)
    return EventStream(_events(parts.runner, run), {"x-portico-run": run.id})


async def _events(runner: Runner, run: Run) -> AsyncIterator[bytes]:
    """All events of a run that belongs to this request. One that fails at once is an error with a status."""
    try:
        async for number, event in run.log.follow():
            if number == 1 and isinstance(event, Failed):
                await runner.wait(run)
            yield event_frame(number, event)
    finally:
        await run.cancel()

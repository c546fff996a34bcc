"""Requests that talk to a model or an app."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico import _read as read
from portico._calls.call import Call, EventCall, Message, at, named
from portico._events import ChatEvents, RunEvents
from portico.errors import InvalidRequest
from portico.values import (
    App,
    RunEvent,
)


def messages_of(said: str | Sequence[Message], history: Sequence[Message] = ()) -> list[dict[str, Any]]:
    """A question, or a whole conversation, after what was said before."""
    asked: Sequence[Message] = [{"role": "user", "content": said}] if isinstance(said, str) else said
    return [dict(message) for message in (*history, *asked)]


def chat(messages: str | Sequence[Message], model: str, options: Mapping[str, Any]) -> EventCall[RunEvent]:
    if "stream" in options:
        raise InvalidRequest(
            "A chat always streams: for the whole answer, call read() on it.", param="stream"
        )
    body = {
        "model": model,
        "messages": messages_of(messages),
        "stream": True,
        "stream_options": {"include_usage": True},
        **options,
    }
    return EventCall("POST", "/v1/chat/completions", ChatEvents, json=body)


def app_run(
    app: str, question: str | Sequence[Message], history: Sequence[Message], options: Mapping[str, Any]
) -> EventCall[RunEvent]:
    path = at("api", "apps", named(app, "an app"), "run")
    return EventCall("POST", path, RunEvents, json={"messages": messages_of(question, history), **options})


def apps_list(everyone: bool = False) -> Call[list[App]]:
    return Call("GET", "/api/apps", read.rows(read.app), query={"all": True} if everyone else {})


def the_only(apps: Sequence[App]) -> str:
    """The app to ask when none was named; `InvalidRequest` that lists them unless there is exactly one."""
    if len(apps) == 1:
        return apps[0].name
    if not apps:
        raise InvalidRequest(
            "There is no app to ask yet. Add a folder of documents: portico stores add ./docs", param="app"
        )
    names = ", ".join(app.name for app in apps)
    raise InvalidRequest(
        f"There are several apps: {names}. Say which one to ask: app=NAME, or --app NAME.", param="app"
    )

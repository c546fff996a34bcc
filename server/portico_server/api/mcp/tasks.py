"""Calls that take long, as tasks: the extension ``io.modelcontextprotocol/tasks`` of the revision 2026-07-28.

Whether a call becomes a task is the server's to decide, for clients that declare the extension. A task is a run: its
states are the run's, what the run asks is its ``inputRequests``, and only the caller that began it sees it.
https://github.com/modelcontextprotocol/ext-tasks
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types.jsonrpc import MISSING_REQUIRED_CLIENT_CAPABILITY
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel

from portico_server.api.mcp import elicit, follow
from portico_server.api.mcp.caller import caller_of, extension_of
from portico_server.api.mcp.held import KEPT, Held, HeldRuns
from portico_server.api.mcp.library import Library
from portico_server.api.mcp.result import failure, result_of
from portico_server.core.errors import PorticoError
from portico_server.core.principal import Principal
from portico_server.runs.questions import Questions

EXTENSION: Final = "io.modelcontextprotocol/tasks"

POLL: Final = 500
"""Milliseconds after which looking again makes sense."""


class TaskParams(types.RequestParams):
    """Which task is meant."""

    task_id: str


class UpdateParams(TaskParams):
    """Answers to what a task asks, by the keys of its ``inputRequests``."""

    input_responses: dict[str, dict[str, Any]]


class TaskNotification(BaseModel):
    """The state of a task, to those who listen."""

    method: Literal["notifications/tasks"] = "notifications/tasks"
    params: dict[str, Any]


class Tasks:
    """Handlers of ``tasks/get``, ``tasks/update`` and ``tasks/cancel``."""

    def __init__(self, held: HeldRuns, library: Library, questions: Questions) -> None:
        self._held = held
        self._library = library
        self._questions = questions

    def known_to(self, context: ServerRequestContext[Any]) -> bool:
        """Whether the client of this request takes a task for an answer."""
        return context.protocol_version in MODERN_PROTOCOL_VERSIONS and extension_of(context, EXTENSION)

    def require(self, context: ServerRequestContext[Any]) -> None:
        """Raise `MCPError` unless the client has declared the extension."""
        if context.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            raise MCPError(
                types.METHOD_NOT_FOUND, "Tasks are there from the revision 2026-07-28 on.", context.method
            )
        if not extension_of(context, EXTENSION):
            raise MCPError(
                MISSING_REQUIRED_CLIENT_CAPABILITY,
                f"This is for clients that declare the extension {EXTENSION}.",
                {"requiredCapabilities": {"extensions": {EXTENSION: {}}}},
            )

    def created(self, held: Held) -> dict[str, Any]:
        """The answer to a call that has become a task."""
        return {"resultType": "task", **_state(held)}

    async def get(self, context: ServerRequestContext[Any], params: TaskParams) -> dict[str, Any]:
        """Handler of ``tasks/get``."""
        self.require(context)
        return await self.describe(self._find(context, params), caller_of(context))

    async def update(self, context: ServerRequestContext[Any], params: UpdateParams) -> dict[str, Any]:
        """Handler of ``tasks/update``. Answers to what is not asked, or not any more, are left alone."""
        self.require(context)
        held = self._find(context, params)
        responses = {
            question: types.ElicitResult.model_validate(response)
            for question, response in params.input_responses.items()
            if question in held.asks
        }
        try:
            await follow.answer_all(self._questions, context, held, responses)
        except PorticoError as error:
            raise MCPError(types.INVALID_PARAMS, error.message) from error
        return {}

    async def cancel(self, context: ServerRequestContext[Any], params: TaskParams) -> dict[str, Any]:
        """Handler of ``tasks/cancel``. One that has ended stays as it is."""
        self.require(context)
        await self._find(context, params).run.cancel()
        return {}

    async def describe(self, held: Held, caller: Principal) -> dict[str, Any]:
        """A task with what belongs to its status: the result, or what it asks."""
        state = _state(held)
        match state["status"]:
            case "completed":
                result = await self._result(held, caller)
                state["result"] = result.model_dump(by_alias=True, mode="json", exclude_none=True)
            case "input_required":
                state["inputRequests"] = _requests(held)
        return state

    def visible(self, context: ServerRequestContext[Any], task_id: str) -> Held | None:
        """A task, if it is this caller's."""
        return self._held.get(task_id, caller_of(context))

    def _find(self, context: ServerRequestContext[Any], params: TaskParams) -> Held:
        held = self.visible(context, params.task_id)
        if held is None:
            raise MCPError(
                types.INVALID_PARAMS,
                f"There is no task '{params.task_id[:100]}'. Its result is kept for {KEPT / 60:g} minutes.",
            )
        return held

    async def _result(self, held: Held, caller: Principal) -> types.CallToolResult:
        if held.run.error is not None:
            return failure(held.run.error.message)
        try:
            return await result_of(held.run.result, caller, self._library)
        except PorticoError as error:
            return failure(error.message)


def _state(held: Held) -> dict[str, Any]:
    run = held.run
    status = "working"
    if run.ended:
        status = "cancelled" if run.status == "cancelled" else "completed"
    elif _requests(held):
        status = "input_required"
    state: dict[str, Any] = {
        "taskId": held.id,
        "status": status,
        "createdAt": _moment(run.created_at),
        "lastUpdatedAt": _moment(held.updated_at),
        "ttlMs": None if held.expires_at is None else int((held.expires_at - run.created_at) * 1000),
        "pollIntervalMs": POLL,
        "_meta": {"portico/run": run.id},
    }
    message = run.error.message if run.error is not None else held.message
    return {**state, "statusMessage": message} if message else state


def _requests(held: Held) -> Mapping[str, Any]:
    forms = {key: form for key, asked in held.asks.items() if (form := elicit.form(asked)) is not None}
    return {
        key: form.model_dump(by_alias=True, mode="json", exclude_none=True) for key, form in forms.items()
    }


def _moment(seconds: float) -> str:
    return (
        datetime.fromtimestamp(seconds or time.time(), UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )

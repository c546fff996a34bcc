"""The methods of the Agent2Agent protocol."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final

import orjson

from portico_server.core import fields
from portico_server.core.errors import InvalidRequest
from portico_server.core.fields import RequestBody
from portico_server.core.invalid import not_one_of, wrong
from portico_server.db.agent_tasks import TaskFilter, update_document
from portico_server.features.a2a.call import AgentCall
from portico_server.features.a2a.messages import answer_of, check_message, content_of
from portico_server.features.a2a.push_configs import (
    CONFIG,
    create_config,
    delete_config,
    get_config,
    list_configs,
    push_headers,
    watch,
)
from portico_server.features.a2a.tasks import artifact_updates, status_update, task_document
from portico_server.features.responses.tasks import TaskView

MAX_PAGE_SIZE: Final = 100

PAGE_SIZE: Final = 50

_HISTORY: Final = fields.integer(0)

_ID: Final = fields.name()

SENT: Final = RequestBody(
    {"message": fields.mapping()},
    {
        "configuration": fields.mapping(
            {
                "acceptedOutputModes": fields.items(fields.text(), "a list of media types"),
                "historyLength": _HISTORY,
                "returnImmediately": fields.boolean(),
                "taskPushNotificationConfig": CONFIG,
            }
        ),
        "metadata": fields.mapping(),
    },
    example={"message": {"messageId": "1", "role": "ROLE_USER", "parts": [{"text": "Hello"}]}},
)
"""Body of ``SendMessage`` and ``SendStreamingMessage``. Unknown fields are ignored, as the protocol requires."""

_GOT: Final = RequestBody({"id": _ID}, {"historyLength": _HISTORY})

_NAMED: Final = RequestBody({"id": _ID}, {})

_LISTED: Final = RequestBody(
    {},
    {
        "contextId": fields.text(),
        "status": fields.text(),
        "pageSize": fields.integer(1, MAX_PAGE_SIZE),
        "pageToken": fields.text(),
        "historyLength": _HISTORY,
        "statusTimestampAfter": fields.text(),
        "includeArtifacts": fields.boolean(),
    },
)

STATES: Final = {
    f"TASK_STATE_{name}": name.lower()
    for name in ("SUBMITTED", "WORKING", "COMPLETED", "FAILED", "CANCELED", "INPUT_REQUIRED")
}

NEVER_STATES: Final = ("TASK_STATE_REJECTED", "TASK_STATE_AUTH_REQUIRED")
"""Protocol states that Portico's tasks never enter."""


async def _send(call: AgentCall, params: Mapping[str, Any]) -> TaskView:
    """Start a task with a message, or answer an existing task's question."""
    SENT.check(params)
    message = params["message"]
    check_message(message)
    config = params.get("configuration") or {}
    push = config.get("taskPushNotificationConfig")
    if push is not None:
        push_headers(push)  # checked before anything starts
    tasks = call.tasks
    task_id = message.get("taskId")
    if task_id:
        view = await call.task(task_id)
        if message.get("contextId") not in (None, "", view.row.context_id):
            wrong("message.contextId", "is not the context of this task; omit it")
        view = await tasks.answer(view, message, answer_of(message), call.caller)
    else:
        content = content_of(message)
        view = await tasks.begin(call.name, content, message, message.get("contextId") or "", call.caller)
    if push is not None:
        await watch(call, view, push)
    return view


async def send_message(call: AgentCall, params: Mapping[str, Any]) -> dict[str, Any]:
    """Send the agent a message and wait until its task ends or asks a question."""
    view = await _send(call, params)
    config = params.get("configuration") or {}
    if not config.get("returnImmediately"):
        view = await call.tasks.wait_for_settled(view, call.caller)
    return {"task": task_document(view, call.base, history=config.get("historyLength"))}


async def send_streaming_message(
    call: AgentCall, params: Mapping[str, Any]
) -> AsyncGenerator[dict[str, Any], None]:
    """Send the agent a message and stream the updates of its task."""
    view = await _send(call, params)
    return _follow(call, view, (params.get("configuration") or {}).get("historyLength"))


async def subscribe_to_task(
    call: AgentCall, params: Mapping[str, Any]
) -> AsyncGenerator[dict[str, Any], None]:
    """Stream the updates of an unfinished task, starting with its first update."""
    _NAMED.check(params)
    view = await call.task(params["id"])
    if view.ended:
        raise InvalidRequest(
            f"The task '{view.row.id}' has ended; call GetTask instead.", code="task_not_waiting", param="id"
        )
    return _follow(call, view, None)


async def _follow(
    call: AgentCall, view: TaskView, history: int | None
) -> AsyncGenerator[dict[str, Any], None]:
    yield {"task": task_document(view, call.base, history=history)}
    seen_ids: set[str] = set()
    working = view.state != "submitted"
    async with aclosing(call.tasks.follow(view, call.caller)) as events:
        async for event in events:
            if isinstance(event, TaskView):
                yield status_update(event)
                return
            if not working:
                working = True
                row = view.row
                yield update_document(row.id, row.context_id, "working", row.created_at)
            for update in artifact_updates(event, view, seen_ids, call.base):
                yield update


async def get_task(call: AgentCall, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the current state of a task."""
    _GOT.check(params)
    view = await call.task(params["id"])
    return task_document(view, call.base, history=params.get("historyLength"))


async def list_tasks(call: AgentCall, params: Mapping[str, Any]) -> dict[str, Any]:
    """List the caller's tasks with this agent, most recently changed first."""
    _LISTED.check(params)
    size = params.get("pageSize") or PAGE_SIZE
    status = params.get("status") or "TASK_STATE_UNSPECIFIED"
    if status not in STATES and status not in (*NEVER_STATES, "TASK_STATE_UNSPECIFIED"):
        not_one_of("status", status, (*STATES, *NEVER_STATES))
    since = params.get("statusTimestampAfter")
    task_filter = TaskFilter(
        params.get("contextId") or "",
        STATES.get(status),  # type: ignore[arg-type]  # its values are states
        None if not since else _seconds(since),
        _cursor(params.get("pageToken") or ""),
    )
    if status in NEVER_STATES:
        return {"tasks": [], "nextPageToken": "", "pageSize": size, "totalSize": 0}
    views, total, following = await call.tasks.list(call.app, task_filter, size, call.caller)
    documents = [
        task_document(
            view,
            call.base,
            history=params.get("historyLength", 0),
            artifacts=params.get("includeArtifacts") is True,
        )
        for view in views
    ]
    token = "" if following is None else base64.urlsafe_b64encode(orjson.dumps(following)).decode()
    return {"tasks": documents, "nextPageToken": token, "pageSize": size, "totalSize": total}


def _seconds(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        wrong("statusTimestampAfter", "must be a time such as 2026-01-31T12:00:00Z")


def _cursor(token: str) -> tuple[float, str] | None:
    if not token:
        return None
    try:
        at, task_id = orjson.loads(base64.urlsafe_b64decode(token))
        return float(at), str(task_id)
    except (ValueError, TypeError):
        wrong("pageToken", "must be the 'nextPageToken' of an earlier response")


async def cancel_task(call: AgentCall, params: Mapping[str, Any]) -> dict[str, Any]:
    """Cancel a task."""
    _NAMED.check(params)
    view = await call.tasks.cancel(await call.task(params["id"]), call.caller)
    return task_document(view, call.base)


async def extended_card(_call: AgentCall, _params: Mapping[str, Any]) -> dict[str, Any]:
    """Raise an error: the agent has only one card, which every caller may read."""
    raise InvalidRequest(
        "There is no extended card; the card at .well-known/agent-card.json is complete.",
        code="no_extended_card",
    )


Method = Callable[[AgentCall, Mapping[str, Any]], Awaitable[dict[str, Any]]]


StreamMethod = Callable[[AgentCall, Mapping[str, Any]], Awaitable[AsyncGenerator[dict[str, Any], None]]]

METHODS: Final[Mapping[str, Method]] = {
    "SendMessage": send_message,
    "GetTask": get_task,
    "ListTasks": list_tasks,
    "CancelTask": cancel_task,
    "CreateTaskPushNotificationConfig": create_config,
    "GetTaskPushNotificationConfig": get_config,
    "ListTaskPushNotificationConfigs": list_configs,
    "DeleteTaskPushNotificationConfig": delete_config,
    "GetExtendedAgentCard": extended_card,
}

STREAMS: Final[Mapping[str, StreamMethod]] = {
    "SendStreamingMessage": send_streaming_message,
    "SubscribeToTask": subscribe_to_task,
}

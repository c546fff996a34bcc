"""Addresses that receive push notifications of a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from portico_server.core import fields
from portico_server.core.errors import NotFound
from portico_server.core.fields import RequestBody
from portico_server.core.invalid import missing, wrong
from portico_server.db.webhooks import WebhookRow
from portico_server.features.a2a.call import AgentCall
from portico_server.features.responses.tasks import TaskView
from portico_server.features.webhooks.webhooks import WebhookService

MAX_HEADER_CHARS: Final = 4_096

MAX_ID_CHARS: Final = 256
"""Maximum length, in characters, of the id that a client gives a call or an address. Each frame of a call's stream
repeats the call's id.
"""

MAX_URL_CHARS: Final = 2_048

_ID: Final = fields.name()

CONFIG: Final = fields.mapping(
    {
        "id": fields.identifier(MAX_ID_CHARS, empty=True),
        "taskId": fields.text(),
        "url": fields.identifier(MAX_URL_CHARS),
        "token": fields.text(),
        "authentication": fields.mapping({"scheme": fields.name(), "credentials": fields.text()}),
    }
)

_CONFIGURED: Final = RequestBody(
    {"taskId": _ID, "url": fields.name()}, dict.fromkeys(("id", "token"), fields.text())
)
"""Fields that a configuration needs in addition to `CONFIG`."""

_CONFIG_NAMED: Final = RequestBody({"taskId": _ID, "id": _ID}, {})

_CONFIGS_LISTED: Final = RequestBody({"taskId": _ID}, {})


def push_headers(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers by which the receiver of a notification recognises its sender. Raises `InvalidRequest`."""
    found_push_headers = {"content-type": "application/a2a+json"}
    if config.get("token"):
        found_push_headers["x-a2a-notification-token"] = config["token"]
    authentication = config.get("authentication") or {}
    if authentication:
        if not authentication.get("scheme"):
            missing("authentication.scheme")
        if authentication.get("credentials"):
            found_push_headers["authorization"] = (
                f"{authentication['scheme']} {authentication['credentials']}"
            )
    for name, value in found_push_headers.items():
        if len(value) > MAX_HEADER_CHARS or not value.isascii() or not value.isprintable():
            param = "token" if name == "x-a2a-notification-token" else "authentication"
            wrong(param, f"must be at most {MAX_HEADER_CHARS:,} printable ASCII characters")
    return found_push_headers


def _webhooks(call: AgentCall) -> WebhookService:
    return call.services.features.get("webhooks", WebhookService)


async def watch(call: AgentCall, view: TaskView, config: Mapping[str, Any]) -> dict[str, Any]:
    """Subscribe the address in a configuration to a task's updates. Return the configuration as clients see it."""
    row = await _webhooks(call).watch_task(
        view.row.id,
        config.get("id") or "",
        config["url"],
        push_headers(config),
        call.caller,
    )
    return _config(row)


def _config(row: WebhookRow) -> dict[str, Any]:
    """Return a configuration without its secrets."""
    config: dict[str, Any] = {"id": row.name, "taskId": row.task_id, "url": row.url}
    scheme = (row.headers or {}).get("authorization", "").partition(" ")[0]
    return {**config, "authentication": {"scheme": scheme}} if scheme else config


async def create_config(call: AgentCall, params: Mapping[str, Any]) -> dict[str, Any]:
    """Create a push notification configuration for a task."""
    _CONFIGURED.check(params)
    CONFIG.check(params, "config")
    return await watch(call, await call.task(params["taskId"]), params)


async def _find(call: AgentCall, params: Mapping[str, Any]) -> WebhookRow:
    _CONFIG_NAMED.check(params)
    view = await call.task(params["taskId"])
    for row in await _webhooks(call).watchers(view.row.id):
        if row.name == params["id"]:
            return row
    raise NotFound(
        f"This task has no push notification configuration '{params['id'][:80]}'.",
        code="push_config_not_found",
        param="id",
    )


async def get_config(call: AgentCall, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return a push notification configuration of a task."""
    return _config(await _find(call, params))


async def list_configs(call: AgentCall, params: Mapping[str, Any]) -> dict[str, Any]:
    """List the push notification configurations of a task."""
    _CONFIGS_LISTED.check(params)
    view = await call.task(params["taskId"])
    rows = await _webhooks(call).watchers(view.row.id)
    return {"configs": [_config(row) for row in rows], "nextPageToken": ""}


async def delete_config(call: AgentCall, params: Mapping[str, Any]) -> dict[str, Any]:
    """Delete a push notification configuration if it exists. Raise `NotFound` for an unknown task."""
    try:
        await _webhooks(call).unwatch(await _find(call, params))
    except NotFound as error:
        if error.code != "push_config_not_found":
            raise
    return {}

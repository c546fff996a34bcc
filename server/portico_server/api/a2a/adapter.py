"""The methods of the Agent2Agent protocol, and its bindings at ``/a2a/NAME``: JSON-RPC, and JSON over plain HTTP."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final, TypeGuard
from urllib.parse import parse_qsl

import orjson

from portico_server.api.a2a import documents
from portico_server.api.a2a.documents import CARD_PATH, VERSION, agent_card, task_document
from portico_server.api.a2a.errors import HTTP, RPC, http_error, rpc_error, rpc_status
from portico_server.api.auth.protected_resource import address
from portico_server.api.error_shape import Shape
from portico_server.api.errors import NotAllowedHere, RawHeaders, headers, ours, unknown_url
from portico_server.api.exchange import Exchange, Presence, Scope
from portico_server.api.openai.relay import caller_of
from portico_server.api.services import ApiServices
from portico_server.apps.responses.tasks import TaskView, app_of
from portico_server.core import fields
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, NotFound, PorticoError, nearest
from portico_server.core.fields import RequestBody
from portico_server.core.invalid import missing, not_one_of, wrong, wrong_type
from portico_server.core.principal import Principal
from portico_server.core.servable import Card
from portico_server.core.words import whole_number
from portico_server.db.agent_tasks import TaskFilter, update_document
from portico_server.db.webhooks import WebhookRow

PREFIX: Final = "/a2a/"
DEFAULT: Final = "default"
"""The agent of the card at the root."""

MAX_PAGE_SIZE: Final = 100
PAGE_SIZE: Final = 50
MAX_HEADER_CHARS: Final = 4_096

A2A_JSON: Final[RawHeaders] = [(b"content-type", b"application/a2a+json")]

MAX_ID_CHARS: Final = 256
"""Characters of an id that a client gives: of a call, which each frame of its stream repeats, or of an address."""

MAX_URL_CHARS: Final = 2_048

_HISTORY: Final = fields.integer(0)
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
"""``SendMessage`` and ``SendStreamingMessage``. Fields that are not known are ignored, as the protocol has it."""

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
_CONFIGURED: Final = RequestBody(
    {"taskId": _ID, "url": fields.name()}, dict.fromkeys(("id", "token"), fields.text())
)
"""What a configuration needs beside what `CONFIG` says."""
_CONFIG_NAMED: Final = RequestBody({"taskId": _ID, "id": _ID}, {})
_CONFIGS_LISTED: Final = RequestBody({"taskId": _ID}, {})

STATES: Final = {
    f"TASK_STATE_{name}": name.lower()
    for name in ("SUBMITTED", "WORKING", "COMPLETED", "FAILED", "CANCELED", "INPUT_REQUIRED")
}
NEVER_STATES: Final = ("TASK_STATE_REJECTED", "TASK_STATE_AUTH_REQUIRED")
"""States of the protocol in which no task is here."""


def shape_of(scope: Scope) -> Shape:
    """The form of errors below `PREFIX`: JSON-RPC at ``/a2a/NAME``, plain HTTP elsewhere."""
    return RPC if scope["path"].count("/") == 2 else HTTP


@dataclass(frozen=True, slots=True)
class AgentCall:
    """A call of one agent: ``name`` is what it was called by, ``base`` the address of the daemon."""

    services: ApiServices
    caller: Principal
    name: str
    card: Card
    base: str

    @property
    def app(self) -> str:
        """What the tasks of the agent are kept under."""
        return app_of(self.card)

    async def task(self, task_id: str) -> TaskView:
        """One of its tasks. Raises `NotFound`."""
        return await self.services.tasks.get(task_id, self.app, self.caller)


# --- methods --------------------------------------------------------------------------------------------------------


async def _sent(call: AgentCall, params: Mapping[str, Any]) -> TaskView:
    """Begin a task with a message, or answer what one asks."""
    SENT.check(params)
    message = params["message"]
    documents.check_message(message)
    config = params.get("configuration") or {}
    push = config.get("taskPushNotificationConfig")
    if push is not None:
        _push_headers(push)  # before anything is begun
    tasks = call.services.tasks
    task_id = message.get("taskId")
    if task_id:
        view = await call.task(task_id)
        if message.get("contextId") not in (None, "", view.row.context_id):
            wrong("message.contextId", "is not the context of this task; leave it out")
        view = await tasks.answer(view, message, documents.answer_of(message), call.caller)
    else:
        content = documents.content_of(message)
        view = await tasks.begin(call.name, content, message, message.get("contextId") or "", call.caller)
    if push is not None:
        await _watch(call, view, push)
    return view


async def send_message(call: AgentCall, params: Mapping[str, Any]) -> dict[str, Any]:
    """Give the agent a message, and wait until its task has ended or asks something."""
    view = await _sent(call, params)
    config = params.get("configuration") or {}
    if not config.get("returnImmediately"):
        view = await call.services.tasks.settled(view, call.caller)
    return {"task": task_document(view, call.base, history=config.get("historyLength"))}


async def send_streaming_message(
    call: AgentCall, params: Mapping[str, Any]
) -> AsyncGenerator[dict[str, Any], None]:
    """Give the agent a message, and follow its task."""
    view = await _sent(call, params)
    return _followed(call, view, (params.get("configuration") or {}).get("historyLength"))


async def subscribe_to_task(
    call: AgentCall, params: Mapping[str, Any]
) -> AsyncGenerator[dict[str, Any], None]:
    """Follow a task that has not ended, from its beginning."""
    _NAMED.check(params)
    view = await call.task(params["id"])
    if view.ended:
        raise InvalidRequest(
            f"The task '{view.row.id}' has ended; get it instead.", code="task_not_waiting", param="id"
        )
    return _followed(call, view, None)


async def _followed(
    call: AgentCall, view: TaskView, history: int | None
) -> AsyncGenerator[dict[str, Any], None]:
    yield {"task": task_document(view, call.base, history=history)}
    seen: set[str] = set()
    working = view.state != "submitted"
    async with aclosing(call.services.tasks.follow(view, call.caller)) as events:
        async for found in events:
            if isinstance(found, TaskView):
                yield documents.status_update(found)
                return
            if not working:
                working = True
                row = view.row
                yield update_document(row.id, row.context_id, "working", row.created_at)
            for update in documents.artifact_updates(found, view, seen, call.base):
                yield update


async def get_task(call: AgentCall, params: Mapping[str, Any]) -> dict[str, Any]:
    """A task as it stands."""
    _GOT.check(params)
    view = await call.task(params["id"])
    return task_document(view, call.base, history=params.get("historyLength"))


async def list_tasks(call: AgentCall, params: Mapping[str, Any]) -> dict[str, Any]:
    """The caller's tasks with this agent, the one changed last first."""
    _LISTED.check(params)
    size = params.get("pageSize") or PAGE_SIZE
    status = params.get("status") or "TASK_STATE_UNSPECIFIED"
    if status not in STATES and status not in (*NEVER_STATES, "TASK_STATE_UNSPECIFIED"):
        not_one_of("status", status, (*STATES, *NEVER_STATES))
    since = params.get("statusTimestampAfter")
    wanted = TaskFilter(
        params.get("contextId") or "",
        STATES.get(status),  # type: ignore[arg-type]  # its values are states
        None if not since else _seconds(since),
        _cursor(params.get("pageToken") or ""),
    )
    if status in NEVER_STATES:
        return {"tasks": [], "nextPageToken": "", "pageSize": size, "totalSize": 0}
    views, total, following = await call.services.tasks.list(call.app, wanted, size, call.caller)
    shown = [
        task_document(
            view,
            call.base,
            history=params.get("historyLength", 0),
            artifacts=params.get("includeArtifacts") is True,
        )
        for view in views
    ]
    token = "" if following is None else base64.urlsafe_b64encode(orjson.dumps(following)).decode()
    return {"tasks": shown, "nextPageToken": token, "pageSize": size, "totalSize": total}


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
        wrong("pageToken", "must be 'nextPageToken' of an earlier answer")


async def cancel_task(call: AgentCall, params: Mapping[str, Any]) -> dict[str, Any]:
    """End a task."""
    _NAMED.check(params)
    view = await call.services.tasks.cancel(await call.task(params["id"]), call.caller)
    return task_document(view, call.base)


# --- addresses that hear of a task ----------------------------------------------------------------------------------


def _push_headers(config: Mapping[str, Any]) -> dict[str, str]:
    """The headers by which a receiver knows who sends. Raises `InvalidRequest`."""
    found = {"content-type": "application/a2a+json"}
    if config.get("token"):
        found["x-a2a-notification-token"] = config["token"]
    authentication = config.get("authentication") or {}
    if authentication:
        if not authentication.get("scheme"):
            missing("authentication.scheme")
        if authentication.get("credentials"):
            found["authorization"] = f"{authentication['scheme']} {authentication['credentials']}"
    for name, value in found.items():
        if len(value) > MAX_HEADER_CHARS or not value.isascii() or not value.isprintable():
            param = "token" if name == "x-a2a-notification-token" else "authentication"
            wrong(param, f"must be at most {MAX_HEADER_CHARS:,} printable ASCII characters")
    return found


async def _watch(call: AgentCall, view: TaskView, config: Mapping[str, Any]) -> dict[str, Any]:
    row = await call.services.webhooks.watch_task(
        view.row.id,
        config.get("id") or "",
        config["url"],
        _push_headers(config),
        call.caller,
    )
    return _config(row)


def _config(row: WebhookRow) -> dict[str, Any]:
    """A configuration without what is secret in it."""
    found: dict[str, Any] = {"id": row.name, "taskId": row.task_id, "url": row.url}
    scheme = (row.headers or {}).get("authorization", "").partition(" ")[0]
    return {**found, "authentication": {"scheme": scheme}} if scheme else found


async def create_config(call: AgentCall, params: Mapping[str, Any]) -> dict[str, Any]:
    """Let an address hear of what becomes of a task."""
    _CONFIGURED.check(params)
    CONFIG.check(params, "config")
    return await _watch(call, await call.task(params["taskId"]), params)


async def _found(call: AgentCall, params: Mapping[str, Any]) -> WebhookRow:
    _CONFIG_NAMED.check(params)
    view = await call.task(params["taskId"])
    for row in await call.services.webhooks.watchers(view.row.id):
        if row.name == params["id"]:
            return row
    raise NotFound(
        f"There is no push notification configuration '{params['id'][:80]}' of this task.",
        code="push_config_not_found",
        param="id",
    )


async def get_config(call: AgentCall, params: Mapping[str, Any]) -> dict[str, Any]:
    """An address that hears of a task."""
    return _config(await _found(call, params))


async def list_configs(call: AgentCall, params: Mapping[str, Any]) -> dict[str, Any]:
    """The addresses that hear of a task."""
    _CONFIGS_LISTED.check(params)
    view = await call.task(params["taskId"])
    rows = await call.services.webhooks.watchers(view.row.id)
    return {"configs": [_config(row) for row in rows], "nextPageToken": ""}


async def delete_config(call: AgentCall, params: Mapping[str, Any]) -> dict[str, Any]:
    """Let an address hear of nothing more; one that is gone already too. Raises `NotFound` for a task."""
    try:
        await call.services.webhooks.unwatch(await _found(call, params))
    except NotFound as error:
        if error.code != "push_config_not_found":
            raise
    return {}


async def extended_card(_call: AgentCall, _params: Mapping[str, Any]) -> dict[str, Any]:
    """There is one card, which is for whoever may call."""
    raise InvalidRequest(
        "There is no extended card: the card at .well-known/agent-card.json has everything.",
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

# --- bindings -------------------------------------------------------------------------------------------------------

_TASK: Final = r"tasks/(?P<id>[^/:]+)"
_CONFIGS: Final = r"tasks/(?P<taskId>[^/:]+)/pushNotificationConfigs"
_PATHS: Final = tuple(
    (method, re.compile(pattern), name)
    for method, pattern, name in (
        ("POST", r"message:send", "SendMessage"),
        ("POST", r"message:stream", "SendStreamingMessage"),
        ("GET", r"tasks", "ListTasks"),
        ("GET", _TASK, "GetTask"),
        ("POST", rf"{_TASK}:cancel", "CancelTask"),
        ("GET", rf"{_TASK}:subscribe", "SubscribeToTask"),
        ("POST", rf"{_TASK}:subscribe", "SubscribeToTask"),
        ("POST", _CONFIGS, "CreateTaskPushNotificationConfig"),
        ("GET", _CONFIGS, "ListTaskPushNotificationConfigs"),
        ("GET", rf"{_CONFIGS}/(?P<id>[^/]+)", "GetTaskPushNotificationConfig"),
        ("DELETE", rf"{_CONFIGS}/(?P<id>[^/]+)", "DeleteTaskPushNotificationConfig"),
        ("GET", r"extendedAgentCard", "GetExtendedAgentCard"),
    )
)
_NUMBERS: Final = ("historyLength", "pageSize")
_FLAGS: Final = {"true": True, "false": False}


async def serve(exchange: Exchange, services: ApiServices) -> None:
    """Answer a request at one of the paths of this adapter."""
    path: str = exchange.scope["path"]
    method: str = exchange.scope["method"]
    if path == CARD_PATH:
        await _answer_card(exchange, services, DEFAULT)
        return
    name, slash, rest = path.removeprefix(PREFIX).partition("/")
    exchange.scope["portico.route"] = f"{PREFIX}{{name}}{slash}{rest.split('/')[0].partition(':')[0]}"
    if f"/{rest}" == CARD_PATH:
        await _answer_card(exchange, services, name)
    elif rest:
        await _plain(exchange, services, name, rest)
    elif slash or method != "POST":
        raise NotAllowedHere(method, path, "POST")
    else:
        await _rpc(exchange, services, name)


async def _answer_card(exchange: Exchange, services: ApiServices, name: str) -> None:
    if exchange.scope["method"] not in ("GET", "HEAD"):
        raise NotAllowedHere(exchange.scope["method"], exchange.scope["path"], "GET, HEAD")
    caller, settings = caller_of(exchange), services.settings
    card = await services.tasks.agent(name, caller)
    others = [one for one in await services.tasks.agents(caller) if one.key != card.key]
    keyed = bool(settings.api_key) or settings.require_key or not settings.loopback
    at_root = exchange.scope["path"] == CARD_PATH
    document = agent_card(card, name, _base(exchange, services), others if at_root else (), keyed=keyed)
    await exchange.answer(200, orjson.dumps(document))


async def _call(exchange: Exchange, services: ApiServices, name: str) -> AgentCall:
    given = exchange.header(b"a2a-version")
    queried = dict(parse_qsl(exchange.scope["query_string"].decode("latin-1")))
    version = given.decode("latin-1").strip() if given else queried.get("A2A-Version", "")
    if version != VERSION and not version.startswith(f"{VERSION}."):
        said = (
            f"'{version[:20]}' is not"
            if version
            else "0.3, which a request without 'A2A-Version' means, is not"
        )
        raise InvalidRequest(
            f"The version {said} spoken here; send the header 'A2A-Version: {VERSION}'.",
            code="version_not_supported",
            param="A2A-Version",
        )
    caller = caller_of(exchange)
    card = await services.tasks.agent(name, caller)
    return AgentCall(services, caller, name, card, _base(exchange, services))


def _base(exchange: Exchange, services: ApiServices) -> str:
    host = exchange.header(b"host")
    scheme = exchange.scope.get("scheme", "http")
    return address(services.settings, scheme, host.decode("latin-1") if host else None)


async def _rpc(exchange: Exchange, services: ApiServices, name: str) -> None:
    body = await exchange.json()
    request_id = body.get("id") if _is_id(body.get("id")) else None
    try:
        params = _params(body)
        call = await _call(exchange, services, name)
        if body["method"] in STREAMS:
            updates = await STREAMS[body["method"]](call, params)
            await exchange.stream(
                _frames(
                    updates,
                    exchange.id,
                    lambda update: {"jsonrpc": "2.0", "id": request_id, "result": update},
                    lambda error: rpc_error(error, request_id),
                )
            )
            return
        with Presence(exchange):
            result = await METHODS[body["method"]](call, params)
        await exchange.answer(200, orjson.dumps({"jsonrpc": "2.0", "id": request_id, "result": result}))
    except PorticoError as error:
        if exchange.started:
            raise
        found = [*headers(error)]
        await exchange.answer(rpc_status(error), orjson.dumps(rpc_error(error, request_id)), found)


def _is_id(given: Any) -> TypeGuard[str | int]:
    """Whether this may be the id of a call, which every frame of its answer repeats."""
    if isinstance(given, str):
        return len(given) <= MAX_ID_CHARS
    return isinstance(given, int) and not isinstance(given, bool)


def _params(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters of a call. Raises `InvalidRequest` for what is not one of JSON-RPC, or of no method."""
    method = body.get("method")
    if body.get("jsonrpc") != "2.0" or not isinstance(method, str):
        raise InvalidRequest(
            "This is not a call of JSON-RPC 2.0: it needs 'jsonrpc' \"2.0\", an 'id' and a 'method'.",
            code="invalid_rpc",
        )
    if not _is_id(body.get("id")):
        raise InvalidRequest(
            f"A call needs an 'id', a string of at most {MAX_ID_CHARS} characters or a number.",
            code="invalid_rpc",
            param="id",
        )
    if method not in METHODS and method not in STREAMS:
        known = (*METHODS, *STREAMS)
        raise InvalidRequest(
            f"There is no method '{method[:80]}'.{nearest(method, known)} Methods are: {', '.join(known)}.",
            code="unknown_method",
            param="method",
        )
    params = body.get("params")
    if params is not None and not isinstance(params, dict):
        wrong_type("params", "an object", params)
    return params or {}


async def _plain(exchange: Exchange, services: ApiServices, name: str, rest: str) -> None:
    path, method = exchange.scope["path"], exchange.scope["method"]
    fitting = [(verb, found, rpc) for verb, pattern, rpc in _PATHS if (found := pattern.fullmatch(rest))]
    if not fitting:
        raise unknown_url(method, path, (f"{PREFIX}{name}/{one}" for one in ("message:send", "tasks")))
    chosen = next((one for one in fitting if one[0] == method), None)
    if chosen is None:
        raise NotAllowedHere(method, path, ", ".join(verb for verb, _found, _rpc in fitting))
    _verb, match, rpc = chosen
    params = await _body(exchange) if method == "POST" else _query(exchange)
    params = {**params, **match.groupdict()}
    call = await _call(exchange, services, name)
    if rpc in STREAMS:
        updates = await STREAMS[rpc](call, params)
        await exchange.stream(_frames(updates, exchange.id, dict, http_error))
        return
    with Presence(exchange):
        result = await METHODS[rpc](call, params)
    await exchange.answer(200, orjson.dumps(result), A2A_JSON)


async def _body(exchange: Exchange) -> dict[str, Any]:
    """The body, where there may be none: a task is cancelled without."""
    if exchange.header(b"content-length") in (None, b"0") and exchange.header(b"transfer-encoding") is None:
        return {}
    return await exchange.json()


def _query(exchange: Exchange) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in parse_qsl(exchange.scope["query_string"].decode("latin-1")):
        if name in _NUMBERS:
            number = whole_number(value, 9)
            if number is None:
                wrong_type(name, "a whole number", value)
            found[name] = number
        elif name == "includeArtifacts":
            if value not in _FLAGS:
                wrong_type(name, "true or false", value)
            found[name] = _FLAGS[value]
        else:
            found[name] = value
    return found


async def _frames(
    updates: AsyncGenerator[dict[str, Any], None],
    exchange_id: str,
    shown: Callable[[dict[str, Any]], dict[str, Any]],
    failed: Callable[[PorticoError], dict[str, Any]],
) -> AsyncIterator[bytes]:
    """Updates as frames, each as ``shown`` writes it; an error on the way as ``failed`` does."""
    async with aclosing(updates):
        try:
            async for update in updates:
                yield _frame(shown(update))
        except Exception as error:  # noqa: BLE001  # logged, and said in the protocol's own form
            yield _frame(failed(ours(error, exchange_id)))


def _frame(document: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(document) + b"\n\n"

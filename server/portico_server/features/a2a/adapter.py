"""The methods of the Agent2Agent protocol and its bindings at ``/a2a/NAME``: JSON-RPC and JSON over plain HTTP."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final, TypeGuard
from urllib.parse import parse_qsl

import orjson

from portico_server.api.error_shape import Shape
from portico_server.api.errors import NotAllowedHere, RawHeaders, headers, to_portico_error, unknown_url
from portico_server.api.exchange import Exchange, Presence, Scope
from portico_server.api.openai.relay import caller_of
from portico_server.api.services import ApiServices
from portico_server.core.errors import InvalidRequest, PorticoError, nearest
from portico_server.core.invalid import wrong_type
from portico_server.core.words import whole_number
from portico_server.features.a2a.call import AgentCall
from portico_server.features.a2a.cards import CARD_PATH, VERSION, agent_card
from portico_server.features.a2a.errors import HTTP, RPC, http_error, rpc_error, rpc_status
from portico_server.features.a2a.methods import METHODS, STREAMS
from portico_server.features.a2a.push_configs import MAX_ID_CHARS
from portico_server.features.responses.api.service import ResponseService
from portico_server.features.responses.tasks import AgentTasks

PREFIX: Final = "/a2a/"
DEFAULT: Final = "default"
"""The agent that the root's agent card describes."""

A2A_JSON: Final[RawHeaders] = [(b"content-type", b"application/a2a+json")]


def shape_of(scope: Scope) -> Shape:
    """Return the error format for a path below `PREFIX`: JSON-RPC at ``/a2a/NAME``, plain HTTP elsewhere."""
    return RPC if scope["path"].count("/") == 2 else HTTP


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
    """Answer a request to any path of this adapter."""
    path: str = exchange.scope["path"]
    method: str = exchange.scope["method"]
    if path == CARD_PATH:
        await _answer_card(exchange, services, DEFAULT)
        return
    name, slash, remainder = path.removeprefix(PREFIX).partition("/")
    exchange.scope["portico.route"] = f"{PREFIX}{{name}}{slash}{remainder.split('/')[0].partition(':')[0]}"
    if f"/{remainder}" == CARD_PATH:
        await _answer_card(exchange, services, name)
    elif remainder:
        await _plain(exchange, services, name, remainder)
    elif slash or method != "POST":
        raise NotAllowedHere(method, path, "POST")
    else:
        await _rpc(exchange, services, name)


async def _answer_card(exchange: Exchange, services: ApiServices, name: str) -> None:
    if exchange.scope["method"] not in ("GET", "HEAD"):
        raise NotAllowedHere(exchange.scope["method"], exchange.scope["path"], "GET, HEAD")
    caller, settings = caller_of(exchange), services.settings
    tasks = await _tasks(services)
    card = await tasks.agent(name, caller)
    cards = [other_card for other_card in await tasks.agents(caller) if other_card.key != card.key]
    is_keyed = bool(settings.api_key) or settings.require_key or not settings.loopback
    at_root = exchange.scope["path"] == CARD_PATH
    document = agent_card(
        card, name, exchange.base_url(services.settings), cards if at_root else (), is_keyed=is_keyed
    )
    await exchange.answer(200, orjson.dumps(document))


async def _tasks(services: ApiServices) -> AgentTasks:
    service: ResponseService = await services.features.load("responses")
    return service.tasks


async def _call(exchange: Exchange, services: ApiServices, name: str) -> AgentCall:
    version_header = exchange.header(b"a2a-version")
    query = dict(parse_qsl(exchange.scope["query_string"].decode("latin-1")))
    version = version_header.decode("latin-1").strip() if version_header else query.get("A2A-Version", "")
    if version != VERSION and not version.startswith(f"{VERSION}."):
        shown_version = (
            f"'{version[:20]}' is not"
            if version
            else "0.3 (the default of a request without 'A2A-Version') is not"
        )
        raise InvalidRequest(
            f"A2A version {shown_version} supported; send the header 'A2A-Version: {VERSION}'.",
            code="version_not_supported",
            param="A2A-Version",
        )
    caller = caller_of(exchange)
    tasks = await _tasks(services)
    card = await tasks.agent(name, caller)
    return AgentCall(services, tasks, caller, name, card, exchange.base_url(services.settings))


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
        response_headers = [*headers(error)]
        await exchange.answer(rpc_status(error), orjson.dumps(rpc_error(error, request_id)), response_headers)


def _is_id(value: Any) -> TypeGuard[str | int]:
    """Return whether the value is a valid call id. Every frame of the response repeats this id."""
    if isinstance(value, str):
        return len(value) <= MAX_ID_CHARS
    return isinstance(value, int) and not isinstance(value, bool)


def _params(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the parameters of a call. Raise `InvalidRequest` if the body is not a JSON-RPC call or names no method."""
    method = body.get("method")
    if body.get("jsonrpc") != "2.0" or not isinstance(method, str):
        raise InvalidRequest(
            "This is not a JSON-RPC 2.0 call: it needs 'jsonrpc' \"2.0\", an 'id' and a 'method'.",
            code="invalid_rpc",
        )
    if not _is_id(body.get("id")):
        raise InvalidRequest(
            f"A call needs an 'id': a number, or a string of at most {MAX_ID_CHARS} characters.",
            code="invalid_rpc",
            param="id",
        )
    if method not in METHODS and method not in STREAMS:
        methods = (*METHODS, *STREAMS)
        raise InvalidRequest(
            f"Unknown method '{method[:80]}'.{nearest(method, methods)} Methods: {', '.join(methods)}.",
            code="unknown_method",
            param="method",
        )
    params = body.get("params")
    if params is not None and not isinstance(params, dict):
        wrong_type("params", "an object", params)
    return params or {}


async def _plain(exchange: Exchange, services: ApiServices, name: str, method_path: str) -> None:
    path, method = exchange.scope["path"], exchange.scope["method"]
    fitting = [
        (verb, found_match, rpc)
        for verb, pattern, rpc in _PATHS
        if (found_match := pattern.fullmatch(method_path))
    ]
    if not fitting:
        raise unknown_url(method, path, (f"{PREFIX}{name}/{suffix}" for suffix in ("message:send", "tasks")))
    route = next((choice for choice in fitting if choice[0] == method), None)
    if route is None:
        raise NotAllowedHere(method, path, ", ".join(verb for verb, _match, _rpc in fitting))
    _verb, match, rpc = route
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
    """Return the request body, or an empty mapping without one: cancelling a task needs no body."""
    if exchange.header(b"content-length") in (None, b"0") and exchange.header(b"transfer-encoding") is None:
        return {}
    return await exchange.json()


def _query(exchange: Exchange) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    for name, value in parse_qsl(exchange.scope["query_string"].decode("latin-1")):
        if name in _NUMBERS:
            number = whole_number(value, 9)
            if number is None:
                wrong_type(name, "a whole number", value)
            parameters[name] = number
        elif name == "includeArtifacts":
            if value not in _FLAGS:
                wrong_type(name, "true or false", value)
            parameters[name] = _FLAGS[value]
        else:
            parameters[name] = value
    return parameters


async def _frames(
    updates: AsyncGenerator[dict[str, Any], None],
    exchange_id: str,
    to_frame: Callable[[dict[str, Any]], dict[str, Any]],
    to_error_frame: Callable[[PorticoError], dict[str, Any]],
) -> AsyncIterator[bytes]:
    """Yield the updates as frames written by ``to_frame``. If an error occurs, the last frame is written by
    ``to_error_frame``.
    """
    async with aclosing(updates):
        try:
            async for update in updates:
                yield _frame(to_frame(update))
        except Exception as error:  # noqa: BLE001  # logged, and said in the protocol's own form
            yield _frame(to_error_frame(to_portico_error(error, exchange_id)))


def _frame(document: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(document) + b"\n\n"

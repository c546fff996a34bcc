"""The gateway: it receives every HTTP request, checks it once, and passes it to the target of its route.

Order: route, request id, signs of a proxy, Host, Origin, caller, body limit, handler or adapter.
`portico_server.api.routes` defines the routes. This module imports no framework, so that ``/health`` answers
immediately.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from contextlib import AsyncExitStack
from time import perf_counter
from typing import Final

from portico_server.api import errors
from portico_server.api.adapter import MCP, Adapters, Handler
from portico_server.api.auth.service import Auth
from portico_server.api.body_memory import BodyMemory
from portico_server.api.callers import Callers
from portico_server.api.calls import CallsInProgress
from portico_server.api.errors import NotAllowedHere, RawHeaders, unknown_url
from portico_server.api.exchange import ClientLeft, Exchange, Message, Receive, Scope, Send
from portico_server.api.health import Readiness, answer_health
from portico_server.api.origins import OriginGuard, refuse_proxied
from portico_server.api.path_prefix import FOLDER, is_prefix, prefix_in, without_prefix
from portico_server.api.routes import ANY_PATH, GATEWAY, PAGE_FILES, SOCKETS, Route, find_route, with_version
from portico_server.api.services import ApiServices
from portico_server.api.socket import FAILURE_CLOSE_CODE, POLICY_CLOSE_CODE, WebSocket
from portico_server.core import trace
from portico_server.core.errors import Forbidden, InvalidRequest
from portico_server.core.principal import Principal
from portico_server.settings import MB_BYTES

EXPOSED = b", ".join(
    [
        *(b"X-Request-Id", b"Request-Id", b"X-Portico-Run", b"Mcp-Session-Id", b"Retry-After"),
        *(b"X-RateLimit-Limit-Requests", b"X-RateLimit-Remaining-Requests", b"X-RateLimit-Reset-Requests"),
        *(b"X-RateLimit-Limit-Tokens", b"X-RateLimit-Remaining-Tokens", b"X-RateLimit-Reset-Tokens"),
    ]
)
"""Response headers that scripts of a page may read."""

SWITCHING_STATUS: Final = 101

CORS: RawHeaders = [
    (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE, OPTIONS"),
    (b"access-control-allow-headers", b"*, Authorization, Content-Type, Last-Event-ID, Mcp-Session-Id"),
    (b"access-control-expose-headers", EXPOSED),
    (b"access-control-max-age", b"600"),
    (b"vary", b"Origin"),
]
"""CORS headers for a page from an allowed origin, without the header that names the origin."""


class Gateway:
    """The daemon's ASGI application. The daemon's task group runs `run`."""

    def __init__(self, services: ApiServices, auth: Auth) -> None:
        self._services = services
        self._auth = auth
        self._callers = Callers(services, auth)
        self._guard = OriginGuard(services.settings)
        self._prefix = prefix_in(services.settings)
        self._body_limit = services.settings.max_body_mb * MB_BYTES
        # A form is larger than the file that it contains.
        self._upload_limit = services.settings.max_file_mb * MB_BYTES + MB_BYTES
        self._calls = CallsInProgress()
        self._body_memory = BodyMemory(services.settings)
        auth.revoked += [self._calls.end, services.runner.revoke, services.scheduler.revoke]
        auth.revoked += [self._end_workers, services.features.revoke, services.code.revoke]
        services.sign_ins.ended.append(self._calls.end)
        auth.grants.end_callbacks.append(self._calls.end)
        self.adapters = Adapters(services)
        readiness = Readiness(services.database.check, self.adapters.furnished)
        self._own_handlers: Mapping[str, Handler] = {"/health": answer_health, "/ready": readiness.answer}

    async def run(self) -> None:
        """Import the adapters outside the event loop, and keep them open until cancelled."""
        async with AsyncExitStack() as stack:
            tasks = await stack.enter_async_context(self._calls.renewals)
            tasks.create_task(self._body_memory.release_freed(), name="release memory")
            await self.adapters.open_fastapi(stack)
            watching = tasks.create_task(self._services.runner.signals.watch(), name="signals")
            await self.adapters.open_mcp(stack)
            await watching

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. This method raises no errors."""
        if scope["type"] == "websocket":
            await self._open_socket(scope, receive, send)
            return
        assert scope["type"] == "http", "the server is configured without lifespan"
        if self._prefix or "portico.prefix" in scope:
            scope = self._without_prefix(scope)
        route = find_route(scope["path"]) if scope["path"] else FOLDER
        if route is ANY_PATH and (path := with_version(scope["path"])) is not None:
            scope = {**scope, "path": path}
            route = find_route(path)
        exchange = Exchange(scope, receive, send, self._body_limit, route.shape_for(scope))
        exchange.memory = self._body_memory
        started_at = perf_counter()
        # Very few clients send ``traceparent``, and an unchanged context costs nothing.
        client = trace.of_headers(scope["headers"]) if b"traceparent" in exchange.headers else None
        token = None if client is None else trace.CURRENT.set(client)
        try:
            await self._answer(exchange, route)
        except asyncio.CancelledError:
            await exchange.break_off()
        except Exception as error:  # noqa: BLE001  # the outermost: it is logged and reported
            await exchange.refuse(error)
        finally:
            exchange.release()
            if exchange.task is not None and exchange.caller is not None:
                self._calls.unregister(exchange, exchange.caller.id)
            if token is not None:
                trace.CURRENT.reset(token)
            self._services.runner.signals.count_answer(
                scope["method"], scope.get("portico.route", ""), exchange.status, perf_counter() - started_at
            )

    async def _open_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one WebSocket until it ends. If it is refused before it is accepted, the refusal is an HTTP
        response.
        """

        async def refuse(message: Message) -> None:
            await send({**message, "type": f"websocket.{message['type']}"})

        if self._prefix or "portico.prefix" in scope:
            scope = self._without_prefix(scope)
        exchange = Exchange({**scope, "method": "GET"}, receive, refuse, self._body_limit)
        exchange.memory = self._body_memory
        connection, exchange.connection = exchange.connection, None  # the connection writes HTTP
        web_socket = WebSocket(exchange, receive, send)
        started_at = perf_counter()
        path: str = scope["path"]
        route = SOCKETS.get(path)
        try:
            self._guard_page(exchange)
            self._refuse_outsider(exchange)
            if route is None or route.socket is None:
                raise unknown_url("WEBSOCKET", path, SOCKETS)
            exchange.caller = await self._callers.of_socket(
                exchange, takes_client_secret=route.takes_client_secret
            )
            if connection is not None:
                connection.admit()
            self._calls.register(exchange, exchange.caller, connection)
            await route.socket(web_socket, self._services)
        except asyncio.CancelledError:
            if exchange.revoked is None or exchange.task is None:
                raise
            exchange.task.uncancel()
            with contextlib.suppress(ClientLeft):
                await web_socket.close(POLICY_CLOSE_CODE, exchange.revoked.message)
        except ClientLeft:
            pass
        except Exception as error:  # noqa: BLE001  # the outermost: it is logged and reported
            if web_socket.accepted:
                errors.to_portico_error(error, exchange.id)
                with contextlib.suppress(ClientLeft):
                    await web_socket.close(FAILURE_CLOSE_CODE, exchange.id)
            else:
                await exchange.refuse(error)
        finally:
            exchange.release()
            if exchange.task is not None and exchange.caller is not None:
                self._calls.unregister(exchange, exchange.caller.id)
            status = SWITCHING_STATUS if web_socket.accepted else exchange.status
            self._services.runner.signals.count_answer(
                "GET", path if route else "", status, perf_counter() - started_at
            )

    def _without_prefix(self, scope: Scope) -> Scope:
        """Return the scope without the prefix that ``public_url`` has or a trusted proxy reports."""
        reported = scope.get("portico.prefix", "")
        if reported and not is_prefix(reported):
            scope["portico.prefix"] = reported = ""
        return without_prefix(scope, tuple(prefix for prefix in (reported, self._prefix) if prefix))

    async def _answer(self, exchange: Exchange, route: Route) -> None:
        scope = exchange.scope
        method: str = scope["method"]
        is_open = route.adapter == GATEWAY
        self._guard_page(exchange, is_open=is_open, is_asset=route is PAGE_FILES)
        if method == "OPTIONS" and exchange.header(b"access-control-request-method") is not None:
            await exchange.answer(204, b"", [])
            return
        if not is_open:
            self._refuse_outsider(exchange)
        if route.needs_key:
            caller = exchange.caller = await self._callers.of_request(exchange)
            if exchange.connection is not None:
                exchange.connection.admit()
            exchange.meter = self._services.runner.quotas.of(caller.id)
            self._calls.register(exchange, caller, exchange.connection)
        self._limit(exchange)
        methods = route.methods
        if methods is None:
            handler = route.handler or self._own_handlers.get(route.path)
            await (handler(exchange, self._services) if handler else self._pass_on(exchange, route))
            return
        scope["portico.route"] = route.path
        if method in methods:
            handler = methods[method]
            await (handler(exchange, self._services) if handler else self._pass_on(exchange, route))
        elif method == "OPTIONS":
            await exchange.answer(204, b"", [(b"allow", ", ".join(methods).encode())])
        else:
            raise NotAllowedHere(method, route.path, ", ".join(methods))

    def _guard_page(self, exchange: Exchange, *, is_open: bool = False, is_asset: bool = False) -> None:
        """Look for signs of a proxy, and check Host and Origin. If a page from another origin is allowed, every
        response gets the CORS headers for it. ``is_open``: the path is served to everybody. ``is_asset``: it is a file
        of the page, which browsers request with an Origin, and which no other page can read without CORS headers.
        """
        if exchange.repeats_headers and sum(name == b"host" for name, _ in exchange.scope["headers"]) > 1:
            raise InvalidRequest(
                "The request has more than one Host header; send exactly one.", code="invalid_host"
            )
        host, origin = exchange.header(b"host"), exchange.header(b"origin")
        if not self._auth.needs_key:
            exchange.proxy_sign = self._guard.proxy_sign(
                exchange.scope["http_version"],
                exchange.headers,
                is_proxied=exchange.scope.get("portico.proxied", False),
            )
        try:
            self._guard.check_host(host)
            if (
                origin is not None
                and not is_asset
                and self._guard.check_origin(origin, host, exchange.scope.get("scheme", "http"))
            ):
                exchange.extra += [(b"access-control-allow-origin", origin), *CORS]
        except Forbidden:
            if not is_open:
                # Who adds the name of a proxy to the allowed ones needs a key next.
                self._refuse_outsider(exchange)
            raise

    def _refuse_outsider(self, exchange: Exchange) -> None:
        """Raise `Unauthenticated` for a request that did not come straight from this machine, if the daemon has no
        key. Then it serves such a request nothing, not even its page, which could not ask for a key.
        """
        if self._auth.has_no_key:
            refuse_proxied(exchange.proxy_sign)

    def _limit(self, exchange: Exchange) -> None:
        """Refuse a body whose declared size exceeds the maximum. The common limit applies to a form until a handler
        accepts it as a form.
        """
        if exchange.is_form:
            exchange.form_limit = self._upload_limit
        length = exchange.header(b"content-length")
        if length is not None:
            exchange.declared_bytes = int(length)
            if exchange.declared_bytes > exchange.form_limit:
                raise exchange.too_large(exchange.form_limit)

    async def _pass_on(self, exchange: Exchange, route: Route) -> None:
        """Pass the request to an adapter that has its own application, such as FastAPI or MCP."""
        method = exchange.scope["method"]
        if method in ("POST", "PUT", "PATCH", "DELETE") and (route.adapter == MCP or not exchange.is_form):
            await exchange.check_json()
        adapter = await self.adapters.get(route.adapter)
        if adapter.direct is not None and await adapter.direct(exchange, self._services):
            return
        scope = {
            **exchange.scope,
            # The server drops the response body, because the client sent HEAD.
            "method": "GET" if method == "HEAD" else method,
            "portico.services": self._services,
            "portico.auth": self._auth,
            "portico.caller": exchange.caller,
            "portico.exchange": exchange,
        }
        try:
            await adapter.app(scope, exchange.receive, exchange.send)
        finally:
            endpoint = scope.get("route")
            exchange.scope["portico.route"] = (
                "/mcp" if route.adapter == MCP else getattr(endpoint, "path", "")
            )

    async def _end_workers(self, key: str) -> None:
        """Forget a revoked key's workers. Other workers can take the calls that these workers had accepted."""
        owner = Principal(key, frozenset())
        for worker in self._services.served.workers_of(key):
            self._services.served.leave(owner, worker)
            await self._services.questions.let_go(owner, worker)

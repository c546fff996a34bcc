"""The gateway: every HTTP request comes in here, is checked once, and is handed to the adapter that answers it.

Order: request id, Host, Origin, body limit, `/health`, caller, adapter. The hot paths of the OpenAI API and of
Anthropic's are plain functions over raw ASGI; all others belong to adapters that are imported after the daemon serves.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from contextvars import ContextVar
from importlib import import_module
from ipaddress import ip_address
from time import perf_counter
from typing import Final

import orjson

from portico_server import __version__
from portico_server.api import ag_ui, client_secrets, errors, sign_ins
from portico_server.api.a2a import adapter as agents
from portico_server.api.adapter import ProtocolAdapter
from portico_server.api.anthropic.errors import ANTHROPIC, is_ours
from portico_server.api.auth import OPERATOR, Auth, hash_of, presented
from portico_server.api.errors import JSON_RPC, OPENAI, NotAllowedHere, RawHeaders, is_rpc, unknown_url
from portico_server.api.exchange import (
    ClientConnection,
    ClientLeft,
    Exchange,
    KeyCalls,
    Message,
    Receive,
    Scope,
    Send,
)
from portico_server.api.hot import HOT, SOCKETS
from portico_server.api.ollama import OLLAMA, SHAPES
from portico_server.api.openai import realtime
from portico_server.api.protected import WELL_KNOWN, address, is_protected, metadata_url
from portico_server.api.services import ApiServices
from portico_server.api.socket import FAILURE_CLOSE_CODE, POLICY_CLOSE_CODE, WebSocket
from portico_server.core import pools, trace
from portico_server.core.errors import (
    Forbidden,
    InvalidRequest,
    PorticoError,
    TooMany,
    Unauthenticated,
    Unavailable,
)
from portico_server.core.principal import LOCAL, Principal
from portico_server.settings import MB_BYTES, Settings, comma_separated

# Which Host and which Origin may come in: a web page elsewhere must not reach a daemon on this machine.


MAX_REMEMBERED_HEADERS = 256
"""Header values that passed and need not be looked at again."""


class OriginGuard:
    """Host is checked against DNS rebinding, Origin against other sites. Pure but for a small memory."""

    def __init__(self, settings: Settings) -> None:
        self._open = not settings.loopback
        self._hosts = {"localhost", settings.host.lower(), *comma_separated(settings.allowed_hosts.lower())}
        if self._open:
            self._hosts.add(socket.gethostname().lower())
        self._origins = frozenset(
            word.rstrip("/") for word in comma_separated(settings.allowed_origins.lower())
        )
        self._passed: set[bytes] = set()

    def check_host(self, raw: bytes | None) -> None:
        """Raise `Forbidden` unless the Host header names us: loopback, our address, or an allowed name.

        A page that has rebound its own name to our address still sends that name. An address cannot be
        rebound, so a daemon that listens for other machines takes any; it has a key then.
        """
        if raw in self._passed:
            return
        host = _host(raw)
        if host not in self._hosts and "*" not in self._hosts and not self._is_ours(host):
            raise Forbidden(
                f"The Host '{host}' is not one that this daemon answers to. If it is yours, name it in the "
                "setting allowed_hosts (PORTICO_ALLOWED_HOSTS).",
                code="host_not_allowed",
            )
        if raw is not None and len(self._passed) < MAX_REMEMBERED_HEADERS:
            self._passed.add(raw)

    def check_origin(self, raw: bytes, host: bytes | None) -> bool:
        """Whether the page at the Origin needs CORS headers; raises `Forbidden` if it may not call at all."""
        origin = raw.decode("latin-1").lower().rstrip("/")
        _scheme, _, site = origin.partition("://")
        if site and host is not None and site == host.decode("latin-1").lower():
            return False
        if origin in self._origins or "*" in self._origins:
            return True
        raise Forbidden(
            f"Pages from '{origin}' may not call this daemon. If the page is yours, name its origin in the "
            "setting allowed_origins (PORTICO_ALLOWED_ORIGINS).",
            code="origin_not_allowed",
        )

    def _is_ours(self, host: str) -> bool:
        try:
            address = ip_address(host)
        except ValueError:
            return False
        return address.is_loopback or self._open


def _host(raw: bytes | None) -> str:
    """The name in a Host header, without the port and the brackets of an IPv6 address."""
    text = (raw or b"").decode("latin-1").strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.rpartition(":")[0] if text.count(":") == 1 else text


# ``GET /ready``: whether this daemon can take requests now; `/health` says only that it runs.


READY: Final = orjson.dumps({"status": "ready"})

READINESS_TTL_S: Final = 1.0
"""Seconds for which one look counts: whoever asks more often, without a key, causes no more work."""

TIMEOUT_S: Final = 2.0
"""Seconds in which the database must answer."""


class Readiness:
    """``check`` asks the database and raises `PorticoError`; ``furnished`` is set once every adapter is there."""

    def __init__(self, check: Callable[[], Awaitable[None]], furnished: asyncio.Event) -> None:
        self._check = check
        self._furnished = furnished
        self._check_task: asyncio.Task[PorticoError | None] | None = None
        self._checked_at = 0.0

    async def require(self) -> None:
        """Return if the daemon is ready. Raises `Unavailable` with the reason."""
        if not self._furnished.is_set():
            raise Unavailable("The daemon is starting.", code="starting", retry_after=READINESS_TTL_S)
        if self._check_task is None or (
            self._check_task.done() and time.monotonic() - self._checked_at > READINESS_TTL_S
        ):
            self._check_task = asyncio.create_task(self._ask_database(), name="ready")
        # The look is everybody's: one who leaves does not end it.
        problem = await asyncio.shield(self._check_task)
        if problem is not None:
            raise problem

    async def _ask_database(self) -> PorticoError | None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._check()
        except TimeoutError:
            return Unavailable(
                f"The database has not answered within {TIMEOUT_S:g} s.",
                code="database_unavailable",
                retry_after=READINESS_TTL_S,
            )
        except PorticoError as error:
            return error
        finally:
            self._checked_at = time.monotonic()
        return None


HEALTH = orjson.dumps({"status": "ok", "version": __version__})

PUBLIC = frozenset({"/", "/docs", "/openapi.json", "/favicon.ico", sign_ins.START, sign_ins.CALLBACK})
PUBLIC_FOLDERS = ("/docs/", "/web/", WELL_KNOWN)

EXPOSED = b", ".join(
    [
        *(b"X-Request-Id", b"Request-Id", b"X-Portico-Run", b"Mcp-Session-Id", b"Retry-After"),
        *(b"X-RateLimit-Limit-Requests", b"X-RateLimit-Remaining-Requests", b"X-RateLimit-Reset-Requests"),
        *(b"X-RateLimit-Limit-Tokens", b"X-RateLimit-Remaining-Tokens", b"X-RateLimit-Reset-Tokens"),
    ]
)
"""Headers of an answer that a page may read."""

SWITCHING_STATUS: Final = 101

MAX_TIMER_S: Final = 86_400.0

CORS: RawHeaders = [
    (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE, OPTIONS"),
    (b"access-control-allow-headers", b"*, Authorization, Content-Type, Last-Event-ID, Mcp-Session-Id"),
    (b"access-control-expose-headers", EXPOSED),
    (b"access-control-max-age", b"600"),
    (b"vary", b"Origin"),
]
"""CORS headers for a page at an allowed origin, without the origin itself."""


CALL: ContextVar[int] = ContextVar("call", default=0)
"""The identity of the call of a key that this task is in."""


class Gateway:
    """The ASGI application of the daemon. `run` belongs to the daemon's task group."""

    def __init__(self, services: ApiServices, auth: Auth) -> None:
        self._services = services
        self._auth = auth
        self._guard = OriginGuard(services.settings)
        self._body_limit = services.settings.max_body_mb * MB_BYTES
        # What surrounds the file in a form comes on top.
        self._upload_limit = services.settings.max_file_mb * MB_BYTES + MB_BYTES
        self._adapters: dict[str, asyncio.Future[ProtocolAdapter]] = {}
        self._calls: dict[str, KeyCalls] = {}
        """What keys have under way, by the key's id."""
        auth.revoked += [self._end_calls, services.runner.revoke, services.scheduler.revoke]
        auth.revoked += [self._end_workers, services.tuning.revoke, services.containers.revoke]
        services.sign_ins.ended.append(self._end_calls)
        self._renewals = asyncio.TaskGroup()
        """What looks after calls that outlast the token with which they began."""
        self.furnished = asyncio.Event()
        """Set once every adapter is there that a start imports: all but MCP's."""
        self.has_mcp = asyncio.Event()
        self._needs_mcp = asyncio.Event()
        self._readiness = Readiness(services.database.check, self.furnished)

    async def run(self) -> None:
        """Import the adapters, off the event loop, and keep them open until cancelled.

        MCP's takes a fifth of the memory of an idle daemon, so its first request imports it. A request that comes
        before its adapter is there waits for it.
        """
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._renewals)
            await self._furnish("web", stack)
            self.furnished.set()
            watching = self._renewals.create_task(self._services.runner.signals.watch(), name="signals")
            await self._needs_mcp.wait()
            await self._furnish("mcp", stack)
            self.has_mcp.set()
            await watching

    async def _furnish(self, name: str, stack: AsyncExitStack) -> None:
        adapter = await pools.LOADING.run(_load, name, self._services)
        await stack.enter_async_context(adapter.lifespan())
        self._adapter(name).set_result(adapter)

    def _adapter(self, name: str) -> asyncio.Future[ProtocolAdapter]:
        future = self._adapters.get(name)
        if future is None:
            future = self._adapters[name] = asyncio.get_running_loop().create_future()
        return future

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Nothing that goes wrong in it gets past here."""
        if scope["type"] == "websocket":
            await self._open_socket(scope, receive, send)
            return
        assert scope["type"] == "http", "the server is configured without lifespan"
        shape = SHAPES.get(scope["path"])
        if shape is None:
            path = scope["path"]
            shape = ANTHROPIC if is_ours(scope) else JSON_RPC if is_rpc(path) else OPENAI
            if agents.is_agents(path):
                shape = agents.shape_of(path)
        exchange = Exchange(scope, receive, send, self._body_limit, shape)
        started_at = perf_counter()
        # Nearly no client sends one: a context that nobody has changed costs nothing.
        client = trace.of_headers(scope["headers"]) if b"traceparent" in exchange.headers else None
        token = None if client is None else trace.CURRENT.set(client)
        try:
            await self._answer(exchange)
        except asyncio.CancelledError:
            if exchange.revoked is None:
                raise
            await exchange.break_off()
        except Exception as error:  # noqa: BLE001  # the outermost: it is logged and reported
            await exchange.refuse(error)
        finally:
            if exchange.task is not None and exchange.caller is not None:
                self._unregister_call(exchange, exchange.caller.id)
            if token is not None:
                trace.CURRENT.reset(token)
            self._services.runner.signals.answered(
                scope["method"], scope.get("portico.route", ""), exchange.status, perf_counter() - started_at
            )

    async def _open_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one WebSocket until it ends. Until it is accepted a refusal is an answer of HTTP."""

        async def refuse(message: Message) -> None:
            await send({**message, "type": f"websocket.{message['type']}"})

        exchange = Exchange({**scope, "method": "GET"}, receive, refuse, self._body_limit)
        connection, exchange.connection = exchange.connection, None  # which writes HTTP
        opened = WebSocket(exchange, receive, send)
        started_at = perf_counter()
        path: str = scope["path"]
        try:
            self._guard_page(exchange)
            handler = SOCKETS.get(path)
            if handler is None:
                raise unknown_url("WEBSOCKET", path, SOCKETS)
            exchange.caller = await self._identify_socket(exchange, path)
            if connection is not None:
                connection.admit()
            self._register_call(exchange, exchange.caller, connection)
            await handler(opened, self._services)
        except asyncio.CancelledError:
            if exchange.revoked is None or exchange.task is None:
                raise
            exchange.task.uncancel()
            with contextlib.suppress(ClientLeft):
                await opened.close(POLICY_CLOSE_CODE, exchange.revoked.message)
        except ClientLeft:
            pass
        except Exception as error:  # noqa: BLE001  # the outermost: it is logged and reported
            if opened.accepted:
                errors.ours(error, exchange.id)
                with contextlib.suppress(ClientLeft):
                    await opened.close(FAILURE_CLOSE_CODE, exchange.id)
            else:
                await exchange.refuse(error)
        finally:
            if exchange.task is not None and exchange.caller is not None:
                self._unregister_call(exchange, exchange.caller.id)
            route = path if path in SOCKETS else ""
            status = SWITCHING_STATUS if opened.accepted else exchange.status
            self._services.runner.signals.answered("GET", route, status, perf_counter() - started_at)

    async def _answer(self, exchange: Exchange) -> None:
        scope = exchange.scope
        path: str = scope["path"]
        method: str = scope["method"]
        self._guard_page(exchange)
        if method == "OPTIONS" and exchange.header(b"access-control-request-method") is not None:
            await exchange.answer(204, b"", [])
            return
        self._limit(exchange)
        if path in ("/health", "/ready"):
            scope["portico.route"] = path
        if path == "/health":
            if method not in ("GET", "HEAD"):
                raise NotAllowedHere(method, path, "GET, HEAD")
            await exchange.answer(200, HEALTH)
            return
        if path == "/ready":
            if method not in ("GET", "HEAD"):
                raise NotAllowedHere(method, path, "GET, HEAD")
            await self._readiness.require()
            await exchange.answer(200, READY)
            return
        if path not in PUBLIC and not path.startswith(PUBLIC_FOLDERS):
            exchange.caller = await self._identify(exchange, path)
            if exchange.connection is not None:
                exchange.connection.admit()
            exchange.meter = self._services.runner.quotas.of(exchange.caller.id)
            self._register_call(exchange, exchange.caller, exchange.connection)
        handlers = HOT.get(path) or OLLAMA.get(path)
        if handlers is None:
            if agents.is_agents(path):
                await agents.serve(exchange, self._services)
            elif ag_ui.is_ours(path):
                await ag_ui.serve(exchange, self._services)
            else:
                await self._pass_on(exchange, path, method)
            return
        scope["portico.route"] = path
        if method in handlers:
            handler = handlers[method]
            await (handler(exchange, self._services) if handler else self._pass_on(exchange, path, method))
        elif method == "OPTIONS":
            await exchange.answer(204, b"", [(b"allow", ", ".join(handlers).encode())])
        else:
            raise NotAllowedHere(method, path, ", ".join(handlers))

    def _register_call(
        self, exchange: Exchange, caller: Principal, connection: ClientConnection | None
    ) -> None:
        """Note a call of a key. Raises `TooMany` for one that has its share of the connections already."""
        if caller is LOCAL or caller is OPERATOR:  # these are never revoked
            return
        calls = self._calls.setdefault(caller.id, KeyCalls())
        if connection is not None and len(calls) >= connection.calls_per_key:
            raise TooMany(
                f"This API key has {len(calls)} calls in progress, half of all connections of this daemon. Wait "
                "for one to end, or close one.",
                code="too_many_connections",
                retry_after=1.0,
            )
        exchange.task = asyncio.current_task()
        if exchange.expires_at:
            self._end_expired(exchange)
        exchange.beside = calls
        pools.KEY.set(caller.id)
        CALL.set(id(exchange))
        calls.add(exchange)

    def _unregister_call(self, exchange: Exchange, key: str) -> None:
        exchange.release()
        if exchange.expiry is not None:
            exchange.expiry.cancel()
        exchange.task = None  # which holds on to this call: without a circle both are gone at once
        calls = self._calls.get(key)
        if calls is not None:
            calls.discard(exchange)
            if not calls:
                del self._calls[key]

    def _end_expired(self, exchange: Exchange) -> None:
        """End a call, a stream included, when the token that it was made with expires."""
        left = exchange.expires_at - time.time()
        if left > 0:
            later = asyncio.get_running_loop().call_later
            exchange.expiry = later(min(left, MAX_TIMER_S), self._end_expired, exchange)
        elif exchange.task is not None and exchange.renew is not None:
            self._renewals.create_task(self._renew(exchange, exchange.renew))
        elif exchange.task is not None:
            exchange.revoked = Unauthenticated(
                "The token of this call has expired. Sign in again.", code="token_expired"
            )
            exchange.task.cancel()

    async def _renew(self, exchange: Exchange, renew: Callable[[], Awaitable[float]]) -> None:
        """Let a call continue while its caller is signed in, and end it otherwise."""
        try:
            exchange.expires_at = await renew()
            if exchange.expires_at <= time.time():
                exchange.renew = None
        except Exception as error:  # noqa: BLE001  # the outermost of its task: it is logged
            errors.ours(error, exchange.id)
            exchange.renew = None
        self._end_expired(exchange)

    async def _end_calls(self, key: str, sign_in: str = "") -> None:
        """End what a key that was revoked or lost scopes has under way, streams included, but for this call; of
        somebody who has signed out, what that browser asked for.
        """
        for exchange in tuple(self._calls.get(key, ())):
            if sign_in not in ("", exchange.sign_in):
                continue
            if exchange.task is not None and id(exchange) != CALL.get():
                exchange.revoked = (
                    Unauthenticated("You are signed out. Sign in again.", code="sign_in_ended")
                    if sign_in
                    else Unauthenticated("This API key was revoked or lost scopes.", code="key_revoked")
                )
                exchange.task.cancel()

    async def _end_workers(self, key: str) -> None:
        """Forget the workers of a revoked key; the calls that they have taken are for others."""
        owner = Principal(key, frozenset())
        for worker in self._services.served.workers_of(key):
            self._services.served.leave(owner, worker)
            await self._services.questions.let_go(owner, worker)

    async def _identify(self, exchange: Exchange, path: str) -> Principal:
        """The caller. An MCP client without a key gets the address that says how to obtain one."""
        headers = exchange.headers
        try:
            if b"authorization" in headers or b"x-api-key" in headers:
                return await self._caller_of(exchange, presented(exchange.scope["headers"]))
            return await self._caller_without_key(exchange)
        except Unauthenticated as error:
            if is_protected(path):
                settings = self._services.settings
                scheme = exchange.scope.get("scheme", "http")
                host = exchange.header(b"host")
                base = address(settings, scheme, host.decode("latin-1") if host else None)
                error.metadata = metadata_url(base, path)
                error.ask_for = settings.oidc_scopes if settings.oidc_issuer else ""
            raise

    async def _caller_of(self, exchange: Exchange, key: str | None) -> Principal:
        """Whose key it is, or whose token of an issuer; the call ends with a token."""
        if not self._auth.is_token(key):
            return self._auth.identify(key)
        found = await self._auth.sign_in(key)
        exchange.expires_at, exchange.role = found.expires_at, found.role
        return found.caller

    async def _caller_without_key(self, exchange: Exchange, *, socket: bool = False) -> Principal:
        """Who is signed in in the browser that asks, if our own page there does."""
        found = self._services.sign_ins
        scope = exchange.scope
        if b"cookie" in exchange.headers and found.clients:
            host = exchange.headers.get(b"host", b"").decode("latin-1")
            secure = address(self._services.settings, scope.get("scheme", "http"), host).startswith("https:")
            secret = sign_ins.cookie(exchange.headers, sign_ins.SIGNED_IN, secure=secure)
            if secret and sign_ins.is_of_our_page(exchange.headers, scope["method"], socket=socket):
                return await self._caller_signed_in(exchange, secret)
        return await self._caller_of(exchange, None)

    async def _caller_signed_in(self, exchange: Exchange, secret: str) -> Principal:
        async def renew() -> float:
            return (await self._services.sign_ins.caller(secret)).expires_at

        signed_in = await self._services.sign_ins.caller(secret)
        exchange.expires_at, exchange.role, exchange.renew = signed_in.expires_at, signed_in.role, renew
        exchange.sign_in = hash_of(secret)
        return signed_in.caller

    async def _identify_socket(self, exchange: Exchange, path: str) -> Principal:
        """The caller of a WebSocket, whose key may be among the subprotocols. A client secret opens what it is for."""
        scope = exchange.scope
        key = presented(scope["headers"]) or client_secrets.offered(scope.get("subprotocols", ()))
        if key is None:
            return await self._caller_without_key(exchange, socket=True)
        if not key.startswith(client_secrets.PREFIX) or path != realtime.PATH:
            return await self._caller_of(exchange, key)
        caller, scope["portico.session"], exchange.expires_at = client_secrets.opened(self._auth, key)
        return caller

    def _guard_page(self, exchange: Exchange) -> None:
        """Check Host and Origin; a page that may call from elsewhere gets its headers on every answer."""
        if exchange.repeats_headers and sum(name == b"host" for name, _ in exchange.scope["headers"]) > 1:
            raise InvalidRequest("The request has more than one Host header; send one.", code="invalid_host")
        host, origin = exchange.header(b"host"), exchange.header(b"origin")
        self._guard.check_host(host)
        if origin is not None and self._guard.check_origin(origin, host):
            exchange.extra += [(b"access-control-allow-origin", origin), *CORS]

    def _limit(self, exchange: Exchange) -> None:
        """Refuse a body that announces more than any may have. A form has the common limit until it is taken as one."""
        if exchange.is_form:
            exchange.form_limit = self._upload_limit
        length = exchange.header(b"content-length")
        if length is not None and int(length) > exchange.form_limit:
            raise exchange.too_large(exchange.form_limit)

    async def _pass_on(self, exchange: Exchange, path: str, method: str) -> None:
        """Hand the request to one of the larger adapters."""
        name = "mcp" if is_rpc(path) else "web"
        if method in ("POST", "PUT", "PATCH", "DELETE") and not (name == "web" and exchange.is_form):
            await exchange.check_json()
        if name == "mcp":
            self._needs_mcp.set()
        adapter = await asyncio.shield(self._adapter(name))
        if adapter.direct is not None and await adapter.direct(exchange, self._services):
            return
        scope = {
            **exchange.scope,
            # A GET without its body: the server drops it.
            "method": "GET" if method == "HEAD" else method,
            "portico.services": self._services,
            "portico.auth": self._auth,
            "portico.caller": exchange.caller,
            "portico.exchange": exchange,
        }
        try:
            await adapter.app(scope, exchange.receive, exchange.send)
        finally:
            route = scope.get("route")
            exchange.scope["portico.route"] = "/mcp" if name == "mcp" else getattr(route, "path", "")


def _load(name: str, services: ApiServices) -> ProtocolAdapter:
    """Import and build a adapter; takes up to a second, so it is called in a thread."""
    adapter: ProtocolAdapter = getattr(import_module("portico_server.api.routes"), name)(services)
    return adapter

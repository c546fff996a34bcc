"""A connection to one third-party server. Its task starts the server, monitors it, and restarts it after growing
pauses.

Importing ``mcp`` takes most of a second, so import this module when the first server is needed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Literal, TextIO, TypeAlias, TypeVar

import anyio
import httpx2
import mcp_types as types
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from portico.schemas.artifacts import Artifact
from portico.schemas.mcp_servers import McpCard, McpContent, McpPrompt, McpPromptMessage, McpResource
from portico.wire import Progressed
from portico_server import __version__
from portico_server.child_environment import is_local
from portico_server.core import pools, work_slots
from portico_server.core.context import Context
from portico_server.core.errors import Conflict, InvalidRequest
from portico_server.core.request import ToolCall, ToolResult
from portico_server.features.mcp_servers import incoming
from portico_server.features.mcp_servers.error_codes import (
    HTTP_ERROR_CODE,
    OWN_CODES,
    SERVER_ERROR_CODE,
    SESSION_LOST_CODE,
    TOO_LARGE_CODE,
    UNREACHABLE_CODE,
)
from portico_server.features.mcp_servers.http_errors import HttpClient
from portico_server.features.mcp_servers.offered import MAX_OFFERED
from portico_server.features.mcp_servers.readable import error_text, problems_of
from portico_server.features.mcp_servers.sampling import DECLARED, Sampler
from portico_server.features.mcp_servers.spec import ServerSpec
from portico_server.features.mcp_servers.translate import (
    card_of,
    contents_of,
    made_in,
    messages_of,
    plain,
    prompt_of,
    resource_of,
    result_of,
)
from portico_server.runs.artifacts import NewArtifact
from portico_server.runs.runner import Runner

logger = logging.getLogger(__name__)

T = TypeVar("T")

State: TypeAlias = Literal["starting", "ready", "waiting", "stopped"]

START_TIMEOUT_S: Final = 120.0
"""Maximum seconds until a server's first response. Package runners first download the server."""

RESTART_WAIT_SECONDS: Final = 15.0
"""Seconds that a call waits for a server that is restarting."""

SESSION_END_TIMEOUT_S: Final = 5.0
"""Maximum seconds that a new session waits for the responses to requests of the session before it."""

_FIRST_RETRY_S: Final = 0.5
_MAX_RETRY_S: Final = 60.0
RELIST_INTERVAL_S: Final = 1.0
"""Minimum seconds between two requests for a server's tools, regardless of how often it reports changes."""

_PAGES: Final = 50
_KEY: Final = "portico/idempotency-key"
"""Name under which ``_meta`` contains the key of a call. MCP does not define such a key."""
_MAX_REASON_CHARS: Final = 3_000
"""Maximum characters of a server's error that the calling model sees."""

_FAILED: Final = "mcp_server_failed"
_REFUSED: Final = "mcp_server_refused"
_RESTARTING: Final = "It is being restarted."
MAX_LAST_LINES: Final = 10
"""Maximum number of lines that the error of a server that has ended shows of its standard error."""

_MAX_LINE_CHARS: Final = 300
LOG_BYTES: Final = 1024 * 1024
"""Size of a server's log, in bytes, at which it is emptied."""

LOG_INTERVAL_S: Final = 1.0
"""Seconds between checks of the log's size."""

_BROKEN: Final = (
    OSError,
    httpx2.HTTPError,
    anyio.ClosedResourceError,
    anyio.BrokenResourceError,
    anyio.EndOfStream,
    RuntimeError,
    ValueError,
)
"""Errors of a broken connection, or of an invalid response."""


class _NotRun(Exception):
    """The server did not run a request, for the reason in the message, so that the request can be repeated."""


class ServerConnection:
    """A connection that runs in the task that calls `run`. Any task can make calls."""

    def __init__(
        self,
        spec: ServerSpec,
        log: Path,
        offer: Callable[[Sequence[types.Tool], Sequence[str]], None],
        keep: Callable[[Sequence[NewArtifact], Context], Awaitable[tuple[Artifact, ...]]],
        runner: Runner,
    ) -> None:
        self.spec = spec
        self._secrets = spec.secrets()
        self._sampler = (
            None if spec.sampling is None else Sampler(spec.name, spec.sampling, runner, self._secrets)
        )
        self.state: State = "starting"
        self.error: str | None = None
        """The reason why the server is not available, which callers receive. It stays while the server is started
        again.
        """
        self.restarts = 0
        self.card = McpCard()
        """What the server reported about itself when it was last reached."""
        self.reached_at: float | None = None
        """When the server was last reached, in seconds since 1970."""
        self.tried = asyncio.Event()
        """Set when the first attempt to start the server has ended, successfully or not."""
        self._log = log
        self._offer = offer
        self._keep = keep
        self._client: Client | None = None
        self._has_started = self._has_lost_session = False
        self._requests: set[asyncio.Future[None]] = set()
        """A future for each request to the server that has no response yet."""
        self._log_start = 0
        """Size of the log, in bytes, when the server was last started."""
        self._ready = asyncio.Event()
        self._wake = asyncio.Event()
        self._over = asyncio.Event()
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Keep the server connected until `stop`."""
        pause = _FIRST_RETRY_S
        while not self._stopping.is_set():
            began, self._has_lost_session = asyncio.get_running_loop().time(), False
            try:
                await self._hold()
            except Exception as error:  # noqa: BLE001  # anything: it is told, and the server is tried again
                if not (self._has_started and self._over.is_set()):  # otherwise the reason is known already
                    self.error = self._secrets.remove(_sentence(error, next(iter(self.spec.command), "")))
            self._client = None
            self._ready.clear()
            if self._stopping.is_set():
                break
            if self._has_lost_session:
                logger.info("the MCP server %s has ended its session", self.spec.name)
                self.restarts += 1
                continue
            await self._add_last_lines()
            self.tried.set()
            if asyncio.get_running_loop().time() - began > _MAX_RETRY_S:
                pause = _FIRST_RETRY_S  # the server had worked for a while
            logger.warning("lost the MCP server %s: %s", self.spec.name, self.error)
            self.state = "waiting"
            await self._pause(pause)
            pause = min(pause * 2, _MAX_RETRY_S)
            self.restarts += 1
        self.state = "stopped"

    async def wait_until_ready(self) -> None:
        """Wait until the server is connected and its tools are registered."""
        await self._ready.wait()

    async def _pause(self, seconds: float) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _hold(self) -> None:
        """Connect to the server once. Return when the connection ends."""
        self._over.clear()
        self.state, self._has_started = "starting", False
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(START_TIMEOUT_S):
                client = await stack.enter_async_context(await self._connect(stack))
                self._offer(*await _tools(client))
            self.card, self.reached_at = self._secrets.remove(card_of(client)), time.time()
            self.state, self.error, self._client = "ready", None, client
            self._has_started = True
            self._ready.set()
            self.tried.set()
            beside = [
                asyncio.create_task(self._listen(client), name=f"changes of {self.spec.name}"),
                asyncio.create_task(_trim_log(self._log), name=f"log of {self.spec.name}"),
            ]
            try:
                clock = asyncio.get_running_loop().time
                listed_at = clock()
                while True:
                    await self._wake.wait()
                    if not await self._stays(listed_at + RELIST_INTERVAL_S - clock()):
                        break
                    self._wake.clear()
                    listed_at = clock()
                    try:
                        self._offer(*await _tools(client))
                    except MCPError as error:
                        if error.error.code != SESSION_LOST_CODE:
                            raise
                        self._lose_session(client)
            finally:
                self._client = None
                self._ready.clear()
                if self._has_lost_session and self._requests:
                    await asyncio.wait(self._requests, timeout=SESSION_END_TIMEOUT_S)
                for task in beside:
                    task.cancel()
                await asyncio.wait(beside)

    async def _stays(self, seconds: float) -> bool:
        """Wait up to ``seconds`` for the connection. Return whether the connection is usable then."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._over.wait()
        except TimeoutError:
            pass
        return not self._over.is_set()

    async def _connect(self, stack: AsyncExitStack) -> Client:
        spec = self.spec
        transport: Any
        if spec.url:
            http = HttpClient(
                headers=dict(spec.headers),
                timeout=httpx2.Timeout(30, read=spec.timeout + 30),
                trust_env=not is_local(httpx2.URL(spec.url).host),
                event_hooks={"response": [incoming.read_response]},
            )
            http.headers["Accept-Encoding"] = "identity"
            transport = streamable_http_client(
                spec.url,
                http_client=await stack.enter_async_context(http),
                max_sse_event_size=incoming.MAX_LINE_CHARS,
            )
        else:
            program, *arguments = spec.command
            parameters = StdioServerParameters(
                command=program,
                args=arguments,
                env={**_language(), **spec.env},
                cwd=spec.folder or None,
                encoding=incoming.ENCODING,
                encoding_error_handler="replace",
            )
            log = stack.enter_context(_opened(self._log))
            self._log_start = log.tell()
            transport = stdio_client(parameters, errlog=log)
        return Client(
            incoming.read_transport(transport, self.note_loss),
            read_timeout_seconds=spec.timeout,
            message_handler=self._hear,
            sampling_callback=self._sampler,
            sampling_capabilities=DECLARED,
            client_info=types.Implementation(name="portico", version=__version__),
        )

    async def _hear(self, message: types.ServerNotification | Exception) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self._wake.set()

    async def _listen(self, client: Client) -> None:
        """Listen for changes, which servers with the protocol version 2026-07-28 report only on request."""
        if client.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            return
        try:
            async with client.listen(tools_list_changed=True) as changes:
                async for _change in changes:
                    self._wake.set()
        except (MCPError, TimeoutError, *_BROKEN) as error:
            logger.debug("%s reports no changes: %s", self.spec.name, error)

    def note_loss(self, reason: str = "It ended.") -> None:
        """Mark the connection as unusable."""
        self.error = self._secrets.remove(reason)
        self._over.set()
        self._wake.set()

    def _lose(self, client: Client, reason: str) -> None:
        """Mark the connection as unusable if it still belongs to ``client``."""
        if self._client is client:
            self._client, self.state = None, "waiting"
            self._ready.clear()
            self.note_loss(reason)

    def _lose_session(self, client: Client) -> None:
        """Start a new session at once if ``client`` still holds the current one."""
        if self._client is client:
            self._has_lost_session = True
            self._lose(client, "The server has ended the session.")

    async def _add_last_lines(self) -> None:
        """Add to the error of a program that has ended what it wrote last."""
        if self.spec.command and self.error is not None and self.error != _RESTARTING:
            lines = await pools.FILES.run(_last_lines, self._log, self._log_start)
            if lines:
                self.error += self._secrets.remove(plain(" It last wrote:\n" + "\n".join(lines)))

    def restart(self) -> None:
        """Restart the connection immediately."""
        self.note_loss(_RESTARTING)

    def stop(self) -> None:
        """End `run` and close the connection in an orderly way."""
        self._stopping.set()
        self._over.set()
        self._wake.set()

    async def call(self, tool: str, call: ToolCall, context: Context) -> ToolResult:
        """Call a tool of the server. Every failure is returned as a result for the model that made the call."""
        arguments = dict(call.arguments)
        meta: Any = {_KEY: call.key} if call.key else None

        async def tell(progress: float, total: float | None, message: str | None) -> None:
            await context.emit(Progressed("tool", message or tool, progress, total))

        try:
            result = await self._ask(
                lambda client: client.call_tool(tool, arguments, progress_callback=tell, meta=meta), "call"
            )
        except (Conflict, InvalidRequest) as error:
            if error.code not in (_FAILED, _REFUSED):
                raise
            return ToolResult(error.message, is_error=True)
        return result_of(result, await self._keep(made_in(result), context))

    async def resources(self) -> list[McpResource]:
        """Return the server's resources, followed by URI templates, at most `MAX_OFFERED` of each. Raise
        `PorticoError`.
        """

        async def work(client: Client) -> list[McpResource]:
            if client.server_capabilities.resources is None:
                return []
            resources = await _pages(client.list_resources, lambda page: page.resources)
            try:
                templates = await _pages(client.list_resource_templates, lambda page: page.resource_templates)
            except MCPError as error:
                if error.error.code != types.METHOD_NOT_FOUND:
                    raise
                templates = []  # a server need not support templates
            return [self._secrets.remove(resource_of(resource)) for resource in (*resources, *templates)]

        return await self._ask(work)

    async def read(self, uri: str) -> list[McpContent]:
        """Return the content of the resource at ``uri``. Raise `PorticoError`."""
        resource_result = await self._ask(lambda client: client.read_resource(uri, cache_mode="bypass"))
        return [self._secrets.remove(content) for content in contents_of(resource_result)]

    async def prompts(self) -> list[McpPrompt]:
        """Return the prompts of the server, at most `MAX_OFFERED`. Raise `PorticoError`."""

        async def work(client: Client) -> list[McpPrompt]:
            if client.server_capabilities.prompts is None:
                return []
            return [
                self._secrets.remove(prompt_of(prompt))
                for prompt in await _pages(client.list_prompts, lambda page: page.prompts)
            ]

        return await self._ask(work)

    async def prompt(self, name: str, arguments: Mapping[str, str]) -> list[McpPromptMessage]:
        """Return a prompt with its arguments filled in. Raise `PorticoError`."""
        result = await self._ask(lambda client: client.get_prompt(name, dict(arguments)))
        return [self._secrets.remove(message) for message in messages_of(result)]

    async def _ask(self, work: Callable[[Client], Awaitable[T]], action: str = "request") -> T:
        """Send a request to the server, and send it once more if the server did not run it. Raise `Conflict` and
        `InvalidRequest` that describe the problem.

        ``action``: the word for the request in messages.
        """
        try:
            return await self._attempt(work, action)
        except _NotRun:
            logger.info("repeating a %s of the MCP server %s", action, self.spec.name)
        try:
            return await self._attempt(work, action)
        except _NotRun as error:
            raise self._trouble(f"did not run the {action}: {error}") from error

    async def _attempt(self, work: Callable[[Client], Awaitable[T]], action: str) -> T:
        """Send a request to the server. Raise `_NotRun`, and errors as `_ask` does.

        A request to a server that could not be reached tries at once to reach it again.
        """
        if self.spec.url and self.state == "waiting":
            self._wake.set()
        try:
            async with asyncio.timeout(RESTART_WAIT_SECONDS):
                await self._ready.wait()
        except TimeoutError:
            raise self._trouble(f"is not running: {self.error or 'it is starting'}") from None
        async with self._turn():
            client = self._client
            if client is None:  # the server ended while this call waited for its turn
                raise self._trouble(f"is not running: {self.error or 'it is being started again'}")
            request = asyncio.get_running_loop().create_future()
            self._requests.add(request)
            try:
                result = await work(client)
            except MCPError as error:
                raise self._failure(client, error.error, action) from error
            except _BROKEN as error:
                if isinstance(error, httpx2.HTTPError):
                    self._lose(client, f"The server could not be reached: {_line(error)}")
                raise self._trouble(f"returned an invalid response: {_line(error)}") from error
            finally:
                request.set_result(None)
                self._requests.discard(request)
        self.reached_at = time.time()
        return result

    def _failure(self, client: Client, error: types.ErrorData, action: str) -> Exception:
        """Return the exception for an error response to a request, and note what it says about the connection."""
        reason = self._secrets.remove(plain(error_text(error)))[:_MAX_REASON_CHARS]
        match error.code:
            case types.CONNECTION_CLOSED:
                self._lose(client, f"The server ended in the middle of a {action}.")
                return self._trouble(f"ended in the middle of the {action}; it is being restarted")
            case _ if error.code == SESSION_LOST_CODE:
                self._lose_session(client)
                return _NotRun(reason)
            case _ if error.code == UNREACHABLE_CODE:
                self._lose(client, reason)
                return _NotRun(reason)
            case _ if error.code == TOO_LARGE_CODE:
                return self._trouble(
                    f"returned more than {incoming.MAX_LINE_CHARS:,} characters or {incoming.MAX_PARTS:,} "
                    "objects, lists and values, which exceeds the limit: request less data from the server"
                )
            case types.REQUEST_TIMEOUT:
                return self._trouble(f"did not respond within {self.spec.timeout:g} s")
        if error.code == HTTP_ERROR_CODE and error.data["status"] == HTTPStatus.UNAUTHORIZED:
            self._lose(client, reason)
        return InvalidRequest(
            f"The MCP server '{self.spec.name}' refused the {action}: {reason}", code=_REFUSED
        )

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wrap a request to the server. If the server can ask a model, it handles requests of one key at a time.

        Raise `Conflict` if the key gets no turn in time.
        """
        if self._sampler is None:
            yield
            return
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self.spec.timeout):
                    await stack.enter_async_context(self._sampler.turn(work_slots.KEY.get()))
            except TimeoutError:
                raise self._trouble(
                    f"is working for other keys, and this key got no turn within {self.spec.timeout:g} s"
                ) from None
            yield

    def _trouble(self, problem: str) -> Conflict:
        problem = self._secrets.remove(problem)
        return Conflict(f"The MCP server '{self.spec.name}' {problem}.", code=_FAILED)


async def _tools(client: Client) -> tuple[list[types.Tool], list[str]]:
    """Return the server's tools from all pages, up to a usable number, and sentences about what could not be read."""
    problems: list[str] = []
    if client.server_capabilities.tools is None:
        return [], problems

    def tools_of(page: types.ListToolsResult) -> list[types.Tool]:
        problems.extend(problems_of(page.meta))
        return page.tools

    return await _pages(client.list_tools, tools_of), problems


async def _pages(ask: Callable[..., Awaitable[Any]], rows: Callable[[Any], Sequence[T]]) -> list[T]:
    """Return the rows of all pages of a list, at most `MAX_OFFERED`."""
    ts: list[T] = []
    cursors: list[str | None] = [None]
    while len(cursors) <= _PAGES and len(ts) < MAX_OFFERED:
        page = await ask(cursor=cursors[-1], cache_mode="bypass")
        ts += rows(page)
        if page.next_cursor in ("", *cursors):  # the last page, or one that was read before
            break
        cursors.append(page.next_cursor)
    return ts[:MAX_OFFERED]


def _opened(log: Path) -> TextIO:
    """Open the log for the server's standard error in append mode."""
    log.parent.mkdir(parents=True, exist_ok=True)
    cut(log)
    return log.open("a", encoding="utf-8", errors="replace")


async def _trim_log(log: Path) -> None:
    """Keep a log short while a server writes to the log, until cancelled."""
    while True:
        await asyncio.sleep(LOG_INTERVAL_S)
        with suppress(OSError):
            await pools.FILES.run(cut, log)


def cut(log: Path) -> bool:
    """Empty a log that is too long. Return whether it was emptied."""
    has_grown = log.exists() and log.stat().st_size > LOG_BYTES
    if has_grown:
        os.truncate(log, 0)
    return has_grown


def _last_lines(log: Path, start: int) -> list[str]:
    """Return the last lines of a log after its first ``start`` bytes, or of all of it if it was emptied since."""
    try:
        with log.open("rb") as file:
            file.seek(start if start <= log.stat().st_size else 0)
            text = file.read(LOG_BYTES).decode("utf-8", "replace")
    except OSError:
        return []
    lines = [line.rstrip()[:_MAX_LINE_CHARS] for line in text.splitlines() if line.strip()]
    return lines[-MAX_LAST_LINES:]


def _language() -> dict[str, str]:
    """Return the environment variables of the language, which ``mcp`` does not pass to a process.

    It passes PATH, HOME, USER, SHELL and TERM.
    """
    return {name: os.environ[name] for name in ("LANG", "LC_ALL", "TZ", "TMPDIR") if name in os.environ}


def _sentence(error: BaseException, program: str) -> str:
    """Describe an exception, or the first exception of a group. A missing file without a name is the ``program``."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    match error:
        case FileNotFoundError(filename=name):
            return f"The program '{name or program}' does not exist on this machine."
        case MCPError() if error.error.code == types.CONNECTION_CLOSED:
            return "It ended at its start."
        case MCPError() if error.error.code in OWN_CODES and error.error.code != SERVER_ERROR_CODE:
            return error.error.message
        case MCPError():
            return f"It refused: {error_text(error.error)[:_MAX_REASON_CHARS]}"
        case TimeoutError():
            return f"The server did not respond within {START_TIMEOUT_S:g} s of its start."
    return f"{type(error).__name__}: {_line(error)}" if str(error) else type(error).__name__


def _line(error: BaseException) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return " ".join(str(error).split())[:500]

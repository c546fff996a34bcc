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
from portico_server.features.mcp_servers.offered import MAX_OFFERED
from portico_server.features.mcp_servers.readable import TOO_LARGE_CODE, error_of, problems_of
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
        """The reason why the server is not available, which callers receive."""
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
        self._ready = asyncio.Event()
        self._wake = asyncio.Event()
        self._over = asyncio.Event()
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Keep the server connected until `stop`."""
        pause = _FIRST_RETRY_S
        while not self._stopping.is_set():
            began = asyncio.get_running_loop().time()
            try:
                await self._hold()
            except Exception as error:  # noqa: BLE001  # anything: it is told, and the server is tried again
                self.error = self._secrets.remove(_sentence(error, next(iter(self.spec.command), "")))
            self._client = None
            self._ready.clear()
            self.tried.set()
            if self._stopping.is_set():
                break
            if asyncio.get_running_loop().time() - began > _MAX_RETRY_S:
                pause = _FIRST_RETRY_S  # the server had worked for a while
            logger.warning("lost the MCP server %s: %s", self.spec.name, self.error)
            self.state = "waiting"
            await self._pause(pause)
            pause = min(pause * 2, _MAX_RETRY_S)
            self.restarts += 1
        self.state = "stopped"

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
        self.state, self.error = "starting", None
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(START_TIMEOUT_S):
                client = await stack.enter_async_context(await self._connect(stack))
                self._offer(*await _tools(client))
            self.card, self.reached_at = self._secrets.remove(card_of(client)), time.time()
            self.state, self.error, self._client = "ready", None, client
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
                    self._offer(*await _tools(client))
            finally:
                self._client = None
                self._ready.clear()
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
            http = httpx2.AsyncClient(
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
            transport = stdio_client(parameters, errlog=stack.enter_context(_opened(self._log)))
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

    def restart(self) -> None:
        """Restart the connection immediately."""
        self.note_loss("It is being restarted.")

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
        """Send a request to the server. Raise `Conflict` and `InvalidRequest` that describe the problem.

        ``action``: the word for the request in messages.
        """
        try:
            async with asyncio.timeout(RESTART_WAIT_SECONDS):
                await self._ready.wait()
        except TimeoutError:
            raise self._trouble(f"is not running: {self.error or 'it is starting'}") from None
        try:
            async with self._turn():
                client = self._client
                if client is None:  # the server ended while this call waited for its turn
                    raise self._trouble(f"is not running: {self.error or 'it is being started again'}")
                result = await work(client)
            self.reached_at = time.time()
            return result
        except MCPError as error:
            if error.error.code == types.CONNECTION_CLOSED:
                self.note_loss(f"The server ended in the middle of a {action}.")
                raise self._trouble(f"ended in the middle of the {action}; it is being restarted") from error
            if error.error.code == TOO_LARGE_CODE:
                raise self._trouble(
                    f"returned more than {incoming.MAX_LINE_CHARS:,} characters or {incoming.MAX_PARTS:,} "
                    "objects, lists and values, which exceeds the limit: request less data from the server"
                ) from error
            if error.error.code == types.REQUEST_TIMEOUT:
                raise self._trouble(f"did not respond within {self.spec.timeout:g} s") from error
            _code, message = error_of(error.error)
            reason = self._secrets.remove(plain(message))[:_MAX_REASON_CHARS]
            raise InvalidRequest(
                f"The MCP server '{self.spec.name}' refused the {action}: {reason}",
                code=_REFUSED,
            ) from error
        except _BROKEN as error:
            if isinstance(error, httpx2.HTTPError):
                self.note_loss(f"The server could not be reached: {_line(error)}")
            raise self._trouble(f"returned an invalid response: {_line(error)}") from error

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
        case MCPError():
            return f"It refused: {error.error.message[:500]}"
        case TimeoutError():
            return f"The server did not respond within {START_TIMEOUT_S:g} s of its start."
    return f"{type(error).__name__}: {_line(error)}" if str(error) else type(error).__name__


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:500]

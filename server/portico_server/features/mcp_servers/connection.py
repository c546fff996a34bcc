"""A connection to one third-party server. Its task starts the server, monitors it, and restarts it after growing
pauses.

Importing ``mcp`` takes most of a second, so import this module when the first server is needed.
"""

from __future__ import annotations

import asyncio
import codecs
import json
import logging
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal, Self, TextIO, TypeAlias, TypeVar

import anyio
import httpx2
import mcp_types as types
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from portico.schemas.artifacts import Artifact
from portico.schemas.mcp_servers import McpCard, McpContent, McpPrompt, McpPromptMessage, McpResource
from portico.wire import Progressed
from portico_server import __version__
from portico_server.child_environment import is_local
from portico_server.core import pools, work_slots
from portico_server.core.context import Context
from portico_server.core.errors import Conflict, InvalidRequest
from portico_server.core.rate_bucket import RateBucket
from portico_server.core.request import ToolCall, ToolResult
from portico_server.features.mcp_servers.offered import MAX_OFFERED
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

# Decodes a program's standard output as text with limited line lengths. The ``mcp`` package buffers a line
# until it is complete, however long it is, and the only part of its reader that we can choose is the
# encoding. This encoding decodes UTF-8, but ends a line that is too long and drops the rest. The package then
# reads a message that is not JSON, and continues with the next message. If the line is a response, an error
# replaces it, so that its caller does not wait in vain.


ENCODING: Final = "portico_utf8_lines"

MAX_LINE_CHARS: Final = 16 * 1024 * 1024
"""Maximum characters of a line."""

MAX_PARTS: Final = 100_000
"""Maximum number of objects, lists and values in a message. While the ``mcp`` package parses them, the event loop is
blocked.
"""

_BODY: Final = r'"[^"\\]*+(?:\\.[^"\\]*+)*+'
_TEXTS: Final = re.compile(rf'{_BODY}"|({_BODY}\\?\Z)', re.DOTALL)
"""Matches a JSON string. The group matches a string that has not ended yet."""


class _Parts:
    """Counts the objects, lists and values of a message that arrives in pieces."""

    def __init__(self) -> None:
        self._count = 0
        self._open = ""
        """The beginning of a string that continues in the next piece."""

    def are_too_many(self, piece: str) -> bool:
        """Return whether the message, including this piece, has more than `MAX_PARTS` objects, lists and values."""
        outside, quote, text = _TEXTS.sub(r"\1", self._open + piece).partition('"')
        self._count += outside.count("{") + outside.count("[") + outside.count(",")
        escape_count = (len(text) - len(text.rstrip("\\"))) % 2
        self._open = quote + "\\" * escape_count
        return self._count > MAX_PARTS


_TOO_LARGE_CODE: Final = -32_099
"""Code of the error that replaces a response that is too large."""

MAX_ENVELOPE_CHARS: Final = 200
"""Number of characters at the beginning and at the end of a line that are searched for the id of a response."""

_VERSION: Final = r'"jsonrpc"\s*:\s*"2\.0"'
_ANSWER: Final = re.compile(
    rf'\s*\{{\s*(?:{_VERSION}\s*,\s*)?(?:"id"\s*:\s*(\d{{1,18}})\s*,\s*(?:{_VERSION}\s*,\s*)?)?"(?:result|error)"\s*:'
)
"""Matches the beginning of a response. The group is the response's id, if the id comes first."""
_LAST_ID: Final = re.compile(rf'[}}\]\w"]\s*,\s*"id"\s*:\s*(\d{{1,18}})\s*(?:,\s*{_VERSION}\s*)?\}}\s*\Z')
"""Matches the end of a response whose id comes last."""


class _Decoder(codecs.IncrementalDecoder):
    """An incremental decoder of UTF-8."""

    def __init__(self, errors: str = "strict") -> None:
        super().__init__(errors)
        self._text = codecs.getincrementaldecoder("utf-8")(errors)
        self._begin()

    def _begin(self) -> None:
        self._length = 0
        """Number of characters in the current line. If it exceeds the maximum, the rest of the line is dropped."""
        self._parts = _Parts()
        self._head = self._tail = ""

    def decode(self, data: bytes, final: bool = False) -> str:  # type: ignore[override]  # any buffer of bytes
        kept_lines = []
        first, *more_lines = self._text.decode(data, final).split("\n")
        kept_lines.append(self._check_size(first))
        for line in more_lines:
            kept_lines.append(self._instead() if self._length > MAX_LINE_CHARS else "\n")
            self._begin()
            kept_lines.append(self._check_size(line))
        return "".join(kept_lines)

    def _instead(self) -> str:
        """Return the error that replaces a dropped line if the line was a response, otherwise an empty string."""
        answer = _ANSWER.match(self._head)
        last = _LAST_ID.search(self._tail) if answer is not None else None
        request_id = (answer and answer[1]) or (last and last[1])
        if not request_id:
            return ""
        error = {"code": _TOO_LARGE_CODE, "message": "The response is too large."}
        return json.dumps({"jsonrpc": "2.0", "id": int(request_id), "error": error}) + "\n"

    def _check_size(self, piece: str) -> str:
        self._head += piece[: MAX_ENVELOPE_CHARS - len(self._head)]
        self._tail = (self._tail + piece[-MAX_ENVELOPE_CHARS:])[-MAX_ENVELOPE_CHARS:]
        before, self._length = self._length, self._length + len(piece)
        if before > MAX_LINE_CHARS:
            return ""
        if self._parts.are_too_many(piece):
            self._length = MAX_LINE_CHARS + 1
            return "\n"
        return piece if self._length <= MAX_LINE_CHARS else piece[: MAX_LINE_CHARS - before] + "\n"

    def reset(self) -> None:
        self._text.reset()
        self._begin()


def _search(name: str) -> codecs.CodecInfo | None:
    if name != ENCODING:
        return None
    plain = codecs.lookup("utf-8")
    return codecs.CodecInfo(
        plain.encode,
        plain.decode,
        plain.streamreader,
        plain.streamwriter,
        plain.incrementalencoder,
        _Decoder,
        ENCODING,
    )


codecs.register(_search)


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

MESSAGES_PER_SECOND: Final = 500
"""Maximum rate of messages from a server, including responses and progress notifications."""

MESSAGES_AT_ONCE: Final = 100
"""Number of messages that can arrive in a burst before `MESSAGES_PER_SECOND` applies."""

_PAGES: Final = 50
_KEY: Final = "portico/idempotency-key"
"""Name under which ``_meta`` contains the key of a call. MCP does not define such a key."""
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
        offer: Callable[[ServerConnection, Sequence[types.Tool]], None],
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
                self._offer(self, await _tools(client))
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
                    self._offer(self, await _tools(client))
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
                event_hooks={"response": [_bound_body]},
            )
            http.headers["Accept-Encoding"] = "identity"
            transport = streamable_http_client(spec.url, http_client=await stack.enter_async_context(http))
        else:
            program, *arguments = spec.command
            parameters = StdioServerParameters(
                command=program,
                args=arguments,
                env={**_language(), **spec.env},
                cwd=spec.folder or None,
                encoding=ENCODING,
                encoding_error_handler="replace",
            )
            transport = stdio_client(parameters, errlog=stack.enter_context(_opened(self._log)))
        return Client(
            _watch(transport, self.note_loss),
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
            if error.error.code == _TOO_LARGE_CODE:
                raise self._trouble(
                    f"returned more than {MAX_LINE_CHARS:,} characters or {MAX_PARTS:,} objects, lists and "
                    "values, which exceeds the limit: request less data from the server"
                ) from error
            if error.error.code == types.REQUEST_TIMEOUT:
                raise self._trouble(f"did not respond within {self.spec.timeout:g} s") from error
            reason = self._secrets.remove(plain(error.error.message))[:1_000]
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


async def _tools(client: Client) -> list[types.Tool]:
    """Return the server's tools from all pages, up to a usable number."""
    if client.server_capabilities.tools is None:
        return []
    return await _pages(client.list_tools, lambda page: page.tools)


async def _pages(ask: Callable[..., Awaitable[Any]], rows: Callable[[Any], Sequence[T]]) -> list[T]:
    """Return the rows of all pages of a list, at most `MAX_OFFERED`."""
    ts: list[T] = []
    cursor: str | None = None
    for _page in range(_PAGES):
        page = await ask(cursor=cursor, cache_mode="bypass")
        ts += rows(page)
        cursor = page.next_cursor
        if cursor is None or len(ts) >= MAX_OFFERED:
            break
    return ts[:MAX_OFFERED]


@asynccontextmanager
async def _watch(transport: Any, on_end: Callable[[], None]) -> AsyncIterator[tuple[Any, Any]]:
    """Yield a transport that reports when the other side has closed it."""
    async with transport as (reading, writing):
        yield _Reading(reading, on_end), writing


class _Reading:
    """A read stream of the ``mcp`` package that detects its own end, and slows down a server that sends too often.

    Without this limit, the package would process any number of messages at the same time.
    """

    def __init__(self, stream: Any, on_end: Callable[[], None]) -> None:
        self._stream = stream
        self._on_end = on_end
        self._clock = asyncio.get_running_loop().time
        self._room = RateBucket(MESSAGES_AT_ONCE, MESSAGES_AT_ONCE / MESSAGES_PER_SECOND, self._clock())

    @property
    def last_context(self) -> Any:
        return getattr(self._stream, "last_context", None)

    async def receive(self) -> SessionMessage | Exception:
        try:
            message: SessionMessage | Exception = await self._stream.receive()
        except anyio.EndOfStream:
            self._on_end()
            raise
        self._room.take(1, self._clock())
        if wait := self._room.wait(0, self._clock()):
            await asyncio.sleep(wait)
        return message

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except anyio.EndOfStream as error:
            raise StopAsyncIteration from error

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *exit: Any) -> bool | None:
        has_left: bool | None = await self._stream.__aexit__(*exit)
        return has_left


class _BoundedBody(httpx2.AsyncByteStream):
    """The bytes of a response, limited to `MAX_LINE_CHARS`, the maximum length of a line from a program."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        length, parts = 0, _Parts()
        async for piece in self._stream:
            length += len(piece)
            if length > MAX_LINE_CHARS:
                raise httpx2.ReadError(f"the response has more than {MAX_LINE_CHARS:,} bytes")
            if parts.are_too_many(piece.decode("latin-1")):
                raise httpx2.ReadError(f"the response has more than {MAX_PARTS:,} objects, lists and values")
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _bound_body(response: httpx2.Response) -> None:
    """Limit the size of a response's body. Event streams can be endless, so the ``mcp`` package limits each event
    instead.
    """
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise httpx2.DecodingError("the response is compressed, which was not requested")
    if not response.headers.get("Content-Type", "").lower().startswith("text/event-stream"):
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _BoundedBody(response.stream)


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

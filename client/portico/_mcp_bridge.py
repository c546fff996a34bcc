"""A bridge from MCP over standard input and output to a daemon's ``/mcp``.

Messages are forwarded unchanged. The bridge handles what belongs to the transport: sessions, headers, streams, and
stopping cancelled requests. If the daemon is unreachable, the bridge sends errors that say what to do.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final

import httpx

from portico._mcp_message import (
    INVALID_REQUEST_CODE,
    UNREACHABLE_CODE,
    McpMessage,
    NotAMessage,
    agreed_version,
    error_line,
    is_answer,
    one_line,
    parse,
    refusal_line,
    session_headers,
)
from portico._proxies import certificate_error
from portico._sse import Decoder
from portico._transport import Address
from portico.errors import PorticoError

PATH: Final = "/mcp"

MAX_SILENCE_S: Final = 120.0
"""Seconds without data after which a stream is considered dead. The daemon sends a comment every 15 seconds."""

FAREWELL_TIMEOUT_S: Final = 1.5
"""Seconds to wait for calls in progress, and for closing the session, after the client has disconnected."""

_BACK_OFF_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
_EVENTS = "text/event-stream"


class Bridge:
    """The connection of one client. ``write`` sends a message to the client: one line, passed without its line
    ending.
    """

    def __init__(self, address: Address, write: Callable[[bytes], None]) -> None:
        self._address = address
        self._write = write
        self._session: str | None = None
        self._version: str | None = None
        self._opening: McpMessage | None = None
        self._reopening = asyncio.Lock()
        self._calls: dict[str | int, asyncio.Task[None]] = {}
        self._listening: asyncio.Task[None] | None = None

    async def run(self, lines: AsyncIterator[bytes]) -> None:
        """Serve until ``lines`` ends, then let calls in progress finish, close the session, and return.

        An error raised by ``write`` also ends serving; it arrives in an exception group.
        """
        async with (
            httpx.AsyncClient(**self._address.options(MAX_SILENCE_S)) as http,
            asyncio.TaskGroup() as tasks,
        ):
            try:
                async for line in lines:
                    if line.strip():
                        await self._take(line, http, tasks)
                if self._calls:
                    await asyncio.wait(self._calls.values(), timeout=FAREWELL_TIMEOUT_S)
            finally:
                await self._end(http)

    async def _take(self, line: bytes, http: httpx.AsyncClient, tasks: asyncio.TaskGroup) -> None:
        try:
            message = parse(line)
        except NotAMessage as error:
            self._write(error_line(None, error.code, str(error)))
            return
        if message.id is None:
            await self._tell(message, http, tasks)
        elif message.method == "initialize":
            # Wait for the response: all later messages need the session that this message opens.
            self._session, self._version, self._opening = None, None, message
            await self._ask(message, http, tasks)
        elif message.id in self._calls:
            self._write(
                error_line(message.id, INVALID_REQUEST_CODE, "A request with this id is still running.")
            )
        else:
            key = message.id
            call = tasks.create_task(self._ask(message, http, tasks), name=f"mcp {message.method}")
            self._calls[key] = call
            call.add_done_callback(lambda _call: self._calls.pop(key, None))

    async def _tell(self, message: McpMessage, http: httpx.AsyncClient, tasks: asyncio.TaskGroup) -> None:
        """Forward a message that gets no response: a notification, or the client's response to a request from the
        daemon.
        """
        # Without a session, a cancellation is not forwarded: closing the connection cancels the request.
        if message.cancels is None or self._session is not None:
            try:
                async with self._post(message, http) as response:
                    await response.aread()
            except (httpx.HTTPError, PorticoError):
                return  # no response is expected; the next request reports the problem
        call = self._calls.get(message.cancels) if message.cancels is not None else None
        if call is not None:
            await _stop(call)
        if message.method == "notifications/initialized" and self._session is not None:
            await _stop(self._listening)
            self._listening = tasks.create_task(self._listen(http), name="mcp server stream")

    async def _ask(self, message: McpMessage, http: httpx.AsyncClient, tasks: asyncio.TaskGroup) -> None:
        """Forward a request. Write the messages that arrive before its response, and then the response: always exactly
        one.
        """
        try:
            session = self._session
            if await self._forward(message, http):
                return
            # The daemon does not know the session, so the daemon was restarted. Open a session as the client
            # did, and try again.
            async with self._reopening:
                if self._session == session:
                    await self._reopen(http, tasks)
            if not await self._forward(message, http):
                self._write(error_line(message.id, UNREACHABLE_CODE, "The daemon has ended this session."))
        except httpx.ConnectError as error:
            url = self._address.url
            refusal = certificate_error(url, error)
            words = (
                f"No Portico daemon responds at {url}. Start it with 'portico up', or set PORTICO_URL to its"
            )
            sentence = refusal.message if refusal else f"{words} address."
            self._write(error_line(message.id, UNREACHABLE_CODE, sentence))
        except httpx.TimeoutException:
            self._write(
                error_line(
                    message.id,
                    UNREACHABLE_CODE,
                    f"The daemon sent nothing for {MAX_SILENCE_S:g} s; the request was abandoned.",
                )
            )
        except PorticoError as error:  # the user's sign-in has ended
            self._write(error_line(message.id, UNREACHABLE_CODE, error.message))
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            self._write(
                error_line(message.id, UNREACHABLE_CODE, f"The connection to the daemon was lost: {reason}.")
            )

    async def _forward(self, message: McpMessage, http: httpx.AsyncClient) -> bool:
        """Post a request and forward the response. Return ``False`` if the daemon does not know the session."""
        session = self._session
        async with self._post(message, http) as response:
            if response.status_code == 404 and session is not None and message.version is None:
                return False
            if not response.is_success:
                body = await response.aread()
                self._write(refusal_line(message.id, response.status_code, response.headers, body))
                return True
            if message.method == "initialize":
                self._session = response.headers.get("mcp-session-id")
            async for line in _messages(response):
                if message.method == "initialize" and is_answer(line, message.id):
                    self._version = agreed_version(line)
                self._write(line)
                if is_answer(line, message.id):
                    return True
        self._write(
            error_line(message.id, UNREACHABLE_CODE, "The daemon closed the connection before it responded.")
        )
        return True

    @contextlib.asynccontextmanager
    async def _post(self, message: McpMessage, http: httpx.AsyncClient) -> AsyncIterator[httpx.Response]:
        headers = message.headers(self._session, self._version)
        async with http.stream("POST", PATH, content=message.body, headers=headers) as response:
            yield response

    async def _reopen(self, http: httpx.AsyncClient, tasks: asyncio.TaskGroup) -> None:
        """Open a new session by repeating the client's ``initialize`` message. The response is discarded, because the
        client already has one.
        """
        self._session = None
        if self._opening is None:
            return
        async with self._post(self._opening, http) as response:
            self._session = response.headers.get("mcp-session-id")
            await response.aread()
        mcp_message = parse(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
        await self._tell(mcp_message, http, tasks)

    async def _listen(self, http: httpx.AsyncClient) -> None:
        """Forward the messages that the daemon sends on the session's own stream. Reopen the stream when it ends or
        fails, as long as the session exists.
        """
        session, failures = self._session, 0
        headers = {"accept": _EVENTS, **session_headers(session, self._version)}
        while self._session == session:
            try:
                async with http.stream("GET", PATH, headers=headers) as response:
                    if not response.is_success:
                        return  # the daemon offers no such stream, or the session no longer exists
                    failures = 0
                    async for line in _messages(response):
                        self._write(line)
            except (httpx.HTTPError, PorticoError):
                failures += 1
            await asyncio.sleep(
                _BACK_OFF_S[min(failures, len(_BACK_OFF_S)) - 1] if failures else _BACK_OFF_S[0]
            )

    async def _end(self, http: httpx.AsyncClient) -> None:
        """Stop running requests and close the session."""
        await _stop(self._listening, *self._calls.values())
        if self._session is not None:
            with contextlib.suppress(
                httpx.HTTPError, PorticoError
            ):  # the daemon removes an idle session itself
                headers = session_headers(self._session, self._version)
                await http.delete(PATH, headers=headers, timeout=FAREWELL_TIMEOUT_S)


async def _stop(*tasks: asyncio.Task[None] | None) -> None:
    """Cancel tasks and wait for them to end."""
    running = [task for task in tasks if task is not None and not task.done()]
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running)


async def _messages(response: httpx.Response) -> AsyncIterator[bytes]:
    """Yield the messages in a response, each as one line, whether the daemon sent JSON or an event stream."""
    if not response.headers.get("content-type", "").startswith(_EVENTS):
        body = await response.aread()
        if body.strip():
            yield one_line(body)
        return
    decoder = Decoder()
    async for chunk in response.aiter_bytes():
        for event in decoder.feed(chunk):
            if event.event == "message" and event.data.strip():
                yield one_line(event.data)

"""Sends requests and reads responses. All network access of the SDK is in this module."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar, Unpack, cast, overload

import httpx

from portico._bodies import Bodies
from portico._home import running_url
from portico._proxies import certificate_error, proxy_error
from portico._read import error_body, read
from portico._request import Options, Upload
from portico._sign_ins import SignInAuth
from portico._sse import Decoder, EventReader
from portico.errors import (
    ConnectionFailed,
    ConnectionLost,
    DeadlineExceeded,
    InvalidRequest,
    NotPortico,
    PorticoError,
    from_status,
)
from portico.loopback import is_loopback

T = TypeVar("T")
Headers = Mapping[str, str]
NO_HEADERS: Headers = {}

DEFAULT_URL = "http://127.0.0.1:8642"
TIMEOUT_S = 600.0
"""Seconds that a request that runs a model can go without receiving data."""

_QUICK_TIMEOUT_S = 30.0
_CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Address:
    """The address of the daemon and the caller's key. ``url`` has no trailing slash."""

    url: str
    key: str | None

    @classmethod
    def of(cls, url: str | None = None, key: str | None = None) -> Address:
        """Create an address from the arguments, or else from ``PORTICO_URL`` and ``PORTICO_API_KEY``. The default is
        the daemon that runs on this user's home folder, or else `DEFAULT_URL`.

        An empty key means no key. Without a key, the sign-in that ``portico login`` stored for that daemon is used.
        """
        raw = (url or os.environ.get("PORTICO_URL") or running_url() or DEFAULT_URL).strip()
        if "://" not in raw:
            raw = f"http://{raw}"
        try:
            parsed_url = httpx.URL(raw)
        except httpx.InvalidURL as error:
            raise InvalidRequest(f"'{raw}' is not a URL: {error}.", param="url") from error
        if parsed_url.scheme not in ("http", "https") or not parsed_url.host or " " in raw:
            raise InvalidRequest(
                f"'{raw}' is not the URL of a daemon; expected a URL such as {DEFAULT_URL}.", param="url"
            )
        # URLs for OpenAI clients end in /v1. Accept such a URL here, too.
        asks = os.environ.get("PORTICO_API_KEY") if key is None else key
        return cls(raw.rstrip("/").removesuffix("/v1"), asks or None)

    @property
    def loopback(self) -> bool:
        """True if the address is on this machine."""
        return is_loopback(httpx.URL(self.url).host)

    def options(self, timeout: float) -> dict[str, Any]:
        """Return the arguments for an httpx client."""
        options: dict[str, Any] = {
            "base_url": self.url,
            "timeout": httpx.Timeout(timeout, connect=_CONNECT_TIMEOUT_S),
            "headers": {"authorization": f"Bearer {self.key}"} if self.key else {},
            "auth": None if self.key else SignInAuth(self.url),
            # A proxy from the environment cannot reach this machine's loopback interface.
            "trust_env": not self.loopback,
        }
        if self.url.startswith("http://"):
            # This empty context is never used, because the URL does not use TLS. Loading the system's
            # certificates would take 20 ms.
            options["verify"] = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        elif self.loopback:
            # The rest of the environment does not count, but SSL_CERT_FILE and SSL_CERT_DIR do.
            options["verify"] = httpx.create_ssl_context()
        return options


def _arguments(options: Options, timeout: float, file: BinaryIO | None = None) -> dict[str, Any]:
    """Convert options to arguments of httpx's ``build_request``. Raises `InvalidRequest` for values that JSON cannot
    express.
    """
    arguments: dict[str, Any] = {"params": dict(options.get("query", {})), **_content(options.get("json"))}
    upload = options.get("upload")
    if upload is not None:
        content = file if file is not None else upload.content
        arguments["data"] = dict(upload.fields)
        arguments["files"] = {upload.name: (upload.filename, content, "application/octet-stream")}
    if not options.get("slow"):
        arguments["timeout"] = httpx.Timeout(min(_QUICK_TIMEOUT_S, timeout), connect=_CONNECT_TIMEOUT_S)
    return arguments


def _events(json: Any, headers: Headers) -> dict[str, Any]:
    """Return the arguments of a request whose response is an event stream."""
    arguments = _content(json)
    arguments["headers"] = {**arguments.get("headers", {}), "accept": "text/event-stream", **headers}
    return arguments


def _content(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    try:
        body = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"The request cannot be written as JSON: {error}.") from error
    return {"content": body, "headers": {"content-type": "application/json"}}


def failure(response: httpx.Response) -> PorticoError:
    """Return the error in a response whose body has been read. If it is not in OpenAI's format, another server has
    responded: return the error of a proxy, or else `NotPortico`.
    """
    status, headers = response.status_code, response.headers
    try:
        value = json.loads(response.content)
    except ValueError:
        value = None
    if not isinstance(value, dict) or not isinstance(value.get("error"), dict):
        length = response.request.headers.get("content-length", "")
        sent_bytes = int(length) if length.isdecimal() else 0
        return proxy_error(status, headers, response.content, sent_bytes) or NotPortico(
            f"The response was HTTP {status} without a reason. Is a Portico daemon running at this URL?",
            status=status,
        )
    retry_after = headers.get("retry-after", "")
    return from_status(
        status,
        error_body(value),
        request_id=headers.get("x-request-id"),
        retry_after=float(retry_after) if retry_after.isdecimal() else None,
    )


def _result(response: httpx.Response, kind: type[T] | None, key: str = "") -> T | None:
    """Parse the response as a ``kind``. For ``bytes``, and for ``str`` without a ``key``, return the body unchanged."""
    if not response.is_success:
        raise failure(response)
    if kind is bytes:
        return cast("T", response.content)
    if kind is str and not key:
        return cast("T", response.content.decode())
    try:
        value = response.json() if response.content else None
    except ValueError as error:
        raise NotPortico("The response is not JSON. Is a Portico daemon running at this URL?") from error
    return None if kind is None else read(kind, value, key)


@contextlib.contextmanager
def _translated(address: Address, timeout: float) -> Iterator[None]:
    """Convert httpx's errors to Portico's errors, without their long tracebacks: the messages contain the reasons."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        refusal = certificate_error(address.url, error)
        if refusal is not None:
            raise refusal from None
        advice = "start it with `portico up`" if address.loopback else "check the URL and the network"
        reason = "" if address.loopback or not str(error) else f" ({error})"
        raise ConnectionFailed(f"No Portico daemon responds at {address.url}{reason}; {advice}.") from None
    except httpx.TimeoutException as error:
        limit = (
            error.request.extensions.get("timeout", {}).get("read") or timeout
        )  # the timeout of this request
        raise DeadlineExceeded(
            f"The daemon at {address.url} sent nothing for too long (limit {limit:g} s)."
        ) from None
    except httpx.TransportError as error:
        raise ConnectionLost(
            f"The connection to {address.url} was lost: {str(error) or 'no reason given'}."
        ) from None


def _may_retry(method: str, error: httpx.TransportError, attempt: int) -> bool:
    """Return whether to retry a request. The daemon may have closed a pooled connection while it was being used, and
    repeating a GET request is safe.
    """
    is_broken = isinstance(error, httpx.RemoteProtocolError | httpx.ReadError | httpx.WriteError)
    return method == "GET" and is_broken and attempt == 0


def _open(upload: Upload | None) -> contextlib.AbstractContextManager[BinaryIO | None]:
    if upload is None or not isinstance(upload.content, Path):
        return contextlib.nullcontext()
    try:
        return upload.content.open("rb")
    except OSError as error:
        raise InvalidRequest(f"Cannot read '{upload.content}': {error.strerror}.", param="file") from error


class _StreamParser(Generic[T]):
    """Parses the bytes of a stream into events and detects an early end; shared by both transports."""

    def __init__(self, reader: EventReader[T], address: Address) -> None:
        self._reader = reader
        self._decoder = Decoder()
        self._address = address

    def feed(self, chunk: bytes) -> Iterator[T]:
        """Yield the events that ``chunk`` completes. Ignore everything after the event that ends the stream."""
        for item in self._decoder.feed(chunk):
            if not self._reader.done:
                yield from self._reader.feed(item)

    def end(self) -> None:
        """Handle the end of the response: raise `ConnectionLost` unless the event that ends the stream has arrived."""
        if not self._reader.done:
            raise ConnectionLost(
                f"The daemon at {self._address.url} closed the connection during the response."
            )


@contextlib.contextmanager
def _write(path: Path, *, private: bool) -> Iterator[BinaryIO]:
    """Open a temporary file that is renamed to ``path`` once it is complete and on disk. If ``private``, only this
    user can read it.
    """
    partial = path.with_name(f"{path.name}.part")
    try:
        partial.unlink(missing_ok=True)  # its mode would persist
        mode = 0o600 if private else 0o666
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise InvalidRequest(f"Cannot write '{path}': {error.strerror}.", param="to") from error
    finally:
        partial.unlink(missing_ok=True)


class Transport:
    """The blocking transport. Tests pass ``http`` to replace the network."""

    def __init__(self, address: Address, timeout: float, http: httpx.BaseTransport | None = None) -> None:
        self.address = address
        self._timeout = timeout
        self._http = httpx.Client(transport=http, **address.options(timeout))
        self._bodies = Bodies()

    @overload
    def request(self, method: str, path: str, kind: None, **options: Unpack[Options]) -> None: ...

    @overload
    def request(self, method: str, path: str, kind: type[T], **options: Unpack[Options]) -> T: ...

    def request(self, method: str, path: str, kind: type[T] | None, **options: Unpack[Options]) -> T | None:
        """Send a request and parse its response as a ``kind``: a value, a list or `Page` of values, plain JSON,
        ``str`` or ``bytes``. Return ``None`` if ``kind`` is ``None``, that is, if only the status matters.
        """
        with _translated(self.address, self._timeout), self._bodies.call():
            for attempt in range(2):
                with _open(options.get("upload")) as file:
                    arguments = _arguments(options, self._timeout, file)
                    request = self._http.build_request(method, path, **arguments)
                    try:
                        return _result(self._http.send(request), kind, options.get("key", ""))
                    except httpx.TransportError as error:
                        if not _may_retry(method, error, attempt):
                            raise
        raise AssertionError("unreachable")

    def save(
        self,
        method: str,
        path: str,
        to: Path,
        *,
        private: bool = False,
        on_progress: Callable[[int], None] | None = None,
        **options: Unpack[Options],
    ) -> tuple[int, Headers]:
        """Write the response to a file as it arrives, and return its size and the response headers.

        An incomplete file is removed. If ``private``, only this user can read the file. ``on_progress`` is called with
        the number of bytes written so far.
        """
        with _translated(self.address, self._timeout), self._bodies.call():
            request = self._http.build_request(method, path, **_arguments(options, self._timeout))
            response = self._http.send(request, stream=True)
            with contextlib.closing(response):
                if not response.is_success:
                    response.read()
                    raise failure(response)
                size = 0
                with _write(to, private=private) as file:
                    for chunk in response.iter_bytes():
                        size += file.write(chunk)
                        if on_progress is not None:
                            on_progress(size)
                return size, response.headers

    def stream(
        self,
        method: str,
        path: str,
        reader: EventReader[T],
        *,
        json: Any = None,
        headers: Headers = NO_HEADERS,
        on_open: Callable[[Headers], None] | None = None,
    ) -> Generator[T, None, None]:
        """Yield the events of a stream until it ends. Closing the iterator closes the connection."""
        with _translated(self.address, self._timeout):
            request = self._http.build_request(method, path, **_events(json, headers))
            with self._bodies.call():
                response = self._http.send(request, stream=True)
                if not response.is_success:
                    with contextlib.closing(response):
                        response.read()
                        raise failure(response)
            with contextlib.closing(self._bodies.open(response)) as body:
                if on_open:
                    on_open(response.headers)
                parser = _StreamParser(reader, self.address)
                # Read the body to its end, beyond the last event: the daemon would take an early disconnect
                # for a cancellation.
                for chunk in body:
                    yield from parser.feed(chunk)
                parser.end()

    def sleep(self, seconds: float) -> None:
        """Sleep between two attempts."""
        time.sleep(seconds)

    def close(self) -> None:
        with self._bodies.call():
            self._http.close()


class AsyncTransport:
    """The asyncio version of `Transport`."""

    def __init__(
        self, address: Address, timeout: float, http: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.address = address
        self._timeout = timeout
        self._http = httpx.AsyncClient(transport=http, **address.options(timeout))

    @overload
    async def request(self, method: str, path: str, kind: None, **options: Unpack[Options]) -> None: ...

    @overload
    async def request(self, method: str, path: str, kind: type[T], **options: Unpack[Options]) -> T: ...

    async def request(
        self, method: str, path: str, kind: type[T] | None, **options: Unpack[Options]
    ) -> T | None:
        with _translated(self.address, self._timeout):
            for attempt in range(2):
                with _open(options.get("upload")) as file:
                    arguments = _arguments(options, self._timeout, file)
                    request = self._http.build_request(method, path, **arguments)
                    try:
                        return _result(await self._http.send(request), kind, options.get("key", ""))
                    except httpx.TransportError as error:
                        if not _may_retry(method, error, attempt):
                            raise
        raise AssertionError("unreachable")

    async def save(
        self,
        method: str,
        path: str,
        to: Path,
        *,
        private: bool = False,
        on_progress: Callable[[int], None] | None = None,
        **options: Unpack[Options],
    ) -> tuple[int, Headers]:
        """Write the response to a file as it arrives, and return its size and the response headers.

        An incomplete file is removed. If ``private``, only this user can read the file. ``on_progress`` is called with
        the number of bytes written so far.
        """
        with _translated(self.address, self._timeout):
            request = self._http.build_request(method, path, **_arguments(options, self._timeout))
            response = await self._http.send(request, stream=True)
            async with contextlib.aclosing(response):
                if not response.is_success:
                    await response.aread()
                    raise failure(response)
                size = 0
                with _write(to, private=private) as file:
                    async for chunk in response.aiter_bytes():
                        size += file.write(chunk)
                        if on_progress is not None:
                            on_progress(size)
                return size, response.headers

    async def stream(
        self,
        method: str,
        path: str,
        reader: EventReader[T],
        *,
        json: Any = None,
        headers: Headers = NO_HEADERS,
        on_open: Callable[[Headers], None] | None = None,
    ) -> AsyncGenerator[T, None]:
        """Yield the events of a stream until it ends. Closing the iterator closes the connection."""
        with _translated(self.address, self._timeout):
            request = self._http.build_request(method, path, **_events(json, headers))
            response = await self._http.send(request, stream=True)
            async with contextlib.aclosing(response):
                if not response.is_success:
                    await response.aread()
                    raise failure(response)
                if on_open:
                    on_open(response.headers)
                parser = _StreamParser(reader, self.address)
                async for chunk in response.aiter_bytes():
                    for event in parser.feed(chunk):
                        yield event
                parser.end()

    async def sleep(self, seconds: float) -> None:
        """Sleep between two attempts."""
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        await self._http.aclose()

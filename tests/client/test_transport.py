"""How both transports handle answers, and missing answers."""

from __future__ import annotations

import json
import os
import socket
import ssl
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from platformdirs import user_data_path
from tests.certificates import write_self_signed

import portico
from portico import AsyncClient, Client
from portico._home import home_folder
from portico._transport import Address
from portico.errors import from_body
from portico.wire import ErrorBody
from portico_server.settings import load

Handler = Callable[[httpx.Request], httpx.Response]
Ask = Callable[[Handler, str], Any]


async def _blocking(handler: Handler, what: str) -> Any:
    with Client("http://test", transport=httpx.MockTransport(handler)) as client:
        if what == "status":
            return client.stores.list()
        if what == "add":
            return client.stores.add("docs")
        return client.chat("hi").read()


async def _async(handler: Handler, what: str) -> Any:
    async with AsyncClient("http://test", transport=httpx.MockTransport(handler)) as client:
        if what == "status":
            return await client.stores.list()
        if what == "add":
            return await client.stores.add("docs")
        return await client.chat("hi").read()


both = pytest.mark.parametrize("ask", [_blocking, _async], ids=["blocking", "async"])


def _error(status: int, **headers: str) -> httpx.Response:
    body = {"error": {"message": "No.", "type": "some_error", "code": "some_code", "param": "name"}}
    return httpx.Response(status, json=body, headers=headers)


@both
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, portico.InvalidRequest),
        (401, portico.Unauthenticated),
        (403, portico.Forbidden),
        (404, portico.NotFound),
        (409, portico.Conflict),
        (413, portico.TooLarge),
        (418, portico.InvalidRequest),
        (429, portico.TooMany),
        (500, portico.ServerFailed),
        (502, portico.EngineFailed),
        (503, portico.Unavailable),
        (504, portico.DeadlineExceeded),
    ],
)
@pytest.mark.parametrize("what", ["status", "chat"])
async def test_an_error_is_typed_and_keeps_the_daemons_words(
    ask: Any, status: int, kind: type[portico.PorticoError], what: str
) -> None:
    headers = {"x-request-id": "req_1", "retry-after": "3"}
    with pytest.raises(kind) as caught:
        await ask(lambda _request: _error(status, **headers), what)
    error = caught.value
    assert type(error) is kind
    assert (error.message, error.status, error.code, error.param) == ("No.", status, "some_code", "name")
    assert (error.request_id, error.retry_after) == ("req_1", 3.0)


@both
@pytest.mark.parametrize("body", ["<html>", "[]", '{"detail": "Not Found"}'])
async def test_a_response_of_another_server_raises_not_portico(ask: Any, body: str) -> None:
    with pytest.raises(portico.NotPortico, match="Is a Portico daemon running at this URL"):
        await ask(lambda _request: httpx.Response(404, text=body), "status")
    with pytest.raises(portico.NotPortico):
        await ask(lambda _request: httpx.Response(200, text=body), "status")


@both
async def test_a_refused_connection_raises_an_error_that_names_the_url(ask: Any) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(portico.ConnectionFailed, match="No Portico daemon responds at http://test"):
        await ask(refuse, "status")


def test_a_refused_local_connection_suggests_the_up_command() -> None:
    # Port 9 is the discard service, and nothing listens on it here.
    with (
        Client("http://127.0.0.1:9") as client,
        pytest.raises(portico.ConnectionFailed, match="start it with `portico up`"),
    ):
        client.health()


@both
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx.ConnectError, portico.ConnectionFailed),
        (httpx.ConnectTimeout, portico.ConnectionFailed),
        (httpx.ReadTimeout, portico.DeadlineExceeded),
        (httpx.WriteError, portico.ConnectionLost),
    ],
)
@pytest.mark.parametrize("operation", ["add", "chat"])
async def test_a_failed_connection_is_one_error_that_contains_the_reason(
    ask: Any, error: type[httpx.TransportError], kind: type[portico.PorticoError], operation: str
) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise error("certificate has expired", request=request)

    with pytest.raises(kind) as caught:
        await ask(fail, operation)
    printed = "".join(traceback.format_exception(caught.value))
    assert printed.count("Traceback") == 1 and "httpx." not in printed
    assert "certificate has expired" in printed or kind is portico.DeadlineExceeded


@both
async def test_reading_is_tried_again_once_when_a_kept_connection_was_closed(ask: Any) -> None:
    methods: list[str] = []

    def first_broken(request: httpx.Request) -> httpx.Response:
        methods.append(request.method)
        if len(methods) == 1:
            raise httpx.RemoteProtocolError("Server disconnected", request=request)
        return httpx.Response(200, json={"data": []})

    assert await ask(first_broken, "status") == []
    assert methods == ["GET", "GET"]


@both
async def test_writing_is_never_tried_again(ask: Any) -> None:
    methods: list[str] = []

    def broken(request: httpx.Request) -> httpx.Response:
        methods.append(request.method)
        raise httpx.RemoteProtocolError("Server disconnected", request=request)

    with pytest.raises(portico.ConnectionLost):
        await ask(broken, "add")
    assert methods == ["POST"]


@both
async def test_silence_is_an_error_that_names_the_limit(ask: Any) -> None:
    def silent(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("", request=request)

    with pytest.raises(portico.DeadlineExceeded, match=r"sent nothing for too long \(limit 30 s\)"):
        await ask(silent, "status")


class _Stream(httpx.SyncByteStream, httpx.AsyncByteStream):
    def __init__(self, *frames: str) -> None:
        self._frames = [f"data: {frame}\n\n".encode() for frame in frames]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._frames)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for frame in self._frames:
            yield frame


def _chunk(**delta: Any) -> str:
    return json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})


@both
async def test_a_stream_that_breaks_off_is_not_taken_for_an_answer(ask: Any) -> None:
    with pytest.raises(portico.ConnectionLost, match="closed the connection during the response"):
        await ask(lambda _request: httpx.Response(200, stream=_Stream(_chunk(content="Hal"))), "chat")


@both
async def test_an_error_in_mid_stream_is_typed(ask: Any) -> None:
    failure = {"error": {"message": "It died.", "type": "server_error", "code": "engine_failed"}}
    stream = (_chunk(content="Hal"), json.dumps(failure))
    with pytest.raises(portico.EngineFailed, match="It died"):
        await ask(lambda _request: httpx.Response(200, stream=_Stream(*stream)), "chat")


@both
async def test_a_chat_stream_becomes_text_passages_tools_and_usage(ask: Any) -> None:
    citation = {"file_id": "file-1", "filename": "a.md", "index": 1, "quote": "Port 1.", "score": 0.5}
    tool = {"index": 0, "id": "call_1", "function": {"name": "search", "arguments": '{"q":'}}
    second_part = {"index": 0, "function": {"arguments": "1}"}}
    frames = (
        _chunk(role="assistant", content=""),
        _chunk(content="Port "),
        _chunk(content="1."),
        json.dumps({"choices": [{"index": 1, "delta": {"content": "another choice"}}]}),
        _chunk(tool_calls=[tool]),
        _chunk(tool_calls=[second_part]),
        _chunk(annotations=[{"type": "file_citation", "file_citation": citation}]),
        json.dumps({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}),
        "[DONE]",
    )
    reply = await ask(
        lambda _request: httpx.Response(200, stream=_Stream(*frames), headers={"x-portico-run": "run_1"}),
        "chat",
    )
    assert reply.text == "Port 1."
    assert reply.run == "run_1"
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (3, 2)
    [passage] = reply.passages
    assert (passage.rank, passage.filename, passage.text, passage.score) == (1, "a.md", "Port 1.", 0.5)


def test_tool_calls_are_put_together_from_their_pieces() -> None:
    frames = (
        _chunk(tool_calls=[{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}}]),
        _chunk(tool_calls=[{"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}}]),
        _chunk(tool_calls=[{"index": 0, "function": {"arguments": "}"}}]),
        "[DONE]",
    )
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, stream=_Stream(*frames)))
    with Client("http://test", transport=transport) as client:
        answer = client.chat("hi")
        answer.read()
    assert [(c.id, c.name, c.arguments) for c in answer.tool_calls] == [("a", "f", "{}"), ("b", "g", "{}")]


async def test_a_run_is_followed_through_a_lost_connection() -> None:
    last_event_ids: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        last_event_id = int(request.headers.get("last-event-id", "0"))
        last_event_ids.append(str(last_event_id))
        events = ['{"type":"status","stage":"a"}', '{"type":"unknown"}', '{"type":"finished","result":1}']
        lines = [f"id: {n}\ndata: {text}\n\n" for n, text in enumerate(events, 1) if n > last_event_id]
        return httpx.Response(200, text="".join(lines[:1] if last_event_id == 0 else lines))

    with Client("http://test", transport=httpx.MockTransport(handler)) as client:
        assert [item.seq for item in client.runs.events("run_1")] == [1, 3]
    async with AsyncClient("http://test", transport=httpx.MockTransport(handler)) as async_client:
        assert [item.seq async for item in async_client.runs.events("run_1")] == [1, 3]
    assert last_event_ids == ["0", "1"] * 2


def test_non_json_arguments_are_refused_before_the_request() -> None:
    transport = httpx.MockTransport(lambda _request: pytest.fail("was sent"))
    with Client("http://test", transport=transport) as client:
        with pytest.raises(portico.InvalidRequest, match="cannot be written as JSON"):
            client.tools.call("f", {"x": float("nan")})
        with pytest.raises(portico.InvalidRequest, match="cannot be written as JSON"):
            client.chat("\udcff").read()


def test_the_key_is_sent_and_the_url_of_openai_clients_works() -> None:
    requests: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json={"status": "ok"})

    with Client("example.org:1/v1/", "pk-1", transport=httpx.MockTransport(handler)) as client:
        client.health()
    assert str(requests[0].url) == "http://example.org:1/health"
    assert requests[0].headers["authorization"] == "Bearer pk-1"


def test_address_and_key_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PORTICO_URL", raising=False)
    monkeypatch.delenv("PORTICO_API_KEY", raising=False)
    monkeypatch.setenv("PORTICO_HOME", str(tmp_path))
    assert Address.of() == Address("http://127.0.0.1:8642", None)
    monkeypatch.setenv("PORTICO_URL", "https://host/")
    monkeypatch.setenv("PORTICO_API_KEY", "pk-2")
    assert Address.of() == Address("https://host", "pk-2")
    assert (
        Address.of("https://host", "").key is None
    )  # an empty key is no key, whatever the environment holds
    assert Address.of("http://[::1]:1", "pk-3") == Address("http://[::1]:1", "pk-3")
    assert Address.of("http://[::1]:1").loopback


NO_PROCESS = 2**22 + 1
"""More than the largest process id of Linux."""


@pytest.mark.parametrize(
    ("content", "url"),
    [
        ('{"pid": OWN, "url": "http://127.0.0.1:4711"}', "http://127.0.0.1:4711"),
        ('{"pid": NO_PROCESS, "url": "http://127.0.0.1:4711"}', "http://127.0.0.1:8642"),
        ('{"url": "http://127.0.0.1:4711"}', "http://127.0.0.1:4711"),
        ("{", "http://127.0.0.1:8642"),
        ("[]", "http://127.0.0.1:8642"),
    ],
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_client_without_a_url_uses_the_daemon_that_runs_on_the_home_folder(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kind: type[Client | AsyncClient],
    content: str,
    url: str,
) -> None:
    monkeypatch.delenv("PORTICO_URL", raising=False)
    monkeypatch.setenv("PORTICO_HOME", str(tmp_path))
    content = content.replace("OWN", str(os.getpid())).replace("NO_PROCESS", str(NO_PROCESS))
    (tmp_path / "daemon.json").write_text(content)
    assert kind().url == url
    assert kind("http://host").url == "http://host"
    monkeypatch.setenv("PORTICO_URL", "http://other")
    assert kind().url == "http://other"


@pytest.mark.parametrize("data", [None, "", "/srv/data"])
def test_the_default_home_is_the_data_folder_of_the_user(
    monkeypatch: pytest.MonkeyPatch, data: str | None
) -> None:
    monkeypatch.delenv("PORTICO_HOME", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    if data is not None:
        monkeypatch.setenv("XDG_DATA_HOME", data)
    assert home_folder() == load().settings.home == user_data_path("portico", appauthor=False)


@pytest.mark.parametrize("url", ["ftp://host", "http://", "http://host:port", "http://a b"])
def test_an_invalid_url_is_refused_with_a_reason(url: str) -> None:
    with pytest.raises(portico.InvalidRequest, match=r"is not (a|the) URL"):
        Address.of(url)


def test_an_error_without_a_status_is_typed_by_its_code() -> None:
    assert isinstance(from_body(ErrorBody("x", "server_error", "cancelled")), portico.Cancelled)
    assert isinstance(from_body(ErrorBody("x", "invalid_request_error", "odd")), portico.InvalidRequest)
    assert type(from_body(ErrorBody("x", "odd"))) is portico.ServerFailed


def _page_of(server: str, title: str) -> bytes:
    return f"<html><head><title>{title}</title></head><body><center>{server}</center></body></html>".encode()


@both
@pytest.mark.parametrize(
    ("status", "server", "body", "kind", "words"),
    [
        (
            413,
            "",
            _page_of("nginx/1.22.1", "413"),
            portico.TooLarge,
            r"\(nginx\) refused \S+ kB: raise client_max_",
        ),
        (413, "Apache/2.4.71", b"", portico.TooLarge, "raise LimitRequestBody"),
        (413, "Caddy", b"", portico.TooLarge, "raise request_body max_size"),
        (413, "", b"Too Large", portico.TooLarge, "Portico refused .*: raise its limit on the size"),
        (
            502,
            "nginx",
            _page_of("nginx", "502 Bad Gateway"),
            portico.NotPortico,
            r"\(nginx\) got no answer from Portico",
        ),
        (502, "", b"Bad Gateway", portico.NotPortico, r"proxy in front of Portico got no answer"),
        (
            *(503, "", b"<html><body><h1>503 Service Unavailable</h1>\nNo server is available to "),
            *(portico.NotPortico, "got no answer from Portico .HTTP 503"),
        ),
        (
            *(504, "", b"<html><body><h1>504 Gateway Time-out</h1>\nThe server was late.\n</body></html>\n"),
            *(portico.DeadlineExceeded, r"\(HAProxy\) stopped waiting .*: raise timeout server"),
        ),
        (502, "Apache/2.4.71", b"", portico.NotPortico, "or raise ProxyTimeout if the answer takes long"),
        (502, "Caddy", b"", portico.NotPortico, "or raise request_body max_size if the request is large"),
        (401, "nginx", _page_of("nginx", "401"), portico.NotPortico, "asks for a sign-in of its own"),
        (504, "", _page_of("nginx/1.22.1", "504"), portico.DeadlineExceeded, "raise proxy_read_timeout"),
        (
            404,
            "nginx",
            _page_of("nginx", "404 Not Found"),
            portico.NotPortico,
            "nginx. answered HTTP 404 itself",
        ),
        (
            *(400, "nginx", b"<center>The plain HTTP request was sent to HTTPS port</center>"),
            *(portico.NotPortico, "starts with https://"),
        ),
    ],
)
@pytest.mark.parametrize("operation", ["add", "chat"])
async def test_an_error_of_a_proxy_says_what_to_change(
    ask: Any,
    status: int,
    server: str,
    body: bytes,
    kind: type[portico.PorticoError],
    words: str,
    operation: str,
) -> None:
    headers = {"server": server, "content-type": "text/html"}
    with pytest.raises(kind, match=words) as caught:
        await ask(lambda _request: httpx.Response(status, content=body, headers=headers), operation)
    assert caught.value.status == status


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a self-signed certificate for 127.0.0.1 and its key."""
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    write_self_signed(path)
    return path


@contextmanager
def _served_with_tls(certificate: Path) -> Iterator[str]:
    """Serve the health of a daemon with TLS; yield the address."""

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"status": "ok"}')

        def log_message(self, format: str, *args: Any) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with ThreadingHTTPServer(("127.0.0.1", 0), Health) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_an_untrusted_certificate_is_named_and_ssl_cert_file_makes_it_trusted(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with _served_with_tls(certificate) as url:
        with (
            Client(url) as client,
            pytest.raises(portico.NotPortico, match="not accepted: self-signed") as caught,
        ):
            client.health()
        assert "SSL_CERT_FILE" in caught.value.message
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with Client(url) as client:
            assert client.health()["status"] == "ok"
        with (
            Client(url.replace("127.0.0.1", "localhost")) as client,
            pytest.raises(portico.NotPortico, match=r"ostname mismatch.*Check the name in the URL"),
        ):
            client.health()


def test_a_server_without_tls_is_named_at_an_https_url() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4_096)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with Client(url) as client, pytest.raises(portico.NotPortico, match="does not speak TLS"):
            client.health()
        thread.join()

"""The worker's HTTP side: one caller, the queue for the model, a loopback port behind a key."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import select
import socket
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from typing import Any

from .errors import CallerGone, Refusal

# The caller of one request: whether it is still there, and what it is sent.


class Caller:
    """One connection with one request on it."""

    def __init__(self, connection: socket.socket, out: BufferedIOBase, begin: Callable[[str], None]) -> None:
        self._connection = connection
        self._out = out
        self._begin = begin
        self.streaming = False
        """Whether the status and the headers of a stream have been sent."""
        self.raw = ""
        """The media type of pieces that are not events."""

    def has_left(self) -> bool:
        """Whether it has closed the connection."""
        try:
            readable, _, _ = select.select([self._connection], [], [], 0)
            return bool(readable) and not self._connection.recv(1, socket.MSG_PEEK)
        except (OSError, ValueError):
            return True

    def check(self) -> None:
        """Raise `CallerGone` if it has left."""
        if self.has_left():
            raise CallerGone

    def comment(self, words: str) -> None:
        """A line of the stream that every client ignores."""
        self._send(f": {words}\n\n".encode())

    def event(self, document: Mapping[str, Any]) -> None:
        """A frame of the stream."""
        self._send(b"data: " + json.dumps(document, ensure_ascii=False).encode("utf-8", "replace") + b"\n\n")

    def done(self) -> None:
        """The end of the stream."""
        self._send(b"data: [DONE]\n\n")

    def piece(self, data: bytes, media_type: str) -> None:
        """A piece of something that is not a stream of events, such as a sound; `last` ends it."""
        if not self.raw:
            self.raw = media_type
        if data:
            self._send(b"%x\r\n%b\r\n" % (len(data), data))

    def last(self) -> None:
        """All pieces have been sent. Without it, whoever reads them knows that something went wrong."""
        self._send(b"0\r\n\r\n")

    def _send(self, data: bytes) -> None:
        if self.has_left():
            raise CallerGone
        try:
            if not self.streaming:
                self.streaming = True
                self._begin(self.raw)
            self._out.write(data)
        except OSError as error:
            raise CallerGone from error


MAX_BODY_BYTES = 256 * 1024 * 1024
"""Bytes of a request: images travel in it."""

CONNECTION_TIMEOUT_S = 300.0
"""Seconds that a connection may rest, and that a caller may take to accept what it is sent."""

Handler = Callable[[Mapping[str, Any], Caller], Any]
"""Takes a request's body; returns a document, a text, or ``None`` after it has streamed its answer to the client."""


class WorkerServer(ThreadingHTTPServer):
    """Serves ``posts`` and ``gets`` by path to whoever has ``key``; ``/health`` needs none."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        key: str,
        posts: Mapping[str, Handler],
        gets: Mapping[str, Callable[[], Any]],
    ) -> None:
        self.expected = f"Bearer {key}".encode() if key else b""
        self.routes = posts
        self.gets = gets
        super().__init__(address, _Exchange)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is nobody's fault; everything else goes to the log."""
        if not isinstance(sys.exception(), OSError):
            traceback.print_exc()


class _Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "portico-transformers"
    disable_nagle_algorithm = True
    timeout = CONNECTION_TIMEOUT_S
    server: WorkerServer

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/health":
            self._answer(200, {"status": "ok"})
        elif not self._admitted():
            self._refuse(Refusal("This engine answers to its daemon alone.", status=401))
        elif path in self.server.gets:
            self._answer(200, self.server.gets[path]())
        else:
            self._refuse(Refusal(f"There is no {path} here.", status=404))

    def do_POST(self) -> None:
        try:
            if not self._admitted():
                raise Refusal("This engine answers to its daemon alone.", status=401)
            handler = self.server.routes.get(self.path.partition("?")[0])
            if handler is None:
                raise Refusal(f"There is no {self.path[:200]} here.", status=404)
            body = self._body()
        except Refusal as refusal:
            self.close_connection = True  # what was not read must not be taken for another request
            self._refuse(refusal)
            return
        client = Caller(self.connection, self.wfile, self._begin_stream)
        try:
            found = handler(body, client)
            if found is not None:
                self._answer(200, found)
        except CallerGone:
            self.close_connection = True
        except Exception as error:  # noqa: BLE001 - whatever a model does wrong must reach its caller
            self._fail(client, error)

    def _fail(self, client: Caller, error: Exception) -> None:
        refusal = error if isinstance(error, Refusal) else _failure(error)
        if not client.streaming:
            self._refuse(refusal)
            return
        if client.raw:
            self.close_connection = True
            return
        try:
            client.event({"error": {**refusal.body()["error"], "code": refusal.status}})
        except CallerGone:
            self.close_connection = True

    def _admitted(self) -> bool:
        given = self.headers.get("Authorization", "").encode("utf-8", "replace")
        return hmac.compare_digest(given, self.server.expected) or not self.server.expected

    def _body(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise Refusal("A Content-Length is needed.", status=411)
        if int(length) > MAX_BODY_BYTES:
            raise Refusal(f"The body has {length} bytes; at most {MAX_BODY_BYTES} are taken.", status=413)
        try:
            body = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise Refusal(f"The body is not JSON: {error}.") from error
        if not isinstance(body, dict):
            raise Refusal("The body must be a JSON object.")
        return body

    def _begin_stream(self, media_type: str) -> None:
        """Events if no ``media_type`` is given, otherwise pieces in chunks, which show a broken end."""
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", media_type or "text/event-stream")
        if media_type:
            self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()

    def _refuse(self, refusal: Refusal) -> None:
        self._answer(refusal.status, refusal.body())

    def _answer(self, status: int, document: Any) -> None:
        text = document if isinstance(document, str) else json.dumps(document, ensure_ascii=False)
        data = text.encode("utf-8", "replace")
        self.send_response(status)
        kind = "text/plain; charset=utf-8" if isinstance(document, str) else "application/json"
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are in the daemon's log already."""


def _failure(error: Exception) -> Refusal:
    traceback.print_exception(error)
    words = " ".join(str(error).split())[:300]
    if type(error).__name__ == "OutOfMemoryError" or "out of memory" in words.lower():
        message = f"The memory of the device was not enough for this call: {words}"
        return Refusal(message, "out_of_memory", status=HTTPStatus.SERVICE_UNAVAILABLE)
    return Refusal(
        f"{type(error).__name__}: {words}", "engine_failed", status=HTTPStatus.INTERNAL_SERVER_ERROR
    )


# One call at a time on the model, in the order in which they came, and only so many waiting.


POLL_INTERVAL_S = 0.25
"""Seconds between two looks at whether a waiting caller is still there."""


class ModelQueue:
    """A line of at most ``limit`` waiting callers before one model."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._changed = threading.Condition()
        self._line: deque[object] = deque()

    @property
    def busy(self) -> bool:
        """Whether a new caller would have to wait."""
        return bool(self._line)

    @contextmanager
    def turn(self, has_left: Callable[[], bool]) -> Iterator[None]:
        """Wait for the model and have it. Raises `Refusal` (429) if the line is full, `CallerGone` if ``gone()`` says
        so.
        """
        ticket = object()
        with self._changed:
            if len(self._line) > self._limit:
                raise Refusal(
                    f"{self._limit} calls wait for this model already. Try again later.",
                    "queue_full",
                    status=429,
                )
            self._line.append(ticket)
            try:
                while self._line[0] is not ticket:
                    self._changed.wait(POLL_INTERVAL_S)
                    if self._line[0] is not ticket and has_left():
                        raise CallerGone
            except BaseException:
                self._leave(ticket)
                raise
        try:
            yield
        finally:
            with self._changed:
                self._leave(ticket)

    def _leave(self, ticket: object) -> None:
        self._line.remove(ticket)
        self._changed.notify_all()


# Texts in the model's tokens and back, in the shape of vLLM's ``/tokenize`` and ``/detokenize``.


Render = Callable[[Any, bool], str]
"""Messages as the chat template writes them, with or without what begins the answer."""


class TokenizeTask:
    """For every task; ``render`` for a model that has chats."""

    def __init__(self, tokenizer: Any, longest: int, render: Render | None = None) -> None:
        self._tokenizer = tokenizer
        self._longest = longest
        self._render = render

    def routes(self) -> dict[str, Any]:
        return {"/tokenize": self.tokenize, "/detokenize": self.detokenize}

    def tokenize(self, body: Mapping[str, Any], _client: Caller) -> dict[str, Any]:
        """``prompt`` or ``messages`` as numbers, and as texts if ``return_token_strs`` is set."""
        text, special = body.get("prompt"), True
        if text is None and self._render is not None:
            text = self._render(body.get("messages"), body.get("add_generation_prompt") is not False)
            special = False  # the template has written them
        if not isinstance(text, str):
            raise Refusal("'prompt' must be a text.", param="prompt")
        if isinstance(body.get("add_special_tokens"), bool):
            special = body["add_special_tokens"]
        found = self._tokenizer(text, add_special_tokens=special)["input_ids"]
        answer: dict[str, Any] = {"count": len(found), "max_model_len": self._longest, "tokens": found}
        if body.get("return_token_strs"):
            answer["token_strs"] = self._tokenizer.convert_ids_to_tokens(found)
        return answer

    def detokenize(self, body: Mapping[str, Any], _client: Caller) -> dict[str, Any]:
        """``tokens`` as ``prompt``."""
        tokens = body.get("tokens")
        width = len(self._tokenizer)
        if not isinstance(tokens, list) or not all(
            isinstance(one, int) and 0 <= one < width for one in tokens
        ):
            raise Refusal(f"'tokens' must be a list of numbers below {width:,}.", param="tokens")
        return {"prompt": self._tokenizer.decode(tokens, clean_up_tokenization_spaces=False)}


# Files that came with a request: as base64 in its body, under ``files``.


@dataclass(frozen=True, slots=True)
class AttachedFile:
    """One file; ``field`` is its name in OpenAI's form."""

    field: str
    name: str
    data: bytes


def attached_files(body: Mapping[str, Any], field: str) -> list[AttachedFile]:
    """The files in ``field``, in their order. Raises `Refusal`."""
    found = []
    for file in body.get("files") or ():
        if file.get("field") != field:
            continue
        try:
            data = base64.b64decode(file["data"], validate=True)
        except (binascii.Error, KeyError, TypeError, ValueError) as error:
            raise Refusal(f"The file in '{field}' is not base64.", param=field) from error
        found.append(AttachedFile(field, str(file.get("name") or field), data))
    return found

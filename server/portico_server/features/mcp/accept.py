"""Answers clients that accept only JSON or only event streams, or send no ``Accept`` header, in a format that they
accept.

The protocol requires clients to accept both formats. Many accept only one, and respond to a 406 by looking for a
login.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from portico_server.core.relay import event_data

JSON: Final = "application/json"


EVENTS: Final = "text/event-stream"


_BOTH: Final = f"{JSON}, {EVENTS}".encode()


class AcceptEither:
    """ASGI middleware that widens the ``Accept`` header. For POST requests, it translates the response back to the
    accepted type.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("POST", "GET"):
            await self._app(scope, receive, send)
            return
        takes_json, takes_events = accepted_types(_accept(scope))
        if takes_json and takes_events:
            await self._app(scope, receive, send)
            return
        headers = [(name, value) for name, value in scope["headers"] if name != b"accept"]
        scope = {**scope, "headers": [*headers, (b"accept", _BOTH)]}
        if scope["method"] == "POST" and takes_json != takes_events:
            send = _Translated(send, JSON if takes_json else EVENTS)
        await self._app(scope, receive, send)


@lru_cache(maxsize=128)
def accepted_types(accept: str) -> tuple[bool, bool]:
    """Return whether the media types of an ``Accept`` header include JSON and event streams."""
    types = {part.split(";")[0].strip().lower() for part in accept.split(",")}
    accepts_all = "*/*" in types
    return accepts_all or bool(types & {JSON, "application/*"}), accepts_all or bool(
        types & {EVENTS, "text/*"}
    )


def _accept(scope: Scope) -> str:
    return ",".join(value.decode("latin-1") for name, value in scope["headers"] if name == b"accept")


class _Translated:
    """A ``send`` callable that converts successful responses in the other media type to the accepted one."""

    def __init__(self, send: Send, media_type: str) -> None:
        self._send = send
        self._media_type = media_type
        self._start: Message | None = None
        self._pieces: list[bytes] = []

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and self._is_other(message):
            self._start = message
        elif self._start is None or message["type"] != "http.response.body":
            await self._send(message)
        else:
            self._pieces.append(message.get("body", b""))
            if not message.get("more_body", False):
                await self._finish(self._start)

    def _is_other(self, start: Message) -> bool:
        kind = dict(start["headers"]).get(b"content-type", b"").decode("latin-1").split(";")[0]
        return start["status"] == 200 and kind in (JSON, EVENTS) and kind != self._media_type

    async def _finish(self, start: Message) -> None:
        translate: Callable[[bytes], bytes] = answer_of if self._media_type == JSON else event_of
        body = translate(b"".join(self._pieces))
        headers = [
            (name, value)
            for name, value in start["headers"]
            if name not in (b"content-type", b"content-length")
        ]
        headers += [(b"content-type", self._media_type.encode()), (b"content-length", b"%d" % len(body))]
        await self._send({**start, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


def answer_of(stream: bytes) -> bytes:
    """Return the JSON-RPC response in an event stream: its last message with a result or an error. Notifications are
    dropped.
    """
    answer = b""
    for frame in stream.replace(b"\r\n", b"\n").split(b"\n\n"):
        data = event_data(frame)
        message: Any = json.loads(data) if data else None
        if isinstance(message, dict) and ("result" in message or "error" in message):
            answer = data
    return answer


def event_of(document: bytes) -> bytes:
    """Return a JSON document as an event stream with one message."""
    return b"event: message\r\ndata: " + document + b"\r\n\r\n"

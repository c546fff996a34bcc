"""Streams whose engine is silent before its first token: the head goes out with a comment, and an error afterwards is
the last event.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.api_server import ApiServer, api_server

from portico.wire import Usage
from portico_server.api import exchange
from portico_server.core.context import Context
from portico_server.core.errors import EngineFailed, NotFound, PorticoError, TooMany, Unavailable
from portico_server.core.relay import Relay, RelayResponse
from portico_server.core.request import Request, Result
from portico_server.core.servable import Card

HELLO = [{"role": "user", "content": "Hello"}]
TOKEN = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
CAPABILITIES = frozenset({"chat", "completions", "speech", "transcription", "image"})
COMMENT, PING = ": keep-alive\n\n", "event: ping\n"
SILENT_S = 0.01


class SilentModel:
    """A model that does not answer a request before ``may_answer`` is set, and then with ``chunks`` or ``error``."""

    def __init__(
        self, media_type: str = "text/event-stream", *chunks: bytes, error: PorticoError | None = None
    ) -> None:
        self.card = Card("m", "model", capabilities=CAPABILITIES)
        self.may_answer = asyncio.Event()
        self.has_ended = asyncio.Event()
        self._media_type = media_type
        self._chunks = chunks
        self._error = error

    async def call(self, request: Request, context: Context) -> Result:
        raise AssertionError("the endpoint should have relayed")

    async def relay(self, request: Relay, context: Context) -> RelayResponse:
        try:
            await self.may_answer.wait()
        finally:
            self.has_ended.set()
        if self._error is not None:
            raise self._error
        return RelayResponse(self._media_type, self._pieces(), Usage(3, 2))

    async def _pieces(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk


@dataclass(frozen=True)
class Stream:
    """A streaming request, and the media type and the chunks of the engine's answer."""

    path: str
    body: dict[str, Any] = field(default_factory=dict)
    media_type: str = "text/event-stream"
    chunks: tuple[bytes, ...] = (TOKEN,)
    last: str = TOKEN.decode()
    comment: str = COMMENT
    form: bool = False


TRANSCRIPT = (
    'data: {"type":"transcript.text.delta","delta":"hi"}\n\ndata: {"type":"transcript.text.done","text":"hi",'
    '"usage":{"type":"tokens","input_tokens":3,"output_tokens":2,"total_tokens":5}}\n\n'
)
STREAMS = {
    "chat": Stream("/v1/chat/completions", {"messages": HELLO, "stream": True}),
    "completions": Stream("/v1/completions", {"prompt": "Hello", "stream": True}),
    "messages": Stream(
        *("/v1/messages", {"messages": HELLO, "max_tokens": 9, "stream": True}),
        last='data: {"type":"message_stop"}\n\n',
        comment=PING,
    ),
    "speech": Stream(
        *("/v1/audio/speech", {"input": "Hello", "voice": "a", "stream_format": "sse"}),
        chunks=(b'data: {"type":"speech.audio.done"}\n\n',),
        last='data: {"type":"speech.audio.done"}\n\n',
    ),
    "speech from bytes": Stream(
        *(
            "/v1/audio/speech",
            {"input": "Hello", "voice": "a", "stream_format": "sse"},
            "audio/pcm",
            (b"ab",),
        ),
        last=(
            f'data: {{"type":"speech.audio.delta","audio":"{base64.b64encode(b"ab").decode()}"}}\n\n'
            'data: {"type":"speech.audio.done","usage":{"input_tokens":3,"output_tokens":2,"total_tokens":5}}\n\n'
        ),
    ),
    "transcription": Stream(
        *("/v1/audio/transcriptions", {"stream": "true"}, "application/json", (b'{"text":"hi"}',)),
        last=TRANSCRIPT,
        form=True,
    ),
    "transcription as text": Stream(
        *("/v1/audio/transcriptions", {"stream": "true"}, "text/plain", (b"hi",)), last=TRANSCRIPT, form=True
    ),
    "image": Stream(
        *("/v1/images/generations", {"prompt": "A red square", "stream": True}),
        chunks=(b'event: image_generation.completed\ndata: {"type":"image_generation.completed"}\n\n',),
        last='data: {"type":"image_generation.completed"}\n\n',
    ),
}


@pytest.fixture
async def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiServer]:
    monkeypatch.setattr(exchange, "KEEPALIVE_INTERVAL_S", SILENT_S)
    async with api_server(tmp_path) as server:
        yield server


def wav() -> bytes:
    return (
        b"RIFF"
        + (40).to_bytes(4, "little")
        + b"WAVEfmt "
        + b"\x10\0\0\0\1\0\1\0@\x1f\0\0\x80>\0\0\2\0\x10\0"
        + (b"data\4\0\0\0\0\0\0\0")
    )


def request_fields(stream: Stream) -> dict[str, Any]:
    fields = {"model": "m", **stream.body}
    return {"data": fields, "files": {"file": ("a.wav", wav())}} if stream.form else {"json": fields}


async def listen(daemon: ApiServer, model: SilentModel, stream: Stream) -> str:
    """Return the text of a stream whose engine answers once two comments have arrived."""
    daemon.add(model)
    text = ""
    async with daemon.client.stream("POST", stream.path, **request_fields(stream)) as response:
        assert (response.status_code, response.headers["content-type"].partition(";")[0]) == (
            200,
            "text/event-stream",
        )
        async for piece in response.aiter_text():
            text += piece
            if text.count(stream.comment) >= 2:
                model.may_answer.set()
    return text


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
async def test_comments_fill_the_silence_before_the_first_token(daemon: ApiServer, stream: Stream) -> None:
    text = await listen(daemon, SilentModel(stream.media_type, *stream.chunks), stream)
    assert text.startswith(stream.comment)
    assert text.replace(COMMENT, "").endswith(stream.last)


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
async def test_an_error_after_silence_is_the_last_event(daemon: ApiServer, stream: Stream) -> None:
    text = await listen(daemon, SilentModel(error=EngineFailed("It broke.")), stream)
    events = [line for line in text.splitlines() if line.startswith("data: ") and "ping" not in line]
    [error] = [json.loads(line.removeprefix("data: ")) for line in events]
    assert error["error"]["message"] == "It broke."


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
async def test_a_client_that_leaves_in_the_silence_ends_the_work(daemon: ApiServer, stream: Stream) -> None:
    model = SilentModel()
    daemon.add(model)
    async with daemon.client.stream("POST", stream.path, **request_fields(stream)) as response:
        await anext(response.aiter_text())
        assert not model.has_ended.is_set()
    async with asyncio.timeout(60):
        await model.has_ended.wait()


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
async def test_an_error_known_at_once_keeps_its_status(tmp_path: Path, stream: Stream) -> None:
    async with api_server(tmp_path) as daemon:
        for error in (TooMany("Wait."), Unavailable("The disk is full."), EngineFailed("It broke.")):
            model = SilentModel(error=error)
            model.may_answer.set()
            daemon.services.registry.remove("m")
            daemon.add(model)
            response = await daemon.client.post(stream.path, **request_fields(stream))
            overloaded = stream.path == "/v1/messages" and error.status == 503
            assert response.status_code == (529 if overloaded else error.status)
            assert response.json()["error"]["message"] == error.message
        fields = {**request_fields(stream)}
        fields["data" if stream.form else "json"] = {"model": "nobody", **stream.body}
        assert (await daemon.client.post(stream.path, **fields)).status_code == NotFound.status

"""Speech of a fake model, both ways: a tone for each word with the words inside as a tag, and those words read back.

What no fake model has made is written down as the script says, by the name of its file.
"""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import struct
import zlib
from collections.abc import Iterator, Mapping
from math import pi, sin
from typing import Any, Final

import orjson
from aiohttp import web

from portico_server.core.errors import InvalidRequest
from portico_server.engines import serving
from portico_server.engines.fake import mimic
from portico_server.engines.fake.script import Player, Scripted
from portico_server.engines.fake.voices import VOICES
from portico_server.engines.transformers.worker.refusal import Refusal
from portico_server.engines.transformers.worker.transcript import (
    Stretch,
    Transcript,
    Wish,
    deltas,
    done,
    rendered,
)

RATE: Final = 24_000
"""Samples a second."""

WORD: Final = 0.25
"""Seconds that a word takes at a speed of 1."""

_KNOWN: Final = (b"RIFF", b"ID3", b"OggS", b"fLaC", b"\x1aE\xdf\xa3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf1")
"""How files of sound begin."""


class Talker:
    """The endpoints for sound over a script, whose rules are looked up by what is said, or by a file's name."""

    def __init__(self, player: Player) -> None:
        self._player = player

    def mount(self, app: web.Application) -> None:
        app.router.add_post("/v1/audio/speech", self.speak)
        app.router.add_post("/v1/audio/transcriptions", self.transcribe)
        app.router.add_post("/v1/audio/translations", self.translate)

    async def speak(self, request: web.Request) -> web.StreamResponse:
        """A WAV, or its samples alone."""
        body: dict[str, Any] = await serving.body_of(request)
        form = body.get("response_format") or "mp3"
        if form not in ("wav", "pcm"):
            raise InvalidRequest(
                f"A fake model has no encoder for {form}: ask for the response_format wav or pcm.",
                code="unsupported_value",
                param="response_format",
            )
        voice = body.get("voice") or "default"
        voice = voice.get("id") if isinstance(voice, Mapping) else voice
        if voice not in VOICES:
            raise InvalidRequest(
                f"There is no voice '{str(voice)[:80]}'; voices are {', '.join(VOICES)}.",
                code="unknown_voice",
                param="voice",
            )
        asked = str(body.get("input", ""))
        rule = self._player.next(asked)
        if (failed := await _failure(rule)) is not None:
            return failed
        text = "".join(rule.content) or asked
        words = mimic.words(text)
        pieces = _tones(words, WORD / float(body.get("speed") or 1), voice)
        length = sum(map(len, pieces))
        events = body.get("stream_format") == "sse"
        kind = "text/event-stream" if events else "audio/wav" if form == "wav" else "audio/pcm"
        response = web.StreamResponse(headers={"Content-Type": kind})
        await response.prepare(request)

        async def send(data: bytes) -> None:
            if events:
                event = {"type": "speech.audio.delta", "audio": base64.b64encode(data).decode()}
                data = b"data: " + orjson.dumps(event) + b"\n\n"
            await response.write(data)

        if form == "wav":
            await send(_head(length, text))
        for number in range(len(pieces) + 1):
            await _mishap(rule, number)
            if number < len(pieces):
                await send(pieces[number])
        if events:
            usage = {"input_tokens": len(words), "output_tokens": len(words), "total_tokens": 2 * len(words)}
            last = {"type": "speech.audio.done", "usage": usage}
            await response.write(b"data: " + orjson.dumps(last) + b"\n\n")
        await response.write_eof()
        return response

    async def transcribe(self, request: web.Request) -> web.StreamResponse:
        """What a fake model said, or what the script says of the file."""
        return await self._write(request, translate=False)

    async def translate(self, request: web.Request) -> web.StreamResponse:
        """The same: it speaks every language, and none."""
        return await self._write(request, translate=True)

    async def _write(self, request: web.Request, *, translate: bool) -> web.StreamResponse:
        name, data, body = await _form(request)
        try:
            wish = Wish.of(body, translate=translate)
        except Refusal as refusal:
            raise InvalidRequest(refusal.message, code=refusal.code, param=refusal.param) from refusal
        if not data.startswith(_KNOWN) and data[4:8] != b"ftyp":
            raise InvalidRequest(
                f"The file '{name}' cannot be read as sound. Send mp3, m4a, mp4, wav, flac, ogg, opus or webm.",
                code="invalid_audio",
                param="file",
            )
        said = _said(data)
        rule = self._player.next(name if said is None else said)
        if (failed := await _failure(rule)) is not None:
            return failed
        words = mimic.words(rule.content[0] if rule.content else "")
        heard = [Stretch(i * WORD, (i + 1) * WORD, word) for i, word in enumerate(words)]
        found = Transcript(wish.language or "english", _seconds(data) or len(words) * WORD)
        found.words = [Stretch(one.start, one.end, one.text.strip()) for one in heard]
        if not wish.stream:
            found.segments = list(_sentences(heard))
            for number in range(len(words) + 1):
                await _mishap(rule, number)
            whole = rendered(found, wish)
            return serving.answer(whole) if isinstance(whole, dict) else web.Response(text=whole)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        found.segments = heard
        for number in range(len(heard) + 1):
            await _mishap(rule, number)
            for event in deltas(heard[number : number + 1]):
                await response.write(b"data: " + orjson.dumps(event) + b"\n\n")
        await response.write(b"data: " + orjson.dumps(done(found)) + b"\n\n")
        return response


async def _form(request: web.Request) -> tuple[str, bytes, dict[str, Any]]:
    """The name and the bytes of the file, and the fields."""
    name, data = "", b""
    body: dict[str, Any] = {}
    for key, value in (await request.post()).items():
        if isinstance(value, web.FileField):
            name, data = value.filename, value.file.read()
        elif key.endswith("[]"):
            body.setdefault(key.removesuffix("[]"), []).append(value)
        else:
            body[key] = value
    body["stream"] = body.get("stream") == "true"
    return name, data, body


async def _failure(rule: Scripted) -> web.Response | None:
    if rule.delay:
        await asyncio.sleep(rule.delay)
    if rule.error is None:
        return None
    error = rule.error
    return serving.failure(error.status, error.message, error.type, error.code, error.retry_after)


async def _mishap(rule: Scripted, number: int) -> None:
    """Before the word ``number``: the rule's pace, its crash or its silence."""
    if rule.crash == number:
        os.kill(os.getpid(), signal.SIGKILL)
    if rule.hang == number:
        await asyncio.get_running_loop().create_future()
    if rule.interval and number:
        await asyncio.sleep(rule.interval)


def _tones(words: list[str], seconds: float, voice: str) -> list[bytes]:
    """16-bit samples for each word; how high it sounds follows from the word and the voice."""
    count = max(1, round(seconds * RATE))
    found = []
    for word in words:
        hertz = 200 + zlib.crc32(f"{voice} {word.strip().lower()}".encode()) % 600
        period = RATE // hertz
        wave = [round(8000 * sin(2 * pi * step / period)) for step in range(period)]
        whole = struct.pack(f"<{period}h", *wave) * (count // period + 1)
        found.append(whole[: 2 * count])
    return found


def _head(length: int, text: str) -> bytes:
    """What stands before ``length`` bytes of samples, with the text as the file's comment."""
    comment = text.encode() + b"\0" * (2 - len(text.encode()) % 2)
    info = b"INFO" + b"ICMT" + struct.pack("<I", len(comment)) + comment
    chunks = [
        b"WAVE",
        b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16),
        b"LIST" + struct.pack("<I", len(info)) + info,
        b"data" + struct.pack("<I", length),
    ]
    head = b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(head) + length) + head


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The parts of a WAV file, each with its name."""
    at = 12
    while data[:4] == b"RIFF" and at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        yield data[at : at + 4], data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def _said(data: bytes) -> str | None:
    """What a fake model put into the file, ``None`` for any other."""
    for name, part in _chunks(data):
        if name == b"LIST" and part[4:8] == b"ICMT":
            return part[12:].rstrip(b"\0").decode("utf-8", "replace")
    return None


def _seconds(data: bytes) -> float:
    found = dict(_chunks(data))
    if b"fmt " not in found or b"data" not in found:
        return 0.0
    return len(found[b"data"]) / max(1, int.from_bytes(found[b"fmt "][8:12], "little"))


def _sentences(words: list[Stretch]) -> Iterator[Stretch]:
    """Words put together up to each full stop."""
    begun: list[Stretch] = []
    for word in words:
        begun.append(word)
        if word.text.rstrip().endswith((".", "!", "?", "。")) or word is words[-1]:
            yield Stretch(begun[0].start, word.end, "".join(one.text for one in begun))
            begun = []

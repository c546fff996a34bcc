"""Speech and images of a fake model. The samples and the files contain the text that they represent."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
import signal
import struct
import time
import zlib
from collections.abc import Iterator, Mapping
from math import pi, sin
from typing import Any, Final

import orjson
from aiohttp import web

from portico_server.core import media, pools
from portico_server.core.errors import InvalidRequest
from portico_server.features.gpu_engines.transformers.worker.errors import Refusal
from portico_server.features.gpu_engines.transformers.worker.transcript import (
    TimedText,
    TranscriptRequest,
    WorkerTranscript,
    deltas,
    end_event,
    render_transcript,
)
from portico_server.models.engines import worker_http
from portico_server.models.engines.fake import script
from portico_server.models.engines.fake.script import VOICES, ScriptedReply, ScriptPlayer

SAMPLE_RATE_HZ: Final = 24_000
"""Samples per second."""

WORD_S: Final = 0.25
"""Duration of a word at a speed of 1, in seconds."""

_WORD_START: Final = b"\x00\x01word\x02"
_SPELLED_WORD: Final = re.compile(rb"\x00\x01word\x02([^\0]*)\0")

_KNOWN: Final = (b"RIFF", b"ID3", b"OggS", b"fLaC", b"\x1aE\xdf\xa3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf1")
"""First bytes of audio files."""


class FakeSpeech:
    """The audio endpoints of a script. Its rules are matched against the spoken text, or against the name of a file."""

    def __init__(self, player: ScriptPlayer) -> None:
        self._player = player

    def mount(self, app: web.Application) -> None:
        app.router.add_post("/v1/audio/speech", self.speak)
        app.router.add_post("/v1/audio/transcriptions", self.transcribe)
        app.router.add_post("/v1/audio/translations", self.translate)

    async def speak(self, request: web.Request) -> web.StreamResponse:
        """Return speech as a WAV file, or only the samples."""
        body: dict[str, Any] = await worker_http.body_of(request)
        form = body.get("response_format") or "mp3"
        if form not in ("wav", "pcm"):
            raise InvalidRequest(
                f"A fake model has no encoder for {form}: use the response_format wav or pcm.",
                code="unsupported_value",
                param="response_format",
            )
        voice = body.get("voice") or "default"
        voice = voice.get("id") if isinstance(voice, Mapping) else voice
        if voice not in VOICES:
            raise InvalidRequest(
                f"The voice '{str(voice)[:80]}' does not exist; voices are {', '.join(VOICES)}.",
                code="unknown_voice",
                param="voice",
            )
        requested_text = str(body.get("input", ""))
        rule = self._player.next(requested_text)
        if (failed_response := await _failure(rule)) is not None:
            return failed_response
        text = "".join(rule.content) or requested_text
        words = script.split_words(text)
        pieces = _tones(words, WORD_S / float(body.get("speed") or 1), voice)
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
            await send(_head(length))
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
        """Return the text that a fake model has spoken in the file, or else the script's reply to the name of the
        file.
        """
        return await self._write(request, translate=False)

    async def translate(self, request: web.Request) -> web.StreamResponse:
        """Return the same text as `transcribe`, because the fake model has no languages."""
        return await self._write(request, translate=True)

    async def _write(self, request: web.Request, *, translate: bool) -> web.StreamResponse:
        name, data, body = await _form(request)
        try:
            transcript_request = TranscriptRequest.of(body, translate=translate)
        except Refusal as refusal:
            raise InvalidRequest(refusal.message, code=refusal.code, param=refusal.param) from refusal
        if not data.startswith(_KNOWN) and data[4:8] != b"ftyp":
            raise InvalidRequest(
                f"The file '{name}' cannot be read as audio. Send mp3, m4a, mp4, wav, flac, ogg, opus or "
                "webm.",
                code="invalid_audio",
                param="file",
            )
        spoken_text = _spoken_text(data)
        rule = self._player.next(name if spoken_text is None else spoken_text)
        if (failed_response := await _failure(rule)) is not None:
            return failed_response
        words = script.split_words(rule.content[0] if rule.content else "")
        segments = [TimedText(i * WORD_S, (i + 1) * WORD_S, word) for i, word in enumerate(words)]
        worker_transcript = WorkerTranscript(
            transcript_request.language or "english", _seconds(data) or len(words) * WORD_S
        )
        worker_transcript.words = [
            TimedText(timed_text.start, timed_text.end, timed_text.text.strip()) for timed_text in segments
        ]
        if not transcript_request.stream:
            worker_transcript.segments = list(_sentences(segments))
            for number in range(len(words) + 1):
                await _mishap(rule, number)
            document = render_transcript(worker_transcript, transcript_request)
            return worker_http.answer(document) if isinstance(document, dict) else web.Response(text=document)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        worker_transcript.segments = segments
        for number in range(len(segments) + 1):
            await _mishap(rule, number)
            for event in deltas(segments[number : number + 1]):
                await response.write(b"data: " + orjson.dumps(event) + b"\n\n")
        await response.write(b"data: " + orjson.dumps(end_event(worker_transcript)) + b"\n\n")
        return response


async def _form(request: web.Request) -> tuple[str, bytes, dict[str, Any]]:
    """Return the name and bytes of the file, and the form fields."""
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


async def _failure(rule: ScriptedReply) -> web.Response | None:
    if rule.delay:
        await asyncio.sleep(rule.delay)
    if rule.error is None:
        return None
    error = rule.error
    return worker_http.failure(error.status, error.message, error.type, error.code, error.retry_after)


async def _mishap(rule: ScriptedReply, number: int) -> None:
    """Wait as long as the rule specifies before the word ``number``, and crash or hang if the rule says so."""
    if rule.crash == number:
        os.kill(os.getpid(), signal.SIGKILL)
    if rule.hang == number:
        await asyncio.get_running_loop().create_future()
    if rule.interval and number:
        await asyncio.sleep(rule.interval)


def _tones(words: list[str], seconds: float, voice: str) -> list[bytes]:
    """Return 16-bit samples for each word. The pitch depends on the word and the voice, and the low bytes of the
    samples spell the word, so that a fake model can transcribe them in any WAV file.
    """
    count = max(1, round(seconds * SAMPLE_RATE_HZ))
    frames = []
    for word in words:
        hertz = 200 + zlib.crc32(f"{voice} {word.strip().lower()}".encode()) % 600
        period = SAMPLE_RATE_HZ // hertz
        wave = [round(8000 * sin(2 * pi * step / period)) for step in range(period)]
        spelling = _WORD_START + word.encode() + b"\0"
        length = max(count, len(spelling))
        samples = bytearray(struct.pack(f"<{period}h", *wave) * (length // period + 1))[: 2 * length]
        samples[: 2 * len(spelling) : 2] = spelling
        frames.append(bytes(samples))
    return frames


def _head(length: int) -> bytes:
    """Return the header of a WAV file for ``length`` bytes of samples."""
    chunks = [
        b"WAVE",
        b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, SAMPLE_RATE_HZ, 2 * SAMPLE_RATE_HZ, 2, 16),
        b"data" + struct.pack("<I", length),
    ]
    head = b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(head) + length) + head


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the chunks of a WAV file, each with its name."""
    at = 12
    while data[:4] == b"RIFF" and at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        yield data[at : at + 4], data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def _spoken_text(data: bytes) -> str | None:
    """Return the words that a fake model has spoken in a WAV file, or ``None`` for any other file."""
    low_bytes = dict(_chunks(data)).get(b"data", b"")[::2]
    words = _SPELLED_WORD.findall(low_bytes)
    return b"".join(words).decode("utf-8", "replace") if words else None


def _seconds(data: bytes) -> float:
    sections = dict(_chunks(data))
    if b"fmt " not in sections or b"data" not in sections:
        return 0.0
    return len(sections[b"data"]) / max(1, int.from_bytes(sections[b"fmt "][8:12], "little"))


def _sentences(words: list[TimedText]) -> Iterator[TimedText]:
    """Join words into sentences, each of which ends with a full stop."""
    sentence: list[TimedText] = []
    for word in words:
        sentence.append(word)
        if word.text.rstrip().endswith((".", "!", "?", "。")) or word is words[-1]:
            yield TimedText(sentence[0].start, word.end, "".join(timed_text.text for timed_text in sentence))
            sentence = []


# Images of a fake model are PNGs of the requested size. Their colours depend on the prompt, which is embedded
# as text. The colours of an edited image also depend on the input images, of which only the first bytes are
# read.


DEFAULT_SIZE: Final = (256, 256)
"""Default size of an image."""


class FakeImages:
    """The image endpoints of a script.

    The rule that matches the prompt determines the duration and the errors. The content of the rule is returned as the
    revised prompt.
    """

    def __init__(self, player: ScriptPlayer) -> None:
        self._player = player

    def mount(self, app: web.Application) -> None:
        app.router.add_post("/v1/images/generations", self.generate)
        app.router.add_post("/v1/images/edits", self.edit)

    async def generate(self, request: web.Request) -> web.StreamResponse:
        """Return an image for a prompt."""
        return await self._draw(request, await worker_http.body_of(request), [], "image_generation")

    async def edit(self, request: web.Request) -> web.StreamResponse:
        """Return an edited image. The client sends the input images in a form."""
        fields: dict[str, Any] = {}
        images = []
        form = await request.post()
        for name, value in form.items():
            if isinstance(value, web.FileField):
                images.append(value.file.read())
            else:
                fields[name.removesuffix("[]")] = value
        for name in ("n", "partial_images"):
            if name in fields:
                fields[name] = int(fields[name])
        fields["stream"] = fields.get("stream") in ("true", True)
        return await self._draw(request, fields, images, "image_edit")

    async def _draw(
        self, request: web.Request, body: Mapping[str, Any], images: list[bytes], event: str
    ) -> web.StreamResponse:
        prompt = str(body.get("prompt", ""))
        kind = body.get("output_format") or "png"
        if kind != "png":
            raise InvalidRequest(
                f"'output_format' is '{kind}', but a fake model supports only PNG.", param="output_format"
            )
        rule = self._player.next(prompt)
        if rule.delay:
            await asyncio.sleep(rule.delay)
        if rule.error is not None:
            error = rule.error
            return worker_http.failure(error.status, error.message, error.type, error.code, error.retry_after)
        width, height = _size(body, images)
        tokens = len(script.split_words(prompt))
        token_counts = {"input_tokens": tokens, "output_tokens": width * height // 256}
        token_counts["total_tokens"] = sum(token_counts.values())
        usage = {**token_counts, "input_tokens_details": {"text_tokens": tokens, "image_tokens": 0}}
        facts = {
            "size": f"{width}x{height}",
            "output_format": "png",
            "quality": "low",
            "background": "opaque",
        }
        count = int(body.get("n") or 1)
        painted_images = [
            await pools.MODELS.run(paint, prompt, width, height, images, image_number)
            for image_number in range(count)
        ]
        encoded_images = [base64.b64encode(image_data).decode() for image_data in painted_images]
        if body.get("stream") is True:
            partials = int(body.get("partial_images") or 0)
            return await _stream(request, rule, encoded_images[0], partials, event, facts, usage)
        if rule.interval:
            await asyncio.sleep(rule.interval * count)
        await _break(rule, 0)
        understood = rule.content[0] if rule.content else prompt
        prompt_fields = {"revised_prompt": understood} if understood != prompt else {}
        data = [{"b64_json": encoded_image, **prompt_fields} for encoded_image in encoded_images]
        return worker_http.answer({"created": int(time.time()), "data": data, **facts, "usage": usage})


def paint(prompt: str, width: int, height: int, images: list[bytes], number: int = 0) -> bytes:
    """Return a PNG with a gradient from top to bottom and a square of a third colour in the middle."""
    seed = hashlib.sha256(
        orjson.dumps([prompt, number, [hashlib.sha256(image).hexdigest() for image in images]])
    )
    top, bottom, middle = (seed.digest()[at : at + 3] for at in (0, 3, 6))
    side = min(width, height) // 2
    left_width, above = (width - side) // 2, (height - side) // 2
    packer = zlib.compressobj(1)
    rows = bytearray()
    for y in range(height):
        share = y / height
        colour = bytes(round(a + (b - a) * share) for a, b in zip(top, bottom, strict=True))
        inside = side if above <= y < above + side else 0
        row = (
            colour * left_width + (middle if inside else colour) * side + colour * (width - left_width - side)
        )
        rows += packer.compress(b"\0" + row)
    rows += packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    words = b"Description\0" + prompt.encode("latin-1", "replace")
    utf8 = b"Prompt\0\0\0\0\0" + prompt.encode()
    chunks = ((b"IHDR", header), (b"tEXt", words), (b"iTXt", utf8), (b"IDAT", bytes(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _size(body: Mapping[str, Any], images: list[bytes]) -> tuple[int, int]:
    size = media.size_of(str(body.get("size") or "auto"), "size")
    if size is not None:
        return size
    first = media.measure_image(images[0]) if images else None
    return (first.width, first.height) if first is not None else DEFAULT_SIZE


async def _break(rule: ScriptedReply, number: int) -> None:
    """Crash or hang if the rule says so for the word ``number``."""
    if rule.crash == number:
        os.kill(os.getpid(), signal.SIGKILL)
    if rule.hang == number:
        await asyncio.get_running_loop().create_future()


async def _stream(
    request: web.Request,
    rule: ScriptedReply,
    encoded_image: str,
    partials: int,
    event: str,
    facts: Mapping[str, Any],
    usage: Mapping[str, Any],
) -> web.StreamResponse:
    """Stream ``partials`` events, each with the partial image, which is the complete image already, and then the final
    event.
    """
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(request)
    head = {"b64_json": encoded_image, "created_at": int(time.time()), **facts}

    async def send(kind: str, fields: Mapping[str, Any]) -> None:
        document = orjson.dumps({"type": kind, **head, **fields})
        await response.write(b"event: " + kind.encode() + b"\ndata: " + document + b"\n\n")

    for number in range(partials):
        await _break(rule, number)
        await send(f"{event}.partial_image", {"partial_image_index": number})
        if rule.interval:
            await asyncio.sleep(rule.interval)
    await _break(rule, partials)
    await send(f"{event}.completed", {"usage": usage})
    return response

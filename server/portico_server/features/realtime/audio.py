"""Audio of a session: its formats, its transcription, and speech synthesis sentence by sentence."""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from portico.wire import Delta
from portico_server.core.errors import EngineFailed, Forbidden, InvalidRequest, NotFound, Unavailable
from portico_server.core.invalid import wrong
from portico_server.core.media import Attachment, Speak, Speech, Transcribe, Transcription
from portico_server.core.pools import SOUNDS
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.servable import task_advice
from portico_server.core.work_slots import FairSlots
from portico_server.runs.runner import Runner

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PCM: Final = "audio/pcm"
RATES_HZ: Final[Mapping[str, int]] = {PCM: 24_000, "audio/pcmu": 8_000, "audio/pcma": 8_000}
"""Sample rates of the audio formats: 16-bit samples, and G.711 (µ-law and A-law), which is used in telephony."""

MIN_COMMIT_MS: Final = 100
MAX_BUFFER_BYTES: Final = 15 * 2**20
MAX_INLINE_BYTES: Final = 64 * 1024
"""Maximum size of audio that is converted on the event loop, in bytes. This takes some milliseconds."""

_LONG_SOUNDS: Final = FairSlots(2)
"""Slots for converting longer audio. The keys alternate."""

P = ParamSpec("P")
T = TypeVar("T")

MAX_DELTA_BYTES: Final = 24_000
"""Maximum size of the audio in one event, in bytes: half a second of 16-bit samples."""

_SENTENCE: Final = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])|\n+")
_ULAW_BIAS_LEVEL: Final = 132
_ULAW_MAX_LEVEL: Final = 32_635


def decode(text: str, kind: str) -> bytes:
    """Return the bytes of an ``audio`` field. Raises `InvalidRequest`."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        wrong("audio", "is not base64")
    if kind == PCM and len(data) % 2:
        wrong("audio", f"has {len(data)} bytes and ends within a sample, which has two bytes")
    return data


def bytes_per_ms(kind: str) -> int:
    """Return the number of bytes per millisecond of audio."""
    return RATES_HZ[kind] // 1000 * (2 if kind == PCM else 1)


def duration_ms(data: bytes | bytearray, kind: str) -> int:
    """Return the duration of the audio, in milliseconds."""
    return len(data) // bytes_per_ms(kind)


async def work_on(is_long: bool, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run ``work`` on audio; if the audio is long, in a thread."""
    if not is_long:
        return work(*args, **kwargs)
    async with _LONG_SOUNDS.hold():
        return await SOUNDS.run(work, *args, **kwargs)


def narrowed(data: bytes, kind: str) -> bytes:
    """Return audio as 16-bit samples at 8 kHz, the telephone rate."""
    return bytes(_at_8_khz(data).astype("<i2").tobytes()) if kind == PCM else _from_g711(data, kind)


def samples_of(data: bytes, kind: str) -> bytes:
    """Return audio as 16-bit samples at the sample rate of its format."""
    return data if kind == PCM else _from_g711(data, kind)


def as_wav(data: bytes, kind: str) -> bytes:
    """Return audio as a WAV file."""
    samples = samples_of(data, kind)
    rate = RATES_HZ[kind]
    head = struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16)
    body = b"WAVEfmt " + head + b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", len(body)) + body


def encode(samples: bytes, kind: str) -> bytes:
    """Return 16-bit samples at 24 kHz as audio in a format of the session."""
    samples = samples[: len(samples) // 2 * 2]
    return samples if kind == PCM else as_g711(_at_8_khz(samples), kind)


def _from_g711(data: bytes, kind: str) -> bytes:
    import numpy as np

    code = np.frombuffer(data, np.uint8).astype(np.int32)
    if kind == "audio/pcmu":
        code ^= 0xFF
        level = (((code & 15) << 3) + _ULAW_BIAS_LEVEL << (code >> 4 & 7)) - _ULAW_BIAS_LEVEL
        level = np.where(code & 128, -level, level)
    else:
        code ^= 0x55
        part, segment = (code & 15) << 4, code >> 4 & 7
        level = np.where(segment == 0, part + 8, part + 0x108 << np.maximum(segment - 1, 0))
        level = np.where(code & 128, level, -level)
    return bytes(level.astype("<i2").tobytes())


def _at_8_khz(samples: bytes) -> NDArray[np.int32]:
    import numpy as np

    wide = np.frombuffer(samples, "<i2").astype(np.int32)
    level: NDArray[np.int32] = wide[: len(wide) // 3 * 3].reshape(-1, 3).sum(axis=1, dtype=np.int32) // 3
    return level


def as_g711(level: NDArray[np.int32], kind: str) -> bytes:
    """Return 16-bit samples at 8 kHz as audio in a telephone format."""
    import numpy as np

    if kind == "audio/pcmu":
        size = np.minimum(np.abs(level), _ULAW_MAX_LEVEL) + _ULAW_BIAS_LEVEL
        segment = np.floor(np.log2(size)).astype(np.int32) - 7
        code = (np.where(level < 0, 128, 0) | segment << 4 | size >> segment + 3 & 15) ^ 0xFF
    else:
        size = np.where(level < 0, -level - 1, level) >> 3
        segment = np.maximum(np.floor(np.log2(np.maximum(size, 1))).astype(np.int32) - 4, 0)
        part = size >> np.maximum(segment, 1) & 15
        code = (np.where(level < 0, 0, 128) | segment << 4 | part) ^ 0x55
    return bytes(code.astype(np.uint8).tobytes())


class Sentences:
    """Splits a text that arrives in pieces, and returns each sentence as soon as it is complete."""

    def __init__(self) -> None:
        self._rest = ""

    def take(self, piece: str) -> list[str]:
        """Process a piece of the text. Return the sentences that are now complete."""
        self._rest += piece
        sentences, start = [], 0
        for match in _SENTENCE.finditer(self._rest):
            if match.end() > start:
                sentences.append(self._rest[start : match.end()])
                start = match.end()
        self._rest = self._rest[start:]
        return sentences

    def end(self) -> list[str]:
        """Return the remaining text."""
        remainder, self._rest = self._rest, ""
        return [remainder] if remainder else []


class Voices:
    """The speech models of a session: the models that the session names, or else the first models with the
    capability.
    """

    def __init__(self, registry: Registry, runner: Runner, caller: Principal) -> None:
        self._registry = registry
        self._runner = runner
        self._caller = caller

    async def able(self, capability: str, model_name: str | None, param: str) -> str:
        """Return the name of the model to use for a capability. Raises `NotFound`, `InvalidRequest`, `Unavailable`."""
        if model_name is None:
            cards = await self._registry.cards(self._caller, "model", "app")
            found_model_name = next((card.name for card in cards if capability in card.capabilities), None)
            if found_model_name is None:
                raise Unavailable(
                    f"No model supports {capability}. Add a model as described in docs/audio.md.",
                    code="no_such_model",
                    param=param,
                )
            return found_model_name
        try:
            card = (await self._registry.resolve(model_name, self._caller)).card
        except (NotFound, Forbidden) as error:
            error.param = param
            raise
        if capability not in card.capabilities:
            can = ", ".join(sorted(card.capabilities)) or "nothing else"
            raise InvalidRequest(
                f"The model '{model_name}' does not support {capability}; it supports {can}."
                + task_advice(card, capability),
                code="unsupported_operation",
                param=param,
            )
        return model_name

    async def transcribe(
        self, data: bytes, audio: Mapping[str, Any], tell: Callable[[str], Awaitable[None]]
    ) -> Transcription:
        """Return the transcript of audio, with the settings in the session's ``audio.input``. If the model streams,
        ``tell`` receives each part of the transcript as it arrives.
        """
        settings = audio["transcription"] or {}
        model = await self.able("transcription", settings.get("model"), "audio.input.transcription.model")
        wav = await self._convert(as_wav, data, audio["format"]["type"])
        file = Attachment("file", "speech.wav", "audio/wav", wav)
        languages: Sequence[str] = settings.get("languages") or ()
        only_language = languages[0] if len(languages) == 1 else ""
        hints = [settings.get("prompt"), *(settings.get("keywords") or ())]
        transcribe = Transcribe(
            file,
            settings.get("language") or only_language,
            ", ".join(hint for hint in hints if hint),
            stream=True,
        )
        run = await self._runner.start("audio/transcriptions", model, transcribe, self._caller)
        try:
            async with aclosing(run.log.follow()) as events:
                async for _number, event in events:
                    if isinstance(event, Delta):
                        await tell(event.text)
        except BaseException:
            await run.leave()
            raise
        transcription = await self._runner.wait(run)
        if not isinstance(transcription, Transcription):
            raise EngineFailed(f"'{model}' did not answer with a transcript.")
        return transcription

    async def speak(self, text: str, audio: Mapping[str, Any]) -> bytes:
        """Return synthesized speech for a text, with the settings and the format in the session's ``audio.output``."""
        model = await self.able("speech", audio["model"], "audio.output.model")
        voice = audio["voice"]["id"] if isinstance(audio["voice"], dict) else audio["voice"]
        speak = Speak(text, voice or "", "pcm", audio["speed"])
        speech = await self._runner.call("audio/speech", model, speak, self._caller)
        if not isinstance(speech, Speech):
            raise EngineFailed(f"'{model}' did not answer with audio.")
        return await self._convert(encode, speech.audio, audio["format"]["type"])

    async def _convert(self, change: Callable[[bytes, str], bytes], data: bytes, kind: str) -> bytes:
        """Return audio converted by ``change``. Half an hour of telephone audio takes a second."""
        return await work_on(kind != PCM and len(data) > MAX_INLINE_BYTES, change, data, kind)

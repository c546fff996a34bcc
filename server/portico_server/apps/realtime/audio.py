"""Sounds of a session: their formats, what is said in them, and texts said aloud sentence by sentence."""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from portico.wire import Delta
from portico_server.core.errors import EngineFailed, Forbidden, InvalidRequest, NotFound, Unavailable
from portico_server.core.invalid import wrong
from portico_server.core.media import Attachment, Speak, Speech, Transcribe, Transcription
from portico_server.core.pools import SOUNDS
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.work_slots import FairSlots
from portico_server.runs.runner import Runner

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PCM: Final = "audio/pcm"
RATES_HZ: Final[Mapping[str, int]] = {PCM: 24_000, "audio/pcmu": 8_000, "audio/pcma": 8_000}
"""The formats of sounds: 16-bit samples, and G.711 as telephones have it (µ-law, A-law)."""

MIN_COMMIT_MS: Final = 100
MAX_BUFFER_BYTES: Final = 15 * 2**20
MAX_INLINE_BYTES: Final = 64 * 1024
"""Bytes of a sound that is changed at once, in some milliseconds."""

_LONG_SOUNDS: Final = FairSlots(2)
"""Of which keys take turns."""

P = ParamSpec("P")
T = TypeVar("T")

MAX_DELTA_BYTES: Final = 24_000
"""Bytes of a sound in one event: half a second of samples."""

_SENTENCE: Final = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])|\n+")
_ULAW_BIAS_LEVEL: Final = 132
_ULAW_MAX_LEVEL: Final = 32_635


def decoded(text: str, kind: str) -> bytes:
    """The bytes of an ``audio`` field. Raises `InvalidRequest`."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        wrong("audio", "is not base64")
    if kind == PCM and len(data) % 2:
        wrong("audio", f"has {len(data)} bytes, but a sample has two: it ends in the middle of one")
    return data


def bytes_per_ms(kind: str) -> int:
    """Bytes of a millisecond of sound."""
    return RATES_HZ[kind] // 1000 * (2 if kind == PCM else 1)


def duration_ms(data: bytes | bytearray, kind: str) -> int:
    """How long a sound is."""
    return len(data) // bytes_per_ms(kind)


async def work_on(is_long: bool, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Work on a sound, in a thread if that is long."""
    if not is_long:
        return work(*args, **kwargs)
    async with _LONG_SOUNDS.taken():
        return await SOUNDS.run(work, *args, **kwargs)


def narrowed(data: bytes, kind: str) -> bytes:
    """A sound as 16-bit samples at 8 kHz, the rate of telephones."""
    return bytes(_at_8_khz(data).astype("<i2").tobytes()) if kind == PCM else _from_g711(data, kind)


def samples_of(data: bytes, kind: str) -> bytes:
    """A sound of a format as 16-bit samples at the rate of that format."""
    return data if kind == PCM else _from_g711(data, kind)


def as_wav(data: bytes, kind: str) -> bytes:
    """A sound as a file."""
    samples = samples_of(data, kind)
    rate = RATES_HZ[kind]
    head = struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16)
    body = b"WAVEfmt " + head + b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", len(body)) + body


def encoded(samples: bytes, kind: str) -> bytes:
    """16-bit samples at 24 kHz in a format of the session."""
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
    """16-bit samples at 8 kHz in a format of telephones."""
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
    """Takes the pieces of a text and gives its sentences, as soon as each of them is whole."""

    def __init__(self) -> None:
        self._rest = ""

    def take(self, piece: str) -> list[str]:
        """The sentences that are whole now."""
        self._rest += piece
        sentences, start = [], 0
        for match in _SENTENCE.finditer(self._rest):
            if match.end() > start:
                sentences.append(self._rest[start : match.end()])
                start = match.end()
        self._rest = self._rest[start:]
        return sentences

    def end(self) -> list[str]:
        """What is left."""
        remainder, self._rest = self._rest, ""
        return [remainder] if remainder else []


class Voices:
    """The models of a session that listen and speak: those that it names, or the first that can."""

    def __init__(self, registry: Registry, runner: Runner, caller: Principal) -> None:
        self._registry = registry
        self._runner = runner
        self._caller = caller

    async def able(self, capability: str, model_name: str | None, param: str) -> str:
        """The name of a model. Raises `NotFound`, `InvalidRequest`, `Unavailable`."""
        if model_name is None:
            cards = await self._registry.cards(self._caller, "model", "app")
            found_model_name = next((card.name for card in cards if capability in card.capabilities), None)
            if found_model_name is None:
                raise Unavailable(
                    f"No model here does {capability}. Add one, as docs/audio.md says.",
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
                f"The model '{model_name}' does not do {capability}; it does {can}.",
                code="unsupported_operation",
                param=param,
            )
        return model_name

    async def heard(
        self, data: bytes, audio: Mapping[str, Any], tell: Callable[[str], Awaitable[None]]
    ) -> Transcription:
        """What is said in a sound, by the ``audio.input`` of a session; ``tell`` is given each part of it as it comes,
        from a model that streams.
        """
        settings = audio["transcription"] or {}
        model = await self.able("transcription", settings.get("model"), "audio.input.transcription.model")
        wav = await self._changed(as_wav, data, audio["format"]["type"])
        file = Attachment("file", "speech.wav", "audio/wav", wav)
        transcribe = Transcribe(
            file, settings.get("language") or "", settings.get("prompt") or "", stream=True
        )
        run = self._runner.start("audio/transcriptions", model, transcribe, self._caller)
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
            raise EngineFailed(f"'{model}' answered something that is not a transcript.")
        return transcription

    async def spoken(self, text: str, audio: Mapping[str, Any]) -> bytes:
        """A text said aloud, by the ``audio.output`` of a session and in its format."""
        model = await self.able("speech", audio["model"], "audio.output.model")
        voice = audio["voice"]["id"] if isinstance(audio["voice"], dict) else audio["voice"]
        speak = Speak(text, voice or "", "pcm", audio["speed"])
        speech = await self._runner.call("audio/speech", model, speak, self._caller)
        if not isinstance(speech, Speech):
            raise EngineFailed(f"'{model}' answered something that is not a sound.")
        return await self._changed(encoded, speech.audio, audio["format"]["type"])

    async def _changed(self, change: Callable[[bytes, str], bytes], data: bytes, kind: str) -> bytes:
        """A sound in another form. Half an hour on the telephone takes a second."""
        return await work_on(kind != PCM and len(data) > MAX_INLINE_BYTES, change, data, kind)

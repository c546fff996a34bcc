"""The contents of a speech request, and the delivery of its audio in pieces."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .caller import Caller
from .errors import Refusal
from .sound import FORMATS, AudioEncoder

OPENAI_VOICES = frozenset(
    {
        "alloy",
        "ash",
        "ballad",
        "cedar",
        "coral",
        "echo",
        "fable",
        "marin",
        "nova",
        "onyx",
        "sage",
        "shimmer",
        "verse",
    }
)
"""Voices that OpenAI's clients send because OpenAI's API requires a voice. They select the model's first voice."""

MAX_SENTENCE_CHARS = 300
"""Usual maximum length of a sentence, in characters.

Sentences are split at twice this length; shorter ones are joined up to a third of it.
"""

_END = re.compile(r"(?<=[.!?;…])\s+|(?<=[。！？；])|\n+")


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """The text of a speech request, and how to send the audio."""

    text: str
    voice: str
    form: str
    speed: float
    events: bool
    seed: int | None

    @classmethod
    def of(cls, body: Mapping[str, Any], name: str) -> SpeechRequest:
        """Read the request. Raise `Refusal` for a missing text or an unsupported option."""
        text = body.get("input")
        if not isinstance(text, str) or not text.strip():
            raise Refusal("'input' must be a text.", "missing_required_parameter", "input")
        form = body.get("response_format") or "mp3"
        if form not in FORMATS:
            raise Refusal(f"'response_format' must be one of {', '.join(FORMATS)}.", param="response_format")
        if body.get("instructions"):
            raise Refusal(
                f"'{name}' has only one speaking style: leave out 'instructions'.",
                "unsupported_parameter",
                "instructions",
            )
        voice = body.get("voice") or ""
        return cls(
            text.strip(),
            str(voice.get("id", "") if isinstance(voice, Mapping) else voice),
            form,
            float(body.get("speed") or 1.0),
            body.get("stream_format") == "sse",
            body.get("seed"),
        )

    def among(self, voices: Sequence[str]) -> int:
        """Return the index of the request's voice. Raise `Refusal` that names the valid voices."""
        if self.voice in voices:
            return list(voices).index(self.voice)
        if not self.voice or self.voice == "default" or self.voice in OPENAI_VOICES:
            return 0
        voice_list = ", ".join(voices[:20]) + (f" and {len(voices) - 20} more" if len(voices) > 20 else "")
        raise Refusal(
            f"The voice '{self.voice[:80]}' does not exist; voices are {voice_list}.",
            "unknown_voice",
            "voice",
        )


def split_sentences(text: str) -> list[str]:
    """Split a text into parts to speak one after another. Each part ends at the end of a sentence, or at a space."""
    sentences: list[str] = []
    for part in filter(None, (part.strip() for part in _END.split(text))):
        while len(part) > 2 * MAX_SENTENCE_CHARS:
            cut = part.rfind(" ", 1, 2 * MAX_SENTENCE_CHARS)
            cut = cut if cut > 0 else 2 * MAX_SENTENCE_CHARS
            sentences.append(part[:cut])
            part = part[cut:].strip()
        if sentences and len(sentences[-1]) + len(part) < MAX_SENTENCE_CHARS // 3:
            sentences[-1] += f" {part}"
        else:
            sentences.append(part)
    return sentences


def deliver(
    request: SpeechRequest, pieces: Iterable[Any], rate: int, channels: int, tokens: int, client: Caller
) -> None:
    """Encode and send the pieces as they arrive.

    ``pieces`` have the shape (channels, samples), with values from -1 to 1.
    """
    encoder = AudioEncoder(request.form, rate, channels)
    count = 0

    def send(data: bytes) -> None:
        if request.events and data:
            client.event({"type": "speech.audio.delta", "audio": base64.b64encode(data).decode()})
        elif data:
            client.piece(data, encoder.media_type)

    for piece in pieces:
        client.check()
        count += piece.shape[-1]
        send(encoder.feed(piece))
    send(encoder.end())
    if not request.events:
        client.last()
        return
    output_tokens = round(count / rate * 50)  # the count of a codec with 50 frames per second
    usage = {"input_tokens": tokens, "output_tokens": output_tokens, "total_tokens": tokens + output_tokens}
    client.event({"type": "speech.audio.done", "usage": usage})

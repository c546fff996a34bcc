"""The hot path: a request in OpenAI's format on its way to an engine, and the bytes of the answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from portico.wire import Usage
from portico_server.core.dataclass import dataclass
from portico_server.core.media import Attachment

Operation: TypeAlias = Literal[
    "chat/completions",
    "completions",
    "embeddings",
    "rerank",
    "moderations",
    "audio/speech",
    "audio/transcriptions",
    "audio/translations",
    "images/generations",
    "images/edits",
]


CAPABILITY: Mapping[Operation, str] = {
    "chat/completions": "chat",
    "completions": "completions",
    "embeddings": "embeddings",
    "rerank": "rerank",
    "moderations": "moderation",
    "audio/speech": "speech",
    "audio/transcriptions": "transcription",
    "audio/translations": "transcription",
    "images/generations": "image",
    "images/edits": "image_edits",
}
"""The capability that an operation requires on the card of a Servable."""


@dataclass(frozen=True, slots=True)
class AdapterScale:
    """A small set of weights on top of a model's own. ``path`` is its location on the daemon: a PEFT folder or a file.

    ``scale`` multiplies its effect: 0 is the model alone, 1 the effect it was trained for.
    """

    name: str
    path: Path
    scale: float = 1.0


Protocol: TypeAlias = Literal["openai", "anthropic"]


@dataclass(frozen=True, slots=True)
class OriginalRequest:
    """A chat in the caller's original protocol, other than OpenAI's, with its headers."""

    protocol: Protocol
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Relay:
    """An OpenAI request on its way to an engine. ``body`` is the client's JSON object, including unknown fields.

    With ``adapter``, the adapter answers instead of the model alone. ``original`` is the same request in its original
    protocol, for an engine that supports it; code that changes the meaning of ``body`` removes it. ``files`` are those
    of a form whose fields are ``body``. ``caller`` is the client of the request, for an engine that remembers
    conversations.
    """

    operation: Operation
    body: dict[str, Any]
    adapter: AdapterScale | None = None
    original: OriginalRequest | None = None
    files: tuple[Attachment, ...] = ()
    caller: str = ""

    @property
    def stream(self) -> bool:
        """Return whether the answer is sent as server-sent events."""
        return self.body.get("stream") is True or self.body.get("stream_format") == "sse"


@dataclass(slots=True)
class RelayResponse:
    """An engine's answer in OpenAI's bytes. An error before the first byte is raised instead.

    ``chunks`` yields complete SSE frames for a stream (``data: …\\n\\n``, the last one ``data: [DONE]`` for texts),
    otherwise the JSON document, or the bytes of audio as they arrive. ``usage`` is filled when ``chunks`` is
    exhausted. Closing ``chunks`` early cancels the work. If the request's ``original`` was answered, ``protocol`` is
    its protocol, and ``chunks`` have its form and contain no errors; this may become known only with the first chunk.
    """

    media_type: str
    chunks: AsyncIterator[bytes]
    usage: Usage = Usage()
    protocol: Protocol = "openai"
    run: str = ""
    """The run that the answer belongs to, once it exists."""
    answered_by: str = ""
    """The name of the model that answers, if it differs from the requested model."""


def event_data(event: bytes) -> bytes:
    """Return the data of a server-sent event, whatever its other lines."""
    return b"\n".join(line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:"))

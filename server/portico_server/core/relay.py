"""The hot path: a request in OpenAI's format on its way to an engine, and the bytes of the response."""

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
"""Maps operations to the capability that a Servable's card needs for each."""


@dataclass(frozen=True, slots=True)
class AdapterScale:
    """An adapter: a small set of weights that is added to a model's own. ``path`` is a PEFT folder or a file on the
    daemon's machine.

    ``scale`` multiplies the effect: 0 is the model alone, 1 is the effect that the adapter was trained for.
    """

    name: str
    path: Path
    scale: float = 1.0


Protocol: TypeAlias = Literal["openai", "anthropic"]


@dataclass(frozen=True, slots=True)
class OriginalRequest:
    """A chat request in the client's original protocol, if this is not OpenAI's, with its headers."""

    protocol: Protocol
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Relay:
    """An OpenAI request on its way to an engine. ``body`` is the client's JSON object, including unknown fields.

    With ``adapter``, the model answers with the adapter applied. ``original`` is the same request in its original
    protocol, for an engine that supports that protocol; code that changes the meaning of ``body`` removes
    ``original``. ``files`` are the files of a form, whose other fields are in ``body``. ``caller`` is the client that
    sent the request, for an engine that stores conversations. With ``fails_fast``, a temporary failure is not retried,
    because another server can answer.
    """

    operation: Operation
    body: dict[str, Any]
    adapter: AdapterScale | None = None
    original: OriginalRequest | None = None
    files: tuple[Attachment, ...] = ()
    caller: str = ""
    fails_fast: bool = False

    @property
    def stream(self) -> bool:
        """Return whether the response is sent as server-sent events."""
        return self.body.get("stream") is True or self.body.get("stream_format") == "sse"


@dataclass(slots=True)
class RelayResponse:
    """An engine's response in OpenAI's format. An error before the first byte is raised instead.

    ``chunks`` yields complete SSE frames for a stream (``data: …\\n\\n``, the last one ``data: [DONE]`` for texts),
    otherwise the JSON document, or the bytes of audio as they arrive. ``usage`` is filled when ``chunks`` is
    exhausted. Closing ``chunks`` early cancels the work. If the engine answered the request's ``original``,
    ``protocol`` is the original protocol, and ``chunks`` use its format and contain no errors; this may become known
    only with the first chunk.
    """

    media_type: str
    chunks: AsyncIterator[bytes]
    usage: Usage = Usage()
    protocol: Protocol = "openai"
    run: str = ""
    """The id of the run that the response belongs to, once the run exists."""
    answered_by: str = ""
    """The name of the model that answers, if it differs from the requested model."""
    unenforced: tuple[str, ...] = ()
    """Keywords of the request's JSON schemas that the engine does not enforce, so that the answer may violate them."""

    async def read(self) -> bytes:
        """Return the whole response, once it is complete."""
        return b"".join([chunk async for chunk in self.chunks])


def event_data(event: bytes) -> bytes:
    """Return the data of a server-sent event, without its other fields."""
    return b"\n".join(line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:"))


async def single_chunk(data: bytes) -> AsyncIterator[bytes]:
    """Yield the data as a single chunk."""
    yield data

"""The hot path: a request in OpenAI's own words on its way to an engine, and the bytes that come back."""

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
"""What a Servable must have in its card's ``capabilities`` for an operation."""


@dataclass(frozen=True, slots=True)
class AdapterScale:
    """A small set of weights on top of a model's own. ``path`` is where the daemon keeps it: a PEFT folder or a file.

    ``scale`` multiplies its effect: 0 is the model alone, 1 what it was trained for.
    """

    name: str
    path: Path
    scale: float = 1.0


Protocol: TypeAlias = Literal["openai", "anthropic"]


@dataclass(frozen=True, slots=True)
class OriginalRequest:
    """A chat as its caller wrote it, in another protocol than OpenAI's, with the headers that belong to it."""

    protocol: Protocol
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Relay:
    """An OpenAI request on its way to an engine. ``body`` is the client's JSON object, unknown fields included.

    ``adapter``: answer with it instead of the model alone. ``original``: the same request in the protocol that it came
    in, for an engine that speaks that; whoever changes what ``body`` says leaves it out. ``files``: those of a form
    whose fields are ``body``. ``caller``: whose request it is, for an engine that remembers conversations.
    """

    operation: Operation
    body: dict[str, Any]
    adapter: AdapterScale | None = None
    original: OriginalRequest | None = None
    files: tuple[Attachment, ...] = ()
    caller: str = ""

    @property
    def stream(self) -> bool:
        """Whether the answer comes as server-sent events."""
        return self.body.get("stream") is True or self.body.get("stream_format") == "sse"


@dataclass(slots=True)
class RelayResponse:
    """An engine's answer in OpenAI's bytes. Errors before the first byte were raised instead of returned here.

    ``chunks`` yields complete SSE frames for a stream (``data: …\\n\\n``, the last one ``data: [DONE]`` for texts),
    the JSON document otherwise, or the bytes of a sound as they come. ``usage`` is filled when ``chunks`` is exhausted.
    Closing ``chunks`` early cancels the work behind it. ``protocol`` is that of the request's ``original`` if that was
    answered, and then ``chunks`` are in its form and hold no errors; it may become known with the first of them.
    """

    media_type: str
    chunks: AsyncIterator[bytes]
    usage: Usage = Usage()
    protocol: Protocol = "openai"
    run: str = ""
    """The run that it belongs to, once there is one."""
    answered_by: str = ""
    """The name of the model that answers, where that is another one than was asked."""


def event_data(event: bytes) -> bytes:
    """The data of a server-sent event, whatever its other lines are."""
    return b"\n".join(line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:"))

"""What an engine is: it turns a model's spec into something that answers OpenAI requests.

The deployment around it knows nothing else of an engine. To add one: a folder with an `engine.py` that has a
class with these methods, and one line in `portico_server.engines.catalog`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from portico_server.core.request import Relay, Relayed
from portico_server.engines.spec import ModelSpec, Task

if TYPE_CHECKING:
    from portico_server.engines.child import Child
    from portico_server.engines.transport import Transport

MEMORY_SHARE = 0.75
"""Part of a machine's memory that all its models may hold together, unless a setting says otherwise."""

CHAT = frozenset({"chat", "completions"})
EMBEDDINGS = frozenset({"embeddings"})
RERANK = frozenset({"rerank"})


@dataclass(frozen=True, slots=True)
class Description:
    """What is known of a model; ``None`` while unknown.

    ``context_length`` in tokens for one call; ``parameters`` is how many the model has.
    """

    task: Task
    context_length: int | None = None
    dimensions: int | None = None
    parameters: int | None = None

    @property
    def capabilities(self) -> frozenset[str]:
        return {"chat": CHAT, "embedding": EMBEDDINGS, "rerank": RERANK}[self.task]


class Speaker(Protocol):
    """Speaks to one running engine."""

    async def relay(self, request: Relay, deadline: float | None) -> Relayed:
        """OpenAI JSON in, OpenAI bytes out, as `portico_server.core.request.Relayed` promises.

        Returns once the first byte is known; raises `PorticoError` before that. After it, an error is
        yielded as a frame ``data: {"error": …}`` and then raised. ``deadline`` is a moment on the event
        loop's clock.
        """


@dataclass(frozen=True, slots=True)
class Running:
    """A model that answers: how to speak to it, what it turned out to be, and the process behind it if it
    is ours.
    """

    speaker: Speaker
    description: Description
    child: Child | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """What an engine may use to start a model: the file for its log, a limit in seconds, connections, and the
    folder of environments.
    """

    log: Path
    load_timeout: float
    transport: Transport
    environments: Path


class Engine(Protocol):
    """One per kind of engine, without state of its own."""

    @property
    def name(self) -> str: ...

    @property
    def fetches(self) -> bool:
        """Whether the source must be on this machine before `start`."""

    def describe(self, spec: ModelSpec, path: Path | None) -> Description:
        """What can be said before it runs. ``path`` if the files are here. No network; raises
        `InvalidRequest` if the spec makes no sense to this engine."""

    async def start(self, spec: ModelSpec, path: Path | None, site: Site) -> Running:
        """Start it and wait until it answers.

        Raises `PorticoError`; leaves nothing behind then or when cancelled.
        """


@runtime_checkable
class Measures(Protocol):
    """Optional, for an engine whose processes hold memory of this machine."""

    def memory(self, spec: ModelSpec, path: Path | None) -> int:
        """Bytes that the model will take, as far as can be said before it runs; 0 if nothing can. Blocks."""

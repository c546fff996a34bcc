"""What a batch is: a file of requests for one endpoint and one model, and what is needed to answer them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, field
from pathlib import Path
from typing import Any, Final, Protocol

from portico.schemas.batches import BatchProblem
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import NotFound
from portico_server.core.principal import Principal
from portico_server.core.relay import CAPABILITY
from portico_server.db.files import FileRow

KIND: Final = "batch"
"""The kind of the runs that do the work."""

PURPOSE, OUTPUT_PURPOSE = "batch", "batch_output"

ENDPOINTS: Final[Mapping[str, str]] = {
    "/v1/chat/completions": CAPABILITY["chat/completions"],
    "/v1/completions": CAPABILITY["completions"],
    "/v1/embeddings": CAPABILITY["embeddings"],
    "/v1/responses": CAPABILITY["chat/completions"],
    "/v1/rerank": CAPABILITY["rerank"],
}
"""Endpoints that a batch may be for, and what a model must be able to do there."""

WINDOW: Final = "24h"
WINDOW_S: Final = 86_400.0

MAX_LINES: Final = 50_000
"""Requests in one file, as OpenAI has it."""

MAX_FILE_BYTES: Final = 200 * 1024 * 1024
"""Bytes of one file, as OpenAI has it."""

WORKING: Final = ("validating", "in_progress", "finalizing", "cancelling")


@dataclass(frozen=True, slots=True)
class BatchSpec:
    """What was asked for, beyond file and endpoint. ``keep``: seconds for which the files of the end are kept."""

    metadata: Mapping[str, str] = field(default_factory=dict)
    keep: int | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> BatchSpec:
        return cls(dict(value.get("metadata") or {}), value.get("keep"))


@dataclass(frozen=True, slots=True)
class CheckedLines:
    """What a file was found to hold: so many requests for ``model``, if there are no ``problems``."""

    total: int
    model: str
    problems: Sequence[BatchProblem] = ()


@dataclass(frozen=True, slots=True)
class LineAnswer:
    """What a request was answered with: an HTTP status and a JSON document.

    ``ours``: it was refused because a queue or a quota of this daemon is full, and may come again after
    ``retry_after`` seconds.
    """

    status: int
    body: bytes
    request_id: str
    ours: bool = False
    retry_after: float | None = None


class AnswerLine(Protocol):
    """The gateway that a request of a client goes through, behind the network: the same checks, limits and usage."""

    async def __call__(self, endpoint: str, body: bytes, caller: Principal) -> LineAnswer:
        """Answer one request; never raises for what a client would be told."""


class ReceivedBytes(Protocol):
    """Bytes that have arrived on the disk and are not a file yet."""

    @property
    def bytes(self) -> int: ...

    @property
    def sha256(self) -> str: ...


class BatchFiles(Protocol):
    """The files of the daemon, as far as batches need them."""

    async def get(self, file_id: str, caller: Principal) -> FileRow: ...

    def open(self, sha256: str) -> AbstractAsyncContextManager[Path]: ...

    def missing(self, row: FileRow, param: str = ...) -> NotFound: ...

    async def receive(self, chunks: AsyncIterator[bytes], *, is_limited: bool = True) -> Any: ...

    async def place_early(self, received_file: Any) -> None: ...

    async def forget(self, digests: Collection[str]) -> None: ...

    async def release(self, digests: Sequence[str]) -> None: ...

"""The definition of a batch: a file of requests to one endpoint and one model, and the services that answer them."""

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
"""The run kind of batches."""

PURPOSE, OUTPUT_PURPOSE = "batch", "batch_output"

MESSAGES: Final = "/v1/messages"
"""The endpoint of Anthropic's messages."""

ENDPOINTS: Final[Mapping[str, str]] = {
    "/v1/chat/completions": CAPABILITY["chat/completions"],
    "/v1/completions": CAPABILITY["completions"],
    "/v1/embeddings": CAPABILITY["embeddings"],
    "/v1/responses": CAPABILITY["chat/completions"],
    "/v1/rerank": CAPABILITY["rerank"],
    MESSAGES: CAPABILITY["chat/completions"],
}
"""Maps the endpoints that support batches to the capability that a model needs for each."""

WINDOW: Final = "24h"
WINDOW_S: Final = 86_400.0

MAX_LINES: Final = 50_000
"""Maximum number of requests in a file; the same limit as in OpenAI's API."""

MAX_FILE_BYTES: Final = 200 * 1024 * 1024
"""Maximum size of a file, in bytes; the same limit as in OpenAI's API."""

WORKING: Final = ("validating", "in_progress", "finalizing", "cancelling")


@dataclass(frozen=True, slots=True)
class BatchSpec:
    """Options of a batch, in addition to file and endpoint. ``keep`` is how long the result files are stored, in
    seconds.
    """

    metadata: Mapping[str, str] = field(default_factory=dict)
    keep: int | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> BatchSpec:
        return cls(dict(value.get("metadata") or {}), value.get("keep"))


@dataclass(frozen=True, slots=True)
class CheckedLines:
    """The result of checking a file: the number of requests, the model that they name, and the problems found."""

    total: int
    model: str
    problems: Sequence[BatchProblem] = ()


@dataclass(frozen=True, slots=True)
class LineAnswer:
    """The answer to a request: an HTTP status and a JSON document.

    With ``ours``, this daemon rejected the request because one of its queues or quotas is full. The request may be
    repeated after ``retry_after`` seconds.
    """

    status: int
    body: bytes
    request_id: str
    ours: bool = False
    retry_after: float | None = None


class AnswerLine(Protocol):
    """Sends a request through the daemon's own API without the network, with the same checks, limits and usage
    records.
    """

    async def __call__(self, endpoint: str, body: bytes, caller: Principal) -> LineAnswer:
        """Answer one request. Errors for a client are returned, never raised."""


class ReceivedBytes(Protocol):
    """Bytes that have been received on disk but are not a file yet."""

    @property
    def bytes(self) -> int: ...

    @property
    def sha256(self) -> str: ...


class BatchFiles(Protocol):
    """The file operations of the daemon that batches need."""

    async def readable(self, file_id: str, caller: Principal) -> FileRow: ...

    def open(self, sha256: str) -> AbstractAsyncContextManager[Path]: ...

    def missing(self, row: FileRow, param: str = ...) -> NotFound: ...

    async def receive(self, chunks: AsyncIterator[bytes], *, is_limited: bool = True) -> Any: ...

    async def place_early(self, received_file: Any) -> None: ...

    async def forget(self, digests: Collection[str]) -> None: ...

    async def release(self, digests: Sequence[str]) -> None: ...

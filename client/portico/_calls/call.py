"""A request as a value, built without I/O: what to send, and how to read what comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import quote

from portico._sse import ServerEvent
from portico.errors import InvalidRequest

T = TypeVar("T")


Item = TypeVar("Item", covariant=True)


Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to send as multipart: a path, which is streamed, or bytes."""

    filename: str
    content: Path | bytes
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request with one answer, and its reader. ``raw`` hands bytes to the reader instead of JSON.

    ``slow`` calls have a model at work behind them and may take as long as the client's ``timeout``.
    """

    method: str
    path: str
    read: Callable[[Any], T]
    query: Mapping[str, Any] = field(default_factory=dict)
    json: Any = None
    upload: Upload | None = None
    slow: bool = False
    raw: bool = False


class Reader(Protocol[Item]):
    """Turns server-sent events into what they mean. ``done``: the one that ends the stream has come."""

    done: bool

    def feed(self, item: ServerEvent) -> Sequence[Item]: ...


@dataclass(frozen=True, slots=True)
class EventCall(Generic[T]):
    """A request that is answered by a stream of events; ``reader`` makes one reader per attempt."""

    method: str
    path: str
    reader: Callable[[], Reader[T]]
    json: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


def at(*parts: str) -> str:
    """A path of literal segments and names; names are quoted, so that none can leave its place."""
    return "/" + "/".join(quote(part, safe="") for part in parts)


def named(name: str, what: str) -> str:
    # An empty name, "." or ".." would ask for another path than the one that was meant.
    if name in ("", ".", ".."):
        raise InvalidRequest(f"'{name}' is not a name for {what}.", param="name", code="invalid_value")
    return name


def given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}

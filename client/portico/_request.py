"""What requests are made of: paths, bodies and uploads. Nothing here does I/O but looking whether a file is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict
from urllib.parse import quote

from portico.errors import InvalidRequest

Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to send as multipart: a path, which is streamed, or bytes."""

    filename: str
    content: Path | bytes
    fields: Mapping[str, str] = field(default_factory=dict)
    name: str = "file"
    """The field of the form that the file is in."""

    @classmethod
    def of(cls, content: Path | bytes, filename: str | None = None, **fields: str | None) -> Upload:
        """With the ``fields`` that are given. `InvalidRequest` for bytes without a name and a path without a file."""
        if isinstance(content, Path):
            if not content.is_file():
                raise InvalidRequest(f"There is no file at '{content}'.", param="file")
            filename = filename or content.name
        if not filename:
            raise InvalidRequest("Bytes need a file name: pass filename=…", param="filename")
        return cls(filename, content, given(**fields))


class Options(TypedDict, total=False):
    """What a request may have in addition to its method, its path and the kind of its answer.

    ``slow`` ones have a model at work behind them and may take as long as the client's ``timeout``. ``key`` is the
    member of the answer that counts.
    """

    query: Mapping[str, Any]
    json: Any
    upload: Upload
    slow: bool
    key: str


def at(*parts: str) -> str:
    """A path of literal segments and names; names are quoted, so that none can leave its place."""
    return "/" + "/".join(quote(part, safe="") for part in parts)


def named(name: str, subject: str) -> str:
    """A name as it came; `InvalidRequest` for one that would ask for another path than the one that was meant."""
    if name in ("", ".", ".."):
        raise InvalidRequest(f"'{name}' is not a name for {subject}.", param="name", code="invalid_value")
    return name


def by_id(value: str, subject: str) -> str:
    """`named` for an id."""
    if value in ("", ".", ".."):
        raise InvalidRequest(f"Name {subject} by its id.", param="id")
    return value


def given(**values: Any) -> dict[str, Any]:
    """The values that are not ``None``, as JSON has them."""
    return {name: _plain(value) for name, value in values.items() if value is not None}


def _plain(value: Any) -> Any:
    """Any mapping as a dictionary, any sequence as a list, a path as text."""
    if isinstance(value, Mapping):
        return {name: _plain(member) for name, member in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value

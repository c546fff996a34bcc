"""Parts of requests: paths, bodies and uploads. The only I/O is a check whether a file exists."""

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
    """A file to send as multipart form data: a path (streamed) or bytes."""

    filename: str
    content: Path | bytes
    fields: Mapping[str, str] = field(default_factory=dict)
    name: str = "file"
    """The form field that contains the file."""

    @classmethod
    def of(cls, content: Path | bytes, filename: str | None = None, **fields: str | None) -> Upload:
        """Create an upload. Form ``fields`` that are ``None`` are left out. Raises `InvalidRequest` for bytes without
        a file name and for a missing file.
        """
        if isinstance(content, Path):
            if not content.is_file():
                raise InvalidRequest(f"The file '{content}' does not exist.", param="file")
            filename = filename or content.name
        if not filename:
            raise InvalidRequest("Bytes need a file name: pass filename=…", param="filename")
        return cls(filename, content, without_none(**fields))


class Options(TypedDict, total=False):
    """Optional parts of a request, in addition to its method, its path and its response type.

    ``slow`` requests run a model and may take as long as the client's ``timeout``. ``key`` is the member of the
    response to return.
    """

    query: Mapping[str, Any]
    json: Any
    upload: Upload
    slow: bool
    key: str


def at(*parts: str) -> str:
    """Join literal segments and names into a path. Names are quoted so that they cannot change the path."""
    return "/" + "/".join(quote(part, safe="") for part in parts)


def check_path_name(name: str, subject: str) -> str:
    """Return a name unchanged. Raise `InvalidRequest` if a URL with the name would address a different path."""
    if name in ("", ".", ".."):
        raise InvalidRequest(
            f"'{name}' is not a valid name for {subject}.", param="name", code="invalid_value"
        )
    return name


def by_id(value: str, subject: str) -> str:
    """Return an id unchanged. Raise `InvalidRequest` if a URL with the id would address a different path."""
    if value in ("", ".", ".."):
        raise InvalidRequest(f"The id of {subject} is required.", param="id")
    return value


def without_none(**values: Any) -> dict[str, Any]:
    """Return the values that are not ``None``, in JSON form."""
    return {name: _plain(value) for name, value in values.items() if value is not None}


def _plain(value: Any) -> Any:
    """Convert mappings to dictionaries, sequences to lists, and paths to text."""
    if isinstance(value, Mapping):
        return {name: _plain(member) for name, member in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value

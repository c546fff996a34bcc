"""Uploaded files."""

from __future__ import annotations

from dataclasses import dataclass

from portico._read import Page
from portico.schemas.resource import Column, Resource, Verb


@dataclass(frozen=True, slots=True)
class File:
    """An uploaded file."""

    id: str
    filename: str
    bytes: int
    purpose: str = ""
    created_at: float = 0
    status: str = "processed"


@dataclass(frozen=True, slots=True)
class FilePart:
    """A part of an upload that has been received."""

    id: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class FileUpload:
    """A file that is uploaded in parts. ``status``: pending, completed (``file`` is then set), cancelled or expired."""

    id: str
    filename: str
    bytes: int
    status: str
    purpose: str = ""
    created_at: float = 0
    expires_at: float = 0
    file: File | None = None
    parts: tuple[FilePart, ...] = ()


FILES = Resource(
    "Files",
    "/v1/files",
    "Uploaded files.",
    {"file_id": "a file", "upload_id": "an upload"},
    (
        Verb("list", "GET", Page[File]),
        Verb("get", "GET {file_id}", File),
        Verb("cancel_upload", "POST /v1/uploads/{upload_id}/cancel", FileUpload),
        Verb("remove", "DELETE {file_id}"),
        Verb("content", "GET {file_id}/content", bytes, slow=True),
    ),
    columns=(
        Column("ID"),
        Column("NAME", "filename"),
        Column("SIZE", "bytes", kind="bytes"),
        Column("PURPOSE"),
        Column("ADDED", "created_at", kind="moment"),
    ),
)

"""Uploaded files."""

from __future__ import annotations

from dataclasses import dataclass


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
    """A part of an upload that has arrived."""

    id: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class FileUpload:
    """A file that comes in parts. ``status``: pending, completed (then with its ``file``), cancelled or expired."""

    id: str
    filename: str
    bytes: int
    status: str
    purpose: str = ""
    created_at: float = 0
    expires_at: float = 0
    file: File | None = None
    parts: tuple[FilePart, ...] = ()

# Generated from portico._async by scripts/sdk: change it there.
"""Calls of `portico.schemas.files`."""

from __future__ import annotations

from portico._read import Page
from portico._request import at, by_id, without_none
from portico._sync.group import Group
from portico.schemas.files import File, FileUpload


class Files(Group):
    """Uploaded files."""

    def list(
        self,
        *,
        after: str | None = None,
        limit: int | None = None,
        order: str | None = None,
        purpose: str | None = None,
    ) -> Page[File]:
        """Return the caller's files, newest first.

        ``limit``: (default: ``10000``).

        ``order``: ``asc`` | ``desc`` (default: ``desc``).
        """
        return self._transport.request(
            "GET",
            "/v1/files",
            Page[File],
            query=without_none(after=after, limit=limit, order=order, purpose=purpose),
        )

    def get(self, file_id: str) -> File:
        """Return one file: an uploaded file, or a file made by a run."""
        return self._transport.request("GET", at("v1", "files", by_id(file_id, "a file")), File)

    def cancel_upload(self, upload_id: str) -> FileUpload:
        """Cancel an upload and delete its parts."""
        return self._transport.request(
            "POST", at("v1", "uploads", by_id(upload_id, "an upload"), "cancel"), FileUpload
        )

    def remove(self, file_id: str) -> None:
        """Delete a file and remove it from every vector store."""
        return self._transport.request("DELETE", at("v1", "files", by_id(file_id, "a file")), None)

    def content(self, file_id: str) -> bytes:
        """Return the bytes of a file, exactly as they were uploaded or made by a run."""
        return self._transport.request(
            "GET", at("v1", "files", by_id(file_id, "a file"), "content"), bytes, slow=True
        )

# Generated from portico._async by scripts/sdk: change it there.
"""Calls of `portico.schemas.containers`."""

from __future__ import annotations

from portico._request import at, by_id
from portico._sync.group import Group
from portico.schemas.containers import Container, ContainerFile


class Containers(Group):
    """Containers and their files. A container that is not used for its configured time is removed."""

    def get(self, container_id: str) -> Container:
        """Return one container."""
        return self._transport.request(
            "GET", at("v1", "containers", by_id(container_id, "a container")), Container
        )

    def remove(self, container_id: str) -> None:
        """Delete a container with its files. Files made by a response are kept at ``/v1/files``."""
        return self._transport.request(
            "DELETE", at("v1", "containers", by_id(container_id, "a container")), None
        )

    def file(self, container_id: str, file_id: str) -> ContainerFile:
        """Return one file of a container."""
        return self._transport.request(
            "GET",
            at("v1", "containers", by_id(container_id, "a container"), "files", by_id(file_id, "a file")),
            ContainerFile,
        )

    def content(self, container_id: str, file_id: str) -> bytes:
        """Return the bytes of a file in a container."""
        return self._transport.request(
            "GET",
            at(
                "v1",
                "containers",
                by_id(container_id, "a container"),
                "files",
                by_id(file_id, "a file"),
                "content",
            ),
            bytes,
            slow=True,
        )

    def remove_file(self, container_id: str, file_id: str) -> None:
        """Delete a file from its container."""
        return self._transport.request(
            "DELETE",
            at("v1", "containers", by_id(container_id, "a container"), "files", by_id(file_id, "a file")),
            None,
        )

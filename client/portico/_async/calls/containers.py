# Generated from the verbs of portico.schemas by scripts/sdk: change them there.
"""Calls of `portico.schemas.containers`."""

from __future__ import annotations

from portico._async.group import Group
from portico._request import at, by_id
from portico.schemas.containers import Container, ContainerFile


class Containers(Group):
    """Containers and their files. A container that is not used for its configured time is removed."""

    async def get(self, container_id: str) -> Container:
        """Return one container."""
        return await self._transport.request(
            "GET", at("v1", "containers", by_id(container_id, "a container")), Container
        )

    async def remove(self, container_id: str) -> None:
        """Delete a container with its files. Files made by a response are kept at ``/v1/files``."""
        return await self._transport.request(
            "DELETE", at("v1", "containers", by_id(container_id, "a container")), None
        )

    async def file(self, container_id: str, file_id: str) -> ContainerFile:
        """Return one file of a container."""
        return await self._transport.request(
            "GET",
            at("v1", "containers", by_id(container_id, "a container"), "files", by_id(file_id, "a file")),
            ContainerFile,
        )

    async def content(self, container_id: str, file_id: str) -> bytes:
        """Return the bytes of a file in a container."""
        return await self._transport.request(
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

    async def remove_file(self, container_id: str, file_id: str) -> None:
        """Delete a file from its container."""
        return await self._transport.request(
            "DELETE",
            at("v1", "containers", by_id(container_id, "a container"), "files", by_id(file_id, "a file")),
            None,
        )

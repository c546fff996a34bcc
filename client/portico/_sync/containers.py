# Generated from portico._async by scripts/sdk: change it there.
"""Containers: sandbox folders that the code of several calls shares."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from portico._request import Upload, at, check_path_name, without_none
from portico._sync.calls import containers as calls_containers
from portico.schemas.containers import Container, ContainerFile


class Containers(calls_containers.Containers):
    """Containers and their files. A container that is not used for its configured time is removed."""

    def create(
        self,
        name: str,
        *,
        files: Sequence[str] = (),
        skills: Sequence[str] = (),
        minutes: int | None = None,
        memory_limit: str | None = None,
    ) -> Container:
        """Create a container with copies of uploaded ``files``, given by id, and with ``skills``, given by name or id.

        The container is kept for ``minutes`` after its last use (20). Raises `NotFound`, `Forbidden`, `Conflict`.
        """
        body = without_none(
            name=name,
            file_ids=list(files) or None,
            skills=[{"type": "skill_reference", "skill_id": skill} for skill in skills] or None,
            expires_after=minutes and {"anchor": "last_active_at", "minutes": minutes},
            memory_limit=memory_limit,
        )
        return self._transport.request("POST", "/v1/containers", Container, json=body)

    def list(self, *, name: str | None = None) -> list[Container]:
        """List the caller's containers, newest first; if ``name`` is given, only those with that name."""
        containers: list[Container] = []
        while True:
            query = without_none(name=name, after=containers[-1].id if containers else None, limit=100)
            page = self._transport.request("GET", "/v1/containers", list[Container], query=query)
            containers += page
            if len(page) < 100:
                return containers

    def files(self, container_id: str) -> Sequence[ContainerFile]:
        """Return the files of a container, newest first. Raises `NotFound`."""
        container_files: list[ContainerFile] = []
        while True:
            query = without_none(after=container_files[-1].id if container_files else None, limit=100)
            page = self._transport.request(
                "GET", self._at(container_id, "files"), list[ContainerFile], query=query
            )
            container_files += page
            if len(page) < 100:
                return container_files

    def add_file(self, container_id: str, source: Path | bytes, filename: str | None = None) -> ContainerFile:
        """Add a file to a container, replacing a file with the same name. Raises `NotFound`, `TooLarge`."""
        upload = Upload.of(source, filename)
        return self._transport.request(
            "POST", self._at(container_id, "files"), ContainerFile, upload=upload, slow=True
        )

    def _at(self, container_id: str, *parts: str) -> str:
        return at("v1", "containers", check_path_name(container_id, "a container"), *parts)

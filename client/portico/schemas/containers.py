"""Containers: sandbox folders for code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from portico.schemas.resource import Column, Resource, Verb


@dataclass(frozen=True, slots=True)
class Container:
    """A sandbox folder that the code of several calls shares. Times are in seconds since 1970."""

    id: str
    name: str
    created_at: float = 0
    last_active_at: float = 0
    expires_after: Mapping[str, Any] = field(default_factory=dict)
    memory_limit: str | None = None

    @property
    def minutes(self) -> int:
        """Return how long the container is kept after its last use, in minutes."""
        return int(self.expires_after.get("minutes", 0))


@dataclass(frozen=True, slots=True)
class ContainerFile:
    """A file of a container. ``path`` is where code finds the file, ``source`` says who added it."""

    id: str
    container_id: str
    path: str
    bytes: int = 0
    source: str = ""
    created_at: float = 0


CONTAINERS = Resource(
    "Containers",
    "/v1/containers",
    "Containers and their files. A container that is not used for its configured time is removed.",
    {"container_id": "a container", "file_id": "a file"},
    (
        Verb("get", "GET {container_id}", Container),
        Verb("remove", "DELETE {container_id}"),
        Verb("file", "GET {container_id}/files/{file_id}", ContainerFile),
        Verb("content", "GET {container_id}/files/{file_id}/content", bytes, slow=True),
        Verb("remove_file", "DELETE {container_id}/files/{file_id}"),
    ),
    columns=(
        Column("ID"),
        Column("NAME"),
        Column("LAST USED", "last_active_at", kind="moment"),
        Column("MINUTES"),
    ),
)

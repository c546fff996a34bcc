"""Skills: what agents and responses ask of the tools, put in by the composition root."""

from __future__ import annotations

from typing import Protocol

from portico_server.core.dataclass import dataclass
from portico_server.core.principal import Principal


@dataclass(frozen=True, slots=True)
class SkillText:
    """What a model is told of a skill before it reads it."""

    id: str
    name: str
    description: str


class ContainerPlaces(Protocol):
    """Where code of a response runs, and its files are kept."""

    async def automatic(self, caller: Principal) -> str:
        """The id of a new container. Raises `TooLarge`, `Conflict`."""

    async def skills(self, container_id: str, caller: Principal) -> tuple[SkillText, ...]:
        """The skills that it was made with. Raises `NotFound` for a container that is not there."""


class SkillTexts(Protocol):
    """The skills of the daemon. A name means the caller's own, then a shared one."""

    async def about(self, ref: str, caller: Principal, version: str = "default") -> SkillText:
        """One by name or id, as this version of it describes itself. Raises `NotFound`."""

    async def sent(self, archive: str) -> SkillText:
        """One that came with a request, as base64 of a zip archive. Raises `InvalidRequest`, `TooLarge`."""

    async def text(self, ref: str, caller: Principal, path: str | None) -> str:
        """A file of it as a model reads it, its SKILL.md unless another is named. Raises `NotFound`."""

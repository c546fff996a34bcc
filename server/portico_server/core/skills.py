"""Skills: the tools' interface for agents and responses, injected by the composition root."""

from __future__ import annotations

from typing import Protocol

from portico_server.core.dataclass import dataclass
from portico_server.core.principal import Principal


@dataclass(frozen=True, slots=True)
class SkillText:
    """The description of a skill that a model receives before it reads the skill."""

    id: str
    name: str
    description: str


class ContainerPlaces(Protocol):
    """The containers in which the code of responses runs and its files are stored."""

    async def automatic(self, caller: Principal) -> str:
        """Create a container for a response and return its id. Raises `TooLarge`, `Conflict`."""

    async def skills(self, container_id: str, caller: Principal) -> tuple[SkillText, ...]:
        """Return the skills that a container was created with. Raises `NotFound` if the container does not exist."""


class SkillTexts(Protocol):
    """The skills of the daemon. A name refers to the caller's own skill or, if none exists, to a shared skill."""

    async def about(self, ref: str, caller: Principal, version: str = "default") -> SkillText:
        """Return the description of a version of a skill, given by name or id. Raises `NotFound`."""

    async def read_archive(self, archive: str) -> SkillText:
        """Return the description of a skill that a request contains as a zip archive in base64. Raises
        `InvalidRequest`, `TooLarge`.
        """

    async def text(self, ref: str, caller: Principal, path: str | None) -> str:
        """Return a file of a skill as text for a model; the default is its SKILL.md. Raises `NotFound`."""

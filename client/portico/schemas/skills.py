"""Skills and their versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from portico.schemas.resource import Column, Resource, Verb


@dataclass(frozen=True, slots=True)
class Skill:
    """A skill. ``shared``: its name means it for every key; ``owner``, as an admin sees it, the key that has it."""

    id: str
    name: str
    description: str = ""
    default_version: str = "1"
    latest_version: str = "1"
    created_at: float = 0
    shared: bool = True
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class SkillVersion:
    """One version of a skill: the front matter of its SKILL.md, and path, bytes and SHA-256 of each file."""

    id: str
    skill_id: str
    version: str
    name: str
    description: str = ""
    created_at: float = 0
    front_matter: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[Mapping[str, Any], ...] = ()


SKILLS = Resource(
    "Skills",
    "/v1/skills",
    "Agent Skills. A name or an id says which is meant; a version is a number, ``latest`` or ``default``.",
    {"skill": "a skill"},
    (
        Verb("get", "GET {skill}", Skill),
        Verb("set_default", "POST {skill}", Skill, aliases={"version": "default_version"}),
    ),
    columns=(Column("NAME"), Column("VERSION", "default_version"), Column("DESCRIPTION", width=80)),
)

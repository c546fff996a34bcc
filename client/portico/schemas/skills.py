"""Skills and their versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from portico.schemas.resource import Column, Resource, Verb


@dataclass(frozen=True, slots=True)
class Skill:
    """A skill. ``shared``: the name refers to this skill for every key. ``owner`` is the key that owns the skill; only
    admins see it.
    """

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
    """A version of a skill: the front matter of its SKILL.md, and the path, size in bytes and SHA-256 of each file."""

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
    "Agent Skills. A skill is identified by name or id, a version by number, ``latest`` or ``default``.",
    {"skill": "a skill"},
    (
        Verb("get", "GET {skill}", Skill),
        Verb("set_default", "POST {skill}", Skill, aliases={"version": "default_version"}),
    ),
    columns=(Column("NAME"), Column("VERSION", "default_version"), Column("DESCRIPTION", width=80)),
)

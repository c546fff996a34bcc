# Generated from the verbs of portico.schemas by scripts/sdk: change them there.
"""Calls of `portico.schemas.skills`."""

from __future__ import annotations

from portico._async.group import Group
from portico._request import at, check_path_name, without_none
from portico.schemas.skills import Skill


class Skills(Group):
    """Agent Skills. A skill is identified by name or id, a version by number, ``latest`` or ``default``."""

    async def get(self, skill: str) -> Skill:
        """Return one skill by its id or name."""
        return await self._transport.request(
            "GET", at("v1", "skills", check_path_name(skill, "a skill")), Skill
        )

    async def set_default(self, skill: str, version: str) -> Skill:
        """Change the default version of a skill.

        The new default version.
        """
        return await self._transport.request(
            "POST",
            at("v1", "skills", check_path_name(skill, "a skill")),
            Skill,
            json=without_none(default_version=version),
        )

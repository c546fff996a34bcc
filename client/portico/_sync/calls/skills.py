# Generated from portico._async by scripts/sdk: change it there.
"""Calls of `portico.schemas.skills`."""

from __future__ import annotations

from portico._request import at, check_path_name, without_none
from portico._sync.group import Group
from portico.schemas.skills import Skill


class Skills(Group):
    """Agent Skills. A skill is identified by name or id, a version by number, ``latest`` or ``default``."""

    def get(self, skill: str) -> Skill:
        """Return one skill by its id or name."""
        return self._transport.request("GET", at("v1", "skills", check_path_name(skill, "a skill")), Skill)

    def set_default(self, skill: str, version: str) -> Skill:
        """Change the default version of a skill.

        The new default version.
        """
        return self._transport.request(
            "POST",
            at("v1", "skills", check_path_name(skill, "a skill")),
            Skill,
            json=without_none(default_version=version),
        )

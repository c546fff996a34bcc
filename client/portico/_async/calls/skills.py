# Generated from the verbs of portico.schemas by scripts/sdk: change them there.
"""Calls of `portico.schemas.skills`."""

from __future__ import annotations

from portico._async.group import Group
from portico._request import at, given, named
from portico.schemas.skills import Skill


class Skills(Group):
    """Agent Skills. A name or an id says which is meant; a version is a number, ``latest`` or ``default``."""

    async def get(self, skill: str) -> Skill:
        """Return one skill, by its id or its name."""
        return await self._transport.request("GET", at("v1", "skills", named(skill, "a skill")), Skill)

    async def set_default(self, skill: str, version: str) -> Skill:
        """Make another version the default one.

        The version that is to be the default one.
        """
        return await self._transport.request(
            "POST", at("v1", "skills", named(skill, "a skill")), Skill, json=given(default_version=version)
        )

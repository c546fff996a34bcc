# Generated from portico._async by scripts/sdk: change it there.
"""Calls of `portico.schemas.skills`."""

from __future__ import annotations

from portico._request import at, given, named
from portico._sync.group import Group
from portico.schemas.skills import Skill


class Skills(Group):
    """Agent Skills. A name or an id says which is meant; a version is a number, ``latest`` or ``default``."""

    def get(self, skill: str) -> Skill:
        """Return one skill, by its id or its name."""
        return self._transport.request("GET", at("v1", "skills", named(skill, "a skill")), Skill)

    def set_default(self, skill: str, version: str) -> Skill:
        """Make another version the default one.

        The version that is to be the default one.
        """
        return self._transport.request(
            "POST", at("v1", "skills", named(skill, "a skill")), Skill, json=given(default_version=version)
        )

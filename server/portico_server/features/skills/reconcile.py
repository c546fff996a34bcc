"""Applies the skills of a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

from portico.schemas.configuration import Change
from portico_server.core.configuration_step import Action, ConfigurationPlan, ConfigurationStep
from portico_server.core.principal import SYSTEM
from portico_server.features.skills.folder import SkillFolder
from portico_server.features.skills.library import FROM_FILE, SkillLibrary


class SkillServices(Protocol):
    """The services of the daemon that the reconciler of skills uses."""

    @property
    def skills(self) -> SkillLibrary: ...


class SkillReconciler:
    """Compares the skills of a configuration with the shared skills."""

    def __init__(self, skills: SkillLibrary) -> None:
        self._skills = skills

    async def steps(self, specs: Sequence[SkillFolder], plan: ConfigurationPlan) -> list[ConfigurationStep]:
        """Return a step for each skill."""
        skill_rows = await self._skills.list_shared()
        steps = []
        for folder in specs:
            row = skill_rows.get(folder.name)
            is_unchanged = row is not None and await self._skills.has_same_files(folder, row)
            action: Action = "unchanged" if is_unchanged else "create" if row is None else "change"
            save = partial(self._skills.save, folder, plan.caller, origin=FROM_FILE)
            steps.append(
                ConfigurationStep(Change("skills", folder.name, action), None if is_unchanged else save)
            )
        return steps

    async def begin(self, specs: Sequence[SkillFolder]) -> None:
        for folder in specs:
            await self._skills.save(folder, SYSTEM, origin=FROM_FILE)

    async def names(self, key: str) -> Sequence[str]:
        return list(await self._skills.list_shared())

    async def remove(self, name: str) -> None:
        await self._skills.remove(name, SYSTEM)


def build(services: SkillServices) -> SkillReconciler:
    """Return the reconciler of the key ``skills``."""
    return SkillReconciler(services.skills)

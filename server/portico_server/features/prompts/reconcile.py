"""Applies the prompts of a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

from portico.schemas.configuration import Change
from portico_server.core.configuration_step import Action, ConfigurationPlan, ConfigurationStep
from portico_server.core.principal import SYSTEM
from portico_server.core.prompts import builtin
from portico_server.core.prompts.spec import PromptSpec
from portico_server.features.prompts.library import PromptLibrary

ORIGIN = "configuration"


class PromptServices(Protocol):
    """The services of the daemon that the reconciler of prompts uses."""

    prompts: PromptLibrary


class PromptReconciler:
    """Compares the prompts of a configuration with the shared prompts."""

    def __init__(self, prompts: PromptLibrary) -> None:
        self._prompts = prompts

    async def steps(self, specs: Sequence[PromptSpec], plan: ConfigurationPlan) -> list[ConfigurationStep]:
        """Return a step for each prompt."""
        imported_prompts = await self._prompts.take(specs, plan.caller, origin=ORIGIN, dry_run=True)
        actions: dict[str, Action] = {
            **dict.fromkeys(imported_prompts.added, "create"),
            **dict.fromkeys(imported_prompts.changed, "change"),
            **dict.fromkeys(imported_prompts.unchanged, "unchanged"),
        }
        steps = []
        for spec in specs:
            change = Change("prompts", spec.name, actions[spec.name])
            save = partial(self._prompts.save, spec, plan.caller, origin=ORIGIN)
            steps.append(ConfigurationStep(change, None if change.action == "unchanged" else save))
        return steps

    async def begin(self, specs: Sequence[PromptSpec]) -> None:
        for spec in specs:
            await self._prompts.save(spec, SYSTEM, origin=ORIGIN)

    async def names(self, key: str) -> Sequence[str]:
        # The configuration must not remove prompts that came with Portico.
        return [row.name for row in await self._prompts.list(SYSTEM) if row.origin != builtin.ORIGIN]

    async def remove(self, name: str) -> None:
        await self._prompts.remove(name, SYSTEM)


def build(services: PromptServices) -> PromptReconciler:
    """Return the reconciler of the key ``prompts``."""
    return PromptReconciler(services.prompts)

"""Applies the aliases of a configuration, and their canaries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol

from portico.schemas.configuration import Problem
from portico_server.core.configuration_step import ConfigurationPlan, ConfigurationStep, entry_step
from portico_server.core.errors import PorticoError
from portico_server.core.principal import SYSTEM, Principal
from portico_server.feature_table import Features
from portico_server.features.canaries.canaries import CanaryService
from portico_server.features.canaries.spec import AliasSpec
from portico_server.models.aliases import ModelAliases
from portico_server.models.service import ModelService
from portico_server.problems import Problems

KEY = "aliases"


class AliasServices(Protocol):
    """The services of the daemon that the reconciler of aliases uses."""

    models: ModelService
    features: Features
    problems: Problems


class AliasReconciler:
    """Compares aliases and their canaries with a configuration."""

    def __init__(
        self, aliases: ModelAliases, find_canaries: Callable[[], Awaitable[CanaryService]], problems: Problems
    ) -> None:
        self._aliases = aliases
        self._find_canaries = find_canaries
        self._problems = problems

    async def steps(self, specs: Sequence[AliasSpec], plan: ConfigurationPlan) -> list[ConfigurationStep]:
        """Return a step for each alias. A target that is new is checked when the alias is set."""
        coming = {name for kind, name in plan.new if kind in ("models", "stores", "apps")}
        canaries = await self._find_canaries()
        steps = []
        for number, spec in enumerate(specs):
            at = f"{KEY}[{number}]"
            try:
                fields = await canaries.differing(spec)
                sides = (spec.target, spec.canary.target) if spec.canary is not None else (spec.target,)
                if fields != () and coming.isdisjoint(side.partition("@")[0] for side in sides):
                    await self._aliases.check_target(spec.name, spec.target)
                    if fields is None or "canary" in fields:
                        with _in_canary():
                            await canaries.check(spec, plan.caller)
            except PorticoError as error:
                error.message = f"{at}: {error.message}"
                error.param = f"{at}.{error.param or 'name'}"
                raise
            steps.append(entry_step(KEY, spec.name, fields, partial(self._put, spec, plan.caller)))
        return steps

    async def _put(self, spec: AliasSpec, caller: Principal) -> None:
        canaries = await self._find_canaries()
        fields = await canaries.differing(spec)
        if fields is None or "target" in fields:
            await self._aliases.set(spec.name, spec.target)
            fields = await canaries.differing(spec)
        if fields and spec.canary is not None:
            with _in_canary():
                await canaries.set(spec.name, spec.canary, caller)

    async def begin(self, specs: Sequence[AliasSpec]) -> None:
        """Apply the aliases. If an alias cannot be applied, record it until it can."""
        for number, spec in enumerate(specs):
            retry = partial(self._begin_one, spec)
            try:
                await retry()
            except PorticoError as error:
                if error.status >= 500:
                    raise
                place = f"{KEY}[{number}]" + (f".{error.param}" if error.param else "")
                self._problems.add(Problem(spec.name, place, error.message), retry=retry)

    async def _begin_one(self, spec: AliasSpec) -> bool:
        await self._put(spec, SYSTEM)
        return True

    async def names(self, key: str) -> Sequence[str]:
        return self._aliases.names()

    async def remove(self, name: str) -> None:
        await self._aliases.remove(name)


@contextmanager
def _in_canary() -> Iterator[None]:
    """Mark errors as belonging to the canary of an alias."""
    try:
        yield
    except PorticoError as error:
        error.param = f"canary.{error.param}" if error.param else "canary"
        raise


def build(services: AliasServices) -> AliasReconciler:
    """Return the reconciler of the key ``aliases``."""
    return AliasReconciler(
        services.models.aliases, partial(services.features.load, "canaries"), services.problems
    )

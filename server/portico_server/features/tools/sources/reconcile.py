"""Applies the tools of a configuration. MCP servers are applied in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol

from portico_server.core.configuration_step import ConfigurationPlan, ConfigurationStep, differing, entry_step
from portico_server.features.tools.sources.sources import AddedTools


class Holder(Protocol):
    """Holds entries of the daemon's own file, and entries that were added at run time."""

    async def start(self, specs: Iterable[Any], /) -> None: ...

    def spec(self, name: str, /) -> Any: ...

    def every(self) -> Sequence[Any]: ...

    async def put(self, spec: Any, /, *, is_configured: bool = False) -> None: ...

    async def remove(self, name: str, /, *, even_configured: bool = False) -> None: ...


class ToolServices(Protocol):
    """The services of the daemon that the reconciler of tools uses."""

    @property
    def added(self) -> AddedTools: ...


class HeldReconciler:
    """Compares the entries under a key of the configuration with those of a holder, which ``find_holder`` builds when
    it is first needed.
    """

    def __init__(self, key: str, find_holder: Callable[[], Holder]) -> None:
        self._key = key
        self._find_holder = find_holder

    async def steps(self, specs: Sequence[Any], plan: ConfigurationPlan) -> list[ConfigurationStep]:
        """Return a step for each entry."""
        steps = []
        for spec in specs:
            holder = self._find_holder()
            current_spec = holder.spec(spec.name)
            fields = None if current_spec is None else differing(current_spec.to_json(), spec.to_json())
            put = partial(holder.put, spec, is_configured=plan.is_own_file)
            steps.append(entry_step(self._key, spec.name, fields, put))
        return steps

    async def begin(self, specs: Sequence[Any]) -> None:
        await self._find_holder().start(specs)

    async def names(self, key: str) -> Sequence[str]:
        return [entry.name for entry in self._find_holder().every()]

    async def remove(self, name: str) -> None:
        await self._find_holder().remove(name)

    def names_of_file(self) -> Sequence[str]:
        return [entry.name for entry in self._find_holder().every() if entry.configured]

    async def remove_of_file(self, name: str) -> None:
        await self._find_holder().remove(name, even_configured=True)


def build(services: ToolServices) -> HeldReconciler:
    """Return the reconciler of the key ``tools``."""
    return HeldReconciler("tools", lambda: services.added)

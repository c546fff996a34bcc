"""How a configuration is applied: the plan, and its steps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Set
from typing import Any, Literal, TypeAlias

from portico.schemas.configuration import Change
from portico_server.core.dataclass import dataclass
from portico_server.core.principal import Principal

Action: TypeAlias = Literal["create", "change", "remove", "unchanged"]

Do: TypeAlias = Callable[[], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class ConfigurationStep:
    """A change of one entry, and the function that makes it; ``None`` if nothing changes."""

    change: Change
    do: Do | None = None


@dataclass(frozen=True, slots=True)
class ConfigurationPlan:
    """A configuration while its steps are found.

    ``models``: the names of all models of the configuration, and of their aliases. ``new``: the kinds and names that
    the steps found so far create or change. ``is_own_file``: it is the file that the daemon was started
    with.
    """

    caller: Principal
    models: Set[str]
    new: Set[tuple[str, str]]
    is_own_file: bool
    is_dry_run: bool


def entry_step(kind: str, name: str, fields: tuple[str, ...] | None, do: Do) -> ConfigurationStep:
    """Return the step for an entry that differs in ``fields``; ``None`` means that the entry does not exist. ``do``
    creates or changes it.
    """
    action: Action = "create" if fields is None else "change" if fields else "unchanged"
    return ConfigurationStep(Change(kind, name, action, fields or ()), None if action == "unchanged" else do)


def differing(old: dict[str, Any], new: dict[str, Any]) -> tuple[str, ...]:
    """Return the names of the fields that differ. Secrets are compared, but not shown."""
    return tuple(sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name)))


def changed_entries(steps: list[ConfigurationStep]) -> set[tuple[str, str]]:
    """Return the kinds and names that these steps create or change."""
    return {(step.change.kind, step.change.name) for step in steps if step.change.action != "unchanged"}
